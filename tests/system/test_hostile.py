"""Paths and headers that no client of good will sends, as bytes on the socket."""

from pathlib import Path

import pytest

from factories import error_of, files_below, md5
from servers.pyrimage import Server

pytestmark = pytest.mark.system

GLANCE = b"User-Agent: python-glanceclient"  # its names and values are percent-decoded

TRICKS = [
    *(b"//images", b"/images//x", b"//localhost/images", b"/images/./detail", b"/images/../images", b"/images/.."),
    *(b"/images/%2e%2e", b"/images/%2e%2e%2f", b"/images/..%2f..%2f..%2fetc%2fpasswd", b"/../../etc/passwd"),
    *(
        b"/images/a%2fb",
        b"/images%2fdetail",
        b"/images/detail%2f",
        b"/images/a%5cb",
        b"/images/a\\b",
        b"/images/..%5cx",
    ),
    *(b"/images/a%00b", b"/images/%00", b"/images/a%0d%0aSet-Cookie:x", b"/images/%ff", b"/images/\xff"),
    *(b"/images/@@detail", b"/images/detail/", b"/images/detail/x", b"/v1/images/detail/", b"/healthcheck/"),
    *(b"/images/" + b"a" * 300, b"/images/" + b"%61" * 300, b"/images/CON", b"/images/x.", b"/images/x;y", b"*"),
]

BAD_IDS = [
    b"..",
    b".hidden",
    b"a/b",
    b"a\\b",
    b"a%2fb",
    b"-a",
    b"a" * 65,
    b"a" * 300,
    b"detail",
    b"a b",
    b"\xc3\xa4",
    b"a:b",
]

INJECTIONS = [
    b"x-image-meta-name: a\rSet-Cookie: b",
    b"x-image-meta-name: a\nSet-Cookie: b",
    b"x-image-meta-name: a\x00b",
    b"x-image-meta-name: a\x1b[2Jb",
    b"x-image-meta-name: a\x7fb",
    b"x-image-meta-name: a\xc2\x85b",
    b"x-image-meta-name: a\r\n\tSet-Cookie: b",
    b"x-image-meta-name: a\r\n Set-Cookie: b",
    b"x-image-meta-property-a%0d%0aSet-Cookie: b\r\n" + GLANCE,
    b"x-image-meta-name: a%0d%0aSet-Cookie: b\r\n" + GLANCE,
    b"x-image-meta-name: a%00b\r\n" + GLANCE,
    b"x-image-meta-name: a%C2%85b\r\n" + GLANCE,
    b"x-image-meta-property-a\rSet-Cookie: b",
    b"x-image-meta-property-a\nSet-Cookie: b",
    b"x-image-meta-property-a\x00b: c",
    b"x-image-meta-property-a: b\rSet-Cookie: c",
    b"x-image-meta-property-a: %0d%0aSet-Cookie: c\r\n" + GLANCE,
]


def test_nothing_lies_outside_of_the_data_directory(tmp_path: Path) -> None:
    """S26: after each trick as path and as id, with a body that asks to be stored."""
    with Server(tmp_path) as server:
        octets = b"Content-Type: application/octet-stream", b"Content-Length: 3", b"x-image-meta-name: f17"
        before = set(files_below(tmp_path))
        for path in TRICKS:
            assert server.ask(b"PUT " + path, *octets, body=b"abc").status in (400, 404)
        for image_id in BAD_IDS:
            assert server.ask(b"POST /images", b"x-image-meta-id: " + image_id, *octets, body=b"abc").status == 400
        assert {name for name in set(files_below(tmp_path)) - before if "pyrimage.sqlite" not in name} == set()
        stored = server.ask(b"POST /images", b"x-image-meta-id: CON..", *octets, body=b"abc").image
        assert [name.rpartition("/")[2].startswith("CON...") for name in server.files()] == [True]
        assert stored["checksum"] == md5(b"abc")


@pytest.mark.parametrize("lines", INJECTIONS)
def test_header_injection_is_refused(server: Server, lines: bytes) -> None:
    """S52: raw, folded, percent-encoded, as UTF-8; in values and in keys."""
    before = server.sql("SELECT id FROM images")
    refused = server.ask(b"POST /v1/images", lines)
    assert refused.status == 400
    assert error_of(refused)
    assert "Set-Cookie" not in refused.headers
    assert server.sql("SELECT id FROM images") == before
