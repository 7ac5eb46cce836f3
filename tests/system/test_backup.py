"""docs/backup.md, run as it is printed: a backup of a server under load, restored in another place, is whole.

The calls come from a seed that is printed; PYRIMAGE_TEST_SEED sets it.
"""

import contextlib
import getpass
import os
import random
import re
import shutil
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import pytest
from sqlalchemy import make_url

from aftermath import rows
from factories import data_headers, files_below, meta
from journal import Journal
from servers import databases
from servers.machine import installed
from servers.processes import OWNED, PROGRAMS, clean_environment, run, wait_until
from servers.pyrimage import READY_SECONDS, ROOT, Server
from traffic import EVERY_CALL, traffic

pytestmark = pytest.mark.system

PAGE = (ROOT / "docs/backup.md").read_text(encoding="utf-8")

# By kind of database: what its blocks name and no other does, and the programs that they run.
MARKS = {"sqlite": "/pyrimage.sqlite", "postgresql": "/pyrimage.dump", "mariadb": '/pyrimage.sql"'}
NEEDED = {
    "sqlite": ("rsync", "sqlite3"),
    "postgresql": ("rsync", "pg_dump", "pg_restore", "psql"),
    "mariadb": ("rsync", "mariadb-dump", "mariadb"),
}

SECRET = "PYRIMAGE_REGISTRY_SECRET=hunter2-hunter2-hunter2\n"
CALLS = {**EVERY_CALL, "delete": 2}  # of three uploads one is deleted

SECONDS = 300  # for one script
UPLOADS = 40  # before the first backup
DATA = b"sent anew"

# Between the dump and the copy of the bytes: the script says that it is there, and waits.
GATE = 'touch "$gate/dumped"\nuntil [ -e "$gate/open" ]; do sleep 0.05; done\n'


@pytest.fixture(params=databases.KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """A kind of database whose programs are here."""
    chosen: str = request.param
    for program in NEEDED[chosen]:
        installed(program)
    return chosen


@pytest.fixture
def journal() -> Journal:
    seed = os.environ.get("PYRIMAGE_TEST_SEED") or uuid.uuid4().hex
    print("PYRIMAGE_TEST_SEED =", seed)
    return Journal(seed, largest=1 << 20)


def blocks(title: str, kind: str) -> list[str]:
    """Return the shell blocks of a chapter of the page, without those of other databases."""
    chapter = re.split("^## ", PAGE, flags=re.MULTILINE)
    (text,) = (each for each in chapter if each.startswith(f"{title}\n"))
    found = re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    others = [mark for other, mark in MARKS.items() if other != kind]
    return [block for block in found if not any(mark in block for mark in others)]


class Place:
    """One installation: its ``/etc/pyrimage`` and ``/var/lib/pyrimage`` are below ``directory``."""

    def __init__(self, directory: Path, backups: Path, url: str) -> None:
        self.directory, self.backups, self.url = directory, backups, url
        self.main = {"sqlalchemy.url": url, "pyrimage.filesystem_store_datadir": f"{directory}/var/images"}
        directory.mkdir()
        self.server = Server(directory, sample="production", main=self.main, server={"workers": "2"})

    def configure(self) -> None:
        """Change in an ini that came from a backup what is different here."""
        self.server.ini.unlink()
        self.server.ini = self.directory / "etc/pyrimage.ini"
        self.server.configure("app:main", self.main)
        self.server.configure("server:main", {"listen": f"127.0.0.1:{self.server.port}"})

    def adapt(self, script: str) -> str:
        """Put this place's names where the page has its own."""
        database = make_url(self.url)
        server = f"--host={database.host} --port={database.port} --user={database.username}"
        names = {
            "/etc/pyrimage": f"{self.directory}/etc",
            "/var/lib/pyrimage": f"{self.directory}/var",
            "/backup/pyrimage": str(self.backups),
            "runuser -u pyrimage -- ": "",
            "/opt/pyrimage/bin": str(PROGRAMS),
            "chown -R pyrimage:": f"chown -R {getpass.getuser()}:",
            "chgrp -R pyrimage ": f"chgrp -R {os.getgid()} ",
            "postgresql://pyrimage@127.0.0.1/pyrimage": self.url.replace("+psycopg", "", 1),
            "--host=127.0.0.1 --user=pyrimage": server,
            " pyrimage >": f" {database.database} >",
            " pyrimage <": f" {database.database} <",
        }
        return re.sub("|".join(map(re.escape, names)), lambda found: names[found[0]], script)

    def start(self, script: str, **variables: str | Path) -> "subprocess.Popen[str]":
        """Run a script; ``variables`` are those that earlier blocks of the page have set."""
        more = {name: str(value) for name, value in variables.items()}
        more["MYSQL_PWD"] = make_url(self.url).password or ""
        return subprocess.Popen(
            [*OWNED, "bash", "-e", "-u", "-o", "pipefail", "-c", self.adapt(script)],
            cwd=self.directory,
            env=clean_environment(self.directory, more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, script: str, *, status: int = 0, **variables: str | Path) -> list[str]:
        return finished(self.start(script, **variables), status)


def finished(process: "subprocess.Popen[str]", status: int = 0) -> list[str]:
    """Wait until a script ends; return the lines that it wrote."""
    output, _ = process.communicate(timeout=SECONDS)
    print(output)
    assert process.returncode == status, output
    return output.splitlines()


@contextlib.contextmanager
def place(name: str, kind: str, directory: Path) -> Iterator[Place]:
    """Make a place with an empty database."""
    home = directory / name
    if kind == "sqlite":
        yield Place(home, directory / "backup", f"sqlite:///{home}/var/pyrimage.sqlite")
        return
    with databases.fresh_database(kind, directory) as url:
        yield Place(home, directory / "backup", url)


@contextlib.contextmanager
def running(kind: str, directory: Path) -> Iterator[Place]:
    """Run a server, installed as the page says."""
    with place("original", kind, directory) as made:
        (made.directory / "etc").mkdir()
        made.server.ini = made.server.ini.rename(made.directory / "etc/pyrimage.ini")
        (made.directory / "etc/environment").write_text(SECRET)
        upgraded = run("pyrimage-manage", "-c", made.server.ini, "db", "upgrade", cwd=made.directory)
        assert upgraded.returncode == 0, upgraded.stderr
        with made.server:
            yield made


@contextlib.contextmanager
def uploads_under_way(server: Server, url: str) -> Iterator[None]:
    """Hold two uploads in their midst: into ``slow-put``, which is reserved, and into ``slow-post``, which is new."""
    assert server.request("POST", "/v1/images", None, meta(id="slow-put", name="slow")).status == 201
    starts = {"slow-put": "PUT /v1/images/slow-put", "slow-post": "POST /v1/images"}
    with contextlib.ExitStack() as clients:
        for image_id, start in starts.items():
            clients.enter_context(upload_half(server, start, data_headers(id=image_id)))
        wait_until(lambda: set(claims(url)) >= starts.keys(), READY_SECONDS)
        yield


def upload_half(server: Server, start: str, headers: Mapping[str, str]) -> socket.socket:
    lines = [f"{start} HTTP/1.1", "Host: localhost", "Content-Length: 1000000"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return server.connect("\r\n".join([*lines, "", ""]).encode() + b"x" * 500_000)


def claims(url: str) -> list[str]:
    return [image_id for (image_id,) in rows(url, "SELECT image_id FROM claims")]


def statuses(url: str) -> dict[str, str]:
    return dict(rows(url, "SELECT id, status FROM images"))


def delete_some(server: Server, journal: Journal, known: set[str]) -> set[str]:
    """Delete three of the ``known`` images, and others by chance; return the three."""
    chance, gone = random.Random(journal.seed), set[str]()
    while len(gone & known) < 3:
        image_id = journal.choose(chance, to_delete=True)
        assert image_id is not None
        assert server.request("DELETE", f"/v1/images/{image_id}").status == 200
        journal.deleted.add(image_id)
        gone.add(image_id)
    return gone & known


def damaged(server: Server, image_ids: set[str], journal: Journal) -> list[str]:
    """Download images, and return those that are not what was sent."""
    found = []
    for each in image_ids:
        answer = server.request("GET", f"/v1/images/{each}")
        if (answer.status, answer.body) != (200, bytes(journal.bytes_of(each))):
            found.append(f"{each}: {answer.status}, {len(answer.body)} bytes")
    return found


class Known(NamedTuple):
    """What clients knew before a backup began, and which images were deleted between its dump and its bytes."""

    there: set[str]
    deleted: set[str]
    lost: set[str]


def back_up_under_load(original: Place, kind: str, journal: Journal) -> Known:
    """Make two backups while clients work; hold the second one between the database and the bytes."""
    server, script = original.server, blocks("Back up", kind)
    with traffic([server], journal, clients=8, calls=CALLS):
        wait_until(lambda: len(journal.uploaded) >= UPLOADS, READY_SECONDS, lambda: str(journal))
        original.run("".join(script))
        first = (original.backups / "latest").resolve()
        wait_until(lambda: not (original.backups / time.strftime("%Y%m%d-%H%M%S")).exists(), READY_SECONDS)
        with uploads_under_way(server, original.url):
            there, deleted = set(journal.uploaded), set(journal.deleted)
            backup = original.start("".join([*script[:-1], GATE, script[-1]]), gate=original.directory)
            wait_until((original.directory / "dumped").exists, SECONDS)
            lost = delete_some(server, journal, there - deleted)
            assert server.request("POST", "/v1/images", DATA, data_headers(id="too-late")).status == 201
            uploaded = len(journal.uploaded)
            wait_until(lambda: len(journal.uploaded) >= uploaded + 10, READY_SECONDS, lambda: str(journal))
            (original.directory / "open").touch()
            finished(backup)
    latest = (original.backups / "latest").resolve()
    assert (journal.wrong, journal.cut) == ([], {})
    assert latest != first
    assert (latest / "etc/environment").read_text() == SECRET
    assert original.backups.stat().st_mode & 0o077 == 0
    shared = set(files_below(first / "blobs")) & set(files_below(latest / "blobs"))
    assert shared
    assert all((latest / "blobs" / name).samefile(first / "blobs" / name) for name in shared)
    return Known(there, deleted, lost)


def restore(copy: Place, kind: str) -> None:
    """Follow the page up to the start of the servers."""
    settings, *contents, clean, _ = blocks("Restore", kind)
    copy.run(settings)
    assert (copy.directory / "etc/environment").read_text() == SECRET
    copy.configure()
    copy.run("".join(contents), backup=copy.backups / "latest")
    assert set(claims(copy.url)) >= {"slow-put", "slow-post"}
    rows(copy.url, "UPDATE claims SET lease = '2001-01-01 00:00:00'")  # as if it were some minutes later
    assert "The schema is up to date." in copy.run(clean)
    assert claims(copy.url) == []


def test_a_backup_under_load_is_restored_whole(kind: str, tmp_path: Path, journal: Journal) -> None:
    with running(kind, tmp_path) as original:
        known = back_up_under_load(original, kind, journal)
    shutil.rmtree(original.directory)  # nothing of it may be needed
    with place("elsewhere", kind, tmp_path) as copy:
        restore(copy, kind)
        found = statuses(copy.url)
        assert found.get("slow-put") == "queued"
        assert found.keys().isdisjoint({"slow-post", "too-late"})
        active = {each for each, status in found.items() if status == "active"}
        assert known.there - journal.delete_tried <= active
        assert active.isdisjoint(known.deleted)
        with copy.server as server:
            shown = copy.run(blocks("Restore", kind)[-1], status=1)
            named = {line.split()[0] for line in shown[:-1]}
            whole = active - named
            assert shown[-1] == f"{len(whole)} images are whole, {len(named)} are not."
            assert all("missing from the store" in line for line in shown[:-1])
            assert known.lost <= named <= journal.delete_tried
            assert damaged(server, whole, journal) == []
            assert len(whole) >= UPLOADS // 5
            assert {server.request("DELETE", f"/v1/images/{each}").status for each in named} == {200}
            assert copy.run(blocks("Restore", kind)[-1]) == [f"{len(whole)} images are whole, 0 are not."]
            for start, status in (("PUT /v1/images/slow-put", 200), ("POST /v1/images", 201)):
                method, path = start.split()
                made = server.request(method, path, DATA, data_headers(id=f"slow-{method.lower()}"))
                assert (made.status, made.image["status"]) == (status, "active")
