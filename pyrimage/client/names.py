"""What a service suggests for the name of a file."""

import re
from urllib.parse import unquote

_EXTENDED = re.compile(r"filename\*=UTF-8''([^;\s]+)", re.IGNORECASE)
_QUOTED = re.compile(r'filename="((?:[^"\\]|\\.)*)"', re.IGNORECASE)


def file_name(disposition: str) -> str | None:
    """Return the name in a ``Content-Disposition``; None if there is none, or one that could lead elsewhere.

    Source: RFC 6266, 4.3.
    """
    if found := _EXTENDED.search(disposition):
        name = unquote(found[1])
    elif found := _QUOTED.search(disposition):
        name = re.sub(r"\\(.)", r"\1", found[1])
    else:
        return None
    return name if is_plain(name) else None


def is_plain(name: str) -> bool:
    """Return whether a name leads nowhere else, and shows itself in a directory."""
    return name.isprintable() and "/" not in name and not name.startswith(".") and bool(name)
