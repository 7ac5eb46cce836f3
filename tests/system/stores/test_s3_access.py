"""An S3 service that does not let us in, or that nobody should trust; and that no key is ever told."""

import http.client
import io
import logging
import traceback
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from buckets import TestBucket
from origins import certified
from pyrimage.errors import BlobDamaged, Invalid, LimitExceeded, PyrimageError, StoreUnavailable
from pyrimage.stores.interfaces import ListedStore, LocationStore, RedirectingStore
from pyrimage.stores.s3.store import S3Store
from pyrimage.stores.s3.writer import LARGEST
from pyrimage.stores.testing import IMAGE_ID, assert_unreadable, pattern, read_all
from servers import seaweedfs
from servers.http_faults import HttpFaults
from servers.processes import free_port

pytestmark = pytest.mark.system


@pytest.fixture
def bucket(seaweedfs_bucket: TestBucket) -> Iterator[TestBucket]:
    yield seaweedfs_bucket
    assert seaweedfs_bucket.contents() == []


@pytest.fixture
def key(bucket: TestBucket) -> Iterator[str]:
    """The key of a blob of five bytes."""
    store = bucket.store()
    yield put(store)
    for blob in store.blobs():
        store.delete(blob.key)


def put(store: S3Store, data: bytes = b"bytes") -> str:
    key = store.new_key(IMAGE_ID)
    writer = store.open_writer(key, len(data))
    try:
        writer.write(data)
        writer.finish()
    except BaseException:
        writer.discard()
        raise
    return key


WRONG: dict[str, dict[str, str]] = {
    "nobody has this access key": {"s3_store_access_key": "AKIAWRONG"},
    "the secret is not that of the access key": {"s3_store_secret_key": "wJalrWRONG"},
}


@pytest.mark.parametrize("advice", WRONG)
def test_the_log_says_what_is_wrong_and_the_client_hears_less(
    bucket: TestBucket, key: str, advice: str, caplog: pytest.LogCaptureFixture
) -> None:
    store = bucket.store(**WRONG[advice])
    for use in (lambda: put(store), lambda: store.open_reader(key, 5), lambda: store.delete(key)):
        caplog.clear()
        with pytest.raises(StoreUnavailable) as raised:
            use()
        line = caplog.messages[0]
        assert advice in line
        assert bucket.url in line
        assert urlsplit(bucket.url).netloc not in str(raised.value)


@pytest.mark.parametrize("wrong", WRONG.values())
def test_a_check_names_bucket_and_host(bucket: TestBucket, wrong: dict[str, str]) -> None:
    with pytest.raises(StoreUnavailable, match=f"The bucket {bucket.name} at {bucket.url}"):
        bucket.store(**wrong).check()


def test_a_missing_bucket_is_told(swift_bucket: TestBucket, caplog: pytest.LogCaptureFixture) -> None:
    """SeaweedFS creates one for whoever writes to it."""
    store = swift_bucket.store(s3_store_bucket="missing-bucket")
    advice = f"The bucket missing-bucket at {swift_bucket.url} is not there: create it"
    with pytest.raises(StoreUnavailable, match=advice):
        store.check()
    for use in (lambda: put(store), lambda: list(store.blobs()), lambda: store.delete(store.new_key(IMAGE_ID))):
        caplog.clear()
        with pytest.raises(StoreUnavailable):
            use()
        assert advice in caplog.text


def test_a_key_that_may_only_read_reads(bucket: TestBucket, key: str, caplog: pytest.LogCaptureFixture) -> None:
    reader = bucket.store(s3_store_access_key=seaweedfs.READER.key, s3_store_secret_key=seaweedfs.READER.secret)
    reader.check()
    assert read_all(reader, key, 5) == b"bytes"
    with pytest.raises(StoreUnavailable):
        put(reader)
    assert "docs/object-stores.md" in caplog.text
    with pytest.raises(StoreUnavailable):
        reader.delete(key)


def test_another_region_is_told_by_a_check(swift_bucket: TestBucket) -> None:
    """Swift takes requests for its own region only; boto3 learns that by itself, but not from a HEAD."""
    store = swift_bucket.store(s3_store_region_name="eu-west-9")
    with pytest.raises(StoreUnavailable, match="s3_store_region_name"):
        store.check()
    store.delete(put(store))


def test_a_host_that_is_away_is_told(bucket: TestBucket) -> None:
    store = bucket.store(s3_store_host=f"http://127.0.0.1:{free_port()}")
    for use in (store.check, lambda: put(store), lambda: store.open_reader("f17.0123456789abcdef", 5)):
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            use()


def test_a_missing_bucket_is_created_by_the_first_upload_if_the_settings_say_so(swift_bucket: TestBucket) -> None:
    new = TestBucket(swift_bucket.url, swift_bucket.keys, swift_bucket.part_size)
    store = new.store(s3_store_create_bucket_on_put=True)
    store.check()
    data = pattern(2 * new.part_size)
    for key in (put(store, data), put(store)):
        assert key in new.contents()
        store.delete(key)
    new.client.delete_bucket(Bucket=new.name)


def test_neither_bucket_nor_objects_are_public(bucket: TestBucket, key: str) -> None:
    """S27."""
    place = urlsplit(bucket.url)
    client = http.client.HTTPConnection(place.hostname or "", place.port)
    client.request("GET", f"/{bucket.name}/{key}")
    assert client.getresponse().status == 403
    client.close()


# -- TLS


def test_a_certificate_is_checked(bucket: TestBucket, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """S47."""
    certificate, tls = certified(tmp_path, "127.0.0.1")
    with HttpFaults(bucket.url, tls) as proxy:
        trusting = bucket.store(s3_store_host=proxy.url, s3_store_cacert=certificate)
        trusting.delete(put(trusting))
        elsewhere = proxy.url.replace("127.0.0.1", "localhost")
        check_untrusted(bucket, proxy, s3_store_host=proxy.url)
        check_untrusted(bucket, proxy, s3_store_host=elsewhere, s3_store_cacert=certificate)
    certificate, tls = certified(tmp_path, "127.0.0.1", days=0)
    with HttpFaults(bucket.url, tls) as proxy:
        check_untrusted(bucket, proxy, s3_store_host=proxy.url, s3_store_cacert=certificate)
    assert "is not trusted" in caplog.text


def check_untrusted(bucket: TestBucket, proxy: HttpFaults, **settings: Any) -> None:
    """Check that a store with these settings gives up before it has asked for anything."""
    asked, store = len(proxy.seen), bucket.store(**settings)
    with pytest.raises(StoreUnavailable, match="s3_store_cacert"):
        store.check()
    with pytest.raises(StoreUnavailable):
        put(store)
    assert len(proxy.seen) == asked


# -- secrets


def told_by(steps: Iterator[Callable[[], Any]]) -> Iterator[str]:
    """Take each step; give what the errors say, with all their causes."""
    for step in steps:
        try:
            step()
        except PyrimageError as error:
            yield "".join(traceback.format_exception(error)) + repr(error)


def test_no_key_and_no_signature_is_told_at_any_level(bucket: TestBucket, key: str) -> None:
    """S42, S44."""
    output = io.StringIO()
    handler = logging.StreamHandler(output)
    root, level = logging.getLogger(), logging.getLogger().level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        told = list(told_by(uses(bucket, key)))
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
    text = output.getvalue() + "".join(told)
    assert "botocore" in text
    assert len(told) > 10
    secrets = {"testkey", "testsecret", "AKIAWRONG", "wJalrWRONG", "Signature=", "X-Amz-Signature", "Credential="}
    assert {each for each in secrets if each in text} == set()


def uses(bucket: TestBucket, key: str) -> Iterator[Callable[[], Any]]:
    right: dict[str, str] = {}
    for wrong in (right, *WRONG.values(), {"s3_store_host": f"http://127.0.0.1:{free_port()}"}):
        store = bucket.store(s3_store_public_host=bucket.url, **wrong)
        yield store.check
        yield partial(put, store)
        yield partial(put, store, pattern(bucket.part_size + 1))
        yield partial(read_all, store, key, 5)
        yield partial(read_all, store, "/golden/missing", 5)
        yield partial(store.stat, "/golden/missing")
        yield partial(list, store.blobs())
        yield partial(store.temporary_url, key, 60, "attachment")
        yield partial(store.delete, store.new_key(IMAGE_ID))


def test_new_keys_read_what_old_ones_wrote(bucket: TestBucket, key: str) -> None:
    """S45. Nothing in a row depends on the keys."""
    reader = bucket.store(s3_store_access_key=seaweedfs.READER.key, s3_store_secret_key=seaweedfs.READER.secret)
    assert read_all(reader, key, 5) == b"bytes"
    assert reader.url(key) == bucket.store().url(key) == f"s3+{bucket.url}/{bucket.name}/{key}"


# -- what other stores cannot do


def test_every_blob_is_listed_and_every_upload_that_is_under_way(bucket: TestBucket, key: str) -> None:
    store = bucket.store()
    assert isinstance(store, ListedStore)
    writer = store.open_writer(store.new_key(IMAGE_ID), bucket.part_size + 1)
    writer.write(b"begun")
    bucket.client.put_object(Bucket=bucket.name, Key="somebody/else", Body=b"")
    assert sorted(blob.key for blob in store.blobs()) == sorted([key, repr(writer).split()[1][:-1]])
    assert {blob.modified.tzinfo for blob in store.blobs()} == {None}
    bucket.client.delete_object(Bucket=bucket.name, Key="somebody/else")
    writer.discard()


def test_a_registered_object_is_read_and_never_removed(bucket: TestBucket) -> None:
    store, other = bucket.store(), TestBucket(bucket.url, bucket.keys, bucket.part_size).create()
    other.client.put_object(Bucket=other.name, Key="golden/a b", Body=b"bytes")
    assert isinstance(store, LocationStore)
    registered = store.register(f"s3://{urlsplit(bucket.url).netloc}/{other.name}/golden/a%20b")
    assert registered is not None
    assert store.stat(registered) == 5
    assert read_all(store, registered, 5, 1, 2) == b"yt"
    for refused in (lambda: store.delete(registered), lambda: store.open_writer(registered, 5)):
        with pytest.raises(BlobDamaged):
            refused()
    assert other.contents() == ["golden/a b"]
    with pytest.raises(Invalid, match="is not there"):
        store.stat(f"/{other.name}/missing")
    assert_unreadable(store, f"/{other.name}/missing", 5)
    with pytest.raises(BlobDamaged):  # whatever a row says
        store.open_reader(f"/{bucket.name}/{registered}", 5)


def test_anybody_can_read_at_a_temporary_url(bucket: TestBucket, key: str) -> None:
    assert bucket.store().temporary_url(key, 60, "attachment") is None
    store = bucket.store(s3_store_public_host=bucket.url)
    assert isinstance(store, RedirectingStore)
    url = store.temporary_url(key, 60, 'attachment; filename="a.img"')
    assert url is not None
    path = url.removeprefix(bucket.url)
    client = http.client.HTTPConnection(urlsplit(bucket.url).netloc)
    client.request("GET", path)
    answer = client.getresponse()
    assert (answer.status, answer.read()) == (200, b"bytes")
    assert answer.getheader("Content-Disposition") == 'attachment; filename="a.img"'
    assert answer.getheader("Content-Type") == "application/octet-stream"
    client.request("DELETE", path)
    assert client.getresponse().status == 403
    client.close()


def test_what_is_too_long_is_refused_before_anything_is_sent(bucket: TestBucket) -> None:
    store = bucket.store()
    with pytest.raises(LimitExceeded):
        store.open_writer(store.new_key(IMAGE_ID), LARGEST + 1)
    store.open_writer(store.new_key(IMAGE_ID), LARGEST).discard()
