"""nginx and HAProxy: what goes through them as it was sent, who comes in, and as whom."""

import contextlib
import http.server
import os
import re
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from factories import error_of, sha256
from servers import proxies
from servers.processes import RUN_SECONDS, wait_until
from servers.proxies import ADMITTED, NAME, PAGE, REFUSED, Proxy
from servers.pyrimage import READY_SECONDS, Answer, Server

pytestmark = pytest.mark.system


def ask(proxy: Proxy, start: str, *lines: str) -> Answer:
    """Send a request of a start line and header lines as they are, and read any number of headers."""
    head = [f"{start} HTTP/1.1", f"Host: {proxy.name}", "Connection: close", *lines, "", ""]
    answered, _, body = proxy.exchange("\r\n".join(head).encode()).partition(b"\r\n\r\n")
    return Answer.parse(answered, body)


# What is printed


def test_the_program_finds_no_fault_with_its_file(proxy: Proxy) -> None:
    assert not re.findall(r"\[(warn|emerg|alert|error|crit|WARNING|ALERT)\b", proxy.check())


def test_the_page_promises_no_older_version_than_the_tests_run(proxy: Proxy) -> None:
    if "CI" not in os.environ:
        pytest.skip("the page speaks of the versions that CI has")
    said = subprocess.run([proxy.program, "-v"], capture_output=True, text=True, timeout=RUN_SECONDS, check=True)
    tested = re.findall("[0-9]+(?:[.][0-9]+)+", said.stdout + said.stderr)[0]
    [oldest] = re.findall(f"{proxy.kind} ([0-9.]+) of Debian", PAGE.read_text(encoding="utf-8"), re.IGNORECASE)
    assert [int(part) for part in tested.split(".")] <= [int(part) for part in oldest.split(".")]


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
    wait_until(
        lambda: ["HEAD", path, status] in [line[1:4] for line in server.access_lines()], READY_SECONDS, server.log
    )
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

    wait_until(peers, READY_SECONDS, server.log)
    assert peers() == [ADMITTED]


def given_url(proxy: Proxy, *lines: str) -> str:
    """Return the URL that a new image is given, without its id."""
    made = ask(proxy, "POST /v1/images", "x-image-meta-name: f17", *lines)
    assert made.headers["Location"] == made.image["uri"]
    return str(made.image["uri"]).removesuffix(made.image["id"])


def test_urls_are_those_of_the_setting(proxy: Proxy) -> None:
    assert {given_url(proxy, *lines) for lines in ([], *FORGERIES)} == {f"https://{NAME}/v1/images/"}


def test_urls_without_the_setting_are_those_of_the_proxy(impatient: Proxy) -> None:
    url = f"https://{impatient.name}/v1/images/"
    assert {given_url(impatient, *lines) for lines in ([], *FORGERIES)} == {url}


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
    wait_until(lambda: checks() > before, READY_SECONDS, server.log)
