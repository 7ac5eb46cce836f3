"""Downloads of images whose bytes lie on somebody else's server, which does what it wants: S16, S21, S22."""

from collections.abc import Callable
from typing import Any

import pytest
from webtest import TestApp

from conftest import Installation
from factories import error_of, md5, meta
from origins import Asked, Origin, blob, nothing
from pyrimage.addresses import AllowedHosts
from pyrimage.errors import BlobDamaged, OriginFailed
from pyrimage.opener import Opener
from pyrimage.scripts.verify import verify
from pyrimage.stores.http import SKIPPED, HttpStore
from pyrimage.stores.resuming import TRIES
from servers.in_process_server import Answer, serving

DATA = b"0123456789" * 20_000
LAST = len(DATA) - 1


@pytest.fixture
def app(web_installation: Installation) -> TestApp:
    return web_installation.client()


def register(app: TestApp, url: str, size: int = len(DATA), **fields: Any) -> str:
    made = app.post("/v1/images", headers=meta(location=url, size=size, **fields), status=201)
    return f"/v1/images/{made.headers['x-image-meta-id']}"


def download(web_installation: Installation, path: str, *header_lines: str) -> Answer:
    with serving(web_installation.wsgi) as running:
        return running.get(path, *header_lines)


@pytest.mark.parametrize("at", [0, 1, len(DATA) // 2, LAST])
@pytest.mark.parametrize("length", [True, False])
def test_what_broke_off_is_asked_for_once_more(
    at: int, length: bool, web_installation: Installation, app: TestApp, origin: Origin
) -> None:
    """S16."""
    path = register(app, origin.put("/x", DATA, broken=[at], length=length))
    assert download(web_installation, path).body == DATA
    assert [asked.offset for asked in origin.asked] == [0, at]


@pytest.mark.parametrize("at", [0, 1, len(DATA) // 2, LAST])
@pytest.mark.parametrize("length", [True, False])
def test_what_does_not_come_breaks_the_connection(
    at: int, length: bool, web_installation: Installation, app: TestApp, origin: Origin
) -> None:
    """S16: a download never ends as if it were complete."""
    path = register(app, origin.put("/x", DATA, broken=[at] + [0] * 9, length=length))
    answer = download(web_installation, path)
    if at or answer.status == 200:  # else the server may hear of it before it has begun to answer
        assert answer.headers["content-length"] == str(len(DATA))
        assert DATA[:at].startswith(answer.body)  # the server sends whole pieces
    else:
        assert answer.status == 500
    assert len(origin.asked) == 1 + TRIES


@pytest.mark.parametrize(
    "other",
    [
        blob(b"9" * len(DATA), etag='"two"'),
        blob(DATA + b"more"),
        blob(DATA[:-1]),
        nothing,
        lambda asked: [b"HTTP/1.1 302 There\r\nLocation: http://10.0.0.1/\r\n\r\n"],
    ],
    ids=["another ETag", "longer", "shorter", "gone", "away"],
)
def test_what_changed_in_the_middle_is_not_put_together(
    other: Callable[[Asked], Any], web_installation: Installation, app: TestApp, origin: Origin
) -> None:
    """S16."""
    path = register(app, origin.put("/x", DATA))
    whole = blob(DATA, broken=[1000])
    origin.paths["/x"] = lambda asked: (whole if len(origin.asked) == 1 else other)(asked)
    assert DATA[:1000].startswith(download(web_installation, path).body)  # the server sends whole pieces


@pytest.mark.parametrize("length", [True, False])
@pytest.mark.parametrize("data", [DATA + b"m", DATA + DATA, DATA[:-1], b""], ids=["+1", "twice", "-1", "none"])
@pytest.mark.parametrize("ranges", [True, False])
def test_an_origin_with_another_size_is_never_served_as_complete(
    data: bytes, length: bool, ranges: bool, web_installation: Installation, app: TestApp, origin: Origin
) -> None:
    """Where the origin tells its length that is told before the first byte."""
    path = register(app, origin.put("/secret?secret", data, length=length, ranges=ranges))
    answer = download(web_installation, path)
    if length:
        assert answer.status == 502
        assert answer.message == f"127.0.0.1 has {len(data)} bytes now; the image has {len(DATA)}."
    else:
        assert len(answer.body) < len(DATA)


@pytest.mark.parametrize(
    ("behaviour", "says"),
    [
        (nothing, "127.0.0.1 answers 404."),
        (lambda asked: [b"HTTP/1.1 500 Oh\r\nContent-Length: 0\r\n\r\n"], "127.0.0.1 answers 500."),
        (lambda asked: [b"HTTP/1.1 204 None\r\n\r\n"], "127.0.0.1 answers 204."),
        (lambda asked: [b"HTTP/1.1 302 There\r\nLocation: http://10.0.0.1/\r\n\r\n"], "10.0.0.1 has no address"),
        (lambda asked: [], "127.0.0.1 cannot be reached, or broke the connection off."),
        (blob(DATA, more="Content-Encoding: gzip"), "127.0.0.1 does not send the bytes as they are"),
    ],
    ids=["404", "500", "204", "redirect", "nothing", "gzip"],
)
def test_an_origin_that_does_not_give_the_bytes_is_told_by_its_host(
    behaviour: Any, says: str, app: TestApp, origin: Origin
) -> None:
    origin.paths["/secret?secret"] = behaviour
    path = register(app, origin.url("/secret?secret"))
    for header in ({}, {"Range": "bytes=5-9"}):
        message = error_of(app.get(path, headers=header, status=502))
        assert says in message
        assert "secret" not in message
    app.head(path, status=200)


def test_a_slow_origin_is_told_as_such(
    web_installation: Installation, app: TestApp, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    def say_nothing(asked: Asked) -> list[bytes]:
        origin.over.wait()
        return []

    origin.paths["/x"] = say_nothing
    path = register(app, origin.url("/x"))
    impatient = Opener(web_installation.settings.allowed_hosts, seconds=0.2)
    monkeypatch.setitem(web_installation.stores, "http", HttpStore("http", impatient))
    assert error_of(app.get(path, status=504)) == "127.0.0.1 does not answer in time."


def test_a_host_that_may_not_be_asked_any_more_is_not(
    web_installation: Installation, app: TestApp, origin: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S21, S22: whatever it was when the location was registered."""
    path = register(app, origin.put("/x", DATA).replace("127.0.0.1", "origin.example"))
    strict = Opener(AllowedHosts(), resolve=lambda name: ["127.0.0.1"])
    monkeypatch.setitem(web_installation.stores, "http", HttpStore("http", strict))
    assert "origin.example has no address that may be asked" in error_of(app.get(path, status=502))
    assert origin.asked == []


# -- parts


@pytest.mark.parametrize("length", [True, False])
def test_of_an_origin_without_ranges_the_rest_is_skipped(length: bool, app: TestApp, origin: Origin) -> None:
    path = register(app, origin.put("/x", DATA, ranges=False, length=length))
    for offset in (1, 100_000, LAST):
        part = app.get(path, headers={"Range": f"bytes={offset}-"}, status=206)
        assert part.body == DATA[offset:]


def test_not_more_is_skipped_than_the_limit(app: TestApp, origin: Origin) -> None:
    size = 2 * SKIPPED + 2
    origin.paths["/x"] = lambda asked: [f"HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n".encode()]
    path = register(app, origin.url("/x"), size=size)
    answer = app.get(path, headers={"Range": f"bytes={SKIPPED + 1}-"}, status=502)
    assert error_of(answer) == "127.0.0.1 does not send the part that was asked for."


@pytest.mark.parametrize(
    "place", ["bytes 6-9/200000", "bytes 5-9/*", "bytes 5-9/200001", "bytes */200000", "items 5-9/200000", ""]
)
def test_a_part_must_say_that_it_is_the_one(place: str, app: TestApp, origin: Origin) -> None:
    line = f"Content-Range: {place}\r\n" if place else ""
    origin.paths["/x"] = lambda asked: [f"HTTP/1.1 206 Part\r\n{line}Content-Length: 5\r\n\r\n56789".encode()]
    path = register(app, origin.url("/x"))
    app.get(path, headers={"Range": "bytes=5-9"}, status=502)


def test_registered_bytes_are_verified_where_a_digest_is_known(
    web_installation: Installation, app: TestApp, origin: Origin
) -> None:
    """S13: else by their number."""
    url = origin.put("/x", DATA)
    good = {register(app, url), register(app, url, checksum=md5(DATA))}
    changed = register(app, url, checksum=md5(b""))
    gone, short = register(app, origin.url("/y")), register(app, url, size=5)
    images = web_installation.catalogue.active
    found = {
        f"/v1/images/{image.id}": type(error)
        for image, error in verify(web_installation.stores, images, int, sizes_only=False)
    }
    bad = {changed: BlobDamaged, gone: OriginFailed, short: OriginFailed}
    assert found == {**dict.fromkeys(good, type(None)), **bad}
