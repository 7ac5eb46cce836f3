"""``egg:pyrimage#server`` with the application: what neither shows without the other."""

import os
from pathlib import Path

import pytest

from factories import data_headers, error_of, files_below, meta
from servers.processes import wait_until
from servers.pyrimage import READY_SECONDS, Answer, Server

pytestmark = pytest.mark.system

OCTETS = b"Content-Type: application/octet-stream"
CHUNKED = b"Transfer-Encoding: chunked"
NAME = b"x-image-meta-name: f17"


def check_empty(server: Server, images: int = 0) -> None:
    """Check that nothing is stored but so many queued images."""
    assert server.request("GET", "/healthcheck").status == 200  # so the server has seen what was sent before
    wait_until(lambda: not server.files() and not server.sql("SELECT * FROM claims"), READY_SECONDS)
    assert server.sql("SELECT status FROM images") == [("queued",)] * images


@pytest.mark.parametrize(
    ("line", "piece"), [(b"Content-Length: 4000000", b"x" * 3000000), (CHUNKED, b"3d0900\r\n" + b"x" * 3000000)]
)
def test_large_body_lies_where_it_is_staged_and_nowhere_else(own_server: Server, line: bytes, piece: bytes) -> None:
    server = own_server
    start = [b"POST /v1/images HTTP/1.1", b"Host: localhost", OCTETS, NAME, line]
    with server.connect(b"\r\n".join([*start, b"", piece])):
        wait_until(
            lambda: sum(each.stat().st_size for each in server.datadir.rglob("staging/*")) > 2000000, READY_SECONDS
        )
        opened = [os.path.realpath(descriptor) for descriptor in Path(f"/proc/{server.pid}/fd").iterdir()]
        assert [name for name in opened if name.endswith("(deleted)")] == []
        assert files_below(server.directory / "tmp") == []
    check_empty(server)


def test_client_that_hangs_up_in_a_small_body_stores_nothing(own_server: Server) -> None:
    """Small: the application is not asked before all of it is there."""
    path = f"/v1/images/{own_server.request('POST', '/v1/images', headers=meta(name='f17')).image['id']}"
    start = f"PUT {path} HTTP/1.1".encode(), b"Host: localhost"
    own_server.connect(b"\r\n".join([*start, OCTETS, NAME, b"Content-Length: 60000", b"", b"x" * 30000])).close()
    check_empty(own_server, images=1)
    assert own_server.request("PUT", path, b"bytes", data_headers()).status == 200


def test_our_headers_with_underscores_arrive_and_others_stay_dropped(server: Server) -> None:
    """S50: the others would make an upload of this, or be refused as a forwarding header."""
    ours = b"X-Image-Meta-Disk_Format: qcow2", b"x-image-meta-min_ram: 64", b"x-image-meta-property-os_type: a_b"
    others = b"Content_Length: 7", b"Transfer_Encoding: chunked", b"X_Forwarded_For: 10.0.0.1"
    image = server.ask(b"POST /v1/images", *ours, *others).image
    assert (image["disk_format"], image["min_ram"], image["properties"]) == ("qcow2", 64, {"os_type": "a_b"})
    assert image["status"] == "queued"


def test_forwarded_request_is_refused_and_told_the_setting(server: Server) -> None:
    """Of waitress' own, the application would not see that it was forwarded."""
    for header in ("X-Forwarded-For: 127.0.0.1", "Forwarded: for=127.0.0.1", "X-Forwarded-Proto: https", "Via: 1.1 x"):
        refused = server.ask(b"GET /images", header.encode())
        assert (refused.status, "pyrimage.allow_anonymous" in error_of(refused)) == (403, True)
        assert server.ask(b"GET /healthcheck", header.encode()).body == b"OK"


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


def test_download_that_the_client_breaks_off_is_logged_with_what_it_got(server: Server) -> None:
    size = 64 << 20
    made = server.request("POST", "/v1/images", bytes(size), data_headers(name="f17"))
    path = f"/v1/images/{made.image['id']}"
    with server.connect(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()) as client:
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")

    def lines() -> list[list[str]]:
        return [line for line in server.access_lines() if line[1:3] == ["GET", path]]

    wait_until(lines, READY_SECONDS, server.log)
    ((*_, status, count, _, _, who),) = lines()
    sent, _, promised = count.partition("/")
    assert (status, promised, who) == ("200", str(size), "admin")
    assert int(sent) < size


def test_image_id_is_in_the_lines_about_its_upload(server: Server) -> None:
    made = server.request("POST", "/v1/images", b"bytes", data_headers(name="f17"))
    (line,) = (line for line in server.log().splitlines() if f"image {made.image['id']}: 5 bytes came" in line)
    assert made.headers["x-openstack-request-id"] in line
