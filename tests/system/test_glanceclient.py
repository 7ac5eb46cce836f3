"""python-glanceclient, the command that people still have: from an environment of its own, against a real server."""

import hashlib
import json
import os
import random
import subprocess
from pathlib import Path

import pytest

from factories import meta, wire
from servers.machine import client
from servers.processes import OWNED, RUN_SECONDS
from servers.pyrimage import Server

pytestmark = pytest.mark.system

FORMATS = ("--disk-format", "qcow2", "--container-format", "bare")
NAME = 'Ünïx 10.04, 日本 "täst"; 50%25'

# The command takes a standard input that is there for data. A terminal would do as well.
WITHOUT_STDIN = ("bash", "-c", 'exec "$@" <&-', "-")


@pytest.fixture(scope="module")
def program() -> str:
    """The ``glance`` command."""
    return client("glance")


class Glance:
    """The command, talking to one server."""

    def __init__(self, program: str, server: Server) -> None:
        self._command = (program, "--os-image-api-version", "1", "--os-image-url", server.url, "--os-auth-token", "x")

    def run(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        command = [*OWNED, *WITHOUT_STDIN, *self._command, *arguments]
        environment = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONUTF8": "1"}
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS, check=False
        )

    def __call__(self, *arguments: str | Path) -> list[list[str]]:
        """Run the command, which must succeed, and return the cells of the table it prints, without the heading."""
        done = self.run(*arguments)
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stdout.splitlines() if line.startswith("|")]
        return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[1:]]

    def fields(self, *arguments: str | Path) -> dict[str, str]:
        """Run a command that prints one image."""
        return {key: value for key, value in self(*arguments) if key}


@pytest.fixture
def glance(program: str, server: Server) -> Glance:
    return Glance(program, server)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A file of 3 MiB and a little, so that the client sends more than one chunk."""
    path = tmp_path / "disk.img"
    path.write_bytes(random.randbytes(3 * 1024 * 1024 + 7))
    return path


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "md5").hexdigest()


def test_an_image_is_created_listed_shown_downloaded_and_deleted(
    glance: Glance, server: Server, data: Path, tmp_path: Path
) -> None:
    more = "--file", data, "--min-ram", "512"
    made = glance.fields("image-create", "--name", "by name", "--is-public", "True", *FORMATS, *more)
    assert (made["status"], made["checksum"], made["size"]) == ("active", digest(data), str(data.stat().st_size))
    assert (made["disk_format"], made["container_format"], made["min_ram"]) == ("qcow2", "bare", "512")
    row = [made["id"], "by name", "qcow2", "bare", made["size"], "active"]
    assert row in glance("image-list", "--name", "by name")
    shown = glance.fields("image-show", "by name")
    assert shown.keys() - made.keys() == {"sha256", "location"}  # which Glance's JSON has not: they come as headers
    assert {key: made[key] for key in shown.keys() & made.keys()}.items() <= shown.items()
    glance("image-download", made["id"], "--file", tmp_path / "back.img")
    assert (tmp_path / "back.img").read_bytes() == data.read_bytes()

    (stored,) = server.datadir.rglob(f"{made['id']}.*")
    with stored.open("r+b") as file:
        file.write(bytes(16))
    done = glance.run("image-download", made["id"], "--file", tmp_path / "back.img")
    assert (done.returncode, "Corrupt image download" in done.stderr) == (1, True)

    glance("image-delete", made["id"])
    assert glance.fields("image-show", made["id"])["status"] == "deleted"  # to an administrator
    assert list(server.datadir.rglob(f"{made['id']}.*")) == []
    assert glance.run("image-delete", made["id"]).returncode == 1


def test_create_with_an_announced_checksum_that_is_wrong_leaves_nothing(glance: Glance, data: Path) -> None:
    """S17, a chunked body."""
    done = glance.run("image-create", "--id", "not-made", *FORMATS, "--file", data, "--checksum", "0" * 32)
    assert done.returncode == 1
    assert "x-image-meta-checksum" in done.stderr
    assert glance.run("image-show", "not-made").returncode == 1


def test_list_pages_through_more_than_one_page(glance: Glance, server: Server) -> None:
    headers = meta(name="paged", is_public="true")
    made = {server.request("POST", "/v1/images", headers=headers).image["id"] for _ in range(3)}
    assert {row[0] for row in glance("image-list", "--name", "paged", "--page-size", "2")} == made


def test_a_name_of_spaces_quotes_and_other_scripts_comes_back_as_typed_and_finds_its_image(glance: Glance) -> None:
    made = glance.fields("image-create", "--name", NAME, "--is-public", "True", "--property", f"os_type={NAME}")
    assert (made["name"], made["Property 'os_type'"], made["size"]) == (NAME, NAME, "0")
    assert [row[:2] for row in glance("image-list", "--name", NAME)] == [[made["id"], NAME]]
    shown = glance.fields("image-show", NAME)
    assert shown["id"] == made["id"]
    sent = [shown[key].encode("latin-1").decode() for key in ("name", "Property 'os_type'")]  # the client reads latin-1
    assert sent == [NAME, NAME]


# Each with an image's URL and its id; what is told is sent back, or a name that somebody types. Beside them: what the
# image is called, and what it is called then, or None where that is refused.
CALLS = [
    ("told = [each for each in images.list() if each.id == image][0]; back(told)", NAME, NAME),
    ("back(images.get(image))", "für Läufer", "fÃ¼r LÃ¤ufer"),  # nobody can tell it from a wish
    ("back(images.get(image))", NAME, None),  # read as latin-1, some of its bytes are control characters
    (
        "put({name: text for name, text in requests.head(url).headers.items() if name.startswith(META)})",
        NAME,
        NAME,
    ),
    ("put({META + 'name': 'für Läufer'})", "x", None),
    ("put({META + 'name': 'für Läufer'.encode()})", "x", "für Läufer"),
]
PROGRAM = """
import glanceclient, json, requests, sys
images, META = glanceclient.Client("1", sys.argv[1], token="x").images, "x-image-meta-"
back = lambda told: images.update(image, name=told.name, properties=told.properties)
put = lambda headers: requests.put(url, headers=headers).raise_for_status()
for call, image in json.loads(sys.argv[2]):
    url = f"{sys.argv[1]}/v1/images/{image}"
    try:
        exec(call)
    except Exception as error:
        print("refused", repr(error).encode())
    else:
        print("done")
"""


def test_which_calls_keep_a_name_of_other_scripts(program: str, server: Server) -> None:
    """As docs/glance.md has it."""
    asked = []
    for call, name, _ in CALLS:
        fields = {"x-image-meta-name": wire(name), "x-image-meta-property-os": wire(name)}
        made = server.request("POST", "/images", headers={**fields, "x-image-meta-is-public": "true"})
        asked.append((call, made.image["id"]))
    command = [
        *OWNED,
        str(Path(program).with_name("python")),
        "-W",
        "ignore",
        "-c",
        PROGRAM,
        server.url,
        json.dumps(asked),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    stored = {each["id"]: each["name"] for each in server.request("GET", "/images?limit=1000").json["images"]}
    for (_, name, becomes), (_, image), line in zip(CALLS, asked, done.stdout.splitlines(), strict=True):
        assert line.startswith("done" if becomes else "refused"), line
        assert stored[image] == (becomes or name)


def test_update_keeps_the_properties_unless_they_are_purged(glance: Glance) -> None:
    made = glance.fields("image-create", "--name", "props", "--property", "a=1", "--property", "b=2")
    kept = glance.fields("image-update", made["id"], "--property", "b=3", "--property", "c=4", "--min-disk", "9")
    assert {key: value for key, value in kept.items() if key.startswith("Property")} == {
        "Property 'a'": "1",
        "Property 'b'": "3",
        "Property 'c'": "4",
    }
    assert (kept["name"], kept["min_disk"]) == ("props", "9")
    purged = glance.fields("image-update", made["id"], "--property", "d=5", "--purge-props")
    assert [key for key in purged if key.startswith("Property")] == ["Property 'd'"]


def test_upload_into_a_queued_image_makes_it_active(glance: Glance, data: Path) -> None:
    queued = glance.fields("image-create", "--name", "reserved", "--property", "kept=yes")
    assert (queued["status"], queued["size"]) == ("queued", "0")
    filled = glance.fields("image-update", queued["id"], *FORMATS, "--file", data)
    assert (filled["status"], filled["checksum"], filled["Property 'kept'"]) == ("active", digest(data), "yes")


def test_members_are_added_listed_both_ways_and_removed(glance: Glance) -> None:
    made = glance.fields("image-create", "--name", "shared")["id"]
    glance("member-create", made, "tenant-b")
    glance("member-create", "--can-share", made, "tenant-c")
    shared = [[made, "tenant-b", ""], [made, "tenant-c", "True"]]  # the command prints nothing for False
    assert sorted(glance("member-list", "--image-id", made)) == shared
    assert glance("member-list", "--tenant-id", "tenant-c") == shared[1:]
    glance("member-create", made, "tenant-c")  # it sends False where it is not told
    assert glance("member-list", "--tenant-id", "tenant-c") == [[made, "tenant-c", ""]]
    glance("member-delete", made, "tenant-c")
    assert glance("member-list", "--image-id", made) == shared[:1]
    assert "is not a member" in glance.run("member-delete", made, "tenant-c").stderr
