from datetime import datetime
from typing import Any

import colander
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyrimage.schemas.fields import (
    CONTROL,
    MAX_BYTES,
    Digits,
    Flag,
    HeaderType,
    Hex,
    Ignored,
    ImageId,
    NoSource,
    Owner,
    Text,
    Timestamp,
    Word,
    is_image_id,
)

WORD = Word(["raw", "iso"], "Invalid disk format")

# Type, texts, and the value that they have in common.
ACCEPTED: list[tuple[HeaderType, list[str], Any]] = [
    (Text(3), ["abc"], "abc"),
    (Owner(), ["None"], None),
    (Owner(), ["none"], "none"),
    (ImageId(), ["a"], "a"),
    (WORD, ["raw"], "raw"),
    (Digits(), ["7", "07", "0000000000000000007"], 7),
    (Digits(), [str(MAX_BYTES)], 2**63 - 1),
    (Digits(5), ["5"], 5),
    (Flag(), ["true", "True", "TRUE", "1", "yes", "y", "t", "on"], True),
    (Flag(), ["false", "False", "FALSE", "0", "no", "n", "f", "off"], False),
    (Hex(4), ["abcd", "ABCD", "aBcD"], "abcd"),
    (Timestamp(), ["2001-02-03T04:05:06", "2001-02-03 04:05:06"], datetime.fromisoformat("2001-02-03T04:05:06")),
    (Timestamp(), ["2001-02-03T04:05:06Z", "2001-02-03T06:05:06+02:00"], datetime.fromisoformat("2001-02-03T04:05:06")),
    (Timestamp(), ["1900-01-01"], datetime.fromisoformat("1900-01-01")),
]

# Type, texts, and what the message says is accepted.
REFUSED: list[tuple[HeaderType, list[str], str]] = [
    (Text(3), ["abcd"], "at most 3"),
    (Owner(), ["a" * 256], "at most 255"),
    (ImageId(), ["detail", "", " a", "-a", ".a", "_a", "a/b", "a" * 65, "a\n", "ä", "٣"], "1 to 64 letters"),
    (WORD, ["RAW", "raw ", "qcow2"], "accepted are raw, iso"),
    (Digits(), ["-1", "+1", "1.0", "1_0", " 1", "1\n", "٣", "x", "0" * 20, str(MAX_BYTES + 1)], f"0 to {MAX_BYTES}"),
    (Digits(5), ["6"], "0 to 5"),
    (Flag(), ["maybe", "tru", "none", "2", "yes please"], "true or false"),
    (Hex(4), ["abc", "abcde", "abcg", "abcd\n", "\uff10123"], "4 hexadecimal digits"),
    (Timestamp(), ["yesterday", "12:00", "2001-13-01", "1899-12-31", "1900-01-01T00:00+01:00"], "1900 or later"),
    (Timestamp(), ["0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"], "1900 or later"),
]


def deserialize(type_: HeaderType, value: Any) -> Any:
    return colander.SchemaNode(type_, name="field", missing="was absent").deserialize(value)


@pytest.mark.parametrize(
    ("type_", "text", "value"), [(type_, text, value) for type_, texts, value in ACCEPTED for text in texts]
)
def test_an_accepted_text(type_: HeaderType, text: str, value: Any) -> None:
    assert deserialize(type_, text) == value


@pytest.mark.parametrize(
    ("type_", "text", "says"), [(type_, text, says) for type_, texts, says in REFUSED for text in texts if text]
)
def test_a_refused_text_is_told_what_is_accepted(type_: HeaderType, text: str, says: str) -> None:
    with pytest.raises(colander.Invalid) as caught:
        deserialize(type_, text)
    assert says in caught.value.asdict()["field"]


READERS = [Text(), Owner(), ImageId(), WORD, Digits(), Flag(), Hex(32), Timestamp()]


@pytest.mark.parametrize("type_", READERS)
def test_an_empty_text_is_none(type_: HeaderType) -> None:
    assert deserialize(type_, "") is None


@pytest.mark.parametrize("type_", [*READERS, NoSource()])
def test_an_absent_text_is_missing(type_: HeaderType) -> None:
    assert deserialize(type_, colander.null) == "was absent"


@pytest.mark.parametrize("value", ["", "x", "None", colander.null])
def test_an_ignored_text_is_always_absent(value: Any) -> None:
    assert deserialize(Ignored(), value) == "was absent"


def test_a_flag_that_was_not_given_is_absent() -> None:
    assert deserialize(Flag(), "None") == "was absent"


@pytest.mark.parametrize("text", ["", "http://host/x", "file:///etc/passwd"])
def test_no_source_is_accepted(text: str) -> None:
    with pytest.raises(colander.Invalid, match="not supported"):
        deserialize(NoSource(), text)


def test_a_type_must_say_how_it_reads() -> None:
    with pytest.raises(NotImplementedError):
        deserialize(HeaderType(), "x")


@given(st.from_regex("[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True).filter(lambda text: text != "detail"))
def test_every_text_of_the_form_is_an_id(text: str) -> None:
    assert is_image_id(text)


@given(st.text())
def test_no_id_leaves_its_place_in_a_path_or_a_header(text: str) -> None:
    """S26."""
    if is_image_id(text):
        assert text.isascii()
        assert text.strip("./\\ ") != ""
        assert not set(text) & set("/\\%:@?#\0\r\n \t")


@given(st.characters())
def test_control_characters_are_those_of_unicode(character: str) -> None:
    """S52."""
    is_control = ord(character) < 32 or 127 <= ord(character) < 160
    assert bool(CONTROL.search(f"a{character}b")) == is_control
