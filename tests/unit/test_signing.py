"""What is signed of a request to the registry, byte by byte. Over HTTP: functional/test_registry_door.py."""

import io
import time
from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from factories import ALICE
from pyrimage.catalogue.records import Identity
from pyrimage.environ import CHUNKED, IDENTITY, REFUSAL
from pyrimage.errors import ClientLeft, ClientTooSlow, Invalid, LimitExceeded, PyrimageError, Unauthenticated
from pyrimage.identity.signed import SignedOnly
from pyrimage.readers import SigningKey
from pyrimage.signatures import MAX_SIGNED_BODY, SIGNED, TIMESTAMP, digest_of, sign

KEY = SigningKey("new", "the secret that signs")
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


def let_in(body: Any, length: str | None, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Send a request that is signed, but for the changes; return the environ that the application gets.

    length: its Content-Length, None for a chunked one.
    """
    seen: dict[str, Any] = {}

    def app(environ: dict[str, Any], start_response: object) -> Iterable[bytes]:
        seen.update(environ)
        return []

    data = body.getvalue() if isinstance(body, io.BytesIO) else BODY
    headers = {"X-Pyrimage-Key-Id": KEY.id, TIMESTAMP: str(int(time.time())), "X-User-Id": "alice"}
    headers |= {"Content-Digest": digest_of(data)} if data else {}
    headers |= {} if length is None else {"Content-Length": length}
    signature = sign(KEY.secret, "POST", "/images", "", headers)
    place = {"REQUEST_METHOD": "POST", "PATH_INFO": "/images", "wsgi.input": body}
    framing = {CHUNKED: True} if length is None else {}
    SignedOnly(app, [KEY])(
        {**place, **framing, **keys_of({**headers, "X-Pyrimage-Signature": signature}), **(changes or {})}, print
    )
    return seen


def test_an_identity_that_is_there_stays() -> None:
    seen = let_in(io.BytesIO(), "0", {IDENTITY: ALICE, "HTTP_X_USER_ID": "bob"})
    assert seen[IDENTITY] is ALICE
    assert REFUSAL not in seen


@pytest.mark.parametrize(
    "changes",
    [
        *({next(iter(keys_of({name: ""}))): "1"} for name in SIGNED),
        *({"HTTP_X_USER_ID": "\xff"}, {"HTTP_X_PYRIMAGE_SIGNATURE": ""}, {"HTTP_X_PYRIMAGE_SIGNATURE": "\xc3\xa9"}),
        *({"REQUEST_METHOD": "GET"}, {"PATH_INFO": "/images/"}, {"QUERY_STRING": "x"}, {"REQUEST_URI": "/images/%20"}),
    ],
    ids=str,
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
        ("", Unauthenticated),  # no length is no body
        ("x", Invalid),
        ("-4", Invalid),
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
@pytest.mark.parametrize("length", ["4", None])
def test_a_body_that_is_not_the_one_signed_is_refused(length: str | None, signed: bytes) -> None:
    seen = let_in(io.BytesIO(signed), length, {"wsgi.input": io.BytesIO(b"bodY")})
    assert IDENTITY not in seen
    assert "Content-Digest" in str(seen[REFUSAL])


@pytest.mark.parametrize("length", ["0", "", None])
def test_a_request_without_a_body_needs_no_digest(length: str | None) -> None:
    assert let_in(io.BytesIO(), length)[IDENTITY] == Identity(user="alice")


@pytest.mark.parametrize(("size", "is_refused"), [(MAX_SIGNED_BODY, False), (MAX_SIGNED_BODY + 1, True)])
@pytest.mark.parametrize("is_chunked", [True, False])
def test_a_body_may_have_a_mebibyte(size: int, is_refused: bool, is_chunked: bool) -> None:
    seen = let_in(io.BytesIO(b" " * size), None if is_chunked else str(size))
    assert (REFUSAL in seen) is is_refused


@pytest.mark.parametrize(
    ("error", "refusal"),
    [(ConnectionError(), ClientLeft), (TimeoutError(), ClientTooSlow), (ValueError(), Invalid)],
)
def test_a_body_that_does_not_come_is_told_as_any_other(error: Exception, refusal: type[PyrimageError]) -> None:
    seen = let_in(FaultyBody(error), "4")
    assert IDENTITY not in seen
    assert type(seen[REFUSAL]) is refusal
