import dataclasses
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import ADMIN, ALICE, data_headers, make_image, md5, meta, sha256
from pyrimage.api import responses
from pyrimage.errors import Forbidden, Invalid
from pyrimage.records import EMPTY, Blob, Image, Location, Status, utcnow
from pyrimage.schemas.dialect import GUIDE, WIRE, Dialect
from pyrimage.schemas.image import (
    AMAZON_FORMATS,
    CONTAINER_FORMATS,
    DISK_FORMATS,
    MAX_INT,
    Submission,
    read_change,
    read_new_image,
)
from pyrimage.web import Request

MakeRequest = Callable[..., Request]
URI = "http://localhost/images/a"
DATA = b"bytes"
ACTIVE = make_image(id="a", status=Status.ACTIVE, size=5, checksum=md5(DATA), sha256=sha256(DATA), name="f17")
QUEUED = make_image(id="a", size=5, name="f17", properties={"a": "b"})


def submitted(make_request: MakeRequest, dialect: Dialect = WIRE, **fields: Any) -> Submission:
    return read_new_image(make_request(headers=meta(**fields)), dialect)


def changed(make_request: MakeRequest, image: Image, **fields: Any) -> Submission:
    return read_change(make_request(headers=meta(**fields)), WIRE, image)


# headers -> record -> headers

TEXT = st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=255)
NAME = TEXT.filter(bool)
COUNT = st.integers(0, MAX_INT)
TIME = st.datetimes(datetime.fromisoformat("1900-01-01"), datetime.fromisoformat("9999-12-31"))
SECOND = TIME.map(lambda moment: moment.replace(microsecond=0))
DISK, CONTAINER = (sorted(set(words) - AMAZON_FORMATS) for words in (DISK_FORMATS, CONTAINER_FORMATS))
FORMATS = st.one_of(
    st.tuples(st.none() | st.sampled_from(DISK), st.none() | st.sampled_from(CONTAINER)),
    st.sampled_from(sorted(AMAZON_FORMATS)).map(lambda word: (word, word)),
)


@st.composite
def images(draw: st.DrawFn) -> Image:
    """Make a record of a queued image as a client may describe it: times to the second, nothing empty but none."""
    disk_format, container_format = draw(FORMATS)
    return Image(
        id=draw(st.from_regex("[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True).filter(lambda id_: id_ != "detail")),
        name=draw(NAME),
        size=draw(st.integers(1, 2**63 - 1)),
        checksum=draw(st.none() | st.from_regex("[0-9a-f]{32}", fullmatch=True)),
        sha256=draw(st.none() | st.from_regex("[0-9a-f]{64}", fullmatch=True)),
        disk_format=disk_format,
        container_format=container_format,
        is_public=draw(st.booleans()),
        protected=draw(st.booleans()),
        owner=draw(st.none() | NAME.filter(lambda text: text != "None")),
        min_disk=draw(COUNT),
        min_ram=draw(COUNT),
        created_at=draw(SECOND),
        updated_at=draw(SECOND),
        properties=draw(st.dictionaries(st.from_regex("[a-z0-9_]{1,255}", fullmatch=True), TEXT, max_size=5)),
    )


def request_for(shared_installation: Any, headers: dict[str, str]) -> Request:
    request = Request.blank("/", headers=headers, environ={"pyrimage.identity": ADMIN})
    request.registry = shared_installation.registry
    return request


@pytest.mark.parametrize("dialect", [GUIDE, WIRE])
@given(image=images())
def test_headers_of_a_record_make_that_record(dialect: Dialect, image: Image, shared_installation: Any) -> None:
    headers = dict(dialect.headers(image, URI, None))
    again = read_new_image(request_for(shared_installation, headers), dialect).image
    assert again == image
    assert dict(dialect.headers(again, URI, None)) == headers


@pytest.mark.parametrize("dialect", [GUIDE, WIRE])
@given(image=images(), status=st.sampled_from([Status.QUEUED, Status.ACTIVE, Status.KILLED]))
def test_what_head_answers_of_a_record_changes_nothing(
    dialect: Dialect, image: Image, status: str, shared_installation: Any
) -> None:
    location = Location("file", "key") if status == Status.ACTIVE else None
    stored = dataclasses.replace(image, status=status, location=location)
    request = request_for(shared_installation, {})
    head = responses.image_headers(stored, responses.metadata_headers(request, URI, dialect, stored))
    headers = {name: value for name, value in head.headers.items() if name.startswith("x-image-meta-")}
    assert ("x-image-meta-location" in headers) is (location is not None)
    again = read_change(request_for(shared_installation, headers), dialect, stored).image
    assert dataclasses.replace(again, updated_at=stored.updated_at) == stored


# POST


def test_a_submission_without_headers_is_a_private_queued_image(make_request: MakeRequest) -> None:
    submission = submitted(make_request)
    image = submission.image
    assert image == Image(id=image.id, created_at=image.created_at, updated_at=image.created_at)
    assert submission == Submission(image, "file", is_new=True, has_body=False)


def test_a_submission_with_data_knows_the_length(make_request: MakeRequest) -> None:
    request = make_request(headers=data_headers(), CONTENT_LENGTH="5")
    submission = read_new_image(request, WIRE)
    assert (submission.has_body, submission.size, submission.is_empty) == (True, 5, False)


def test_a_submission_with_chunks_knows_what_was_announced(make_request: MakeRequest) -> None:
    for fields, size in (({}, None), ({"size": 5}, 5), ({"size": 0}, 0)):
        request = make_request(headers=data_headers(**fields), **{"pyrimage.chunked": True})
        submission = read_new_image(request, WIRE)
        assert (submission.has_body, submission.size, submission.is_empty) == (True, size, False)


@pytest.mark.parametrize(("fields", "empty"), [({"size": 0}, True), ({"size": ""}, False), ({"size": 1}, False)])
def test_a_submission_of_size_zero_is_complete(fields: dict[str, Any], empty: bool, make_request: MakeRequest) -> None:
    assert submitted(make_request, **fields).is_empty is empty


def test_an_empty_image_may_come_with_its_digests(make_request: MakeRequest) -> None:
    assert submitted(make_request, size=0, checksum=EMPTY.checksum, sha256=EMPTY.sha256).is_empty
    with pytest.raises(Invalid, match="x-image-meta-checksum or -sha256"):
        submitted(make_request, size=0, checksum=md5(DATA))
    with pytest.raises(Invalid, match="x-image-meta-checksum or -sha256"):
        submitted(make_request, size=0, sha256=sha256(DATA))


def test_only_the_guide_requires_a_name(make_request: MakeRequest) -> None:
    with pytest.raises(Invalid, match="x-image-meta-name is required"):
        submitted(make_request, GUIDE)
    assert submitted(make_request, GUIDE, name="f17").image.name == submitted(make_request, name="f17").image.name


def test_a_user_is_the_owner(make_request: MakeRequest) -> None:
    fields = {"owner": "tenant-b", "created_at": "2001-01-01", "updated_at": "2001-01-01"}
    submission = read_new_image(make_request(headers=meta(**fields), identity=ALICE), WIRE)
    assert submission.image.owner == "tenant-a"
    assert submission.image.created_at == submission.image.updated_at != datetime.fromisoformat("2001-01-01")
    assert submission.updated_at is None


def test_all_problems_are_raised_together(make_request: MakeRequest) -> None:
    headers = {**meta(size="x", nothing="x", disk_format="ami", container_format="bare", store="s3", min_ram="\xff")}
    with pytest.raises(Invalid) as caught:
        read_new_image(make_request(headers={**headers, "Content-Type": "text/plain"}, CONTENT_LENGTH="5"), GUIDE)
    named = ("size", "nothing", "disk-format", "store", "min_ram", "name")
    assert [name for name in named if f"x-image-meta-{name}" not in str(caught.value)] == []
    assert len(caught.value.problems) == len(named) + 1


def test_problems_are_told_in_the_order_of_the_headers(make_request: MakeRequest) -> None:
    with pytest.raises(Invalid) as caught:
        submitted(make_request, c="x", a="x", b="x")
    assert [problem[1:15] for problem in caught.value.problems] == [f"x-image-meta-{name}" for name in "cab"]


# PUT


def test_a_change_without_headers_removes_the_properties_alone(make_request: MakeRequest) -> None:
    submission = changed(make_request, QUEUED)
    assert submission.image == dataclasses.replace(QUEUED, properties={}, updated_at=submission.image.updated_at)
    assert submission.image.updated_at > QUEUED.updated_at
    assert submission == Submission(submission.image, "file", is_new=False, has_body=False, purge=True)


@pytest.mark.parametrize(
    ("headers", "size"),
    [({}, 5), ({"size": "0"}, 5), ({"size": "6"}, 6), ({"size": ""}, 5)],
)
def test_a_change_expects_the_size_that_was_reserved(
    headers: dict[str, str], size: int, make_request: MakeRequest
) -> None:
    request = make_request(headers=data_headers(**headers), **{"pyrimage.chunked": True})
    assert read_change(request, WIRE, QUEUED).size == size


def test_a_change_of_an_image_without_size_expects_none(make_request: MakeRequest) -> None:
    request = make_request(headers=data_headers(size=0), **{"pyrimage.chunked": True})
    assert read_change(request, WIRE, make_image(id="a")).size is None


@pytest.mark.parametrize("field", ["size", "checksum", "sha256"])
def test_facts_of_data_are_immutable(field: str, make_request: MakeRequest) -> None:
    """S12."""
    for value in ("", "6" * 64 if field == "sha256" else "6" * 32 if field == "checksum" else "6"):
        with pytest.raises(Invalid, match=f"x-image-meta-{field}"):
            changed(make_request, ACTIVE, **{field: value})
    assert changed(make_request, ACTIVE, **{field: getattr(ACTIVE, field)}).image.checksum == md5(DATA)


@pytest.mark.parametrize("image", [ACTIVE, QUEUED])
@pytest.mark.parametrize("fields", [{"id": "b"}, {"status": "killed"}, {"status": ""}])
def test_id_and_status_are_not_the_clients(fields: dict[str, str], image: Image, make_request: MakeRequest) -> None:
    """S2."""
    with pytest.raises(Forbidden, match=f"x-image-meta-{next(iter(fields))}"):
        changed(make_request, image, **fields)


@pytest.mark.parametrize("image", [ACTIVE, QUEUED])
@pytest.mark.parametrize("identity", [ALICE, ADMIN])
def test_another_location_is_refused(image: Image, identity: Any, make_request: MakeRequest) -> None:
    with pytest.raises(Invalid, match="x-image-meta-location"):
        read_change(make_request(headers=meta(location="http://host/x"), identity=identity), WIRE, image)


@pytest.mark.parametrize(("identity", "owner"), [(ALICE, None), (ADMIN, "tenant-b")])
def test_only_an_administrator_changes_the_owner(identity: Any, owner: str | None, make_request: MakeRequest) -> None:
    request = make_request(headers=meta(owner="tenant-b"), identity=identity)
    assert read_change(request, WIRE, QUEUED).image.owner == owner


# what comes of it


def test_without_a_blob_the_record_stays(make_request: MakeRequest) -> None:
    submission = submitted(make_request, name="f17")
    assert submission.completed(None) is submission.image


def test_a_blob_completes_the_record() -> None:
    failed = dataclasses.replace(QUEUED, last_error="full")
    blob = Blob(5, md5(DATA), sha256(DATA), Location("file", "key"), "key")
    done = Submission(failed, "file", is_new=False, has_body=True).completed(blob)
    expected = dataclasses.replace(ACTIVE, properties={"a": "b"}, location=blob.location, created_at=QUEUED.created_at)
    assert done == dataclasses.replace(expected, updated_at=done.updated_at, activated_at=done.activated_at)
    assert done.updated_at > QUEUED.updated_at
    assert QUEUED.updated_at < (done.activated_at or QUEUED.updated_at) <= utcnow()


def test_an_administrators_time_outlasts_the_upload() -> None:
    moment = datetime.fromisoformat("2001-01-01")
    done = Submission(QUEUED, "file", is_new=True, has_body=True, updated_at=moment).completed(EMPTY)
    assert done.updated_at == moment
