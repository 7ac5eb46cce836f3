"""Images through nginx and HAProxy: they arrive whole and at once, and lie nowhere on the way."""

import contextlib
import hashlib
import os
import random
import re
import subprocess
from pathlib import Path

import pytest

from factories import OCTETS, data_headers, error_of, md5, sha256
from servers.machine import client
from servers.processes import OWNED, RUN_SECONDS, wait_until
from servers.proxies import ADMITTED, Proxy
from servers.pyrimage import READY_SECONDS, Answer, Server

pytestmark = pytest.mark.system

MIB, GIB = 1 << 20, 1 << 30
SIZE = 64 * MIB
HALF = SIZE // 2
ON_THE_WAY = 16 * MIB  # bytes that buffers and sockets between the client and the store may hold


@pytest.fixture(scope="module")
def data() -> bytes:
    return random.Random(65).randbytes(SIZE)


@pytest.fixture(scope="module")
def image(server: Server, data: bytes) -> str:
    """The path of an image of the data."""
    made = server.request("POST", "/v1/images", data, data_headers(name="f17", is_public="true"))
    return f"/v1/images/{made.image['id']}"


class Curl:
    """The program, which knows the proxy by its name; ``transcript`` is what it said."""

    def __init__(self, proxy: Proxy, directory: Path) -> None:
        self._proxy, self._directory = proxy, directory
        self.transcript, self.sent = "", 0

    def __call__(self, path: str, *options: str, stdin: bytes | None = None) -> Answer:
        head, body = self._directory / "head", self._directory / "body"
        place = ("--resolve", f"{self._proxy.name}:127.0.0.1", "--cacert", str(self._proxy.certificate))
        written = ("-D", str(head), "-o", str(body), "-w", "%{size_upload}", "--interface", ADMITTED)
        command = ["curl", "-sS", "-v", *place, *written, *options, f"https://{self._proxy.name}{path}"]
        done = subprocess.run([*OWNED, *command], input=stdin, capture_output=True, timeout=RUN_SECONDS, check=False)
        self.transcript, self.sent = done.stderr.decode("latin-1"), int(done.stdout)
        assert done.returncode == 0 or "Send failure" in self.transcript, self.transcript
        (last,) = re.findall(rb"HTTP/1.1 (?!100).*?(?=\r\n\r\n)", head.read_bytes(), re.DOTALL)
        return Answer.parse(last, body.read_bytes())


@pytest.fixture
def curl(proxy: Proxy, tmp_path: Path) -> Curl:
    return Curl(proxy, tmp_path)


def staged(server: Server) -> int:
    """Return the bytes of uploads that have not ended."""
    return sum(path.stat().st_size for path in (server.datadir / "staging").glob("*"))


# Uploads


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_upload_by_curl_arrives_whole(curl: Curl, server: Server, data: bytes, tmp_path: Path, chunked: bool) -> None:
    (tmp_path / "disk.img").write_bytes(data)
    source = "-" if chunked else str(tmp_path / "disk.img")
    options = ("-X", "POST", "-T", source, "-H", "x-image-meta-name: f17", "-H", f"Content-Type: {OCTETS}")
    made = curl("/v1/images", *options, stdin=data if chunked else None)
    assert ("> Transfer-Encoding: chunked" in curl.transcript) == chunked
    assert (made.status, made.image["size"], made.image["checksum"]) == (201, SIZE, md5(data))
    (stored,) = server.datadir.glob(f"blobs/*/{made.image['id']}.*")
    assert sha256(stored.read_bytes()) == sha256(data)


def upload_head(proxy: Proxy, framing: str) -> bytes:
    fields = [f"Host: {proxy.name}", *(f"{name}: {value}" for name, value in data_headers(name="f17").items())]
    return "\r\n".join(["POST /v1/images HTTP/1.1", *fields, "Connection: close", framing, "", ""]).encode()


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
def test_upload_reaches_the_store_while_it_is_sent(proxy: Proxy, server: Server, data: bytes, chunked: bool) -> None:
    def framed(piece: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece

    received = b""
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {SIZE}"
    with proxy.connect() as client:
        client.sendall(upload_head(proxy, framing))
        client.sendall(framed(data[:HALF]))
        wait_until(lambda: staged(server) > HALF - ON_THE_WAY, READY_SECONDS, server.log)
        client.sendall(framed(data[HALF:]) + (b"0\r\n\r\n" if chunked else b""))
        while piece := client.recv(65536):
            received += piece
    head, _, body = received.partition(b"\r\n\r\n")
    made = Answer.parse(head, body)
    assert made.status == 201
    assert made.headers["x-image-meta-sha256"] == sha256(data)


def test_upload_whose_client_goes_away_leaves_nothing(proxy: Proxy, server: Server, data: bytes) -> None:
    before = server.files()
    with proxy.connect() as client:
        client.sendall(upload_head(proxy, f"Content-Length: {SIZE}"))
        client.sendall(data[:HALF])
        wait_until(lambda: staged(server) > HALF - ON_THE_WAY, READY_SECONDS, server.log)
    wait_until(lambda: server.files() == before and server.sql("SELECT * FROM claims") == [], READY_SECONDS, server.log)


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """A file of ten gigabytes of zeros, which takes no room."""
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(10 * GIB)
    return path


REFUSED_UPLOAD = ("-X", "POST", "-H", f"Content-Type: {OCTETS}", "-H", "x-image-meta-id: taken")


def test_refused_upload_gets_its_answer_instead_of_sending_the_body(curl: Curl, proxy: Proxy, sparse: Path) -> None:
    refused = curl("/v1/images", *REFUSED_UPLOAD, "-T", str(sparse), "--expect100-timeout", "50")
    assert (refused.status, "id taken is taken" in error_of(refused)) == (409, True)
    asked_in_vain = proxy.kind == "nginx"  # which answers 100 Continue itself
    assert ("< HTTP/1.1 100" in curl.transcript) == asked_in_vain
    assert curl.sent < (GIB if asked_in_vain else 64 * 1024)


def test_refused_upload_that_does_not_ask_gets_its_answer(curl: Curl, sparse: Path) -> None:
    refused = curl("/v1/images", *REFUSED_UPLOAD, "-T", str(sparse), "-H", "Expect:")
    assert (refused.status, "id taken is taken" in error_of(refused)) == (409, True)
    assert curl.sent < GIB


def test_refused_upload_in_chunks_gets_its_answer(curl: Curl, data: bytes) -> None:
    refused = curl("/v1/images", *REFUSED_UPLOAD, "-T", "-", "-H", "Expect:", stdin=data)
    assert (refused.status, "id taken is taken" in error_of(refused)) == (409, True)


def test_silent_client_gets_the_server_s_408(impatient: Proxy) -> None:
    with impatient.connect() as client:
        client.sendall(upload_head(impatient, f"Content-Length: {SIZE}") + bytes(MIB))
        assert client.recv(65536).startswith(b"HTTP/1.1 408 ")


# Downloads


def test_download_is_what_was_uploaded(proxy: Proxy, image: str, data: bytes) -> None:
    got = proxy.request("GET", image, headers={"Accept-Encoding": "gzip"})
    assert (got.status, got.headers["Content-Length"], sha256(got.body)) == (200, str(SIZE), sha256(data))
    assert (got.headers["ETag"], got.headers["Content-Encoding"]) == (md5(data), None)


def test_download_that_is_taken_slowly_is_not_stored(proxy: Proxy, image: str, data: bytes) -> None:
    digest = hashlib.sha256()
    with contextlib.closing(proxy.client()) as client:
        client.request("GET", image)
        slow = client.getresponse()
        proxy.request("GET", image)  # there is time for much of the first download, were it stored
        while piece := slow.read(MIB):
            digest.update(piece)
    assert digest.hexdigest() == sha256(data)
    assert "temporary file" not in proxy.log()


@pytest.mark.parametrize(("asked", "first", "last"), [("bytes=0-9", 0, 9), ("bytes=-7", SIZE - 7, SIZE - 1)])
def test_range_is_answered_by_the_server(
    proxy: Proxy, image: str, data: bytes, asked: str, first: int, last: int
) -> None:
    got = proxy.request("GET", image, headers={"Range": asked})
    assert (got.status, got.body) == (206, data[first : last + 1])
    assert got.headers["Content-Range"] == f"bytes {first}-{last}/{SIZE}"


def test_range_that_is_none_is_416(proxy: Proxy, image: str) -> None:
    assert proxy.request("GET", image, headers={"Range": f"bytes={SIZE}-"}).status == 416


def test_nothing_is_cached(proxy: Proxy) -> None:
    made = proxy.request("POST", "/v1/images", b"bytes", data_headers(name="f17"))
    path = f"/v1/images/{made.image['id']}"
    assert [proxy.request("GET", path).status for _ in range(2)] == [200, 200]
    assert proxy.request("DELETE", path).status == 200
    assert proxy.request("GET", path).status == 404


def test_lists_are_not_compressed(proxy: Proxy, image: str) -> None:
    listed = proxy.request("GET", "/v1/images", headers={"Accept-Encoding": "gzip"})
    assert image.rpartition("/")[2] in {each["id"] for each in listed.json["images"]}


# python-glanceclient


def test_glanceclient_works(proxy: Proxy, data: bytes, tmp_path: Path) -> None:
    disk, back = tmp_path / "disk.img", tmp_path / "back.img"
    disk.write_bytes(data)

    def glance(*arguments: str) -> str:
        place = ("--os-image-api-version", "1", "--os-image-url", proxy.url, "--os-auth-token", "x")
        command = [*OWNED, client("glance"), *place, "--os-cacert", str(proxy.certificate), *arguments]
        # A machine's own bundle would win over --os-cacert.
        bundles = dict.fromkeys(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), str(proxy.certificate))
        environment = {**os.environ, **bundles, "PYTHONWARNINGS": "ignore", "PYTHONUTF8": "1"}
        nothing = subprocess.DEVNULL
        done = subprocess.run(
            command, env=environment, stdin=nothing, capture_output=True, text=True, timeout=RUN_SECONDS
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    formats = ("--disk-format", "qcow2", "--container-format", "bare")
    made = glance("image-create", "--name", "f17", *formats, "--property", "os_type=linux", "--file", str(disk))
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in made.splitlines() if line.startswith("|")]
    fields = dict(cells)
    assert (fields["disk_format"], fields["Property 'os_type'"], fields["checksum"]) == ("qcow2", "linux", md5(data))
    glance("image-download", fields["id"], "--file", str(back))
    assert sha256(back.read_bytes()) == sha256(data)
