"""The keys of blobs in our own stores: ``<image id>.<16 hex digits>``."""

import re
import secrets

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}\.[0-9a-f]{16}")


def new_key(image_id: str) -> str:
    """Make a key that was never used."""
    return f"{image_id}.{secrets.token_hex(8)}"


def is_key(text: str) -> bool:
    """Say whether ``text`` is an image id, a dot and 16 hex digits."""
    return _KEY.fullmatch(text) is not None
