"""The Swift store's settings, how it cuts blobs, and which URLs it takes; none of this asks Swift."""

import socket
from typing import Any

import pytest

from pyrimage.errors import ConfigurationError, Invalid, LimitExceeded
from pyrimage.settings import shown_settings
from pyrimage.stores import load_settings
from pyrimage.stores.swift.container import Limits
from pyrimage.stores.swift.places import Places
from pyrimage.stores.swift.writer import MAX_SEGMENT, make_cut

GB, MB = 2**30, 2**20
LIMITS = Limits(max_file_size=5 * GB, max_segments=1000, min_segment_size=1, is_static=True)
INI = {
    "pyrimage.auth": "none",
    "pyrimage.stores": "swift",
    "pyrimage.swift_store_auth_address": "https://swift.example.org/auth/v1.0",
    "pyrimage.swift_store_user": "account:user",
    "pyrimage.swift_store_key": "the key itself",
}


def settings(**keys: str) -> Any:
    return load_settings(INI | {f"pyrimage.{key}": text for key, text in keys.items()})


# -- settings


@pytest.mark.parametrize(
    "keys",
    [
        {"swift_store_auth_version": "2"},
        {"swift_store_auth_version": "3", "swift_store_user": "user"},
        {"swift_store_auth_address": "swift.example.org"},
        {"swift_store_key": "two\nlines"},
        {"swift_store_container": "images/new"},
        {"swift_store_container": ".."},
        {"swift_store_large_object_size": "5120"},
        {"swift_store_large_object_chunk_size": "0"},
        {"swift_store_cacert": "/nowhere/ca.pem"},
        {"swift_store_endpoint_type": "public"},
    ],
)
def test_setting_that_cannot_work_is_refused(keys: dict[str, str]) -> None:
    with pytest.raises(ConfigurationError, match="swift_store_"):
        settings(**keys)


@pytest.mark.parametrize(
    ("address", "version", "is_keystone"),
    [
        ("https://cloud.example.org/v3", None, True),
        ("https://cloud.example.org/v3/", None, True),
        ("https://cloud.example.org/auth/v1.0", None, False),
        ("https://cloud.example.org", "3", True),
    ],
)
def test_version_is_that_of_the_address_unless_it_is_set(address: str, version: str | None, is_keystone: bool) -> None:
    keys = {"swift_store_auth_address": address} | ({"swift_store_auth_version": version} if version else {})
    assert settings(**keys).stores[0].factory.is_keystone is is_keystone


def test_secrets_are_not_shown() -> None:
    """S44."""
    found = settings(swift_store_temp_url_key="another key")
    text = repr(found) + str(shown_settings(found))
    assert "the key itself" not in text
    assert "another key" not in text


def test_making_a_store_asks_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket.socket, "connect", lambda *unused: pytest.fail("it connects"))
    for address in ("https://swift.example.org/auth/v1.0", "https://cloud.example.org/v3"):
        found = settings(swift_store_auth_address=address)
        store = found.stores[0].factory.make("swift", found, lambda asking: "")
        assert store.url("f17.0123456789abcdef").endswith("/glance/f17.0123456789abcdef")


# -- how blobs are cut


def sizes(size: int | None, limits: Limits = LIMITS, whole: int = 32 * MB, segment: int = 32 * MB) -> list[int]:
    """Return the sizes of all the segments that a blob may have."""
    cut = make_cut(size, limits, whole=whole, segment=segment)
    return [cut.size(number) for number in range(1, limits.max_segments + 1)]


def test_segments_have_the_size_of_the_settings() -> None:
    assert set(sizes(GB)) == {32 * MB}
    assert sizes(GB, whole=100 * MB)[:2] == [100 * MB, 32 * MB]


def test_no_object_is_longer_than_the_cluster_accepts() -> None:
    limits = Limits(max_file_size=6 * MB, max_segments=1000, min_segment_size=1, is_static=True)
    assert set(sizes(GB, limits) + sizes(None, limits)) == {6 * MB}


def test_no_segment_is_shorter_than_the_cluster_accepts() -> None:
    limits = Limits(max_file_size=GB, max_segments=1000, min_segment_size=48 * MB, is_static=True)
    assert set(sizes(GB, limits)) == {48 * MB}


@pytest.mark.parametrize("size", [32_000 * MB, 32_000 * MB + 1, 100 * GB, 1000 * MAX_SEGMENT])
def test_long_blob_has_larger_segments_of_one_size_and_room(size: int) -> None:
    found = sizes(size)
    assert len(set(found)) == 1
    assert max(found) <= MAX_SEGMENT
    assert size <= sum(found) < size + 1000 or found[0] == 32 * MB


def test_segments_grow_where_nobody_said_how_many_bytes_come() -> None:
    found = sizes(None)
    assert sorted(set(found)) == [32 * MB, 64 * MB, 128 * MB]
    assert found == sorted(found)


def test_blob_that_needs_too_many_segments_is_refused() -> None:
    with pytest.raises(LimitExceeded, match="swift_store_large_object_chunk_size"):
        make_cut(1000 * MAX_SEGMENT + 1, LIMITS, whole=32 * MB, segment=32 * MB)
    with pytest.raises(LimitExceeded, match=str(sum(sizes(None)))):
        make_cut(None, LIMITS, whole=32 * MB, segment=32 * MB).size(1001)


# -- URLs


def places(address: str = "https://swift.example.org/auth/v1.0") -> Places:
    return Places(address, "glance")


@pytest.mark.parametrize(
    ("url", "key"),
    [
        ("swift+https://swift.example.org/auth/v1.0/images/disk.img", "/images/disk.img"),
        ("swift://swift.example.org/auth/v1.0/images/disk.img", "/images/disk.img"),
        ("SWIFT+HTTPS://SWIFT.example.org:443/auth/v1.0/images/a%20folder/%C3%BC.img", "/images/a folder/\u00fc.img"),
        ("swift+https://swift.example.org/auth/v1.0/glance2/x", "/glance2/x"),
        ("swift+https://swift.example.org/auth/v1.0/images/what%3F", "/images/what?"),
    ],
)
def test_url_at_our_address_is_taken(url: str, key: str) -> None:
    assert places().register(url) == key
    assert places().register(places().url(key)) == key


@pytest.mark.parametrize(
    "url",
    [
        "swift+http://swift.example.org/auth/v1.0/images/disk.img",
        "swift+https://swift.example.org:8080/auth/v1.0/images/disk.img",
        "swift+https://swift.example.org.example.com/auth/v1.0/images/disk.img",
        "swift+https://example.com/auth/v1.0/images/disk.img",
        "swift+https://swift.example.org/auth/v1/images/disk.img",
        "swift+https://swift.example.org/auth/v1.0",
        "swift+config://swift.example.org/auth/v1.0/images/disk.img",
        "https://swift.example.org/auth/v1.0/images/disk.img",
        "swift:///images/disk.img",
        "",
    ],
)
def test_url_elsewhere_is_not_ours(url: str) -> None:
    """S19, S24."""
    assert places().register(url) is None


@pytest.mark.parametrize(
    "rest",
    [
        "glance/f17.0123456789abcdef",
        "glance/f17.0123456789abcdef/00000001",
        "%67lance/disk.img",
        "images/../glance/disk.img",
        "images/%2e%2e/glance/disk.img",
        "images%2F..%2Fglance%2Fdisk.img",
        "./glance/disk.img",
        "/glance/disk.img",
        "images",
        "images/",
        "images//disk.img",
        "images/disk.img?multipart-manifest=get",
        "images/disk.img#part",
        "images/%ff.img",
        "images/%00.img",
        "images/%0d%0aX-Delete-At:%201",
    ],
)
def test_place_that_may_not_be_registered_is_refused(rest: str) -> None:
    """S20, S26."""
    with pytest.raises(Invalid):
        places().register(f"swift+https://swift.example.org/auth/v1.0/{rest}")


@pytest.mark.parametrize("userinfo", ["user:key@", "account%3Auser:key@", "@", "user@"])
def test_url_with_credentials_is_refused(userinfo: str) -> None:
    """S43."""
    with pytest.raises(Invalid):
        places().register(f"swift+https://{userinfo}swift.example.org/auth/v1.0/images/disk.img")


@pytest.mark.parametrize("url", ["swift://[", "swift://swift.example.org:port/", "swift://swift.example.org:99999/"])
def test_text_that_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        places().register(url)
