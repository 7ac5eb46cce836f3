"""Who asks, how that is found out, and that no secret is told to anybody else."""

import base64
import io
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from accounts import password_of
from client_sites import Site, Stranger, port_of, refusing
from identity_calls import api_token
from origins import certified
from pyrimage.client import (
    ApiToken,
    Basic,
    Client,
    ClientError,
    ConfigurationError,
    ConnectionFailed,
    Forbidden,
    KeystoneToken,
    LimitExceeded,
    NotAuthenticated,
    NotTrusted,
)
from pyrimage.client.keystone import Keystone
from servers.fault_proxy import FaultProxy
from servers.http_faults import HttpFaults
from servers.in_process_server import MIB, serving
from servers.processes import free_port

ALICE = Basic("alice", password_of("alice"))


def auth_url(site: Site) -> str:
    return f"{site.url}/identity/v3"


def password(site: Site, name: str = "alice", **more: str) -> dict[str, str]:
    """Return the options of a login at our own identity calls."""
    return {
        "auth_url": auth_url(site),
        "username": name,
        "password": password_of(name),
        "user_domain_name": "Default",
        "project_name": "tenant-a",
        "project_domain_name": "Default",
        **more,
    }


WAYS: dict[str, Callable[[Site], Any]] = {
    "password": lambda site: ALICE,
    "API token": lambda site: ApiToken(api_token(site.installation)[1]),
    "token of a header": lambda site: KeystoneToken(api_token(site.installation)[1]),
    "Keystone, password": lambda site: Keystone(**password(site)),
    "Keystone, token": lambda site: Keystone(
        "token", auth_url=auth_url(site), token=api_token(site.installation)[1], project_id="tenant-a"
    ),
    "Keystone, application credential": lambda site: Keystone(
        "v3applicationcredential",
        auth_url=auth_url(site),
        **dict(
            zip(
                ("application_credential_id", "application_credential_secret"),
                api_token(site.installation),
                strict=True,
            )
        ),
    ),
}


@pytest.mark.parametrize("way", WAYS)
def test_who_asks_is_known(way: str, users_site: Site, target: Path) -> None:
    with Client(users_site.url, WAYS[way](users_site)) as client:
        made = client.add_image(b"bytes", name="mine")
        assert made.owner == "tenant-a"
        assert [image.id for image in client.get_images()] == [made.id]
        assert client.download(made.id, target / "disk").read_bytes() == b"bytes"
        client.delete_image(made.id)


def test_who_is_not_known_and_who_may_not_are_told_apart(users_site: Site) -> None:
    for auth in (None, Basic("alice", "wrong"), ApiToken("pyr_wrong"), KeystoneToken("wrong")):
        with Client(users_site.url, auth) as client, pytest.raises(NotAuthenticated):
            list(client.get_images())
    with Client(users_site.url, Basic("rita", password_of("rita"))) as client, pytest.raises(Forbidden):
        client.add_image(b"x", name="one")
    with pytest.raises(NotAuthenticated, match="Keystone: "):
        list(Client(users_site.url, Keystone(**password(users_site, password="wrong"))).get_images())


def test_a_token_that_has_ended_is_replaced(users_site: Site) -> None:
    with Client(users_site.url, Keystone(**password(users_site))) as client:
        image = client.add_image(b"bytes", name="one").id
        for step in (client.get_image_meta, client.get_image, client.delete_image):
            users_site.installation.catalogue.tokens.revoke_all("alice")
            step(image)
        users_site.installation.catalogue.tokens.revoke_all("alice")
        with pytest.raises(NotAuthenticated):
            client.add_image(iter([b"bytes"]), name="one")  # which cannot be sent again
        assert client.add_image(iter([b"bytes"]), name="one").status == "active"


# -- environment and clouds.yaml


def test_the_environment_says_where_the_service_is_and_who_asks(users_site: Site) -> None:
    url = {"PYRIMAGE_URL": users_site.url, "OS_AUTH_URL": "http://127.0.0.1:1", "OS_CLOUD": "nonesuch"}
    user = {"PYRIMAGE_USER": "alice", "PYRIMAGE_PASSWORD": password_of("alice")}
    for more in (user, {"PYRIMAGE_TOKEN": api_token(users_site.installation)[1]}):
        assert Client.from_environment({**url, **more}).add_image(name="one").owner == "tenant-a"
    with pytest.raises(NotAuthenticated):
        list(Client.from_environment(url).get_images())
    with pytest.raises(ConfigurationError, match="go together"):
        Client.from_environment({**url, "PYRIMAGE_USER": "alice"})
    with pytest.raises(ConfigurationError, match="Set PYRIMAGE_URL"):
        Client.from_environment({**user})


def test_openstack_s_variables_are_enough(users_site: Site) -> None:
    variables = {f"OS_{name.upper()}": value for name, value in password(users_site).items()}
    client = Client.from_environment({**variables, "OS_REGION_NAME": "RegionOne", "OS_IDENTITY_API_VERSION": "3"})
    assert client.add_image(name="one").owner == "tenant-a"
    assert client.url == users_site.url
    token_id, secret = api_token(users_site.installation, "bob")
    credential = {"OS_APPLICATION_CREDENTIAL_ID": token_id, "OS_APPLICATION_CREDENTIAL_SECRET": secret}
    client = Client.from_environment({"OS_AUTH_URL": auth_url(users_site), **credential})
    assert client.add_image(name="two").owner == "tenant-b"
    with pytest.raises(ConfigurationError, match="elsewhere"):
        Client.from_environment({**variables, "OS_REGION_NAME": "elsewhere"})
    with pytest.raises(ConfigurationError, match="'psychic'"):
        Client.from_environment({**variables, "OS_AUTH_TYPE": "psychic"})
    with pytest.raises(ConnectionFailed, match="Keystone"):
        Client.from_environment({**variables, "OS_AUTH_URL": f"http://127.0.0.1:{free_port()}/v3"})


CLOUDS = """
clouds:
  images:
    auth:
      auth_url: {url}
      username: alice
      user_domain_name: Default
      project_name: tenant-a
      project_domain_name: Default
    region_name: RegionOne
  glance:
    auth: {{auth_url: {url}, username: alice, password: {password}, user_domain_id: default}}
    image_endpoint_override: {glance}/v2
  careless:
    verify: false
    auth: {{auth_url: {url}}}
  wrong:
    auth: {{auth_url: {url}, user: alice}}
"""


@pytest.fixture
def clouds(users_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stranger]:
    """Files that describe clouds, one of which is a Glance; give that."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    glance = Stranger(answers={"/images": ("300 Multiple Choices", {}, b"")})
    glance.answers["/v1/images"] = ("200 OK", {}, b'{"images": []}')
    with serving(glance) as running:
        words = {"url": auth_url(users_site), "password": password_of("alice")}
        glance_url = f"http://127.0.0.1:{port_of(running)}"
        (tmp_path / "clouds.yaml").write_text(CLOUDS.format(**words, glance=glance_url), encoding="utf-8")
        (secure := tmp_path / "home/.config/openstack").mkdir(parents=True)
        secret = f"clouds: {{images: {{auth: {{password: {password_of('alice')}}}}}}}"
        (secure / "secure.yaml").write_text(secret, encoding="utf-8")
        yield glance


@pytest.mark.usefixtures("clouds")
def test_a_cloud_of_a_file_is_enough(users_site: Site) -> None:
    assert Client.from_cloud("images", timeout=20).add_image(name="one").owner == "tenant-a"
    assert Client.from_environment({"OS_CLOUD": "images"}).url == users_site.url
    for name, text in (("nonesuch", "describes the cloud nonesuch"), ("careless", "cacert"), ("wrong", "have no user")):
        with pytest.raises(ConfigurationError, match=text):
            Client.from_cloud(name)


def test_a_glance_of_a_catalogue_is_found_out(clouds: Stranger) -> None:
    client = Client.from_cloud("glance")
    assert list(client.get_images()) == []
    assert client.url.endswith("/v1")
    assert clouds.asked[-1]["PATH_INFO"] == "/v1/images"
    assert clouds.asked[-1]["HTTP_X_AUTH_TOKEN"]


# -- secrets


def test_no_secret_is_told_at_any_level(users_site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S42, S44."""
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    _, secret = api_token(users_site.installation)
    try:
        for text in told(users_site, secret):
            output.write(text)
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    shown = output.getvalue()
    assert "urllib3" in shown or "GET /images" in shown
    pair = base64.b64encode(f"alice:{password_of('alice')}".encode()).decode()
    assert {each for each in (secret, pair, password_of("alice"), "wrong-secret") if each in shown} == set()


def told(site: Site, secret: str) -> Iterator[str]:
    """Give what clients show of themselves, and what their errors say with all their causes."""
    credential = {"application_credential_id": "x", "application_credential_secret": "wrong-secret"}
    ways: list[Any] = [
        ALICE,
        ApiToken(secret),
        KeystoneToken(secret),
        ApiToken("wrong-secret"),
        Basic("alice", "wrong-secret"),
        Keystone(**password(site)),
        Keystone(**password(site, password="wrong-secret")),
        Keystone("v3applicationcredential", auth_url=auth_url(site), **credential),
    ]
    for url in (site.url, f"http://127.0.0.1:{free_port()}"):
        for auth in ways:
            client = Client(url, auth)
            yield f"{client!r} {auth!r} {auth} {[auth]}"
            for step in (client.get_image_meta, client.get_image, client.delete_image, client.get_member_images):
                try:
                    step("nonesuch")
                except ClientError as error:
                    yield "".join(traceback.format_exception(error)) + repr(error)


# -- TLS


def test_a_certificate_is_checked(site: Site, tmp_path: Path) -> None:
    """S47."""
    certificate, tls = certified(tmp_path, "127.0.0.1")
    with HttpFaults(site.url, tls) as proxy:
        with Client(proxy.url, ca_file=certificate) as trusting:
            assert list(trusting.get_images()) == []
        by_name = proxy.url.replace("127.0.0.1", "localhost")
        for client in (Client(proxy.url), Client(by_name, ca_file=certificate)):
            check_untrusted(client, proxy)
        with FaultProxy(int(proxy.url.rpartition(":")[2])) as counting:
            check_untrusted(Client(f"https://127.0.0.1:{counting.port}"), proxy)
            assert counting.accepted == 2  # one for each step: it would be no better the next time
    certificate, tls = certified(tmp_path, "127.0.0.1", days=0)
    with HttpFaults(site.url, tls) as proxy:
        check_untrusted(Client(proxy.url, ALICE, ca_file=certificate), proxy)


def check_untrusted(client: Client, proxy: HttpFaults) -> None:
    """Check that a client gives up before it has said anything."""
    asked = len(proxy.seen)
    for step in (lambda: list(client.get_images()), lambda: client.add_image(b"x", name="one")):
        with pytest.raises(NotTrusted, match="is not trusted: "):
            step()
    assert len(proxy.seen) == asked


def test_an_upload_and_its_early_refusal_go_over_tls(site: Site, tmp_path: Path) -> None:
    certificate, tls = certified(tmp_path, "127.0.0.1")
    with HttpFaults(site.url, tls) as proxy, Client(proxy.url, ca_file=certificate) as client:
        made = client.add_image(bytes(1 << 20), name="one")
        assert sum(map(len, client.get_image(made.id)[1])) == 1 << 20
    with refusing(tls) as port:
        client = Client(f"https://127.0.0.1:{port}", ca_file=certificate)
        with pytest.raises(LimitExceeded, match="too much"):
            client.add_image((bytes(MIB) for _ in range(1 << 20)), name="one")
