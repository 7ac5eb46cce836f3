"""Values of headers and parameters that the tests over HTTP do not send."""

from typing import Any

import colander
import pytest

from pyrimage.web.fields import Flag, HeaderType, Owner
from pyrimage.web.listing import Limit


@pytest.mark.parametrize(
    ("type_", "text", "value"),
    [
        (Owner(), "None", None),  # Python's null, as replication tools send it
        (Owner(), "none", "none"),
        (Flag(), "None", colander.null),  # a flag that the glance command was not given
        (Limit(), "0" * 40 + "7", 7),
        (Limit(), "9" * 5000, int("9" * 19)),
    ],
)
def test_a_text_is_read_as(type_: HeaderType, text: str, value: Any) -> None:
    assert type_.read(text) == value
