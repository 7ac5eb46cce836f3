"""curl with the guide's hyphen headers, against a real server."""

import os
import random
import subprocess
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from factories import md5
from servers.processes import OWNED, RUN_SECONDS
from servers.pyrimage import Answer, Server

pytestmark = pytest.mark.system

DATA = random.Random(17).randbytes(3 * 1024 * 1024 + 7)  # curl asks first (Expect) from 1 MiB on
OCTETS = ("-H", "Content-Type: application/octet-stream")


class Curl:
    """The program, with files to read from and to write to."""

    def __init__(self, server: Server, directory: Path) -> None:
        self._server, self._directory = server, directory
        self.file = directory / "disk.img"
        self.file.write_bytes(DATA)

    def __call__(self, path: str, *options: str, stdin: bytes = b"") -> Answer:
        """Run curl once and return the last answer it got; ``transcript`` is what it said meanwhile."""
        head, body = self._directory / "head", self._directory / "body"
        body.write_bytes(b"")
        command = [*OWNED, "curl", "-sS", "-v", "-D", str(head), "-o", str(body), *options, self._server.url + path]
        done = subprocess.run(command, input=stdin, capture_output=True, timeout=RUN_SECONDS, check=True)
        self.transcript = done.stderr.decode("latin-1")
        *_, last, _ = head.read_bytes().split(b"\r\n\r\n")  # after a 100, perhaps
        return Answer.parse(last, body.read_bytes())

    def upload(self, *options: str) -> str:
        """Make an image of the file; return its path."""
        made = self("/images", "-X", "POST", "-T", str(self.file), "-H", "x-image-meta-name: disk", *options)
        assert made.status == 201
        return f"/images/{made.image['id']}"


@pytest.fixture
def curl(server: Server, tmp_path: Path) -> Curl:
    return Curl(server, tmp_path)


def test_upload_sends_its_body_after_the_server_says_go_on(curl: Curl) -> None:
    curl.upload("-H", "Expect: 100-continue", "--expect100-timeout", "50")
    assert "< HTTP/1.1 100 Continue" in curl.transcript


def test_upload_by_data_binary_needs_the_right_content_type(curl: Curl) -> None:
    options = ("--data-binary", f"@{curl.file}", "-H", "x-image-meta-name: disk")
    refused = curl("/images", *options)
    assert refused.status == 400
    assert "application/octet-stream" in refused.json["error"]["message"]
    assert curl("/images", *options, *OCTETS).image["checksum"] == md5(DATA)


def test_upload_from_a_pipe_comes_chunked(curl: Curl) -> None:
    made = curl("/images", "-X", "POST", "-T", "-", "-H", "x-image-meta-name: disk", stdin=DATA)
    assert "> Transfer-Encoding: chunked" in curl.transcript
    assert (made.status, made.image["checksum"], made.image["size"]) == (201, md5(DATA), len(DATA))


def test_a_file_that_is_there_is_not_downloaded_again(curl: Curl, tmp_path: Path) -> None:
    """By its time (-z), its tag, or both."""
    path, there, tag = curl.upload(), tmp_path / "there", tmp_path / "tag"
    got = curl(path, "--etag-save", str(tag))
    there.write_bytes(got.body)
    became = parsedate_to_datetime(got.headers["Last-Modified"]).timestamp()
    os.utime(there, (became, became))
    curl(path, "-X", "PUT", "-H", "x-image-meta-name: renamed")
    for options in (("-z", str(there)), ("--etag-compare", str(tag)), ("-z", str(there), "--etag-compare", str(tag))):
        assert curl(path, *options).status == 304
    os.utime(there, (became - 1, became - 1))
    again = curl(path, "-z", str(there))
    assert (again.status, again.body) == (200, DATA)


def test_wget_downloads_once(curl: Curl, server: Server, tmp_path: Path) -> None:
    """As a mirror does (-N): the file gets the time of the bytes."""
    path = curl.upload()
    there = tmp_path / path.rpartition("/")[2]
    command = [*OWNED, "wget", "-N", "-nv", "-P", str(tmp_path), f"{server.url}{path}"]
    said = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS, check=True)
        curl(path, "-X", "PUT", "-H", "x-image-meta-name: renamed")
        said.append(done.stderr)
        assert there.read_bytes() == DATA
    assert ["saved" in text or "->" in text for text in said] == [True, False]
    modified = parsedate_to_datetime(curl(path, "-I").headers["Last-Modified"])
    assert there.stat().st_mtime == modified.timestamp()


def test_an_upload_that_is_resumed_is_refused_and_the_whole_is_taken_after_it(curl: Curl) -> None:
    """The rest alone would make an image: curl sends no more of a file than what it believes to be missing."""
    path = f"/images/{curl('/images', '-X', 'POST', '-H', 'x-image-meta-name: reserved').image['id']}"
    refused = curl(path, "-C", "2000000", "-T", str(curl.file), "--expect100-timeout", "50")
    assert (refused.status, "100 Continue" in curl.transcript) == (400, False)
    assert "Content-Range" in refused.json["error"]["message"]
    assert curl(path, "-I").headers["x-image-meta-status"] == "queued"
    assert curl(path, "-T", str(curl.file)).image["checksum"] == md5(DATA)


def test_wrong_announcements_are_refused_and_nothing_stays(own_server: Server, tmp_path: Path) -> None:
    """S17: a body and a chunked body, each with a wrong size, md5 and sha256."""
    curl = Curl(own_server, tmp_path)
    wrong = ("size: 17", f"checksum: {'0' * 32}", f"sha256: {'0' * 64}")
    for source, stdin in ((str(curl.file), b""), ("-", DATA)):
        for header in wrong:
            name = ("-H", "x-image-meta-name: x", "-H", f"x-image-meta-{header}")
            refused = curl("/images", "-X", "POST", "-T", source, *name, stdin=stdin)
            assert refused.status == 400, header
    assert own_server.files() == []
    assert own_server.sql("SELECT count(*) FROM images") == [(0,)]
