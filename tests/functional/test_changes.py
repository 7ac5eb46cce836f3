"""PUT beside what the model shows: clients send whole images back, and its data never changes."""

from collections.abc import Callable
from itertools import product
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from webtest import TestApp

from factories import (
    ADMIN,
    ALICE,
    BOB,
    add_row,
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
    wire,
)
from pyrimage.catalogue.records import Identity

if TYPE_CHECKING:
    from conftest import Installation

BOTH = ["/images", "/v1/images"]
DATA = b"bytes"
PROPERTIES = {"arch": "x86_64", "distro": "Fedora"}


# What is sent back changes nothing

EVERYTHING: dict[str, Any] = {
    "name": wire("für, alle 雲"),
    "disk_format": "qcow2",
    "container_format": "bare",
    "min_disk": 2,
    "min_ram": 256,
    "properties": {**PROPERTIES, "empty": "", "text": wire('„a, b; "c", 100%41 é 🐧'), "word": "None"},
}


def fail(app: TestApp, **fields: Any) -> str:
    """Reserve an image, and upload into it in vain."""
    path = reserve(app, **fields)
    app.put(path, DATA, headers=data_headers(checksum=md5(b"other")), status=400)
    return path


ECHOED: dict[str, tuple[Callable[..., str], dict[str, Any]]] = {
    "queued": (reserve, {}),
    "queued, with what was announced": (reserve, {"size": 9, "checksum": md5(b"x"), "sha256": sha256(b"x")}),
    "queued, after a failed upload": (fail, {"name": "f17"}),
    "active": (upload, {}),
    "active, with everything": (upload, EVERYTHING),
    "empty": (reserve, {"size": 0, **EVERYTHING}),
    "public and protected": (upload, {"is_public": True, "protected": True, **EVERYTHING}),
    "amazon": (upload, {"disk_format": "ami"}),
}


def assert_unchanged_by(app: TestApp, path: str, headers: dict[str, str], installation: "Installation") -> None:
    """Check that a change with these headers succeeds, and that nothing but ``updated_at`` is another afterwards."""
    before = stored(installation)
    app.put(path, headers=headers, status=200)
    after = stored(installation)
    for rows in (before, after):
        rows["images"] = [dict(row._mapping) for row in rows["images"]]
        rows["moments"] = [image.pop("updated_at") for image in rows["images"]]
    assert after.pop("moments") > before.pop("moments")
    assert after == before


def echo(answer: Any) -> dict[str, str]:
    """Return the image headers of an answer as a client sends them back."""
    return {name: value for name, value in answer.headers.items() if name.lower().startswith("x-image-meta-")}


def of_list(app: TestApp, collection: str) -> dict[str, str]:
    """Return the one image of a detailed list as replication tools send it back."""
    [image] = app.get(f"{collection}/detail?is_public=None").json["images"]
    properties = {key: wire(value) for key, value in image.pop("properties").items()}
    texts = {name: "" if value is None else wire(str(value)) for name, value in image.items()}
    return meta(**texts, properties=properties)


@pytest.mark.parametrize(("make", "fields"), ECHOED.values(), ids=ECHOED)
@pytest.mark.parametrize("caller", [None, ALICE])
def test_sending_back_what_head_and_lists_said_changes_nothing(
    caller: Identity | None, make: Callable[..., str], fields: dict[str, Any], installation: "Installation"
) -> None:
    image, app = id_of(make(installation.client(ALICE), **fields)), installation.client(caller)
    for (told_in, sent_in), purge in zip(product(BOTH, BOTH), ("true", "false", "false", "true"), strict=True):
        headers = {"x-glance-registry-purge-props": purge, **echo(app.head(f"{told_in}/{image}"))}
        assert_unchanged_by(app, f"{sent_in}/{image}", headers, installation)
    for told_in in BOTH:
        assert_unchanged_by(app, f"/v1/images/{image}", of_list(app, told_in), installation)


@pytest.mark.parametrize("status", ["killed", "saving", "pending_delete", "deactivated"])
def test_sending_back_an_image_of_any_status_changes_nothing(
    status: str, testapp: TestApp, installation: "Installation"
) -> None:
    image = add_row(installation, status=status, size=5, checksum=md5(DATA), sha256=sha256(DATA), owner="tenant-a")
    for told_in in BOTH:
        assert_unchanged_by(testapp, f"/v1/images/{image}", echo(testapp.head(f"{told_in}/{image}")), installation)


def test_sending_back_what_head_returned_with_the_data_fills_the_image(testapp: TestApp) -> None:
    for collection in BOTH:
        path = f"{collection}/{id_of(reserve(testapp, name='f17', properties=PROPERTIES))}"
        headers = echo(testapp.head(path))
        assert headers["x-image-meta-size"] == "0"
        assert testapp.put(path, DATA, headers={**data_headers(), **headers}).json["image"]["status"] == "active"


@pytest.mark.parametrize(
    "field", ["created_at", "updated_at", "deleted_at", "deleted", "uri", "virtual_size", "last_error"]
)
def test_what_only_the_server_sets_is_ignored(field: str, testapp: TestApp, installation: "Installation") -> None:
    path = upload(testapp, name="f17")
    for value in ("", "2001-01-01 00:00:00") if field in ("created_at", "updated_at") else ("", "True", "http://x/y"):
        assert_unchanged_by(testapp, path, meta(**{field: value}), installation)


def test_a_word_for_null_leaves_a_flag_as_it_is(testapp: TestApp) -> None:
    path = upload(testapp, name="f17", is_public=True, protected=True)
    changed = testapp.put(path, headers=meta(is_public="None", protected="None")).json["image"]
    assert (changed["is_public"], changed["protected"]) == (True, True)


# What may never be another


@pytest.mark.parametrize("encoded", [False, True])
def test_the_location_that_was_shown_may_be_sent_back(encoded: bool, testapp: TestApp) -> None:
    path = upload(testapp, name="f17")
    shown = testapp.head(path).headers["x-image-meta-location"]
    agent = {"User-Agent": "python-glanceclient"} if encoded else {}
    sent = meta(location=quote(shown, safe="") if encoded else shown, name="renamed")
    assert testapp.put(path, headers={**sent, **agent}, status=200).json["image"]["name"] == "renamed"


@pytest.mark.parametrize(
    "other", ["http://example.org/x", "file:///etc/passwd", "{shown}x", "{shown} ,{shown}", "None", ""]
)
def test_another_location_than_is_shown_is_refused(other: str, testapp: TestApp, installation: "Installation") -> None:
    path = upload(testapp, name="f17")
    shown, before = testapp.head(path).headers["x-image-meta-location"], stored(installation)
    sent = meta(location=other.format(shown=shown), name="renamed")
    assert "x-image-meta-location" in error_of(testapp.put(path, headers=sent, status=400))
    assert stored(installation) == before


@pytest.mark.parametrize(("fields", "identity"), [({}, ALICE), ({"size": 0}, ALICE), ({"size": 0}, ADMIN)])
def test_who_is_shown_no_location_sends_none_back(
    fields: dict[str, Any], identity: Identity, installation: "Installation"
) -> None:
    """An owner is not shown it, and is not told either whether a guess is right; an empty image has none."""
    owner, caller = installation.client(ALICE), installation.client(identity)
    path = reserve(owner, **fields) if fields else upload(owner)
    assert "x-image-meta-location" not in caller.head(path).headers
    place = installation.client(ADMIN).head(path).headers.get("x-image-meta-location", "file:///etc/passwd")
    assert "x-image-meta-location" in error_of(caller.put(path, headers=meta(location=place), status=400))
    for null in ("", "None"):
        caller.put(path, headers=meta(location=null), status=200)


@pytest.mark.parametrize("make", [reserve, upload])
def test_another_id_or_status_is_forbidden(make: Any, testapp: TestApp, installation: "Installation") -> None:
    """S2."""
    path = make(testapp, id="mine")
    now, before = detail(testapp, path)["status"], stored(installation)
    for word in {"queued", "saving", "active", "killed", "deleted", "pending_delete", "x"} - {now}:
        assert "x-image-meta-status" in error_of(testapp.put(path, headers=meta(status=word), status=403))
    assert "x-image-meta-id" in error_of(testapp.put(path, headers=meta(id="other"), status=403))
    assert stored(installation) == before
    testapp.put(path, headers=meta(id="mine", status=now), status=200)


@pytest.mark.parametrize(
    ("field", "other", "same"),
    [("size", 6, 5), ("size", 0, 5), ("checksum", md5(b"x"), md5(DATA)), ("sha256", sha256(b"x"), sha256(DATA))],
)
def test_another_size_or_digest_of_an_active_image_is_refused(
    field: str, other: object, same: object, testapp: TestApp, installation: "Installation"
) -> None:
    """S12."""
    path = upload(testapp, DATA, name="f17")
    before = stored(installation)
    for value in (other, ""):
        headers = meta(**{field: value})
        assert f"x-image-meta-{field}" in error_of(testapp.put(path, headers=headers, status=400))
    assert stored(installation) == before
    testapp.put(path, headers=meta(**{field: same}), status=200)


@pytest.mark.parametrize("identity", [None, ALICE, BOB])
def test_no_request_brings_other_bytes_under_an_active_image(identity: Any, installation: "Installation") -> None:
    """S12."""
    owner, caller = installation.client(ALICE), installation.client(identity)
    path = upload(owner, DATA, name="f17", is_public=True)
    facts = ("x-image-meta-status", "x-image-meta-size", "x-image-meta-checksum", "x-image-meta-sha256")
    before = {name: owner.head(path).headers[name] for name in facts}
    for headers in (
        data_headers(),
        data_headers(size=6, checksum=md5(b"others")),
        data_headers(status="queued"),
        {**data_headers(), "x-glance-api-copy-from": "http://host/x"},
    ):
        for data in (b"", b"other", b"others"):
            caller.put(path, data, headers=headers, expect_errors=True)
            caller.post("/v1/images", data, headers={**headers, **meta(id=id_of(path))}, status=[400, 409])
    assert {name: owner.head(path).headers[name] for name in facts} == before
    assert owner.get(path).body == DATA


# What changes


@pytest.mark.parametrize("word", ["maybe", "", "None"])
def test_purge_props_is_true_or_false(word: str, testapp: TestApp, installation: "Installation") -> None:
    path = upload(testapp, name="f17", properties=PROPERTIES)
    before = stored(installation)
    headers = {"x-glance-registry-purge-props": word}
    assert "x-glance-registry-purge-props" in error_of(testapp.put(path, headers=headers, status=400))
    assert stored(installation) == before


def test_the_answer_tells_the_updated_at_that_is_stored_when_the_clock_went_back(testapp: TestApp) -> None:
    moment = "2100-01-01T00:00:00.999999"
    for path in (upload(testapp, updated_at=moment), reserve(testapp, updated_at=moment)):
        answer = testapp.put(path, headers=meta(name="f18"))
        assert answer.json["image"]["updated_at"] == "2100-01-01T00:00:01"
        assert answer.headers["x-image-meta-updated_at"] == detail(testapp, path)["updated_at"] == "2100-01-01T00:00:01"
    assert testapp.put(path, DATA, headers=data_headers()).json["image"]["updated_at"] == "2100-01-01T00:00:01"
    assert len(testapp.get(f"/v1/images?is_public=None&changes-since={moment}").json["images"]) == 2


def test_a_deleted_image_is_changed_by_nobody(testapp: TestApp, installation: "Installation") -> None:
    path = upload(testapp, name="f17")
    testapp.delete(path)
    before = stored(installation)
    for data in (b"", DATA):
        assert "deleted" in error_of(testapp.put(path, data, headers=data_headers(name="f18"), status=403))
    assert stored(installation) == before
