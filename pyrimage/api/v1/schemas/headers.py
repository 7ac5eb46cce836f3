"""The image headers of a request, before a schema has seen them: fields and properties as text."""

from dataclasses import dataclass, field
from urllib.parse import unquote_to_bytes

from pyramid.request import Request

from ....web.fields import CONTROL, KEY_LENGTH, property_key

META = "x-image-meta-"
PROPERTY = "property_"
COPY_FROM = "x-glance-api-copy-from"

_META_KEY = "HTTP_X_IMAGE_META_"


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
