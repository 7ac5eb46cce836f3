"""Images whose bytes lie at a URL that their client registered: S16, S18 to S21, S25, S43."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select
from webtest import TestApp

from conftest import Installation
from factories import (
    ADMIN,
    ALICE,
    BOB,
    data_headers,
    detail,
    error_of,
    id_of,
    md5,
    meta,
    reserve,
    sha256,
    stored,
    upload,
)
from faults import claim_upload
from origins import Origin
from pyrimage.models import LocationRow

DATA = b"0123456789" * 100
COLLECTIONS = ["/images", "/v1/images"]


@pytest.fixture
def app(web_installation: Installation) -> TestApp:
    return web_installation.client()


def register(app: TestApp, url: str, **fields: Any) -> str:
    """Register a location, and return the image's path."""
    made = app.post("/v1/images", headers=meta(location=url, **fields), status=201)
    return f"/v1/images/{made.headers['x-image-meta-id']}"


def locations(web_installation: Installation) -> list[tuple[str, str, bool, str]]:
    with web_installation.engine.connect() as connection:
        rows = connection.execute(select(LocationRow)).all()
    return [(row.store, row.key, row.owned, row.state) for row in rows]


def methods(origin: Origin) -> list[str]:
    return [asked.method for asked in origin.asked]


# -- registering


@pytest.mark.parametrize("collection", COLLECTIONS)
@pytest.mark.parametrize("is_reserved", [False, True])
def test_a_registered_image_is_active_at_once(
    collection: str, is_reserved: bool, web_installation: Installation, app: TestApp, origin: Origin
) -> None:
    url = origin.put("/x?a=b", DATA)
    sent = meta(location=url, name="f17", disk_format="raw", container_format="bare")
    if is_reserved:
        made = app.put(f"{collection}/{id_of(reserve(app))}", headers=sent, status=200)
    else:
        made = app.post(collection, headers=sent, status=201)
    image, path = made.json["image"], f"/v1/images/{made.json['image']['id']}"
    assert (image["status"], image["size"], image["checksum"]) == ("active", len(DATA), None)
    assert made.headers["x-image-meta-location"] == url
    assert methods(origin) == ["HEAD"]
    assert locations(web_installation) == [("http", url, False, "active")]
    got = app.get(path)
    assert (got.body, got.headers.get("ETag"), got.headers["Content-Length"]) == (DATA, None, str(len(DATA)))
    assert app.get(path, headers={"Range": "bytes=7-11"}, status=206).body == DATA[7:12]
    assert web_installation.stored_keys() == []


@pytest.mark.parametrize("is_reserved", [False, True])
def test_a_size_that_is_sent_is_believed(is_reserved: bool, app: TestApp, origin: Origin) -> None:
    """Also one that was announced when the image was reserved."""
    url = origin.url("/nothing")
    if is_reserved:
        path = reserve(app, size=5)
        app.put(path, headers=meta(location=url), status=200)
    else:
        path = register(app, url, size=5)
    assert detail(app, path)["size"] == 5
    assert origin.asked == []


def test_digests_that_are_sent_are_the_images(app: TestApp, origin: Origin) -> None:
    path = register(app, origin.put("/x", DATA), checksum=md5(DATA), sha256=sha256(DATA))
    assert {"ETag": md5(DATA), "x-image-meta-sha256": sha256(DATA)}.items() <= dict(app.get(path).headers).items()


@pytest.mark.parametrize("size", ["", "0", "1000"])
def test_a_size_that_clients_echo_announces_nothing(size: str, app: TestApp, origin: Origin) -> None:
    assert detail(app, register(app, origin.put("/x", DATA), size=size))["size"] == len(DATA)


@pytest.mark.parametrize("heads", ["405 No", "501 No", "403 No", "404 No", "500 No", "200 OK"])
@pytest.mark.parametrize("more", ["", "Content-Encoding: identity"])
def test_an_origin_that_does_not_answer_head_is_asked_for_a_byte(
    heads: str, more: str, app: TestApp, origin: Origin
) -> None:
    url = origin.put("/x", DATA, heads=heads, length=False, more=more)
    assert detail(app, register(app, url))["size"] == len(DATA)
    assert (methods(origin), origin.asked[1].headers["range"]) == (["HEAD", "GET"], "bytes=0-0")


@pytest.mark.parametrize(
    ("status", "says", "behaviour"),
    [
        (400, "x-image-meta-size", {"ranges": False, "length": False}),
        (400, "x-image-meta-size", {"ranges": False, "more": "Content-Encoding: gzip"}),
        (400, "no bytes", {"data": b"", "ranges": False}),
    ],
)
def test_a_location_without_a_size_is_refused(
    status: int, says: str, behaviour: dict[str, Any], web_installation: Installation, app: TestApp, origin: Origin
) -> None:
    before = stored(web_installation)
    url = origin.put("/secret?secret", **{"data": DATA, **behaviour})
    message = error_of(app.post("/v1/images", headers=meta(location=url), status=status))
    assert says in message
    assert "secret" not in message
    assert stored(web_installation) == before


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        ("404 None", 400, "127.0.0.1 has nothing at the URL: it answers 404"),
        ("410 Gone", 400, "it answers 410"),
        ("403 No", 502, "127.0.0.1 answers 403"),
        ("500 Oh", 502, "127.0.0.1 answers 500"),
        (None, 502, "127.0.0.1 cannot be reached, or broke"),
    ],
)
def test_a_location_that_gives_nothing_is_refused(
    answer: str | None, status: int, says: str, web_installation: Installation, app: TestApp, origin: Origin
) -> None:
    path = reserve(app)
    before = stored(web_installation)
    raw = b"" if answer is None else f"HTTP/1.1 {answer}\r\nContent-Length: 0\r\n\r\n".encode()
    origin.paths["/secret?secret"] = lambda asked: [raw]
    for method, target in (("POST", "/v1/images"), ("PUT", path)):
        sent = meta(location=origin.url("/secret?secret"))
        message = error_of(app.request(target, method=method, headers=sent, status=status))
        assert says in message
        assert "secret" not in message
    assert stored(web_installation) == before


REFUSED = [
    *("", "None", "/etc/passwd", "file:///etc/passwd", "FILE:///etc/passwd", "file:/etc/passwd", "%66ile:///x"),
    *("filesystem:///etc/passwd", "swift+config://ref/container/object", "//127.0.0.1/x", "ftp://127.0.0.1/x"),
    *("httpx://127.0.0.1/x", "http:x", "http://", "http:///x", "http://127.0.0.1/;id", "http://127.0.0.1/$(id)"),
    *("http://127.0.0.1/`id`", "http://127.0.0.1/a b", "http://127.0.0.1/\\x", "http://127.1/", "http://2130706433/"),
    *("http://joe:hunter2@127.0.0.1/x", "https://hunter2@127.0.0.1/x", "ftp://joe:hunter2@host/x"),
    *("http://[::1]/", "http://localhost/", "http://10.0.0.1/", "http://169.254.169.254/latest/meta-data/"),
    *(f"http://127.0.0.1/{'x' * 500}", "http://127.0.0.1/#x"),
]


@pytest.mark.parametrize("url", REFUSED)
def test_a_location_that_may_not_be_registered_is_refused(
    url: str, web_installation: Installation, app: TestApp
) -> None:
    """S18, S19, S21, S25: for administrators too, with and without a size, and passwords are not said again."""
    path = reserve(app)
    before = stored(web_installation)
    for method, target in (("POST", "/v1/images"), ("PUT", path)):
        for size in ({}, {"size": 5}):
            sent = meta(location=url, **size)
            message = error_of(app.request(target, method=method, headers=sent, status=400))
            assert "x-image-meta-location" in message
            assert "hunter2" not in message
    assert stored(web_installation) == before


@pytest.mark.parametrize("kind", ["s3", "s3+https", "swift", "swift+http", "rbd"])
def test_a_location_of_a_store_that_is_not_there_is_refused(kind: str, app: TestApp) -> None:
    url = f"{kind}://host/container/object"
    says = f"x-image-meta-location: External sources are not supported: '{url}'."
    assert says in error_of(app.post("/v1/images", headers=meta(location=url), status=400))


def test_the_place_of_an_image_cannot_be_registered(web_installation: Installation, app: TestApp) -> None:
    """S20."""
    place = app.head(upload(app, DATA)).headers["x-image-meta-location"]
    for url in (place, place.replace("file://", "file://localhost"), place.replace("file:", "FILE:"), place[7:]):
        error_of(app.post("/v1/images", headers=meta(location=url, size=len(DATA)), status=400))
    assert len(locations(web_installation)) == 1


def test_data_comes_from_one_place(web_installation: Installation, app: TestApp, origin: Origin) -> None:
    path, url = reserve(app), origin.put("/x", DATA)
    before = stored(web_installation)
    for method, target in (("POST", "/v1/images"), ("PUT", path)):
        answer = app.request(target, method=method, body=DATA, headers=data_headers(location=url), status=400)
        assert "data comes with the body already" in error_of(answer)
    assert stored(web_installation) == before


@pytest.mark.parametrize("store", ["file", "http"])
def test_a_store_must_be_the_one_that_the_data_goes_to(store: str, app: TestApp, origin: Origin) -> None:
    """A store on web servers takes no uploads, and a file store no location."""
    answers = {
        "file": app.post("/v1/images", headers=meta(location=origin.put("/x", DATA), store=store), expect_errors=True),
        "http": app.post("/v1/images", DATA, headers=data_headers(store=store), expect_errors=True),
    }
    for name, answer in answers.items():
        assert answer.status_int == (400 if name == store else 201)
    assert "x-image-meta-store" in error_of(answers[store])


def test_an_active_image_takes_no_location(app: TestApp, origin: Origin) -> None:
    url = origin.put("/x", DATA)
    path = register(app, url)
    app.put(path, headers=meta(location=url, name="renamed"), status=200)
    other = origin.put("/y", DATA)
    assert "x-image-meta-location" in error_of(app.put(path, headers=meta(location=other), status=400))
    assert detail(app, path)["location"] == url


def test_an_image_that_is_uploaded_takes_no_location(
    web_installation: Installation, app: TestApp, origin: Origin
) -> None:
    path = reserve(app)
    claim_upload(web_installation, id_of(path), is_new=False, age=timedelta(seconds=-60))
    app.put(path, headers=meta(location=origin.put("/x", DATA)), status=409)
    assert locations(web_installation) == []


# -- who may, and how much


def test_who_may_register_can_be_limited(install_with: Any, origin: Origin) -> None:
    limited = install_with(stores="file, http", allowed_hosts="127.0.0.1", set_image_location="admin")
    alice, url = limited.client(ALICE), origin.put("/x", DATA)
    for method, target in (("POST", "/v1/images"), ("PUT", reserve(alice))):
        message = error_of(alice.request(target, method=method, headers=meta(location=url), status=403))
        assert "pyrimage.set_image_location" in message
    assert origin.asked == []
    register(limited.client(ADMIN), url)


def test_limits_hold_for_registered_bytes(install_with: Any, origin: Origin) -> None:
    limits = {"image_size_cap": "1500", "user_storage_quota": "2500", "require_formats": "true"}
    alice = install_with(stores="file, http", allowed_hosts="127.0.0.1", **limits).client(ALICE)
    url, formats = origin.put("/x", DATA), {"disk_format": "raw", "container_format": "bare"}
    register(alice, url, **formats)
    register(alice, origin.url("/y"), size=1000, **formats)
    queued = reserve(alice)
    for method, target in (("POST", "/v1/images"), ("PUT", queued)):
        for big, setting in (({"location": url}, "user_storage_quota"), ({"location": url, "size": 2000}, "size_cap")):
            sent = meta(**big, **formats)
            assert setting in error_of(alice.request(target, method=method, headers=sent, status=413))
        assert "require_formats" in error_of(
            alice.request(target, method=method, headers=meta(location=url), status=400)
        )
    big = meta(location=origin.put("/big", DATA * 2), **formats)
    assert "image_size_cap" in error_of(alice.post("/v1/images", headers=big, status=413))


@pytest.mark.parametrize("collection", COLLECTIONS)
def test_a_registered_location_is_for_administrators(
    collection: str, web_installation: Installation, origin: Origin
) -> None:
    """S43."""
    alice, url = web_installation.client(ALICE), origin.put("/x?signature", DATA)
    sent = meta(name="f17", location=url, is_public=True, checksum=md5(DATA))
    path = f"{collection}/{alice.post(collection, headers=sent, status=201).json['image']['id']}"
    answers = [alice.put(path, headers=meta(name="new")), alice.put(path, headers=meta(location="x"), status=400)]
    for caller in (alice, web_installation.client(BOB)):
        answers += [caller.head(path), caller.get(path), caller.get(path, headers={"Range": "bytes=0-1"}, status=206)]
        answers += [caller.get(path, headers={"If-None-Match": md5(DATA)}, status=304)]
        answers += [caller.get(collection), caller.get(f"{collection}/detail")]
        answers += [caller.get(path, headers={"Range": "bytes=9999-"}, status=416)]
    assert [each for each in answers if "signature" in each.text + str(each.headers)] == []
    assert web_installation.client(ADMIN).head(path).headers["x-image-meta-location"] == url


# -- deleting


def test_what_was_only_registered_is_never_removed(
    web_installation: Installation, app: TestApp, origin: Origin
) -> None:
    """S20: DELETE drops the record; another image of the same place keeps its own."""
    url = origin.put("/x", DATA)
    paths = [register(app, url) for _ in range(2)]
    app.delete(paths[0], status=200)
    assert locations(web_installation) == [("http", url, False, "active")]
    assert app.get(paths[1]).body == DATA
    assert set(methods(origin)) == {"HEAD", "GET"}
    app.delete(paths[1], status=200)
    assert locations(web_installation) == []
    assert list(web_installation.catalogue.claims.garbage()) == []
