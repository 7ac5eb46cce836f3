"""What a request's headers say before any schema has seen it: fields, properties, and whether a body comes."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote_to_bytes

from pyramid.request import Request

from ..errors import Invalid, UnsupportedEncoding
from .fields import CONTROL

META = "x-image-meta-"
PROPERTY = "property_"
COPY_FROM = "x-glance-api-copy-from"
PURGE_PROPERTIES = "x-glance-registry-purge-props"
KEY_LENGTH = 255

_META_KEY = "HTTP_X_IMAGE_META_"
NOT_KEY = re.compile("[^a-z0-9_]")

# Encodings of a body that leave it as it is. HTTP has no Content-Transfer-Encoding, but mail's programs send it.
_PLAIN = {"CONTENT_ENCODING": {"identity"}, "CONTENT_TRANSFER_ENCODING": {"binary", "8bit", "7bit"}}


@dataclass(slots=True)
class Headers:
    """The ``x-image-meta-*`` headers of one request as text.

    fields: lower-case names in underscores, without prefix. properties: likewise, by property key.
    problems: what is wrong with names and characters; the rest is the schema's to say.
    """

    fields: dict[str, str] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def header_name(field_name: str) -> str:
    """Spell a field as the header that clients of ours send: ``disk_format`` is ``x-image-meta-disk-format``."""
    return META + field_name.replace("_", "-")


def property_key(text: str) -> str:
    """Return the key that a client means by ``text``: ``OS-Type`` is ``os_type``."""
    return NOT_KEY.sub("_", text.lower())


def read_headers(request: Request) -> Headers:
    """Collect the image headers of a request.

    Values are UTF-8 bytes, which WSGI hands over as latin-1. python-glanceclient percent-encodes names and values
    (since 2.11.1), so those are decoded for it: the name people typed is the name that is stored.
    """
    headers = Headers()
    encoded = (request.user_agent or "").startswith("python-glanceclient")
    for key, raw in request.environ.items():
        if key.startswith(_META_KEY):
            try:
                name = _decode(key.removeprefix(_META_KEY), encoded).lower().replace("-", "_")
                value = _decode(raw, encoded)
            except UnicodeError:
                headers.problems.append(f"{META}{key.removeprefix(_META_KEY).lower()} is not UTF-8.")
                continue
            _collect(headers, name, value)
    if COPY_FROM in request.headers:
        headers.problems.append(f"{COPY_FROM}: external sources are not supported; send the bytes as the body.")
    return headers


def _decode(text: str, percent_encoded: bool) -> str:
    data = text.encode("latin-1")
    if percent_encoded:
        data = unquote_to_bytes(data).strip(b" ")  # as HTTP cut the blanks around all others
    return data.decode("utf-8")


def _collect(headers: Headers, name: str, value: str) -> None:
    if CONTROL.search(name + value):
        headers.problems.append(f"{header_name(name)!a} holds a control character; none is accepted.")
    elif not name.startswith(PROPERTY):
        if name in headers.fields:
            headers.problems.append(f"{header_name(name)!a} was sent twice.")
        headers.fields[name] = value
    else:
        key = property_key(name.removeprefix(PROPERTY))
        if not 1 <= len(key) <= KEY_LENGTH:
            headers.problems.append(f"{META}property- must be followed by a key of 1 to {KEY_LENGTH} characters.")
        elif key in headers.properties:
            headers.problems.append(f"Two {META}property- headers fall on the one key {key!r}; send one.")
        headers.properties[key] = value


def content_length(request: Request) -> int | None:
    """Return the announced length of the body in bytes, None if there is none."""
    text = request.environ.get("CONTENT_LENGTH") or ""
    if not re.fullmatch("[0-9]*", text):
        raise Invalid("Content-Length is not a number.")
    # No store is as large as 30 digits say, and huge texts cost time; but zeros may stand before any number.
    return int(text.lstrip("0")[:30] or "0") if text else None


def has_body(request: Request) -> bool:
    """Say whether data comes: a length above 0, or chunks, of which there may be none.

    WebOb's ``is_body_readable`` says yes without either; waitress hides that a body was chunked, so our server
    leaves a mark.
    """
    return bool(content_length(request)) or "pyrimage.chunked" in request.environ


def check_body_fields(environ: Mapping[str, Any]) -> None:
    """Refuse a request whose body is not the whole of what is meant, as it is.

    Nothing here joins parts or undoes encodings: the part, or the compressed bytes, would be taken for an image.
    Without a body as well, for it may have been lost on its way. Raises Invalid, UnsupportedEncoding.

    Source: RFC 9110, 8.4 and 14.5; ours for ``Upload-Complete``, of which only a draft tells.
    """
    if "HTTP_CONTENT_RANGE" in environ:
        raise Invalid("Content-Range: parts are not accepted; send the whole, without it.")
    if environ.get("HTTP_UPLOAD_COMPLETE", "").strip().startswith("?0"):
        raise Invalid("Upload-Complete: parts are not accepted; send the whole in one request.")
    for field_name, plain in _PLAIN.items():
        codings = {each.strip().lower() for each in environ.get(f"HTTP_{field_name}", "").split(",")} - {""}
        if not codings <= plain:
            name = field_name.title().replace("_", "-")
            raise UnsupportedEncoding(f"{name}: the body is taken as it is; send it unencoded, without {name}.")
