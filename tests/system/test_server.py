"""``egg:pyrimage#server`` with the application: bodies of every kind, header names, the door, and the access log."""

import os
import socket
from pathlib import Path

import pytest

from factories import data_headers, error_of, files_below, md5, meta
from servers.processes import wait_until
from servers.pyrimage import Answer, Server

pytestmark = pytest.mark.system

OCTETS = b"Content-Type: application/octet-stream"
CHUNKED = b"Transfer-Encoding: chunked"
NAME = b"x-image-meta-name: f17"
DIALECTS = [b"/images", b"/v1/images"]


def check_empty(server: Server, images: int = 0) -> None:
    """Check that nothing is stored but so many queued images."""
    assert server.request("GET", "/healthcheck").status == 200  # so the server has seen what was sent before
    wait_until(lambda: not server.files() and not server.sql("SELECT * FROM claims"), 20)
    assert server.sql("SELECT status FROM images") == [("queued",)] * images


# Bodies


@pytest.mark.parametrize("path", DIALECTS)
def test_chunked_body_is_stored(server: Server, path: bytes) -> None:
    made = server.ask(b"POST " + path, OCTETS, NAME, CHUNKED, body=b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n")
    assert (made.status, made.image["size"], made.image["checksum"]) == (201, 7, md5(b"abcdefg"))
    assert server.request("GET", f"{path.decode()}/{made.image['id']}").body == b"abcdefg"


@pytest.mark.parametrize("path", DIALECTS)
def test_empty_chunked_body_makes_an_active_empty_image(server: Server, path: bytes) -> None:
    image = server.ask(b"POST " + path, OCTETS, NAME, CHUNKED, body=b"0\r\n\r\n").image
    assert (image["status"], image["size"], image["checksum"]) == ("active", 0, md5(b""))
    got = server.request("GET", f"{path.decode()}/{image['id']}")
    assert (got.status, got.headers["Content-Length"], got.body) == (200, "0", b"")
    assert server.sql("SELECT * FROM image_locations WHERE image_id = ?", image["id"]) == []


@pytest.mark.parametrize("lines", [(), (b"Content-Length: 0",)])
def test_no_body_makes_a_queued_image(server: Server, lines: tuple[bytes, ...]) -> None:
    assert server.ask(b"POST /v1/images", OCTETS, NAME, *lines).image["status"] == "queued"


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_client_that_hangs_up_in_a_small_body_stores_nothing(own_server: Server, method: str) -> None:
    """Small: the application is not asked before all of it is there."""
    path = "/v1/images"
    if method == "PUT":
        path += f"/{own_server.request('POST', path, headers=meta(name='f17')).image['id']}"
    start = f"{method} {path} HTTP/1.1".encode(), b"Host: localhost"
    own_server.connect(b"\r\n".join([*start, OCTETS, NAME, b"Content-Length: 60000", b"", b"x" * 30000])).close()
    check_empty(own_server, images=1 if method == "PUT" else 0)
    if method == "PUT":
        assert own_server.request("PUT", path, b"bytes", data_headers()).status == 200


@pytest.mark.parametrize(
    ("line", "piece"), [(b"Content-Length: 4000000", b"x" * 3000000), (CHUNKED, b"3d0900\r\n" + b"x" * 3000000)]
)
def test_large_body_lies_where_it_is_staged_and_nowhere_else(own_server: Server, line: bytes, piece: bytes) -> None:
    server = own_server
    start = [b"POST /v1/images HTTP/1.1", b"Host: localhost", OCTETS, NAME, line]
    with server.connect(b"\r\n".join([*start, b"", piece])):
        wait_until(lambda: sum(each.stat().st_size for each in server.datadir.rglob("staging/*")) > 2000000, 20)
        opened = [os.path.realpath(descriptor) for descriptor in Path(f"/proc/{server.pid}/fd").iterdir()]
        assert [name for name in opened if name.endswith("(deleted)")] == []
        assert files_below(server.directory / "tmp") == []
    check_empty(server)


@pytest.mark.parametrize("body", [b"3\r\nabcd\r\n0\r\n\r\n", b"x\r\nabc\r\n0\r\n\r\n", b"-1\r\n\r\n0\r\n\r\n"])
def test_broken_chunks_are_refused_and_store_nothing(own_server: Server, body: bytes) -> None:
    refused = own_server.ask(b"POST /v1/images", OCTETS, NAME, CHUNKED, body=body)
    assert refused.status == 400
    assert error_of(refused)
    check_empty(own_server)


def test_next_request_on_the_connection_is_read_after_the_body(server: Server) -> None:
    post = b"POST /v1/images HTTP/1.1\r\nHost: localhost\r\n%s\r\nContent-Length: 3\r\n\r\nabc" % OCTETS
    answers = server.exchange(post + b"GET /healthcheck HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    assert answers.startswith(b"HTTP/1.1 201 ")
    assert b"HTTP/1.1 200 OK\r\n" in answers
    assert answers.endswith(b"OK")


# Header names


def test_our_headers_with_underscores_arrive(server: Server) -> None:
    """S50."""
    lines = b"X-Image-Meta-Disk_Format: qcow2", b"x-image-meta-min_ram: 64", b"x-image-meta-property-os_type: a_b"
    image = server.ask(b"POST /v1/images", *lines).image
    assert (image["disk_format"], image["min_ram"], image["properties"]) == ("qcow2", 64, {"os_type": "a_b"})


@pytest.mark.parametrize("line", [b"Content_Length: 7", b"Transfer_Encoding: chunked", b"X_Forwarded_For: 10.0.0.1"])
def test_other_headers_with_underscores_stay_dropped(server: Server, line: bytes) -> None:
    """S50: as a length or a coding they would make an upload of this, and as a forwarding header be refused."""
    made = server.ask(b"POST /v1/images", b"x-image-meta-min_ram: 1", line)
    assert (made.status, made.image["status"]) == (201, "queued")


@pytest.mark.parametrize(
    "lines",
    [
        (b"x-image-meta-disk_format: raw", b"x-image-meta-disk-format: raw"),
        (b"x-image-meta-name: a", b"X-Image-Meta-Name: b"),
        (b"x-image-meta-property-a_b: 1", b"x-image-meta-property-a-b: 2"),
        (b"x-image-meta-property-a.b: 1", b"x-image-meta-property-a-b: 2"),
    ],
)
def test_field_sent_twice_is_refused(own_server: Server, lines: tuple[bytes, bytes]) -> None:
    """S50."""
    refused = own_server.ask(b"POST /v1/images", *lines)
    assert refused.status == 400
    assert "x-image-meta-" in error_of(refused)
    check_empty(own_server)


def properties(count: int) -> list[bytes]:
    return [b"x-image-meta-property-p%d: v" % number for number in range(count)]


def test_hundreds_of_properties_come_back(server: Server) -> None:
    """The guide: "There is no limit on the number of free-form key/value attributes"."""
    made = server.ask(b"POST /v1/images", *properties(900))
    assert made.image["properties"] == {f"p{number}": "v" for number in range(900)}
    head = server.ask(b"HEAD /v1/images/" + made.image["id"].encode())
    assert sum(name.lower().startswith("x-image-meta-property-") for name in head.headers) == 900


def test_a_thousand_properties_are_more_lines_than_a_request_may_have(own_server: Server) -> None:
    """S40."""
    refused = own_server.ask(b"POST /v1/images", *properties(1001))
    assert (refused.status, "more than 1000 lines" in error_of(refused)) == (431, True)
    check_empty(own_server)


def test_ten_thousand_properties_are_more_than_a_request_may_hold(own_server: Server) -> None:
    """S38."""
    refused = own_server.ask(b"POST /v1/images", *properties(10_000))
    assert refused.status == 431
    assert "max_request_header_size" in error_of(refused)
    check_empty(own_server)


# The door of auth = none


FOREIGN = [b"X-Forwarded-For: 127.0.0.1", b"Forwarded: for=127.0.0.1", b"X-Forwarded-Proto: https", b"Via: 1.1 proxy"]


def with_host(server: Server, host: bytes, path: bytes = b"/images") -> Answer:
    raw = b"GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n" % (path, host)
    head, _, body = server.exchange(raw).partition(b"\r\n\r\n")
    return Answer.parse(head, body)


@pytest.mark.parametrize("line", FOREIGN)
def test_forwarded_request_is_refused_and_told_the_setting(server: Server, line: bytes) -> None:
    refused = server.ask(b"GET /images", line)
    assert refused.status == 403
    assert "pyrimage.allow_anonymous" in error_of(refused)


@pytest.mark.parametrize("host", [b"rebound.example.org", b"rebound.example.org:9292", b"10.0.0.1", b"localhost.evil"])
def test_request_to_another_hosts_name_is_refused(server: Server, host: bytes) -> None:
    refused = with_host(server, host)
    assert refused.status == 403
    assert "pyrimage.auth = none" in error_of(refused)


@pytest.mark.parametrize("host", [b"localhost", b"127.0.0.1:9292", b"[::1]:9292", b"LOCALHOST:80", b"localhost.:80"])
def test_request_to_this_machine_is_let_in(server: Server, host: bytes) -> None:
    assert with_host(server, host).status == 200


def test_http_1_0_need_not_name_the_host_and_http_1_1_must(server: Server) -> None:
    old = server.exchange(b"POST /v1/images HTTP/1.0\r\n%s\r\n\r\n" % NAME)
    head, _, body = old.partition(b"\r\n\r\n")
    made = Answer.parse(head, body)
    assert made.status == 201
    assert made.headers["Location"].startswith(f"http://localhost:{server.port}/v1/images/")
    for lines in (b"HTTP/1.1", b"HTTP/1.1\r\nHost:", b"HTTP/1.0\r\nHost:"):
        assert server.exchange(b"GET /v1/images %s\r\nConnection: close\r\n\r\n" % lines)[9:12] == b"403"


def test_the_server_as_a_whole_has_no_options(server: Server) -> None:
    refused = server.ask(b"OPTIONS *")
    assert (refused.status, "Allow" in refused.headers) == (404, False)


def test_upload_that_is_refused_at_the_door_stores_nothing(own_server: Server) -> None:
    lines = OCTETS, NAME, b"Content-Length: 3", b"X-Forwarded-For: 10.0.0.1"
    assert own_server.ask(b"POST /images", *lines, body=b"abc").status == 403
    check_empty(own_server)


def test_health_is_told_to_everybody(server: Server) -> None:
    assert with_host(server, b"rebound.example.org", b"/healthcheck").body == b"OK"
    assert server.ask(b"GET /healthcheck", *FOREIGN).body == b"OK"


def test_everybody_is_let_in_where_the_ini_says_so(tmp_path: Path) -> None:
    with Server(tmp_path, main={"pyrimage.allow_anonymous": "true"}) as server:
        assert server.ask(b"GET /images", *FOREIGN).status == 200
        assert with_host(server, b"images.example.org").status == 200


# The access log


def access_line(server: Server, answer: Answer) -> list[str]:
    """Return the fields of the line that has the answer's request id."""
    request_id = answer.headers["x-openstack-request-id"]
    wait_until(lambda: any(request_id in line for line in server.access_lines()), 20, server.log)
    (line,) = (line for line in server.access_lines() if request_id in line)
    assert line.pop(6) == request_id
    assert line.pop(5).endswith("ms")
    return line


def test_each_request_leaves_one_line(server: Server) -> None:
    made = server.request("POST", "/v1/images", b"bytes", data_headers(name="f17"))
    path = f"/v1/images/{made.image['id']}"
    assert access_line(server, made) == ["127.0.0.1", "POST", "/v1/images", "201", str(len(made.body)), "admin"]
    assert access_line(server, server.request("HEAD", path)) == ["127.0.0.1", "HEAD", path, "200", "0", "admin"]
    assert access_line(server, server.request("GET", path)) == ["127.0.0.1", "GET", path, "200", "5", "admin"]
    missing = server.request("GET", f"{path}x?limit=1")
    length = str(len(missing.body))
    assert access_line(server, missing) == ["127.0.0.1", "GET", f"{path}x?limit=1", "404", length, "admin"]


def test_what_the_server_itself_refuses_leaves_a_line(server: Server) -> None:
    refused = server.ask(b"GET /images", b"Content-Length: nonsense")
    assert access_line(server, refused)[:4] == ["127.0.0.1", "GET", "/images", "400"]


def test_request_from_outside_has_no_name_in_the_log(server: Server) -> None:
    refused = server.ask(b"GET /images", b"X-Forwarded-For: 10.0.0.1")
    assert access_line(server, refused)[-1] == "-"


def test_download_that_the_client_breaks_off_is_logged_with_what_it_got(server: Server) -> None:
    size = 64 << 20
    made = server.request("POST", "/v1/images", bytes(size), data_headers(name="f17"))
    path = f"/v1/images/{made.image['id']}"
    with server.connect(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()) as client:
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")

    def lines() -> list[list[str]]:
        return [line for line in server.access_lines() if line[1:3] == ["GET", path]]

    wait_until(lines, 20, server.log)
    ((*_, status, count, _, _, who),) = lines()
    sent, _, promised = count.partition("/")
    assert (status, promised, who) == ("200", str(size), "admin")
    assert int(sent) < size


def test_image_id_is_in_the_lines_about_its_upload(server: Server) -> None:
    made = server.request("POST", "/v1/images", b"bytes", data_headers(name="f17"))
    (line,) = (line for line in server.log().splitlines() if f"image {made.image['id']}: 5 bytes came" in line)
    assert made.headers["x-openstack-request-id"] in line


def test_log_lines_cannot_be_forged(server: Server) -> None:
    with server.connect() as client:
        client.sendall(b"GET /forged%0a127.0.0.1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        client.shutdown(socket.SHUT_WR)
        assert client.recv(4096).startswith(b"HTTP/1.1 404")
    assert not any(line.startswith("127.0.0.1") for line in server.log().splitlines())
