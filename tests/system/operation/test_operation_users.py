"""From ``pyrimage.auth = none`` to users: the sessions of docs/operation.md and docs/users.md, at a terminal."""

import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from accounts import basic
from servers.operated import Place, section
from servers.processes import OWNED, PROGRAMS, clean_environment, wait_until
from servers.pyrimage import READY_SECONDS, ROOT, Server

pytestmark = pytest.mark.system

PASSWORD = "correct horse"


class Typed(NamedTuple):
    """A command, and what is printed after it."""

    command: str
    printed: list[str]


def session(text: str) -> Iterator[Typed]:
    """Read the console blocks of a text."""
    for block in re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL):
        for each in re.split(r"^[#$] ", block.replace("\\\n", ""), flags=re.MULTILINE)[1:]:
            command, *printed = each.splitlines()
            yield Typed(command, printed)


def at_terminal(command: str, directory: Path) -> list[str]:
    """Run a command at a terminal, where the password is typed whenever it is asked for; return what is shown."""
    process = subprocess.Popen(
        [*OWNED, "/usr/bin/script", "-qec", command, "/dev/null"],  # which gives it a terminal
        cwd=directory,
        env=clean_environment(directory, {"SHELL": "/bin/bash"}),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        bufsize=0,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    with process:
        shown = b""
        while came := process.stdout.read(1024):
            shown += came
            if came.rstrip().endswith(b":"):
                process.stdin.write(f"{PASSWORD}\n".encode())
    assert process.returncode == 0, shown
    return [line.rstrip() for line in shown.decode().splitlines()]


@pytest.fixture
def server(place: Place, on_sqlite: Server) -> Iterator[Server]:
    """The page's server, as it is started first."""
    on_sqlite.configure("server:main", {"workers": "1"})
    with on_sqlite as running:
        yield running


def test_three_commands_lead_from_none_to_users(place: Place, server: Server) -> None:
    instead = {"systemctl reload pyrimage-api": f"kill -HUP {server.pid}", "127.0.0.1:9292": f"127.0.0.1:{server.port}"}
    add, change, reload, refused, answered = session(section("From none to users"))
    assert server.request("GET", "/images").status == 200
    assert at_terminal(place.translate(add.command, {}), place.directory) == add.printed
    place.shell(change.command)
    place.shell(reload.command, instead=instead)
    wait_until(lambda: server.request("GET", "/images").status == 401, READY_SECONDS, server.log)
    assert place.shell(refused.command, instead=instead).splitlines() == refused.printed
    assert at_terminal(place.translate(answered.command, instead), place.directory) == answered.printed
    assert PASSWORD not in server.log()

    page = (ROOT / "docs/users.md").read_text(encoding="utf-8")
    program = f"{PROGRAMS}/pyrimage-manage -c {shlex.quote(str(place.ini))}"
    for command, printed in session(page):
        assert at_terminal(command.replace("pyrimage-manage", program, 1), place.directory) == printed
    headers = basic("mirror", PASSWORD)
    assert server.request("GET", "/images", headers=headers).status == 200
    assert server.request("POST", "/v1/images", headers=headers).status == 403
