"""Which URLs of S3 objects may be registered, and what is made of them."""

import traceback

import pytest

from pyrimage.errors import Invalid
from pyrimage.stores.keys import is_key
from pyrimage.stores.s3.locations import registered_key

HTTPS, HTTP = "https://s3.example.org", "http://s3.example.org:9000"
SECRET = "wJalr/XUtn+FEMI"


def key_of(url: str, endpoint: str = HTTPS) -> str | None:
    return registered_key(url, endpoint, "images")


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("s3://s3.example.org/golden/a/b%20c.img", HTTPS),
        ("s3+https://s3.example.org/golden/a/b%20c.img", HTTPS),
        ("S3+HTTPS://S3.Example.ORG:443/golden/a/b c.img", HTTPS),
        ("s3://s3.example.org:9000/golden/a/b%20c.img", HTTP),
        ("s3+http://s3.example.org:9000/golden/a%2Fb%20c.img", HTTP),
    ],
)
def test_an_object_of_another_bucket_has_a_key_that_is_none_of_our_own(url: str, endpoint: str) -> None:
    key = key_of(url, endpoint)
    assert key == "/golden/a/b c.img"
    assert not is_key(key)


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        *((f"{scheme}://s3.example.org/golden/a", HTTPS) for scheme in ("http", "https", "file", "s3+ftp", "s3x")),
        ("s3://other.example.org/golden/a", HTTPS),
        ("s3://s3.example.org.evil.org/golden/a", HTTPS),
        ("s3://s3.example.org@evil.org/golden/a", HTTPS),
        ("s3://images.s3.example.org/a", HTTPS),
        ("s3://s3.example.org:8443/golden/a", HTTPS),
        ("s3+http://s3.example.org/golden/a", HTTPS),
        ("s3+http://s3.example.org:443/golden/a", HTTPS),
        ("s3+https://s3.example.org:9000/golden/a", HTTP),
        ("s3://s3.example.org/golden/a", HTTP),
        ("golden/a", HTTPS),
        ("", HTTPS),
    ],
)
def test_another_host_scheme_or_port_is_not_the_stores(url: str, endpoint: str) -> None:
    """S24."""
    assert key_of(url, endpoint) is None


@pytest.mark.parametrize(
    "url",
    [
        "s3://s3.example.org/images/f17.0123456789abcdef",
        "s3://s3.example.org:443/images/f17.0123456789abcdef",
        "s3+https://s3.example.org/IMAGES/f17.0123456789abcdef",
        "s3://s3.example.org/%69mages/f17.0123456789abcdef",
        "s3://s3.example.org//images/f17.0123456789abcdef",
        "s3://s3.example.org/./images/f17.0123456789abcdef",
        "s3://s3.example.org/golden/../images/f17.0123456789abcdef",
        "s3://s3.example.org/golden/%2e%2e/images/f17.0123456789abcdef",
        "s3://s3.example.org/golden/..%2fimages/f17.0123456789abcdef",
        "s3://s3.example.org/images-abcdef-s3alias/f17.0123456789abcdef",
        "s3://s3.example.org/images--ol-s3/f17.0123456789abcdef",
        "s3://s3.example.org/arn:aws:s3:eu-west-1:1:accesspoint/images/f17.0123456789abcdef",
        "s3://s3.example.org/golden/.",
    ],
)
def test_no_form_of_the_own_bucket_is_taken(url: str) -> None:
    """S20."""
    with pytest.raises(Invalid):
        key_of(url)


@pytest.mark.parametrize(
    "url",
    [
        f"s3://AKIAEXAMPLE:{SECRET}@s3.example.org/golden/a",
        "s3://AKIAEXAMPLE:secret@s3.example.org/golden/a",
        "s3://AKIAEXAMPLE@s3.example.org/golden/a",
        "s3://@s3.example.org/golden/a",
        "s3://:@s3.example.org:443/golden/a",
    ],
)
def test_a_url_with_credentials_is_refused_and_not_repeated(url: str) -> None:
    """S43. A secret key may hold slashes, which no parser of URLs expects there."""
    with pytest.raises(Invalid) as raised:
        key_of(url)
    told = "".join(traceback.format_exception(raised.value))
    assert "AKIA" not in str(raised.value)
    assert "wJalr" not in told
    assert "XUtn" not in told


@pytest.mark.parametrize(
    "url",
    [
        *(
            f"s3://s3.example.org{path}"
            for path in ("", "/", "/golden", "/golden/", "/golden/a?versionId=1", "/golden/a#b")
        ),
        *(f"s3://s3.example.org/golden/{name}" for name in ("a%00", "a%0Ab", "%ff", "x" * 1025)),
        *(f"s3://s3.example.org/{bucket}/a" for bucket in ("ab", "-ab", "a b c", "b" * 256)),
        "s3://s3.example.org:http/golden/a",
        "s3://s3.example.org:99999/golden/a",
        "s3://s3.example.org:0/golden/a",
        "s3://[s3.example.org/golden/a",
        "s3://s3.example.org/golden/a\n",
    ],
)
def test_a_url_that_names_no_object_is_refused(url: str) -> None:
    with pytest.raises(Invalid, match="s3://<host>/<bucket>/<object>"):
        key_of(url)
