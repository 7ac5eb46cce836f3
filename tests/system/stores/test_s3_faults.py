"""An S3 service whose answers get lost, are errors or come late: an upload is whole or leaves nothing behind."""

import re
from collections.abc import Iterator

import pytest

from buckets import TestBucket
from pyrimage.errors import StoreFull, StoreUnavailable
from pyrimage.stores.interfaces import BlobWriter
from pyrimage.stores.s3 import bucket as bucket_module
from pyrimage.stores.s3.store import S3Store
from pyrimage.stores.testing import IMAGE_ID, pattern, read_all
from servers import s3_faults
from servers.fault_proxy import FaultProxy
from servers.http_faults import Changed, Fault, HttpFaults, Lost
from servers.s3_faults import refused

pytestmark = pytest.mark.system

PARTED = [s3_faults.CREATE, s3_faults.PART, s3_faults.SECOND_PART, s3_faults.COMPLETE]
ONCE = [Lost(before=True), Lost(), refused(503, "SlowDown"), refused(500, "InternalError")]


def name(value: object) -> str | None:
    return value.pattern.replace(".*", "") if isinstance(value, re.Pattern) else str(value)


@pytest.fixture
def bucket(swift_bucket: TestBucket) -> TestBucket:
    """Swift's, where parts are small; what other services may do in another way is tried with theirs too."""
    return swift_bucket


@pytest.fixture
def faults(bucket: TestBucket) -> Iterator[HttpFaults]:
    with HttpFaults(bucket.url) as proxy:
        yield proxy
    assert bucket.contents() == []


@pytest.fixture
def store(bucket: TestBucket, faults: HttpFaults) -> S3Store:
    return bucket.store(s3_store_host=faults.url)


@pytest.fixture
def parted(bucket: TestBucket) -> bytes:
    """Data of three parts."""
    return pattern(2 * bucket.part_size + 5)


def write_and_finish(writer: BlobWriter, data: bytes) -> None:
    writer.write(data)
    writer.finish()


def upload(store: S3Store, data: bytes) -> str:
    """Store a blob; discard it if that fails."""
    key = store.new_key(IMAGE_ID)
    writer = store.open_writer(key, None)
    try:
        write_and_finish(writer, data)
    except BaseException:
        writer.discard()
        raise
    return key


def failed_upload(store: S3Store, data: bytes, expected: type[Exception]) -> BlobWriter:
    """Fail to store a blob; return the writer, not discarded yet."""
    writer = store.open_writer(store.new_key(IMAGE_ID), None)
    with pytest.raises(expected):
        write_and_finish(writer, data)
    return writer


# -- what happens once


@pytest.mark.parametrize("fault", ONCE, ids=name)
@pytest.mark.parametrize("request_kind", PARTED, ids=name)
def test_an_upload_in_parts_outlives_one_fault(
    store: S3Store, faults: HttpFaults, parted: bytes, request_kind: re.Pattern[str], fault: Fault
) -> None:
    faults.add(request_kind, fault, times=1)
    key = upload(store, parted)
    assert faults.count(request_kind) > 1
    assert read_all(store, key, len(parted)) == parted
    store.delete(key)


@pytest.mark.parametrize("fault", ONCE, ids=name)
def test_an_upload_in_one_request_outlives_one_fault(store: S3Store, faults: HttpFaults, fault: Fault) -> None:
    faults.add(s3_faults.PUT, fault, times=1)
    key = upload(store, b"bytes")
    assert faults.count(s3_faults.PUT) == 2
    assert read_all(store, key, 5) == b"bytes"
    store.delete(key)


@pytest.mark.parametrize("fault", ONCE, ids=name)
@pytest.mark.parametrize("request_kind", [s3_faults.DELETE, s3_faults.LIST_UPLOADS], ids=name)
def test_a_deletion_outlives_one_fault(
    store: S3Store, faults: HttpFaults, request_kind: re.Pattern[str], fault: Fault
) -> None:
    key = upload(store, b"bytes")
    faults.add(request_kind, fault, times=1)
    store.delete(key)
    assert faults.count(request_kind) == 2


@pytest.mark.parametrize("fault", [*ONCE, Lost(body=1), Lost(body=200_000)], ids=name)
def test_a_download_outlives_one_fault(store: S3Store, faults: HttpFaults, parted: bytes, fault: Fault) -> None:
    key = upload(store, parted)
    faults.add(s3_faults.GET, fault, times=1)
    assert read_all(store, key, len(parted)) == parted
    assert faults.count(s3_faults.GET) == 2
    store.delete(key)


# -- what does not end


@pytest.mark.parametrize("fault", [Lost(before=True), Lost(), refused(403, "AccessDenied")], ids=name)
@pytest.mark.parametrize("request_kind", PARTED, ids=name)
def test_an_upload_in_parts_that_fails_leaves_nothing(
    store: S3Store, faults: HttpFaults, parted: bytes, request_kind: re.Pattern[str], fault: Fault
) -> None:
    faults.add(request_kind, fault)
    if (request_kind, fault) == (s3_faults.COMPLETE, Lost()):  # it did happen
        store.delete(upload(store, parted))
        return
    writer = failed_upload(store, parted, StoreUnavailable)
    faults.heal()
    writer.discard()


@pytest.mark.parametrize("fault", [Lost(before=True), Lost(), refused(403, "AccessDenied")], ids=name)
def test_an_upload_in_one_request_that_fails_leaves_nothing(store: S3Store, faults: HttpFaults, fault: Fault) -> None:
    faults.add(s3_faults.PUT, fault)
    writer = failed_upload(store, b"bytes", StoreUnavailable)
    faults.heal()
    writer.discard()


@pytest.mark.parametrize("request_kind", [s3_faults.ABORT, s3_faults.DELETE, s3_faults.LIST_UPLOADS], ids=name)
def test_what_cannot_be_removed_now_can_be_later(
    bucket: TestBucket, store: S3Store, faults: HttpFaults, parted: bytes, request_kind: re.Pattern[str]
) -> None:
    key = store.new_key(IMAGE_ID)
    writer = store.open_writer(key, len(parted))
    writer.write(parted)
    faults.add(request_kind, Lost(before=True))
    for remove in (writer.discard, lambda: store.delete(key)):
        with pytest.raises(StoreUnavailable):
            remove()
    faults.heal()
    store.delete(key)
    assert bucket.contents() == []
    writer.discard()


def test_a_download_that_cannot_begin_is_told_at_once(store: S3Store, faults: HttpFaults) -> None:
    key = upload(store, b"bytes")
    for fault in (Lost(before=True), Lost(), refused(403, "AccessDenied"), refused(503, "SlowDown")):
        faults.add(s3_faults.GET, fault)
        with pytest.raises(StoreUnavailable):
            store.open_reader(key, 5)
        faults.heal()
    store.delete(key)


def test_a_download_never_ends_short(store: S3Store, faults: HttpFaults, parted: bytes) -> None:
    """S16."""
    key = upload(store, parted)
    faults.add(s3_faults.GET, Lost(body=1000), times=1)
    with store.open_reader(key, len(parted)) as reader:
        faults.add(s3_faults.GET, Lost(before=True))
        with pytest.raises(OSError, match="stored bytes end early"):
            reader.read()
    faults.heal()
    store.delete(key)


def test_a_download_goes_on_with_the_same_object_only(
    bucket: TestBucket, store: S3Store, faults: HttpFaults, parted: bytes
) -> None:
    key = upload(store, parted)
    faults.add(s3_faults.GET, Lost(body=1000), times=1)
    with store.open_reader(key, len(parted)) as reader:
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=parted[::-1])
        with pytest.raises(OSError, match="stored bytes end early"):
            reader.read()
    store.delete(key)


# -- answers


@pytest.mark.parametrize(
    ("status", "code"),
    [(507, "Any"), (403, "QuotaExceeded"), (507, "XMinioStorageFull"), (400, "EntityTooLarge")],
)
@pytest.mark.parametrize("request_kind", [*PARTED, s3_faults.PUT], ids=name)
def test_a_full_store_is_told(
    store: S3Store, faults: HttpFaults, parted: bytes, request_kind: re.Pattern[str], status: int, code: str
) -> None:
    faults.add(request_kind, refused(status, code))
    data = b"bytes" if request_kind is s3_faults.PUT else parted
    failed_upload(store, data, StoreFull).discard()


def test_an_answer_of_200_may_hold_an_error(store: S3Store, faults: HttpFaults, parted: bytes) -> None:
    faults.add(s3_faults.COMPLETE, refused(200, "InternalError"))
    failed_upload(store, parted, StoreUnavailable).discard()


@pytest.mark.parametrize("request_kind", [s3_faults.SECOND_PART, s3_faults.PUT, s3_faults.COMPLETE], ids=name)
def test_a_service_that_holds_other_bytes_is_not_believed(
    store: S3Store, faults: HttpFaults, parted: bytes, request_kind: re.Pattern[str]
) -> None:
    wrong = re.compile(rb"[0-9a-f]{32}")
    faults.add(request_kind, Changed(lambda text: wrong.sub(b"0" * 32, text)))
    data = b"bytes" if request_kind is s3_faults.PUT else parted
    failed_upload(store, data, StoreUnavailable).discard()


def test_a_lost_answer_is_not_made_up_by_an_object_of_another_size(
    bucket: TestBucket, store: S3Store, faults: HttpFaults, parted: bytes
) -> None:
    key = store.new_key(IMAGE_ID)
    writer = store.open_writer(key, len(parted))
    writer.write(parted)
    bucket.client.put_object(Bucket=bucket.name, Key=key, Body=b"another")
    faults.add(s3_faults.COMPLETE, Lost(before=True))
    with pytest.raises(StoreUnavailable):
        writer.finish()
    writer.discard()


# -- connections


@pytest.mark.parametrize("at", [0, 1, 50_000])
def test_connections_that_break_in_a_body(bucket: TestBucket, parted: bytes, at: int) -> None:
    with FaultProxy(port_of(bucket)) as proxy:
        store = bucket.store(s3_store_host=f"http://127.0.0.1:{proxy.port}")
        proxy.reset_up, proxy.count = at, 2
        key = upload(store, parted)
        proxy.reset_down = 2000 + at
        assert read_all(store, key, len(parted)) == parted
        proxy.heal()
        store.delete(key)
    assert bucket.contents() == []


def test_a_service_that_does_not_answer_is_given_up(bucket: TestBucket, monkeypatch: pytest.MonkeyPatch) -> None:
    key = upload(bucket.store(), b"bytes")
    with FaultProxy(port_of(bucket)) as proxy:
        monkeypatch.setattr(bucket_module, "READ_SECONDS", 0.2)
        store = bucket.store(s3_store_host=f"http://127.0.0.1:{proxy.port}")
        proxy.hang = True
        failed_upload(store, b"other", StoreUnavailable)
        for use in (store.check, lambda: store.open_reader(key, 5), lambda: store.delete(key)):
            with pytest.raises(StoreUnavailable, match="cannot be reached"):
                use()
    bucket.store().delete(key)


def port_of(bucket: TestBucket) -> int:
    return int(bucket.url.rpartition(":")[2])


# -- another service


@pytest.mark.parametrize("fault", [Lost(before=True), Lost()], ids=name)
@pytest.mark.parametrize("times", [1, None])
def test_seaweedfs_too_loses_answers_to_the_last_request(
    seaweedfs_bucket: TestBucket, fault: Fault, times: int | None
) -> None:
    data = pattern(seaweedfs_bucket.part_size + 1)
    with HttpFaults(seaweedfs_bucket.url) as proxy:
        store = seaweedfs_bucket.store(s3_store_host=proxy.url)
        proxy.add(s3_faults.COMPLETE, fault, times)
        if fault == Lost(before=True) and times is None:
            failed_upload(store, data, StoreUnavailable).discard()
        else:
            key = upload(store, data)
            assert read_all(store, key, len(data)) == data
            store.delete(key)
    assert seaweedfs_bucket.contents() == []
