"""How requests to a registry are signed: what the signature is over, and how it is made. Source: ours."""

import base64
import hashlib
import hmac
from collections.abc import Mapping

from .catalogue.records import READER

SCHEME = "PYRIMAGE-HMAC-SHA256"
MAX_CLOCK_SECONDS = 60
MAX_SIGNED_BODY = 2**20  # bytes; they are kept in memory until the last of them shows whether they are those signed

SIGNATURE, KEY_ID, TIMESTAMP = "X-Pyrimage-Signature", "X-Pyrimage-Key-Id", "X-Pyrimage-Timestamp"
SIGNATURE_VARIABLE = f"HTTP_{SIGNATURE.upper().replace('-', '_')}"  # in the WSGI environ
DIGEST = "Content-Digest"
PURGE_PROPERTIES = "X-Glance-Registry-Purge-Props"
IDEMPOTENCY_KEY = "Idempotency-Key"
ERROR_KIND = "X-Pyrimage-Error"  # of an answer: four errors are 409, and the side that asks must tell them apart
WHO = ("X-User-Id", "X-Tenant-Id", "X-Roles")
READER_ALONE = frozenset({READER})  # what a server says of a caller who may only read, whatever allows it no more
# Every header that the registry acts on, in the order of the signature's lines; Accept chooses an error's shape alone.
SIGNED = (KEY_ID, TIMESTAMP, "Content-Type", "Content-Length", DIGEST, *WHO, PURGE_PROPERTIES, IDEMPOTENCY_KEY)


def sign(secret: str, method: str, path: str, query: str, headers: Mapping[str, str]) -> str:
    """Make the signature of a request to the registry, which ``headers`` will carry with those that it is over.

    It is the HMAC-SHA256, in hexadecimal digits, of these lines: the method, the path as it is sent (percent-encoded),
    the query, and the headers that ``SIGNED`` names. A header that is not sent is an empty line, as is one that is
    empty. Between the lines stand line feeds, which none of them can hold. The body has its part by its digest, so
    that nobody has to take it before it is known who sends it. Source: ours.
    """
    sent = {name.lower(): value for name, value in headers.items()}
    lines = (method, path, query, *(sent.get(name.lower(), "") for name in SIGNED))
    return hmac.new(secret.encode(), "\n".join(lines).encode(), "sha256").hexdigest()


def digest_of(body: bytes) -> str:
    """Make the ``Content-Digest`` of a body: ``sha-256=:<base64>:``. Source: RFC 9530."""
    return f"sha-256=:{base64.b64encode(hashlib.sha256(body).digest()).decode()}:"
