"""nginx and HAProxy, configured as docs/proxies.md prints it, between clients and a real server."""

import contextlib
import hashlib
import http.server
import os
import random
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from factories import OCTETS, data_headers, error_of, md5, sha256
from servers import proxies
from servers.processes import OWNED, wait_until
from servers.proxies import ADMITTED, NAME, REFUSED, Proxy
from servers.pyrimage import ROOT, Answer, Server

pytestmark = pytest.mark.system

MIB, GIB = 1 << 20, 1 << 30
SIZE = 64 * MIB
HALF = SIZE // 2
ON_THE_WAY = 16 * MIB  # bytes that buffers and sockets between the client and the store may hold
CLIENTS = Path(os.environ.get("PYRIMAGE_TEST_CLIENTS") or ROOT / ".venv-clients")
SETTINGS = {**proxies.settings("app:main"), "pyrimage.auto_migrate": "true"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server of production.ini with what the page wants there, and an image whose id is taken."""
    directory = tmp_path_factory.mktemp("server")
    with Server(directory, sample="production", main=SETTINGS, server=proxies.settings("server:main")) as running:
        assert running.request("POST", "/v1/images", b"x", data_headers(id="taken")).status == 201
        yield running


@pytest.fixture(scope="module", params=proxies.KINDS)
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, server: Server) -> Iterator[Proxy]:
    """A proxy in front of the server. Whatever the tests sent through it, it wrote nothing to disk."""
    with proxies.run(request.param, tmp_path_factory.mktemp(request.param), server.port) as running:
        yield running
        assert "temporary file" not in running.log()  # nginx warns of each


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
        done = subprocess.run([*OWNED, *command], input=stdin, capture_output=True, timeout=60, check=False)
        self.transcript, self.sent = done.stderr.decode("latin-1"), int(done.stdout)
        assert done.returncode == 0 or "Send failure" in self.transcript, self.transcript
        (last,) = re.findall(rb"HTTP/1.1 (?!100).*?(?=\r\n\r\n)", head.read_bytes(), re.DOTALL)
        return Answer.parse(last, body.read_bytes())


@pytest.fixture
def curl(proxy: Proxy, tmp_path: Path) -> Curl:
    return Curl(proxy, tmp_path)


def ask(proxy: Proxy, start: str, *lines: str) -> Answer:
    """Send a request of a start line and header lines as they are, and read any number of headers."""
    head = [f"{start} HTTP/1.1", f"Host: {proxy.name}", "Connection: close", *lines, "", ""]
    answered, _, body = proxy.exchange("\r\n".join(head).encode()).partition(b"\r\n\r\n")
    return Answer.parse(answered, body)


def staged(server: Server) -> int:
    """Return the bytes of uploads that have not ended."""
    return sum(path.stat().st_size for path in (server.datadir / "staging").glob("*"))


# What is printed


def test_the_program_finds_no_fault_with_its_file(proxy: Proxy) -> None:
    assert not re.findall(r"\[(warn|emerg|alert|error|crit|WARNING|ALERT)\b", proxy.check())


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
        wait_until(lambda: staged(server) > HALF - ON_THE_WAY, 20, server.log)
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
        wait_until(lambda: staged(server) > HALF - ON_THE_WAY, 20, server.log)
    wait_until(lambda: server.files() == before and server.sql("SELECT * FROM claims") == [], 20, server.log)


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


# Headers


def test_names_with_underscores_count(proxy: Proxy) -> None:
    fields = {"x-image-meta-disk_format": "qcow2", "x-image-meta-container_format": "bare"}
    made = proxy.request("POST", "/v1/images", headers={"x-image-meta-property-os_type": "linux", **fields})
    shown = proxy.request("HEAD", f"/v1/images/{made.image['id']}").headers
    assert {name: shown[name] for name in fields} == fields
    assert shown["x-image-meta-property-os_type"] == "linux"


def test_no_other_name_is_dropped(proxy: Proxy) -> None:
    made = proxy.request("POST", "/v1/images", headers={"x-image-meta-property-os.type": "linux"})
    assert made.image["properties"] == {"os_type": "linux"}


@pytest.mark.parametrize(("count", "length"), [(200, 1200), (900, 200)])
def test_many_properties_pass_both_ways(proxy: Proxy, count: int, length: int) -> None:
    lines = [f"x-image-meta-property-key_{number}: {'v' * length}" for number in range(count)]
    made = ask(proxy, "POST /v1/images", "x-image-meta-name: f17", *lines)
    assert made.status == 201
    shown = ask(proxy, f"HEAD /v1/images/{made.image['id']}")
    assert shown.status == 200
    assert sum(value == "v" * length for value in shown.headers.values()) == count


def test_too_many_are_refused_by_the_server(proxy: Proxy) -> None:
    limit = 262144
    refused = ask(proxy, "POST /v1/images", f"x-image-meta-name: {'v' * (limit - 100)}")
    assert (refused.status, "max_request_header_size" in error_of(refused)) == (431, True)


def test_values_in_utf_8_pass(proxy: Proxy) -> None:
    made = ask(proxy, "POST /v1/images", "x-image-meta-name: Läufer, 日本")
    assert made.image["name"] == "Läufer, 日本"


# Paths


@pytest.mark.parametrize(
    "path",
    ["/v1/images/%74aken", "/v1/images/a%2Fb", "//v1/images/taken", "/v1//images", "/v1/images/a%20b?x=%2F", "/v1/"],
)
def test_path_goes_on_as_it_was_sent(proxy: Proxy, server: Server, path: str) -> None:
    status = str(proxy.request("HEAD", path).status)
    wait_until(lambda: ["HEAD", path, status] in [line[1:4] for line in server.access_lines()], 10, server.log)
    assert int(status) == server.request("HEAD", path).status


# Who comes in, and as whom


def test_a_client_of_another_network_is_refused(proxy: Proxy) -> None:
    assert proxy.request("GET", "/v1/images", source=REFUSED).status == 403
    forged = {"X-Forwarded-For": ADMITTED, "X-Real-IP": ADMITTED, "Forwarded": f"for={ADMITTED}"}
    assert proxy.request("GET", "/v1/images", headers=forged, source=REFUSED).status == 403


def test_a_web_page_is_refused(proxy: Proxy) -> None:
    assert proxy.request("POST", "/v1/images", headers={"Origin": "https://evil.example"}).status == 403


FORGERIES = [
    ["X-Forwarded-For: 192.0.2.1"],
    ["X-Forwarded-For: 192.0.2.1", "X-Forwarded-For: 192.0.2.2"],
    ["X_Forwarded_For: 192.0.2.1", "x_forwarded-for: 192.0.2.1"],
    ["Forwarded: for=192.0.2.1;proto=http;host=evil.example", "X-Real-IP: 192.0.2.1"],
    ["X-Forwarded-Host: evil.example", "X-Forwarded-Proto: http", "X-Forwarded-Port: 1", "X-Forwarded-By: evil"],
    ["Connection: X-Forwarded-For, X-Forwarded-Proto, X-Forwarded-Host"],
]


@pytest.mark.parametrize("lines", FORGERIES, ids=lambda lines: " ".join(line.partition(":")[0] for line in lines))
def test_access_line_has_the_client_s_address_whatever_it_sends(
    proxy: Proxy, server: Server, lines: list[str], request: pytest.FixtureRequest
) -> None:
    path = f"/v1/images/{sha256(request.node.name.encode())[:32]}"
    assert ask(proxy, f"GET {path}", *lines).status == 404

    def peers() -> list[str]:
        return [peer for peer, _, asked, *_ in server.access_lines() if asked == path]

    wait_until(peers, 10, server.log)
    assert peers() == [ADMITTED]


def given_url(proxy: Proxy, *lines: str) -> str:
    """Return the URL that a new image is given, without its id."""
    made = ask(proxy, "POST /v1/images", "x-image-meta-name: f17", *lines)
    assert made.headers["Location"] == made.image["uri"]
    return str(made.image["uri"]).removesuffix(made.image["id"])


def test_urls_are_those_of_the_setting(proxy: Proxy) -> None:
    assert {given_url(proxy, *lines) for lines in ([], *FORGERIES)} == {f"https://{NAME}/v1/images/"}


@pytest.fixture(scope="module", params=proxies.KINDS)
def impatient(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """A proxy of its own for a server without ``pyrimage.public_endpoint`` that does not wait long for uploads."""
    directory = tmp_path_factory.mktemp("impatient")
    main = {"pyrimage.allow_anonymous": "true"}
    settings = {**proxies.settings("server:main"), "upload_timeout": "1"}
    with (
        Server(directory, main=main, server=settings) as server,
        proxies.run(request.param, tmp_path_factory.mktemp(request.param), server.port) as running,
    ):
        yield running


def test_urls_without_the_setting_are_those_of_the_proxy(impatient: Proxy) -> None:
    url = f"https://{impatient.name}/v1/images/"
    assert {given_url(impatient, *lines) for lines in ([], *FORGERIES)} == {url}


def test_silent_client_gets_the_server_s_408(impatient: Proxy) -> None:
    with impatient.connect() as client:
        client.sendall(upload_head(impatient, f"Content-Length: {SIZE}") + bytes(MIB))
        assert client.recv(65536).startswith(b"HTTP/1.1 408 ")


# Between the proxy and the server


class Recorder(http.server.BaseHTTPRequestHandler):
    """A backend that keeps the headers it was sent, by path, and answers with a place that looks like its own."""

    sent: ClassVar[dict[str, list[tuple[str, str]]]] = {}

    def do_GET(self) -> None:
        self.sent[self.path] = self.headers.items()
        self.send_response(200)
        self.send_header("Location", "http://pyrimage/v1/")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def recording() -> Iterator[int]:
    """The port of a recorder."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Recorder) as backend:
        threading.Thread(target=backend.serve_forever, daemon=True).start()
        yield backend.server_port
        backend.shutdown()


@pytest.mark.parametrize("kind", proxies.KINDS)
def test_nothing_that_clients_say_of_proxies_goes_on(kind: str, recording: int, tmp_path: Path) -> None:
    with proxies.run(kind, tmp_path, recording) as proxy:
        for number, lines in enumerate([[], *FORGERIES]):
            answer = ask(proxy, f"GET /{kind}/{number}", *lines)
            assert answer.headers["Location"] == "http://pyrimage/v1/"
            sent = [(name.lower(), value) for name, value in Recorder.sent[f"/{kind}/{number}"]]
            assert sorted(pair for pair in sent if pair[0].startswith(("forwarded", "x-forwarded-", "host"))) == [
                ("host", proxy.name),
                ("x-forwarded-for", ADMITTED),
                ("x-forwarded-host", proxy.name),
                ("x-forwarded-proto", "https"),
            ]


def connections(server: Server) -> set[int]:
    """Return the ports of the clients that are connected to a server."""
    lines = Path("/proc/net/tcp").read_text(encoding="ascii").splitlines()[1:]
    ends = [(line.split()[1], line.split()[2], line.split()[3]) for line in lines]
    return {
        int(local.partition(":")[2], 16)
        for local, remote, state in ends
        if remote == f"0100007F:{server.port:04X}" and state == "01"
    }


def test_connections_to_the_server_are_used_again(proxy: Proxy, server: Server) -> None:
    used: list[set[int]] = []
    with contextlib.closing(proxy.client()) as client:
        for _ in range(3):
            client.request("HEAD", "/v1/images")
            client.getresponse().read()
            used.append(connections(server))
    assert set.intersection(*used)


@pytest.mark.parametrize("proxy", ["haproxy"], indirect=True)
def test_haproxy_asks_for_the_server_s_health(proxy: Proxy, server: Server) -> None:
    def checks() -> int:
        return [line[2:4] for line in server.access_lines()].count(["/healthcheck", "200"])

    before = checks()
    wait_until(lambda: checks() > before, 20, server.log)


# python-glanceclient


def test_glanceclient_works(proxy: Proxy, data: bytes, tmp_path: Path) -> None:
    program = CLIENTS / "bin/glance"
    if not program.is_file():
        message = f"no {program}; make test-system installs it"
        pytest.fail(message) if os.environ.get("CI") else pytest.skip(message)
    disk, back = tmp_path / "disk.img", tmp_path / "back.img"
    disk.write_bytes(data)

    def glance(*arguments: str) -> str:
        place = ("--os-image-api-version", "1", "--os-image-url", proxy.url, "--os-auth-token", "x")
        command = [*OWNED, str(program), *place, "--os-cacert", str(proxy.certificate), *arguments]
        # A machine's own bundle would win over --os-cacert.
        bundles = dict.fromkeys(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"), str(proxy.certificate))
        environment = {**os.environ, **bundles, "PYTHONWARNINGS": "ignore", "PYTHONUTF8": "1"}
        nothing = subprocess.DEVNULL
        done = subprocess.run(command, env=environment, stdin=nothing, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stderr
        return done.stdout

    formats = ("--disk-format", "qcow2", "--container-format", "bare")
    made = glance("image-create", "--name", "f17", *formats, "--property", "os_type=linux", "--file", str(disk))
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in made.splitlines() if line.startswith("|")]
    fields = dict(cells)
    assert (fields["disk_format"], fields["Property 'os_type'"], fields["checksum"]) == ("qcow2", "linux", md5(data))
    glance("image-download", fields["id"], "--file", str(back))
    assert sha256(back.read_bytes()) == sha256(data)
