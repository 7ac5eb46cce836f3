"""python-glanceclient, the command that people still have: from an environment of its own, against a real server."""

import hashlib
import os
import random
import subprocess
from pathlib import Path

import pytest

from factories import wire
from servers.processes import OWNED
from servers.pyrimage import ROOT, Server

pytestmark = pytest.mark.system

CLIENTS = Path(os.environ.get("PYRIMAGE_TEST_CLIENTS") or ROOT / ".venv-clients")
FORMATS = ("--disk-format", "qcow2", "--container-format", "bare")
NAME = 'Ünïx 10.04, 日本 "täst"; 50%25'

# The command takes a standard input that is there for data. A terminal would do as well.
WITHOUT_STDIN = ("bash", "-c", 'exec "$@" <&-', "-")


@pytest.fixture(scope="module")
def program() -> str:
    """The ``glance`` command. Skips the test if it is not installed, and fails it where the environment sets CI."""
    path = CLIENTS / "bin/glance"
    if not path.is_file():
        message = f"no {path}; make test-system installs it"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    return str(path)


class Glance:
    """The command, talking to one server."""

    def __init__(self, program: str, server: Server) -> None:
        self._command = (program, "--os-image-api-version", "1", "--os-image-url", server.url, "--os-auth-token", "x")

    def run(self, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
        command = [*OWNED, *WITHOUT_STDIN, *self._command, *arguments]
        environment = {**os.environ, "PYTHONWARNINGS": "ignore", "PYTHONUTF8": "1"}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)

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


def test_create_with_a_file_stores_it_with_its_formats(glance: Glance, data: Path) -> None:
    made = glance.fields("image-create", "--name", "f17", *FORMATS, "--file", data, "--min-ram", "512")
    assert (made["status"], made["checksum"], made["size"]) == ("active", digest(data), str(data.stat().st_size))
    assert (made["disk_format"], made["container_format"], made["min_ram"]) == ("qcow2", "bare", "512")
    assert made["is_public"] == "False"  # the command sends the word None for what it was not told


def test_create_with_an_announced_checksum_that_is_wrong_leaves_nothing(glance: Glance, data: Path) -> None:
    """S17, a chunked body."""
    done = glance.run("image-create", "--id", "not-made", *FORMATS, "--file", data, "--checksum", "0" * 32)
    assert done.returncode == 1
    assert "x-image-meta-checksum" in done.stderr
    assert glance.run("image-show", "not-made").returncode == 1


def test_list_shows_an_image_that_was_just_made(glance: Glance, data: Path) -> None:
    made = glance.fields("image-create", "--name", "listed", "--is-public", "True", *FORMATS, "--file", data)
    row = [made["id"], "listed", "qcow2", "bare", made["size"], "active"]
    assert row in glance("image-list")
    assert row in glance("image-list", "--name", "listed")


def test_list_pages_through_more_than_one_page(glance: Glance) -> None:
    made = {glance.fields("image-create", "--name", "paged", "--is-public", "True")["id"] for _ in range(3)}
    assert {row[0] for row in glance("image-list", "--name", "paged", "--page-size", "2")} == made


def test_show_finds_an_image_by_its_name(glance: Glance, data: Path) -> None:
    made = glance.fields("image-create", "--name", "by name", "--is-public", "True", *FORMATS, "--file", data)
    shown = glance.fields("image-show", "by name")
    assert shown.keys() - made.keys() == {"sha256", "location"}  # which Glance's JSON has not: they come as headers
    assert {key: made[key] for key in shown.keys() & made.keys()}.items() <= shown.items()
    assert (shown["id"], shown["disk_format"], shown["is_public"]) == (made["id"], "qcow2", "True")


def test_a_name_of_spaces_quotes_and_other_scripts_comes_back_as_typed(glance: Glance) -> None:
    made = glance.fields("image-create", "--name", NAME, "--is-public", "True", "--property", f"os_type={NAME}")
    assert (made["name"], made["Property 'os_type'"]) == (NAME, NAME)
    assert [row[:2] for row in glance("image-list", "--name", NAME)] == [[made["id"], NAME]]


def test_a_name_of_other_scripts_finds_its_image_and_is_utf_8_in_the_headers(glance: Glance) -> None:
    made = glance.fields("image-create", "--name", f"by {NAME}", "--is-public", "True", "--property", f"os_type={NAME}")
    shown = glance.fields("image-show", f"by {NAME}")
    assert shown["id"] == made["id"]
    sent = [shown[key].encode("latin-1").decode() for key in ("name", "Property 'os_type'")]  # the client reads latin-1
    assert sent == [f"by {NAME}", NAME]


# Each with an image's URL and its id; what is told is sent back, or a name that somebody types.
CALLS = {
    "glanceclient, list": "told = [each for each in images.list() if each.id == image][0]; back(told)",
    "glanceclient, get": "back(images.get(image))",
    "requests, HEAD": "put({name: text for name, text in requests.head(url).headers.items() if name.startswith(META)})",
    "requests, text": "put({META + 'name': 'für Läufer'})",
    "requests, bytes": "put({META + 'name': 'für Läufer'.encode()})",
}
CALL = """
import glanceclient, requests, sys
server, image = sys.argv[1:]
images, url, META = glanceclient.Client("1", server, token="x").images, f"{server}/v1/images/{image}", "x-image-meta-"
back = lambda told: images.update(image, name=told.name, properties=told.properties)
put = lambda headers: requests.put(url, headers=headers).raise_for_status()
"""


@pytest.mark.parametrize(
    ("call", "name", "becomes"),
    [
        ("glanceclient, list", NAME, NAME),
        ("glanceclient, get", "für Läufer", "fÃ¼r LÃ¤ufer"),  # nobody can tell it from a wish
        ("glanceclient, get", NAME, None),  # refused: read as latin-1, some of its bytes are control characters
        ("requests, HEAD", NAME, NAME),
        ("requests, text", "x", None),
        ("requests, bytes", "x", "für Läufer"),
    ],
)
def test_which_calls_keep_a_name_of_other_scripts(
    call: str, name: str, becomes: str | None, program: str, server: Server
) -> None:
    """As docs/glance.md has it."""
    sent = {"x-image-meta-name": wire(name), "x-image-meta-property-os": wire(name), "x-image-meta-is-public": "true"}
    image = server.request("POST", "/images", headers=sent).image["id"]
    command = [*OWNED, Path(program).with_name("python"), "-W", "ignore", "-c", CALL + CALLS[call], server.url, image]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode == 0) is (becomes is not None), done.stderr
    stored = {each["id"]: each["name"] for each in server.request("GET", "/images").json["images"]}
    assert stored[image] == (becomes or name)


def test_download_gives_the_bytes_whose_checksum_the_client_verifies(
    glance: Glance, data: Path, tmp_path: Path
) -> None:
    made = glance.fields("image-create", "--name", "down", *FORMATS, "--file", data)
    glance("image-download", made["id"], "--file", tmp_path / "back.img")
    assert (tmp_path / "back.img").read_bytes() == data.read_bytes()


def test_download_of_bytes_that_changed_on_the_disk_is_refused_by_the_client(
    glance: Glance, server: Server, data: Path, tmp_path: Path
) -> None:
    made = glance.fields("image-create", "--name", "changed", *FORMATS, "--file", data)
    (stored,) = server.datadir.rglob(f"{made['id']}.*")
    with stored.open("r+b") as file:
        file.write(bytes(16))
    done = glance.run("image-download", made["id"], "--file", tmp_path / "back.img")
    assert done.returncode == 1
    assert "Corrupt image download" in done.stderr


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


def test_upload_into_a_queued_image_makes_it_active(glance: Glance, data: Path, tmp_path: Path) -> None:
    queued = glance.fields("image-create", "--name", "reserved", "--property", "kept=yes")
    assert (queued["status"], queued["size"]) == ("queued", "0")
    filled = glance.fields("image-update", queued["id"], *FORMATS, "--file", data)
    assert (filled["status"], filled["checksum"], filled["Property 'kept'"]) == ("active", digest(data), "yes")
    glance("image-download", queued["id"], "--file", tmp_path / "back.img")
    assert digest(tmp_path / "back.img") == digest(data)


def test_delete_removes_the_image_and_its_bytes(glance: Glance, server: Server, data: Path) -> None:
    made = glance.fields("image-create", "--name", "gone", *FORMATS, "--file", data)
    glance("image-delete", made["id"])
    assert glance.fields("image-show", made["id"])["status"] == "deleted"  # to an administrator
    assert list(server.datadir.rglob(f"{made['id']}.*")) == []
    assert glance.run("image-delete", made["id"]).returncode == 1


def test_delete_of_a_protected_image_waits_until_it_is_not(glance: Glance) -> None:
    made = glance.fields("image-create", "--name", "kept", "--is-protected", "True")
    assert "protected" in glance.run("image-delete", made["id"]).stdout
    glance("image-update", made["id"], "--is-protected", "False")
    glance("image-delete", made["id"])


def test_members_are_added_listed_both_ways_and_removed(glance: Glance) -> None:
    made = glance.fields("image-create", "--name", "shared")["id"]
    assert glance("member-list", "--image-id", made) == []
    glance("member-create", made, "tenant-b")
    glance("member-create", "--can-share", made, "tenant-c")
    shared = [[made, "tenant-b", ""], [made, "tenant-c", "True"]]  # the command prints nothing for False
    assert sorted(glance("member-list", "--image-id", made)) == shared
    assert glance("member-list", "--tenant-id", "tenant-c") == shared[1:]
    glance("member-create", made, "tenant-c")  # it sends False where it is not told
    assert glance("member-list", "--tenant-id", "tenant-c") == [[made, "tenant-c", ""]]
    glance("member-delete", made, "tenant-c")
    assert glance("member-list", "--image-id", made) == shared[:1]
    assert glance("member-list", "--tenant-id", "tenant-c") == []
    assert "is not a member" in glance.run("member-delete", made, "tenant-c").stderr


def test_the_memberships_of_a_deleted_image_are_gone(glance: Glance) -> None:
    made = glance.fields("image-create", "--name", "shared")["id"]
    glance("member-create", made, "tenant-d")
    glance("image-delete", made)
    assert glance("member-list", "--tenant-id", "tenant-d") == []
    assert glance.run("member-list", "--image-id", made).returncode == 1
