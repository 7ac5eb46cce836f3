"""The URLs of objects at a store's service that clients may register: ``s3://<host>/<bucket>/<object>``."""

import re
from urllib.parse import SplitResult, unquote, urlsplit

from ...addresses import PORTS
from ...errors import Invalid
from . import BUCKET

_SCHEMES = {"s3": ("http", "https"), "s3+http": ("http",), "s3+https": ("https",)}
_LONGEST_NAME = 1024  # bytes

# Names by which Amazon reaches buckets that have another name: the store's own could be behind them.
_ALIAS = re.compile(r".*(-s3alias|--ol-s3|\.mrap)", re.IGNORECASE)

_FORM = "use s3://<host>/<bucket>/<object>"


def registered_key(url: str, endpoint: str, own_bucket: str) -> str | None:
    """Return ``/<bucket>/<object>`` for a URL at the endpoint, None for one that is elsewhere.

    Raises Invalid for what may not be registered. No text quotes the URL: a secret may stand in it, anywhere.
    """
    scheme = url.partition(":")[0].lower()
    if scheme not in _SCHEMES:
        return None
    parts = _split(url)
    if parts is None:
        raise Invalid(f"The location is malformed; {_FORM}.")
    ours = urlsplit(endpoint)
    if ours.scheme not in _SCHEMES[scheme] or _address(parts, ours.scheme) != _address(ours, ours.scheme):
        return None
    if "@" in parts.netloc:
        raise Invalid(f"The location holds credentials; {_FORM}, for the service has its own.")
    match = re.fullmatch("/([^/]+)/(.+)", parts.path)
    if match is None or parts.query or parts.fragment:
        raise Invalid(f"The location names no object; {_FORM}.")
    bucket, name = match[1], unquote(match[2])
    if not BUCKET.fullmatch(bucket) or not _is_name(name):
        raise Invalid(f"The location names a bucket or an object that cannot be; {_FORM}.")
    if bucket.lower() == own_bucket.lower() or _ALIAS.fullmatch(bucket):
        raise Invalid("What lies in the service's own bucket cannot be registered.")
    return f"/{bucket}/{name}"


def _address(parts: SplitResult, scheme: str) -> tuple[str | None, int]:
    return parts.hostname, parts.port or PORTS[scheme]


def _split(url: str) -> SplitResult | None:
    try:
        parts = urlsplit(url) if url.isprintable() else None
        return parts if parts and parts.port != 0 else None
    except ValueError:
        return None


def _is_name(name: str) -> bool:
    """Say whether an object can be asked for by this name: HTTP clients take dots for steps, out of the bucket too."""
    is_path = not {".", ".."} & set(name.split("/"))
    return is_path and name.isprintable() and "\ufffd" not in name and len(name.encode()) <= _LONGEST_NAME
