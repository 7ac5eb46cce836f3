import io
import time
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from factories import ALICE
from pyrimage.catalogue.records import Identity
from pyrimage.environ import CHUNKED, IDENTITY, REFUSAL
from pyrimage.errors import ClientLeft, ClientTooSlow, Invalid, LimitExceeded, PyrimageError, Unauthenticated
from pyrimage.identity.signed import MAX_SIGNED_BODY, SIGNED, TIMESTAMP, SignedOnly, digest_of, sign
from pyrimage.settings import SigningKey

KEYS = (SigningKey("new", "the secret that signs"), SigningKey("old", "the secret of yesterday"))
BODY = b"body"


class FaultyBody:
    """A body that ends with an error when it is read."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def read(self, size: int) -> bytes:
        raise self.error


def keys_of(headers: dict[str, str]) -> dict[str, str]:
    """Name headers as an environ does."""
    names = {name: name.upper().replace("-", "_") for name in headers}
    bare = ("CONTENT_TYPE", "CONTENT_LENGTH")
    return {key if key in bare else f"HTTP_{key}": headers[name] for name, key in names.items()}


def let_in(body: Any, length: str | None, changes: Mapping[str, Any] | None = None, *, key: int = 0) -> dict[str, Any]:
    """Send a request that is signed, but for the changes; return the environ that the application gets.

    length: its Content-Length, None for a chunked one. key: the index of the key.
    """
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: object) -> Iterable[bytes]:
        seen.update(environ)
        return []

    data = body.getvalue() if isinstance(body, io.BytesIO) else BODY
    headers = {"X-Pyrimage-Key-Id": KEYS[key].id, TIMESTAMP: str(int(time.time())), "X-User-Id": "alice"}
    headers |= {"Content-Digest": digest_of(data)} if data else {}
    headers |= {} if length is None else {"Content-Length": length}
    signature = sign(KEYS[key].secret, "POST", "/images", "", headers)
    place = {"REQUEST_METHOD": "POST", "PATH_INFO": "/images", "wsgi.input": body}
    framing = {CHUNKED: True} if length is None else {}
    SignedOnly(app, KEYS)(
        {**place, **framing, **keys_of({**headers, "X-Pyrimage-Signature": signature}), **(changes or {})}, print
    )
    return seen


@pytest.mark.parametrize("length", ["4", None])
@pytest.mark.parametrize("key", [0, 1])
def test_whom_a_signature_names_is_let_in(key: int, length: str | None) -> None:
    seen = let_in(io.BytesIO(BODY), length, key=key)
    assert seen[IDENTITY] == Identity(user="alice")
    assert seen["wsgi.input"].read() == BODY


def test_an_identity_that_is_there_stays() -> None:
    seen = let_in(io.BytesIO(), "0", {IDENTITY: ALICE, "HTTP_X_USER_ID": "bob"})
    assert seen[IDENTITY] is ALICE
    assert REFUSAL not in seen


@pytest.mark.parametrize("name", SIGNED)
def test_every_header_that_counts_is_signed(name: str) -> None:
    """One that changes, comes, or goes."""
    [key] = keys_of({name: ""})
    body = io.BytesIO(BODY)
    seen = let_in(body, "4", {key: "1"})
    assert type(seen[REFUSAL]) is Unauthenticated
    assert body.tell() == 0


@pytest.mark.parametrize("name", ["x-pyrimage-timestamp", "CONTENT-TYPE", "X-Glance-Registry-Purge-Props"])
def test_names_of_headers_are_signed_in_any_spelling(name: str) -> None:
    headers = {TIMESTAMP: "1", name: "2"}
    assert sign("secret", "GET", "/", "", headers) != sign("secret", "GET", "/", "", {TIMESTAMP: "1"})


@pytest.mark.parametrize(
    "changes",
    [
        {"HTTP_X_USER_ID": "\xff"},
        {"HTTP_X_PYRIMAGE_SIGNATURE": ""},
        {"HTTP_X_PYRIMAGE_SIGNATURE": "\xc3\xa9"},
        {"HTTP_X_PYRIMAGE_KEY_ID": "\xc3\xa9"},
        {"REQUEST_METHOD": "GET"},
        {"PATH_INFO": "/images/"},
        {"QUERY_STRING": "x"},
        {"REQUEST_URI": "/images/%20"},
        {"HTTP_X_PYRIMAGE_TIMESTAMP": "0"},
    ],
)
def test_of_what_is_not_signed_no_byte_is_read(changes: dict[str, Any]) -> None:
    """S38: nor of a body that would be too long."""
    for length in ("4", None, "9" * 5000):
        body = io.BytesIO(BODY)
        seen = let_in(body, length, changes)
        assert IDENTITY not in seen
        assert type(seen[REFUSAL]) is Unauthenticated
        assert body.tell() == 0


@pytest.mark.parametrize(
    ("length", "refusal"),
    [
        ("3", Unauthenticated),
        ("0", Unauthenticated),
        ("", Unauthenticated),  # no length is no body
        ("x", Invalid),
        ("-4", Invalid),
        (str(MAX_SIGNED_BODY + 1), LimitExceeded),
        ("9" * 5000, LimitExceeded),
    ],
)
def test_a_length_that_is_not_the_bodys_is_refused_though_it_is_signed(
    length: str, refusal: type[PyrimageError]
) -> None:
    seen = let_in(io.BytesIO(BODY), length)
    assert IDENTITY not in seen
    assert type(seen[REFUSAL]) is refusal


@pytest.mark.parametrize("signed", [BODY, b""])
def test_a_body_that_is_not_the_one_signed_is_refused(signed: bytes) -> None:
    for length in ("4", None):
        other = {"wsgi.input": io.BytesIO(b"bodY")}
        seen = let_in(io.BytesIO(signed), length, other)
        assert IDENTITY not in seen
        assert "Content-Digest" in str(seen[REFUSAL])


def test_a_request_without_a_body_needs_no_digest() -> None:
    for length in ("0", "", None):
        assert let_in(io.BytesIO(), length)[IDENTITY] == Identity(user="alice")


@pytest.mark.parametrize(("size", "is_refused"), [(1, False), (2**20, False), (2**20 + 1, True), (2**21, True)])
def test_of_chunks_no_more_is_read_than_is_accepted(size: int, is_refused: bool) -> None:
    body = io.BytesIO(b" " * size)
    seen = let_in(body, None)
    assert (REFUSAL in seen) is is_refused
    assert body.tell() == min(size, 2**20 + 1)


@pytest.mark.parametrize(
    ("error", "refusal"),
    [(ConnectionError(), ClientLeft), (TimeoutError(), ClientTooSlow), (ValueError(), Invalid)],
)
def test_a_body_that_does_not_come_is_told_as_any_other(error: Exception, refusal: type[PyrimageError]) -> None:
    seen = let_in(FaultyBody(error), "4")
    assert IDENTITY not in seen
    assert type(seen[REFUSAL]) is refusal
