"""``pshell production.ini``, typed into: what it offers, and its own help, line by line."""

import re
import subprocess
from pathlib import Path

import pytest

from factories import OCTETS, meta
from servers.processes import run
from servers.pyrimage import Server

pytestmark = pytest.mark.system


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Server:
    """An installation of production.ini that nothing serves; ``tenant-a`` has an image there, of ``bytes``."""
    made = Server(tmp_path_factory.mktemp("server"), sample="production")
    assert run("pyrimage-manage", "-c", made.ini, "db", "upgrade", cwd=made.directory).returncode == 0
    headers = {"Content-Type": OCTETS, **meta(id="f17", name="f17", owner="tenant-a", properties={"os": "linux"})}
    with made:
        assert made.request("POST", "/images", b"bytes", headers).status == 201
    return made


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


def test_every_line_of_the_help_works_as_printed(server: Server) -> None:
    printed = typed(server).stdout
    lines = [line.strip() for line in re.findall(r"^  (\S.*?)(?:   .*)?$", printed, re.MULTILINE)]
    assert len(lines) >= 6
    typed_lines = [line.replace("<id>", "f17").replace("<project>", "tenant-a") for line in lines]
    shown = values(typed(server, *typed_lines))
    assert len(shown) == len([line for line in lines if not re.match(r"\w+ = ", line)])
    everything = "\n".join(shown)
    assert "Image(id='f17', name='f17', disk_format=None" in everything
    assert "status='active'" in everything
    assert "properties={'os': 'linux'}" in everything
    assert "('tenant-a', Location(store='file', key='f17." in everything
    assert f"'file://{server.datadir}/blobs/" in everything
    assert "b'bytes'" in shown
    assert "1" in shown


def test_what_was_not_committed_is_dropped_and_the_shell_goes_on_after_a_commit(server: Server) -> None:
    change = 'dbsession.get(models.ImageRow, "f17").name = "changed"'
    values(typed(server, change, "dbsession.flush()"))
    assert server.sql("SELECT name FROM images") == [("f17",)]
    assert values(typed(server, change, "tm.commit()", 'catalogue.find("f17", admin).name')) == ["'changed'"]
    assert server.sql("SELECT name FROM images") == [("changed",)]


def test_shell_opens_on_a_schema_that_is_behind_and_warns(tmp_path: Path) -> None:
    """What one needs has a name all the same."""
    names = [f"type({name}).__name__" for name in ("catalogue", "dbsession", "models", "tm")]
    done = typed(Server(tmp_path, sample="production"), *names, "list(stores)")
    assert values(done) == ["'SqlCatalogue'", "'Session'", "'module'", "'TransactionManager'", "['file', 'http']"]
    assert "WARNING" in done.stderr
    assert "db upgrade" in done.stderr
