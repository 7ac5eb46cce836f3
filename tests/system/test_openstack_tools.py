"""OpenStack's tools log in without Keystone: from an environment of their own, against a real server.

What they are told is what docs/tokens.md prints, but for the port, the password and the API token.
"""

import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from accounts import password_of, write_users
from amounts import amount
from factories import data_headers
from servers.keystone import Identity as Keystone
from servers.keystone_accounts import ALICE
from servers.machine import client
from servers.processes import OWNED, RUN_SECONDS, run
from servers.pyrimage import ROOT, Server

pytestmark = pytest.mark.system

PAGE = (ROOT / "docs/tokens.md").read_text(encoding="utf-8")
PRINTED = {"url": "http://127.0.0.1:9292", "password": "correct horse battery", "id": "5f0c1e8a9b7d2c46"}


class Site(NamedTuple):
    """A server of mode ``users``, and an API token of alice's; directory: that tools are started in."""

    server: Server
    token_id: str
    secret: str
    directory: Path

    @property
    def auth_url(self) -> str:
        return f"{self.server.url}/identity/v3"

    def told(self, language: str, word: str) -> str:
        """Return the page's block in a language that holds a word, for this site."""
        blocks = re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
        text = str(next(block for block in blocks if word in block))
        text = text.replace(PRINTED["url"], self.server.url).replace(PRINTED["password"], password_of("alice"))
        return re.sub(r"pyr_[\w-]{43}", self.secret, text.replace(PRINTED["id"], self.token_id))

    def run(self, *command: str, **variables: str) -> "subprocess.CompletedProcess[str]":
        """Run a client's program, which knows no more of the environment than it is told."""
        inherited = {name: text for name, text in os.environ.items() if not name.startswith(("OS_", "PYTHON"))}
        environment = {**inherited, "HOME": str(self.directory), "PYTHONWARNINGS": "ignore", **variables}
        return subprocess.run(
            [*OWNED, *command],
            cwd=self.directory,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )

    def printed(self, *command: str, **variables: str) -> Any:
        """Run a program that prints JSON."""
        done = self.run(*command, **variables)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def python(self, program: str, **variables: str) -> Any:
        """Run a program in the clients' Python; it prints JSON."""
        return self.printed(client("python"), "-c", program, self.auth_url, **variables)

    def get(self, path: str, headers: Mapping[str, str]) -> int:
        return self.server.request("GET", path, headers=headers).status


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("site")
    users = write_users(directory)
    (tools := directory / "tools").mkdir()
    with Server(directory, main={"pyrimage.auth": "users", "pyrimage.users_file": str(users)}) as server:
        made = run(
            "pyrimage-manage", "-c", server.ini, "token", "create", "--user", "alice", "--expires", "1d", cwd=directory
        )
        found = re.search("^Token ([0-9a-f]+) of alice", made.stderr, re.MULTILINE)
        assert found is not None, made.stderr
        site = Site(server, found[1], made.stdout.strip(), tools)
        (tools / "clouds.yaml").write_text(site.told("yaml", "clouds:"), encoding="utf-8")
        yield site


@pytest.fixture
def variables(site: Site) -> dict[str, str]:
    """What the page exports."""
    exports = re.findall("^export (.+)$", site.told("sh", "OS_AUTH_URL"), re.MULTILINE)
    return dict(re.findall(r"(OS_\w+)='?((?<=')[^']*|[^\s']*)'?", " ".join(exports)))


@pytest.mark.parametrize("cloud", ["images", "images-by-token"])
def test_the_openstack_command_logs_in_by_the_printed_clouds_yaml(site: Site, cloud: str) -> None:
    command = (client("openstack"), "--os-cloud", cloud)
    token = site.printed(*command, "token", "issue", "-f", "json")
    assert (token["user_id"], token["project_id"]) == ("alice", "tenant-a")
    assert site.get("/images", {"X-Auth-Token": token["id"]}) == 200
    services = site.printed(*command, "catalog", "list", "-f", "json")
    urls = {each["Type"]: {place["url"] for place in each["Endpoints"]} for each in services}
    assert urls == {"image": {site.server.url}, "identity": {site.auth_url}}
    assert site.run(*command, "token", "revoke", token["id"]).returncode == 0
    assert site.get("/images", {"X-Auth-Token": token["id"]}) == 401


def test_the_openstack_command_logs_in_by_the_printed_variables(site: Site, variables: dict[str, str]) -> None:
    token = site.printed(client("openstack"), "token", "issue", "-f", "json", **variables)
    assert (token["user_id"], token["project_id"]) == ("alice", "tenant-a")
    wrong = site.run(client("openstack"), "token", "issue", **{**variables, "OS_PASSWORD": "wrong"})
    assert wrong.returncode != 0
    assert "The name or the password is wrong" in wrong.stderr


@pytest.mark.parametrize("cloud", ["images", "images-by-token"])
def test_openstacksdk_connects(site: Site, cloud: str) -> None:
    told = site.python(f"""
import json, openstack
cloud = openstack.connect(cloud={cloud!r})
where = dict(service_type="image", interface="public", region_name="RegionOne")
listed = cloud.session.get("/v1/images", endpoint_filter=where)
print(json.dumps([cloud.current_user_id, cloud.current_project_id, listed.json(), cloud.session.get_endpoint(**where)]))
""")
    assert told == ["alice", "tenant-a", {"images": []}, site.server.url]


PLUGINS = {
    "v3.Password(url, username='alice', password=PASSWORD, user_domain_id='default')": "tenant-a",
    "v3.Password(url, user_id='alice', password=PASSWORD, project_id='tenant-b')": "tenant-b",
    "v3.Password(url, username='alice', password=PASSWORD, user_domain_name='Default', project_name='tenant-b', "
    "project_domain_name='Default')": "tenant-b",
    "v3.Password(url, username='alice', password=PASSWORD, user_domain_id='default', unscoped=True)": "tenant-a",
    "v3.ApplicationCredential(url, application_credential_id=ID, application_credential_secret=SECRET)": "tenant-a",
    "v3.Token(url, SECRET)": "tenant-a",
    "v3.Token(url, Session(v3.ApplicationCredential(url, application_credential_id=ID, "
    "application_credential_secret=SECRET)).get_token(), project_id='tenant-a')": "tenant-a",
    "generic.Password(url, username='alice', password=PASSWORD, user_domain_id='default')": "tenant-a",
    "generic.Password(url[:-3], username='alice', password=PASSWORD, user_domain_id='default')": "tenant-a",
    "generic.Password(url, username='alice', password=PASSWORD, default_domain_id='default', "
    "project_name='tenant-b')": "tenant-b",
}


def test_keystoneauth_logs_in_with_each_of_its_plug_ins(site: Site) -> None:
    asked = "; ".join(f"ask(lambda: {plugin})" for plugin in PLUGINS)
    told = site.python(f"""
import json, sys
from keystoneauth1.identity import generic, v3
from keystoneauth1.session import Session
url, PASSWORD, ID, SECRET, told = sys.argv[1], {password_of("alice")!r}, {site.token_id!r}, {site.secret!r}, []
def ask(make):
    session = Session(make())
    access = session.auth.get_access(session)
    status = session.get("/v1/images", endpoint_filter=dict(service_type="image")).status_code
    told.append([access.user_id, access.project_id, access.will_expire_soon(), status])
{asked}
print(json.dumps(told))
""")
    assert told == [["alice", project, False, 200] for project in PLUGINS.values()]


def test_the_services_own_url_fails_with_a_text_that_helps(site: Site) -> None:
    told = site.python(f"""
import json, sys
from keystoneauth1.identity import generic, v3
from keystoneauth1.session import Session
told = []
for plugin in (generic.Password, v3.Password):
    auth = plugin({site.server.url!r}, username="alice", password="x", user_domain_id="default")
    try:
        Session(auth).get_token()
    except Exception as error:
        told.append(str(error))
print(json.dumps(told))
""")
    assert "check that your auth_url is correct" in told[0]
    assert site.auth_url in told[1]


def test_glanceclient_logs_in_and_uploads(site: Site, variables: dict[str, str]) -> None:
    """By the printed variables; and with a token that somebody else has asked for."""
    glance = (client("glance"), "--os-image-api-version", "1")
    data = site.directory / "disk.img"
    data.write_bytes(b"bytes" * 100_000)
    create = (
        "image-create",
        "--name",
        "f17",
        "--disk-format",
        "raw",
        "--container-format",
        "bare",
        "--file",
        str(data),
    )
    done = site.run(*glance, *create, **variables)
    assert done.returncode == 0, done.stderr
    owner = re.search(r"\| owner +\| (\S+)", done.stdout)
    assert owner is not None
    assert owner[1] == "tenant-a"
    there = ("--os-image-url", site.server.url, "--os-auth-token", site.secret)
    listed = site.run(*glance, *there, "image-list")
    assert "f17" in listed.stdout, listed.stderr
    assert site.run(*glance, *there[:-1], "pyr_" + "x" * 43, "image-list").returncode != 0


@pytest.mark.parametrize("header", ["Authorization: Bearer {}", "X-Auth-Token: {}"])
def test_curl_sends_an_api_token(site: Site, header: str) -> None:
    """As the page prints it."""
    assert f'-H "{header.format("$TOKEN")}"' in PAGE
    command = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", f"{site.server.url}/images")
    assert site.run(*command, "-H", header.format(site.secret)).stdout == "200"
    assert site.run(*command, "-H", header.format(site.secret[:-1])).stdout == "401"


def shape(value: Any, prefix: str = "") -> set[str]:
    """Name all that a JSON value holds, and of which kind it is: ``token.user.id:str``."""
    if isinstance(value, dict):
        return {name for key, each in value.items() for name in shape(each, f"{prefix}.{key}")}
    if isinstance(value, list):
        return {name for each in value for name in shape(each, f"{prefix}[]")}
    return {f"{prefix}:{type(value).__name__}"}


def test_the_json_has_the_shape_of_keystones(site: Site, identity_service: Keystone) -> None:
    """But for a link to what is not here, and a parent, which projects have none of."""
    told = [
        site.python(f"""
import json, sys
from keystoneauth1.identity import v3
from keystoneauth1.session import Session
url = {url!r}
session = Session(v3.Password(url, username="alice", password={password!r}, user_domain_id="default",
                              project_name="tenant-a", project_domain_id="default"))
headers = {{"X-Subject-Token": session.get_token()}}
ask = lambda path, **more: session.get(url + path, **more)
print(json.dumps({{
    "token": ask("/auth/tokens", headers=headers).json(),
    "projects": ask("/auth/projects").json(),
    "catalog": ask("/auth/catalog").json(),
    "version": ask("").json(),
    "versions": session.get(url[:-3], raise_exc=False).json(),
    "header": bool(ask("/auth/tokens", headers=headers).headers["X-Subject-Token"]),
}}))
""")
        for url, password in ((site.auth_url, password_of("alice")), (identity_service.url, ALICE.password))
    ]
    ours, keystones = map(shape, told)
    assert ours - keystones == set()
    assert keystones - ours == {
        ".projects.projects[].links.self:str",
        ".projects.projects[].parent_id:str",
    }


@pytest.mark.long
def test_a_revoked_token_counts_on_every_worker_and_an_upload_in_flight_ends_well(tmp_path: Path) -> None:
    """S36, over sockets: the command revokes, from another process, while bytes come."""
    users, size = write_users(tmp_path), amount(64, 1024)  # MiB
    settings = {"pyrimage.auth": "users", "pyrimage.users_file": str(users)}
    with Server(tmp_path, main=settings, server={"workers": "2"}) as server:
        server.wait_for_workers(2)

        def manage(*words: str) -> str:
            done = run("pyrimage-manage", "-c", server.ini, "token", *words, cwd=tmp_path)
            assert done.returncode == 0, done.stderr
            return done.stdout.strip()

        secret = manage("create", "--user", "alice")
        headers = {"Authorization": f"Bearer {secret}"}

        def body() -> Iterator[bytes]:
            for number in range(size):
                if number == size // 2:
                    manage("revoke", "--user", "alice")
                yield bytes(1 << 20)

        before = [server.request("GET", "/images", headers=headers).status for _ in range(20)]
        sent = {**data_headers(name="f17"), **headers}
        answer = server.request("POST", "/images", body(), sent, encode_chunked=True)
        assert (answer.status, answer.image["size"]) == (201, size << 20)
        after = [server.request("GET", "/images", headers=headers).status for _ in range(20)]
        assert (set(before), set(after)) == ({200}, {401})
