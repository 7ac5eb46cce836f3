"""``pshell production.ini``, typed into: what it offers, and its own help, line by line."""

import re
import subprocess
from pathlib import Path

import pytest

from factories import OCTETS, meta
from servers.processes import run
from servers.pyrimage import Server

pytestmark = pytest.mark.system


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """An installation of production.ini that nothing serves."""
    made = Server(tmp_path, sample="production")
    assert run("pyrimage-manage", "-c", made.ini, "db", "upgrade", cwd=tmp_path).returncode == 0
    return made


@pytest.fixture
def image_id(server: Server) -> str:
    """An image of the project ``tenant-a`` with the bytes ``bytes``."""
    headers = {"Content-Type": OCTETS, **meta(name="f17", owner="tenant-a", properties={"os": "linux"})}
    with server:
        return str(server.request("POST", "/images", b"bytes", headers).image["id"])


def typed(server: Server, *lines: str) -> "subprocess.CompletedProcess[str]":
    """Type lines into the shell; the values they give are on its standard output, after prompts."""
    command = ("pshell", "--python-shell", "python", server.ini)
    return run(*command, cwd=server.directory, stdin="".join(f"{line}\n" for line in lines))


def values(done: "subprocess.CompletedProcess[str]") -> list[str]:
    """Return what the typed lines gave."""
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    shown = done.stdout[done.stdout.index(">>>") :]
    return [line for line in (re.sub("^(>>> )+", "", line) for line in shown.splitlines()) if line]


def test_what_one_needs_has_a_name(server: Server) -> None:
    done = typed(
        server, *(f"type({name}).__name__" for name in ("images", "dbsession", "models", "tm")), "list(stores)"
    )
    assert values(done) == ["'LocalImages'", "'Session'", "'module'", "'TransactionManager'", "['file']"]


def test_every_line_of_the_help_works_as_printed(server: Server, image_id: str) -> None:
    printed = typed(server).stdout
    lines = [line.strip() for line in re.findall(r"^  (\S.*?)(?:   .*)?$", printed, re.MULTILINE)]
    assert len(lines) >= 6
    typed_lines = [line.replace("<id>", image_id).replace("<project>", "tenant-a") for line in lines]
    shown = values(typed(server, *typed_lines))
    assert len(shown) == len([line for line in lines if not re.match(r"\w+ = ", line)])
    everything = "\n".join(shown)
    assert f"Image(id='{image_id}', name='f17', status='active', size=5" in everything
    assert "properties={'os': 'linux'}" in everything
    assert f"('tenant-a', Location(store='file', key='{image_id}." in everything
    assert f"'file://{server.datadir}/blobs/" in everything
    assert "b'bytes'" in shown
    assert "1" in shown


def test_leaving_the_shell_drops_what_was_not_committed(server: Server, image_id: str) -> None:
    change = f'dbsession.get(models.ImageRow, "{image_id}").name = "changed"'
    values(typed(server, change, "dbsession.flush()"))
    assert server.sql("SELECT name FROM images") == [("f17",)]


def test_commit_keeps_what_was_changed_and_the_shell_goes_on(server: Server, image_id: str) -> None:
    change = f'dbsession.get(models.ImageRow, "{image_id}").name = "changed"'
    shown = values(typed(server, change, "tm.commit()", f'images.find("{image_id}", admin).name'))
    assert shown == ["'changed'"]
    assert server.sql("SELECT name FROM images") == [("changed",)]


def test_shell_opens_on_a_schema_that_is_behind_and_warns(tmp_path: Path) -> None:
    server = Server(tmp_path, sample="production")
    done = typed(server, "type(images).__name__")
    assert values(done) == ["'LocalImages'"]
    assert "WARNING" in done.stderr
    assert "db upgrade" in done.stderr
