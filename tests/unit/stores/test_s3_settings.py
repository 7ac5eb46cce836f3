"""The settings of an S3 store, and that nothing else pays for them."""

import subprocess
import sys
from pathlib import Path

import pytest

from pyrimage.errors import ConfigurationError, Invalid
from pyrimage.settings import Settings, shown_settings
from pyrimage.stores import load_settings, make_stores
from pyrimage.stores.s3 import S3StoreFactory

LEAST = {"s3_store_host": "s3.example.org", "s3_store_bucket": "images"}
KEYS = {"s3_store_access_key": "AKIAEXAMPLE", "s3_store_secret_key": "wJalrXUtnFEMI"}


def read(**texts: str) -> Settings:
    texts = {"auth": "none", "stores": "s3", **LEAST, **texts}
    return load_settings({f"pyrimage.{key}": text for key, text in texts.items()})


def factory(**texts: str) -> S3StoreFactory:
    found: S3StoreFactory = read(**texts).stores[0].factory
    return found


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("s3.eu-central-1.amazonaws.com", "https://s3.eu-central-1.amazonaws.com"),
        ("S3.example.org:8443", "https://s3.example.org:8443"),
        ("http://127.0.0.1:9000", "http://127.0.0.1:9000"),
        ("https://[::1]:9000/", "https://[::1]:9000"),
    ],
)
def test_a_host_speaks_https_unless_it_says_otherwise(text: str, url: str) -> None:
    assert factory(s3_store_host=text).s3_store_host == url


@pytest.mark.parametrize(
    ("name", "text"),
    [
        *(("s3_store_host", text) for text in ("", "ftp://x", "https://", "user:secret@host", "host/path", "host?x")),
        *(("s3_store_host", text) for text in ("host:x", "host:0", "host:99999", "[::1")),
        *(("s3_store_public_host", text) for text in ("", "host/images")),
        *(("s3_store_bucket", text) for text in ("", "ab", "a b", "a/b", "-ab", "arn:aws:s3:::images")),
        *(("s3_store_large_object_chunk_size", text) for text in ("", "4", "129", "8MB", "-8", "8.5")),
        ("s3_store_bucket_url_format", "virtual-host"),
        *(("s3_store_cacert", text) for text in ("ca.pem", "/nowhere/ca.pem", "/")),
    ],
)
def test_a_value_that_cannot_be_is_refused(name: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        read(**{name: text})


@pytest.mark.parametrize("key", KEYS)
def test_one_key_without_the_other_is_refused(key: str) -> None:
    with pytest.raises(ConfigurationError, match="both s3_store_access_key and s3_store_secret_key"):
        read(**{key: KEYS[key]})


def test_keys_come_from_the_environment_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for key, text in KEYS.items():
        monkeypatch.setenv(f"PYRIMAGE_{key.upper()}", text)
    assert factory() == factory(**KEYS)


def test_keys_are_never_shown() -> None:
    """S44."""
    settings = read(**KEYS)
    told = f"{settings!r} {shown_settings(settings)} {make_stores(settings, lambda store: '')['s3']!r}"
    assert [key for key in KEYS.values() if key in told] == []


def test_a_location_names_host_and_bucket() -> None:
    """S45."""
    store = make_stores(read(**KEYS, s3_store_host="http://127.0.0.1:9000"), lambda store: "")["s3"]
    assert store.url("f17.0123456789abcdef") == "s3+http://127.0.0.1:9000/images/f17.0123456789abcdef"
    assert store.url("/golden/a b") == "s3+http://127.0.0.1:9000/golden/a%20b"


def test_two_stores_in_one_bucket_are_refused() -> None:
    texts = {f"pyrimage.{store}.{key}": text for store in ("a", "b") for key, text in LEAST.items()}
    settings = load_settings({"pyrimage.auth": "none", "pyrimage.stores": "a:s3, b:s3", **texts})
    with pytest.raises(ConfigurationError, match="same place"):
        make_stores(settings, lambda store: "")


def test_the_bucket_of_one_store_is_not_registered_as_another_ones_neighbour() -> None:
    """S20."""
    buckets = {f"pyrimage.{store}.s3_store_bucket": f"{store}-images" for store in ("one", "two")}
    hosts = {f"pyrimage.{store}.s3_store_host": "s3.example.org" for store in ("one", "two")}
    settings = load_settings({"pyrimage.auth": "none", "pyrimage.stores": "one:s3, two:s3", **buckets, **hosts})
    stores = make_stores(settings, lambda store: "")
    assert stores.locate("s3://s3.example.org/golden/a").key == "/golden/a"
    for own in ("one", "two"):
        with pytest.raises(Invalid, match="own bucket"):
            stores.locate(f"s3://s3.example.org/{own}-images/f17.0123456789abcdef")


def test_nothing_imports_boto3_without_such_a_store(tmp_path: Path) -> None:
    code = """
import sys
from pyrimage.stores import load_settings, make_stores
ini = {"pyrimage.auth": "none", "pyrimage.filesystem_store_datadir": sys.argv[1]}
make_stores(load_settings(ini), lambda store: "")
print({"boto3", "botocore"} & set(sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
