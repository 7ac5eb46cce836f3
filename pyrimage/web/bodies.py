"""Bodies of requests: whether one comes, that it is the whole, and those that are JSON."""

import json
import re
from collections.abc import Mapping
from typing import Any

import colander
from pyramid.request import Request

from ..environ import CHUNKED
from ..errors import Invalid, LimitExceeded, UnsupportedEncoding
from ..stores.transfer import body_errors
from .digests import check_digests

MAX_BODY = 2**20  # bytes of JSON; room for ten thousand members and more
_CHUNK = 2**16  # bytes

# Encodings of a body that leave it as it is. HTTP has no Content-Transfer-Encoding, but mail's programs send it.
_PLAIN = {"CONTENT_ENCODING": {"identity"}, "CONTENT_TRANSFER_ENCODING": {"binary", "8bit", "7bit"}}


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
    return bool(content_length(request)) or CHUNKED in request.environ


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


class JsonType(colander.SchemaType):
    """A JSON value of one kind, ``name``, as Python's decoder gives it. Colander's own types would convert others."""

    kind: type | tuple[type, ...]
    name: str

    def deserialize(self, node: colander.SchemaNode, cstruct: Any) -> Any:
        """Return what ``read`` makes of the value; colander's null if it is absent."""
        if cstruct is colander.null:
            return cstruct
        if not isinstance(cstruct, self.kind):
            raise colander.Invalid(node, f"must be {self.name}")
        return self.read(node, cstruct)

    def read(self, node: colander.SchemaNode, value: Any) -> Any:
        """Return what a value of this kind means."""
        raise NotImplementedError


class Object(JsonType, colander.Mapping):
    """A JSON object; keys that the schema does not know are ignored, as in Glance."""

    kind, name = dict, "a JSON object"

    def read(self, node: colander.SchemaNode, value: dict[str, Any]) -> Any:
        """Return what the node's children make of it."""
        return colander.Mapping.deserialize(self, node, value)


def read_json(request: Request, schema: colander.SchemaNode, absent: dict[str, Any], most: int = MAX_BODY) -> Any:
    """Read the body as JSON that ``schema`` judges; ``absent`` is what no body means. Raises Invalid, LimitExceeded.

    most: bytes that are accepted.
    """
    data = _read_body(request, most)
    check_digests(request, data)
    try:
        return schema.deserialize(json.loads(data) if data else absent)
    except colander.Invalid as invalid:
        raise Invalid(*(f"{name}: {why}." for name, why in invalid.asdict().items())) from invalid
    except (ValueError, RecursionError) as error:  # the second from a hundred thousand brackets
        raise Invalid("body: must be JSON.") from error


def _read_body(request: Request, most: int) -> bytes:
    """Return the body, which is kept in memory and therefore bounded."""
    if not has_body(request):
        return b""
    data, length = bytearray(), content_length(request) or 0
    with body_errors(lambda: f"{len(data)} bytes"):
        while max(len(data), length) <= most:
            chunk = request.body_file_raw.read(_CHUNK)
            if not chunk:
                return bytes(data)
            data += chunk
    raise LimitExceeded(f"body: JSON of more than {most} bytes is not accepted.")
