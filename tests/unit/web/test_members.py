"""The JSON bodies of sharing, in forms that the tests over HTTP do not try."""

import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from pyrimage.errors import Invalid, LimitExceeded
from pyrimage.web.bodies import MAX_BODY
from pyrimage.web.members import read_can_share, read_memberships
from pyrimage.web.request import Request

MakeRequest = Callable[..., Request]


class Dripping(io.BytesIO):
    """A body that comes in small pieces, and counts what was read of it."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(min(size or 0, 1000))
        self.count += len(data)
        return data


def request_with(make_request: MakeRequest, body: bytes) -> Request:
    return make_request(**{"wsgi.input": Dripping(body), "CONTENT_LENGTH": str(len(body))})


def memberships_of(make_request: MakeRequest, *sent: Any) -> Any:
    return read_memberships(request_with(make_request, json.dumps({"memberships": sent, "else": None}).encode()))


WORDS = {
    True: [True, 1, "true", "TRUE", "1", "yes", "Y", "t", "on", " true\t"],
    False: [False, 0, "false", "False", "0", "no", "N", "f", "OFF", "false "],
}


@pytest.mark.parametrize(("value", "read"), [(value, read) for read, values in WORDS.items() for value in values])
def test_whether_a_member_may_share_is_told_by_glances_words_too(
    value: Any, read: bool, make_request: MakeRequest
) -> None:
    body = json.dumps({"member": {"can_share": value}}).encode()
    assert read_can_share(request_with(make_request, body)) is read
    assert memberships_of(make_request, {"member_id": "b", "can_share": value}) == {"b": read}


NO_OBJECT: list[Any] = [None, [], 1, "b", True]
NO_TEXT: list[Any] = [None, {}, [], 1, True]
NO_TRUTH: list[Any] = [None, {}, [], -1, 2, 1.0, "", "maybe", "None", " ", 10**4000]


@pytest.mark.parametrize(
    ("sent", "says"),
    [
        *(([{"member_id": "b", "can_share": each}], "0.can_share: must be true or false.") for each in NO_TRUTH),
        *(([{"member_id": each}], "0.member_id: must be a text.") for each in NO_TEXT),
        *(([each], "0: must be a JSON object.") for each in NO_OBJECT),
        ([{"member_id": "\xe9"}] * 2, r"memberships: '\xe9' is there twice"),
    ],
)
def test_json_of_another_form_is_refused_by_its_place(sent: list[Any], says: str, make_request: MakeRequest) -> None:
    with pytest.raises(Invalid) as refused:
        memberships_of(make_request, *sent)
    assert says in str(refused.value)


def test_the_first_fault_of_a_long_list_is_told_alone(make_request: MakeRequest) -> None:
    with pytest.raises(Invalid) as refused:
        memberships_of(make_request, {"member_id": "b"}, *[{}] * 10_000)
    assert list(refused.value.problems) == ["body.memberships.1.member_id: is missing; it must be a text."]


@pytest.mark.parametrize(
    "body",
    [b"{", b'{"member": {}} x', b"\xff", b" ", b"1" * 5000, b"[" * 200_000, b'{"member":' * 50_000],
    ids=lambda body: ascii(body[:20]),
)
def test_what_is_not_json_is_refused(body: bytes, make_request: MakeRequest) -> None:
    for read in (read_can_share, read_memberships):
        with pytest.raises(Invalid, match="must be JSON"):
            read(request_with(make_request, body))


@pytest.mark.parametrize("more", [0, 1])
@pytest.mark.parametrize("is_announced", [True, False])
def test_a_body_has_a_mebibyte_at_most_s38(is_announced: bool, more: int, make_request: MakeRequest) -> None:
    data = b'\xef\xbb\xbf{"member": {"can_share": true}}'.ljust(MAX_BODY + more)
    body = Dripping(data)
    framing = {"CONTENT_LENGTH": str(len(data))} if is_announced else {"pyrimage.chunked": True}
    request = make_request(**{"wsgi.input": body, **framing})
    if more:
        with pytest.raises(LimitExceeded, match="1048576 bytes"):
            read_can_share(request)
        assert body.count == (0 if is_announced else MAX_BODY + 1)
    else:
        assert read_can_share(request) is True
