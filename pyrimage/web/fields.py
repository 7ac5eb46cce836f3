"""Colander types for header values: each reads one text, knows its form and says what it would accept.

An absent header leaves its node's ``missing`` (``drop``); an empty one is None and clears the field. Source:
docs/v1.md, "Values".
"""

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import colander
from pyramid.request import Request

from ..catalogue import records
from ..signatures import PURGE_PROPERTIES

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
KEY_LENGTH = 255  # characters of a property's key
NOT_KEY = re.compile("[^a-z0-9_]")

IMAGE_ID_FORM = re.compile(r"(?!detail\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # detail is the name of a view
# A name that no path could hold is no member's: it could not remove itself.
_MEMBER_ID = re.compile(r"(?!\.{1,2}\Z|@@)[^/\\\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,255}")


def is_member_id(text: str) -> bool:
    """Say whether ``text`` has the form of a member's name, which is that of a project's id."""
    return _MEMBER_ID.fullmatch(text) is not None


def property_key(text: str) -> str:
    """Return the key that a client means by ``text``: ``OS-Type`` is ``os_type``."""
    return NOT_KEY.sub("_", text.lower())


class HeaderType(colander.SchemaType):
    """A text that is absent, empty or must be understood by ``read``."""

    def deserialize(self, node: colander.SchemaNode, cstruct: Any) -> Any:
        """Return None for an empty value, else what ``read`` makes of it; colander asks no type about an absent one."""
        if cstruct == "":
            return None
        try:
            return self.read(cstruct)
        except ValueError as error:
            raise colander.Invalid(node, str(error)) from error

    def read(self, text: str) -> Any:
        """Return the value of a text that is not empty; a ValueError's text says what is accepted."""
        raise NotImplementedError


class Ignored(HeaderType):
    """A field of ours that clients echo back and the server alone sets."""

    def deserialize(self, node: colander.SchemaNode, cstruct: Any) -> Any:
        """Drop the value."""
        return colander.null


class Text(HeaderType):
    """Any text up to ``length`` characters."""

    def __init__(self, length: int = 255) -> None:
        self.length = length

    def read(self, text: str) -> str:
        """Return the text."""
        if len(text) > self.length:
            raise ValueError(f"is too long; at most {self.length} characters are accepted")
        return text


class Owner(Text):
    """A project's id; Python's word for null counts as none (replication tools send it)."""

    def read(self, text: str) -> Any:
        """Return the id, or None."""
        return None if text == "None" else super().read(text)


class ImageId(HeaderType):
    """An id that the client chose."""

    def read(self, text: str) -> str:
        """Return the id."""
        if not IMAGE_ID_FORM.fullmatch(text):
            raise ValueError(
                "is not an image id; accepted are 1 to 64 letters, digits, dots, underscores and hyphens, "
                "beginning with a letter or digit, but not the word detail"
            )
        return text


class Word(HeaderType):
    """One of a few words. ``title`` begins the message, as clients of v1 look for it."""

    def __init__(self, words: Sequence[str], title: str) -> None:
        self.words, self.title = words, title

    def read(self, text: str) -> str:
        """Return the word."""
        if text not in self.words:
            raise ValueError(f"{self.title} {text!r}; accepted are {', '.join(self.words)}")
        return text


class Digits(HeaderType):
    """A whole number, 0 to ``maximum``. Colander's Integer would also take ``1_000``, blanks and a sign."""

    def __init__(self, maximum: int = records.MAX_BYTES) -> None:
        self.maximum = maximum

    def read(self, text: str) -> int:
        """Return the number."""
        if not re.fullmatch("[0-9]{1,19}", text) or int(text) > self.maximum:
            raise ValueError(f"must be a whole number from 0 to {self.maximum}")
        return int(text)


class Flag(HeaderType):
    """A yes/no header. Any other word is an error; guessing could publish an image."""

    WORDS = dict.fromkeys(("true", "1", "yes", "y", "t", "on"), True) | dict.fromkeys(
        ("false", "0", "no", "n", "f", "off"), False
    )

    def read(self, text: str) -> Any:
        """Return the truth. The ``glance`` command sends Python's null for a flag it was not given: that is absent."""
        if text == "None":
            return colander.null
        if text.lower() not in self.WORDS:
            raise ValueError("must be true or false")
        return self.WORDS[text.lower()]


class Hex(HeaderType):
    """A digest of ``digits`` hexadecimal digits; kept in lower case."""

    def __init__(self, digits: int) -> None:
        self.digits = digits

    def read(self, text: str) -> str:
        """Return the digest."""
        if not re.fullmatch(f"[0-9A-Fa-f]{{{self.digits}}}", text):
            raise ValueError(f"must be {self.digits} hexadecimal digits")
        return text.lower()


class Timestamp(HeaderType):
    """A time in ISO 8601, in either dialect's spelling; UTC where it names no zone."""

    first_year = 1900

    def read(self, text: str) -> datetime:
        """Return the time in UTC, without zone."""
        message = f"must be a time such as 2011-09-22T19:57:47, of the year {self.first_year} or later"
        try:
            found = datetime.fromisoformat(text)
            found = found.astimezone(UTC).replace(tzinfo=None) if found.tzinfo else found
        except (ValueError, OverflowError) as error:
            raise ValueError(message) from error
        if found.year < self.first_year:
            raise ValueError(message)
        return found


_TYPES: dict[type[Any], Callable[[str, Any], HeaderType]] = {
    records.Text: lambda name, kind: Text(kind.length),
    records.Project: lambda name, kind: Owner(kind.length),
    records.Word: lambda name, kind: Word(kind.words, f"Invalid {name.replace('_', ' ')}"),
    records.Digest: lambda name, kind: Hex(kind.digits),
    records.Whole: lambda name, kind: Digits(kind.maximum),
    records.Flag: lambda name, kind: Flag(),
    records.Time: lambda name, kind: Timestamp(),
}


def type_of(name: str) -> HeaderType:
    """Return the type of a field of the image, as it is described; what only the server sets is ignored."""
    field = records.IMAGE_FIELDS[name]
    if field.set_by is records.SetBy.SERVER:
        return Ignored()
    return _TYPES[type(field.kind)](name, field.kind)


def shown_fields(*where: records.Shown) -> tuple[str, ...]:
    """Name the fields that go out so, in order, but for the id, which stands before them all."""
    return tuple(name for name, field in records.IMAGE_FIELDS.items() if field.shown in where and name != "id")


def read_purge(request: Request, problems: list[str], *, default: bool) -> bool:
    """Say whether properties that are not sent go; ``default`` is what no header means."""
    text = request.headers.get(PURGE_PROPERTIES, str(default))
    if text.lower() not in Flag.WORDS:
        problems.append(f"{PURGE_PROPERTIES.lower()}: must be true or false.")
    return Flag.WORDS.get(text.lower(), default)
