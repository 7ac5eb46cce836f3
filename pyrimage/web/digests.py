"""Digests of a request's body, in headers that are not ours: Content-MD5, Content-Digest and Repr-Digest.

A body is the whole and not encoded, so all three speak of the same bytes. Algorithms that are not computed here say
nothing to us; what cannot be read is refused, for somebody may rely on it. Source: RFC 1864, RFC 9530, RFC 9651.
"""

import base64
import hashlib
import re
from collections.abc import Iterator
from typing import Any

from pyramid.request import Request

from ..catalogue.records import EMPTY, Image
from ..catalogue.rules import Spelling
from ..errors import DataMismatch, Invalid

Digests = dict[str, tuple[str, str]]  # {"checksum": ("Content-MD5", "<hexadecimal digits>")}

HEADERS = frozenset({"HTTP_CONTENT_MD5", "HTTP_CONTENT_DIGEST", "HTTP_REPR_DIGEST"})
_ALGORITHMS = {"md5": ("checksum", 16), "sha-256": ("sha256", 32)}  # the fields, and how many bytes each has
_MD5 = re.compile("([A-Za-z0-9+/]{22})==")

# A member of a dictionary of byte sequences. Its parameters mean nothing here, so they are not read closely.
_KEY = "[a-z*][a-z0-9_.*-]*+"
_PARAMETER = rf'; *+{_KEY}(?:="(?:[^"\\]|\\.)*+"|=[^",; \t]*+)?+'
_MEMBER = re.compile(rf"({_KEY})=:([A-Za-z0-9+/]*+)={{0,2}}:(?:{_PARAMETER})*+")
_COMMA = re.compile(r"[ \t]*+,[ \t]*+")


def read_digests(request: Request, problems: list[str]) -> Digests:
    """Return what the headers say of the body. What is wrong with them, or contradicts itself, goes to ``problems``."""
    found: Digests = {}
    for header in ("Content-MD5", "Content-Digest", "Repr-Digest"):
        text = request.environ.get(f"HTTP_{header.upper().replace('-', '_')}")
        if text is None:
            continue
        try:
            said = list(_read_md5(text) if header == "Content-MD5" else _read_dictionary(text))
        except ValueError:  # base64's too
            form = "16 bytes in base64" if header == "Content-MD5" else "such as sha-256=:<base64>:"
            problems.append(f"{header}: must be {form}.")
            continue
        for name, digest in said:
            earlier, known = found.setdefault(name, (header, digest))
            if known != digest:
                problems.append(f"{header}, {earlier}: {digest} and {known} cannot both be the data's.")
                break  # there could be a thousand
    return found


def demand_digests(
    request: Request,
    fields: dict[str, Any],
    problems: list[str],
    spell: Spelling,
    *,
    has_data: bool,
    image: Image | None = None,
) -> Spelling:
    """Add the digests that the data must have to ``fields``; return what spells a digest as the client did.

    They add to what is announced, by a header of ours or when ``image`` was reserved. They are the body's, also where
    there is none: then they say nothing of data that may come later.
    """
    if HEADERS.isdisjoint(request.environ):
        return spell
    found = read_digests(request, problems)
    for name, (header, digest) in found.items():
        if not has_data:
            if digest != getattr(EMPTY, name):
                problems.append(f"{header}: {digest} was announced, but no data came.")
            continue
        announced = fields[name] if name in fields else getattr(image, name, None)
        if announced not in (None, digest):
            problems.append(f"{header}, {spell(name)}: {digest} and {announced} cannot both be the data's.")
        fields[name] = digest
    return lambda name: found[name][0] if name in found else spell(name)


def check_digests(request: Request, data: bytes) -> None:
    """Compare a body that is kept in memory with what the headers say of it. Raises Invalid, DataMismatch."""
    problems: list[str] = []
    for name, (header, digest) in read_digests(request, problems).items():
        computed = hashlib.md5(data, usedforsecurity=False) if name == "checksum" else hashlib.sha256(data)
        if computed.hexdigest() != digest:
            raise DataMismatch(f"{header}: {digest} was announced, but the body's is {computed.hexdigest()}.")
    if problems:
        raise Invalid(*problems)


def _read_md5(text: str) -> Iterator[tuple[str, str]]:
    if not _MD5.fullmatch(text.strip()):
        raise ValueError
    yield "checksum", base64.b64decode(text).hex()


def _read_dictionary(text: str) -> Iterator[tuple[str, str]]:
    """Give the digests among the members of a dictionary."""
    text, position = text.strip(), 0
    while position < len(text):
        member = _MEMBER.match(text, position)
        if member is None:
            raise ValueError
        value = base64.b64decode(member[2] + "=" * (-len(member[2]) % 4), validate=True)
        name, size = _ALGORITHMS.get(member[1], ("", len(value)))
        if len(value) != size:
            raise ValueError
        if name:
            yield name, value.hex()
        position = member.end()
        if position < len(text):
            comma = _COMMA.match(text, position)
            if comma is None or comma.end() == len(text):
                raise ValueError
            position = comma.end()
