import io
import json
from collections.abc import Callable
from typing import Any

import pytest

from factories import CHUNKED
from pyrimage.errors import Invalid, LimitExceeded
from pyrimage.schemas.member import MAX_BODY, is_member_id, read_can_share, read_memberships
from pyrimage.web import Request

MakeRequest = Callable[..., Request]
Read = Callable[[MakeRequest, bytes | None], Any]


def request_with(make_request: MakeRequest, body: bytes | None) -> Request:
    if body is None:
        return make_request()
    return make_request(**{"wsgi.input": io.BytesIO(body), "CONTENT_LENGTH": str(len(body))})


def memberships(make_request: MakeRequest, body: bytes | None) -> Any:
    return read_memberships(request_with(make_request, body))


def can_share(make_request: MakeRequest, body: bytes | None) -> Any:
    return read_can_share(request_with(make_request, body))


GOOD_NAMES = ["a", "0", "tenant-b", "a.b", "...", ".a", "a@@", "a b", " ", "%2f", "für", "\U0001f600", "é" * 255]
BAD_NAMES = ["", ".", "..", "@@a", "a/b", "/", "a\\b", "a\nb", "a\x00", "\x7f", "a\x85", "\ud800", "n" * 256]


@pytest.mark.parametrize("text", GOOD_NAMES)
def test_what_a_path_can_hold_can_be_a_member(text: str) -> None:
    assert is_member_id(text)


@pytest.mark.parametrize("text", BAD_NAMES, ids=ascii)
def test_what_no_path_can_hold_is_no_member_s4(text: str) -> None:
    """S4: it could not remove itself."""
    assert not is_member_id(text)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        ([], {}),
        ([{"member_id": "b"}], {"b": None}),
        ([{"member_id": "b", "can_share": True}, {"member_id": "c", "can_share": False}], {"b": True, "c": False}),
        ([{"member_id": "b", "status": "accepted", "image_id": 1}], {"b": None}),
        ([{"member_id": "b"}, {"member_id": "B"}, {"member_id": "b "}], {"b": None, "B": None, "b ": None}),
    ],
)
def test_a_list_of_memberships_is_read_by_name(
    sent: list[dict[str, Any]], read: dict[str, bool | None], make_request: MakeRequest
) -> None:
    assert memberships(make_request, json.dumps({"memberships": sent, "else": None}).encode()) == read


@pytest.mark.parametrize(
    ("body", "read"),
    [
        (None, None),
        (b"", None),
        (b'{"member": {}}', None),
        (b'{"member": {"can_share": true}}', True),
        (b'{"member": {"can_share": false, "member_id": "other"}, "else": 1}', False),
        (b'\xef\xbb\xbf{"member": {"can_share": true}}', True),
    ],
)
def test_whether_a_member_may_share_is_read(body: bytes | None, read: bool | None, make_request: MakeRequest) -> None:
    assert can_share(make_request, body) is read


WORDS = {
    True: [True, 1, "true", "True", "TRUE", "1", "yes", "Y", "t", "on", " true\t"],
    False: [False, 0, "false", "False", "0", "no", "N", "f", "OFF", "false "],
}


@pytest.mark.parametrize(("value", "read"), [(value, read) for read, values in WORDS.items() for value in values])
def test_whether_a_member_may_share_is_told_by_glances_words_too(
    value: Any, read: bool, make_request: MakeRequest
) -> None:
    assert can_share(make_request, json.dumps({"member": {"can_share": value}}).encode()) is read
    assert memberships(make_request, json.dumps(one("b", can_share=value)).encode()) == {"b": read}


def test_a_chunked_body_without_a_chunk_is_none(make_request: MakeRequest) -> None:
    assert read_can_share(make_request(**{"wsgi.input": io.BytesIO(), **CHUNKED})) is None


def one(member_id: Any, **more: Any) -> dict[str, Any]:
    return {"memberships": [{"member_id": member_id, **more}]}


NO_OBJECT: list[Any] = [None, [], 1, "b", True]
NO_LIST: list[Any] = [None, {}, 1, "b", True]
NO_TEXT: list[Any] = [None, {}, [], 1, True]
NO_TRUTH: list[Any] = [None, {}, [], -1, 2, 1.0, "", "maybe", "None", "2", " ", 10**4000]

# A reader, what its message says, and JSON.
BAD: list[tuple[Read, str, list[Any]]] = [
    (memberships, "body: must be a JSON object.", NO_OBJECT),
    (memberships, 'body.memberships: is missing; it must be a list such as [{"member_id": "<project>", ', [{}]),
    (memberships, "body.memberships: must be a list such as", [{"memberships": each} for each in NO_LIST]),
    (memberships, "body.memberships.0: must be a JSON object.", [{"memberships": [each]} for each in NO_OBJECT]),
    (memberships, "body.memberships.1.member_id: is missing", [{"memberships": [{"member_id": "b"}, {}]}]),
    (memberships, "body.memberships.0.member_id: must be a text.", [one(each) for each in NO_TEXT]),
    (memberships, "body.memberships.0.member_id: must be 1 to 255 characters", [one(name) for name in BAD_NAMES]),
    (memberships, r"body.memberships: '\xe9' is there twice", [{"memberships": [{"member_id": "é"}] * 2}]),
    (
        memberships,
        "body.memberships.0.can_share: must be true or false.",
        [one("b", can_share=each) for each in NO_TRUTH],
    ),
    (can_share, "body: must be a JSON object.", NO_OBJECT),
    (can_share, 'body.member: is missing; it must be an object such as {"can_share": false}.', [{}, {"can_share": 1}]),
    (can_share, "body.member: must be a JSON object.", [{"member": each} for each in NO_OBJECT]),
    (
        can_share,
        "body.member.can_share: must be true or false.",
        [{"member": {"can_share": each}} for each in NO_TRUTH],
    ),
]


@pytest.mark.parametrize(("read", "says", "sent"), [(read, says, each) for read, says, sent in BAD for each in sent])
def test_json_of_another_form_is_refused_by_its_place(
    read: Read, says: str, sent: Any, make_request: MakeRequest
) -> None:
    with pytest.raises(Invalid) as refused:
        read(make_request, json.dumps(sent).encode())
    assert says in str(refused.value)


def test_no_body_is_no_list_of_members(make_request: MakeRequest) -> None:
    with pytest.raises(Invalid, match="memberships: is missing"):
        memberships(make_request, None)


NOT_JSON = [b"x", b"{", b"{'member': {}}", b'{"member": {}} x', b"\xff", b'{"member": {}', b" ", b"\x00", b"1" * 5000]


@pytest.mark.parametrize("body", [*NOT_JSON, b"[" * 200_000, b'{"member":' * 50_000], ids=lambda body: ascii(body[:20]))
@pytest.mark.parametrize("read", [memberships, can_share])
def test_what_is_not_json_is_refused(read: Read, body: bytes, make_request: MakeRequest) -> None:
    with pytest.raises(Invalid, match="must be JSON"):
        read(make_request, body)


def test_the_first_fault_of_a_long_list_is_told_alone(make_request: MakeRequest) -> None:
    body = json.dumps({"memberships": [{"member_id": "b"}, *[{}] * 100_000]}).encode()
    with pytest.raises(Invalid) as refused:
        memberships(make_request, body)
    assert list(refused.value.problems) == ["body.memberships.1.member_id: is missing; it must be a text."]


def padded(length: int) -> bytes:
    return b'{"member": {"can_share": true}}'.ljust(length)


class Counting(io.BytesIO):
    """A body that counts what was read of it."""

    count = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


@pytest.mark.parametrize("more", [0, 1, 10 * MAX_BODY])
def test_a_body_is_bounded_where_its_length_is_announced_before_a_byte_is_read_s38(
    more: int, make_request: MakeRequest
) -> None:
    body = Counting(padded(MAX_BODY + more))
    request = make_request(**{"wsgi.input": body, "CONTENT_LENGTH": str(MAX_BODY + more)})
    if more:
        with pytest.raises(LimitExceeded, match="1048576 bytes"):
            read_can_share(request)
        assert body.count == 0
    else:
        assert read_can_share(request) is True


@pytest.mark.parametrize("more", [0, 1, 10 * MAX_BODY])
def test_a_body_is_bounded_where_its_length_is_not_announced_s38(more: int, make_request: MakeRequest) -> None:
    body = Counting(padded(MAX_BODY + more))
    request = make_request(**{"wsgi.input": body, **CHUNKED})
    if more:
        with pytest.raises(LimitExceeded, match="1048576 bytes"):
            read_can_share(request)
        assert body.count <= MAX_BODY + 65536
    else:
        assert read_can_share(request) is True


def test_a_body_that_comes_in_small_pieces_is_read_whole(make_request: MakeRequest) -> None:
    class Dripping(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            return super().read(min(size or 0, 3))

    body = b'{"member": {"can_share": true}}'
    request = make_request(**{"wsgi.input": Dripping(body), "CONTENT_LENGTH": str(len(body))})
    assert read_can_share(request) is True
