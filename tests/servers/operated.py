"""The operator's chapter, run as it is printed, but for places, users and ports; and images of every sort."""

import os
import re
import subprocess
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from factories import data_headers, image_headers, md5, meta, wire
from servers.processes import OWNED, PROGRAMS, RUN_SECONDS, clean_environment
from servers.pyrimage import ROOT, Answer, Server

PAGE = ROOT / "docs/operation.md"
ALL = "/images/detail?is_public=None"


def section(heading: str) -> str:
    """Return what stands below one of the page's headings."""
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(rf"^##+ {re.escape(heading)}\n(.*?)(?=^##+ |\Z)", text, re.MULTILINE | re.DOTALL)
    if found is None:
        raise AssertionError(f"{PAGE} has no heading {heading!r}")
    return found[1]


def printed(heading: str, word: str, language: str = "sh") -> str:
    """Return the one fenced block below a heading that has ``word`` in it."""
    blocks = re.findall(rf"^( *)```{language}\n(.*?)^\1```$", section(heading), re.MULTILINE | re.DOTALL)
    found = [textwrap.dedent(block) for _, block in blocks if word in block]
    if len(found) != 1:
        raise AssertionError(f"{len(found)} blocks of {language} with {word!r} below {heading!r}")
    return found[0]


class Place:
    """Where a test has what the page puts into ``/opt``, ``/etc`` and ``/var``; whoever runs the test is the user."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.etc, self.lib = directory, directory / "etc", directory / "lib"
        self.ini = self.etc / "pyrimage.ini"

    def translate(self, commands: str, instead: Mapping[str, str]) -> str:
        """Put the test's places, and others ``instead`` of what is printed, into commands."""
        user = f"{os.getuid()}", f"{os.getgid()}"
        for old, new in {
            **instead,
            "runuser -u pyrimage -- ": "",
            "-o pyrimage -g pyrimage": "-o {} -g {}".format(*user),
            "root:pyrimage": ":".join(user),
            "pyrimage:pyrimage": ":".join(user),
            "/opt/pyrimage/bin": str(PROGRAMS),
            "/etc/pyrimage": str(self.etc),
            "/var/lib/pyrimage": str(self.lib),
            "/var/log/pyrimage": str(self.directory / "log"),
            "/run/pyrimage": str(self.directory / "run"),
        }.items():
            commands = commands.replace(old, new)
        return commands

    def try_shell(
        self, commands: str, cwd: Path | None = None, instead: Mapping[str, str] | None = None
    ) -> "subprocess.CompletedProcess[str]":
        """Run the page's commands, up to the first that fails."""
        return subprocess.run(
            [*OWNED, "bash", "-euo", "pipefail", "-c", self.translate(commands, instead or {})],
            cwd=cwd or self.directory,
            env=clean_environment(self.directory, {}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=2 * RUN_SECONDS,
            check=False,
        )

    def shell(self, commands: str, cwd: Path | None = None, instead: Mapping[str, str] | None = None) -> str:
        """Run the page's commands and return what they print; none may fail."""
        done = self.try_shell(commands, cwd, instead)
        if done.returncode:
            raise AssertionError(f"{commands}\n{done.stdout}\n{done.stderr}")
        return done.stdout

    def configure(self) -> None:
        """Make the ini and the data's directory, as below "First start"."""
        self.shell(printed("First start", "sample-config production"))
        self.shell(printed("First start", "chmod"))

    def server(self) -> Server:
        """Return the server of ``pyrimage.ini``, which is there already."""
        ini = self.ini.read_text(encoding="utf-8")
        server = Server(self.etc, sample="production")
        self.ini.write_text(ini, encoding="utf-8")
        server.configure("server:main", {"listen": f"127.0.0.1:{server.port}"})
        return server


def upload(server: Server, data: bytes, **fields: Any) -> str:
    """Make an active image and return its path."""
    made = _expect(201, server.request("POST", "/v1/images", data, data_headers(**fields)))
    return f"/v1/images/{made.image['id']}"


def reserve(server: Server, **fields: Any) -> str:
    made = _expect(201, server.request("POST", "/v1/images", headers=meta(**fields)))
    return f"/v1/images/{made.image['id']}"


def fill(server: Server) -> list[str]:
    """Make one image of every sort; return the paths of those that are there."""
    named = upload(
        server,
        os.urandom(3 * 2**20 + 1),
        name=wire("Ærøskøbing ☃ 𝄞"),
        is_public=True,
        disk_format="qcow2",
        container_format="bare",
        min_disk=20,
        min_ram=512,
        properties={"os": wire("Ünix"), "empty": "", "quote": "it's 100%\\"},
    )
    shared = upload(server, b"shared", name="shared", owner="tenant-a", protected=True)
    for member, can_share in (("tenant-b", "true"), ("tenant-c", "false")):
        body = f'{{"member": {{"can_share": {can_share}}}}}'
        headers = {"Content-Type": "application/json"}
        _expect(204, server.request("PUT", f"{shared}/members/{member}", body.encode(), headers))
    mine = upload(server, b"\0", name="", id="an.id-of_mine")
    queued = reserve(server, name="queued", size=5, properties={"kept": "yes"})
    failed = reserve(server, name="failed")
    _expect(400, server.request("PUT", failed, b"bytes", data_headers(checksum=md5(b"others"))))
    deleted = upload(server, b"deleted", name="deleted", owner="tenant-a", properties={"gone": "yes"})
    _expect(200, server.request("DELETE", deleted))
    return [named, shared, mine, queued, failed]


def seen(server: Server, images: list[str]) -> dict[str, Any]:
    """Return what a client sees of the catalogue; addresses apart, which move with the service."""
    orders = ("created_at", "name", "size", "id")
    lists = {order: server.request("GET", f"{ALL}&sort_key={order}").json["images"] for order in orders}
    for image in (image for found in lists.values() for image in found):
        for address in ("uri", "location"):
            image.pop(address, None)
    heads = [without_addresses(server.request("HEAD", image)) for image in images]
    members = [server.request("GET", f"{image}/members").json for image in images]
    bodies = [server.request("GET", image).body for image in images[:3]]
    shared = [server.request("GET", f"/v1/shared-images/{member}").json for member in ("tenant-b", "tenant-c")]
    return {"lists": lists, "heads": heads, "members": members, "bodies": bodies, "shared": shared}


def without_addresses(answer: Answer) -> tuple[int, dict[str, str]]:
    headers = image_headers(answer)
    return answer.status, {name: text for name, text in headers.items() if name not in ("uri", "location")}


def _expect(status: int, answer: Answer) -> Answer:
    if answer.status != status:
        raise AssertionError(answer)
    return answer
