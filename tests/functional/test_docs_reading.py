"""The reader of the documentation's exchanges finds every difference; else the tests in test_docs.py prove nothing."""

import json
from typing import Any

import pytest

from exchanges import Ids, Message, differences, read_page

PRINTED = Message(
    1,
    "HTTP/1.1 200 OK",
    {
        "content-type": "application/json",
        "x-image-meta-id": "0d3b9d4e-6f3c-4a59-8a52-0a7a5c1f2f11",
        "x-image-meta-updated_at": "2026-01-31 09:00:00",
    },
    '{"id": "0d3b9d4e-6f3c-4a59-8a52-0a7a5c1f2f11", "size": 1, "uri": "/v1",'
    ' "at": ["2026-01-31T09:00:00", "2026-01-31T09:00:00.123456"]}',
)
STATUS_LINE = "200 OK"
AN_ID = "5c8e1f4a-93b7-4d06-b1f8-2e6a90c47d35"
ANSWER = {
    "Content-Type": "application/json",
    "x-image-meta-id": AN_ID,
    "x-image-meta-updated_at": "2027-12-24 18:30:00",
    "x-openstack-request-id": "req-1",
}
BODY: dict[str, Any] = {
    "at": ["2027-12-24T18:30:00", "2027-12-24T18:30:00.000001"],
    "id": AN_ID,
    "size": 1,
    "uri": "/v1",
}


def compare(status: str = STATUS_LINE, headers: dict[str, str] = ANSWER, body: dict[str, Any] = BODY) -> list[str]:
    return list(differences(PRINTED, status, headers.items(), json.dumps(body).encode(), Ids()))


def test_what_differs_from_run_to_run_is_no_difference() -> None:
    assert compare() == []


@pytest.mark.parametrize(
    ("answer", "named"),
    [
        ({"status": "201 Created"}, "201"),
        ({"headers": ANSWER | {"Content-Type": "text/plain"}}, "content-type"),
        ({"headers": ANSWER | {"x-image-meta-updated_at": "2027-12-24T18:30:00"}}, "updated_at"),
        ({"headers": ANSWER | {"x-image-meta-id": "f17"}}, "x-image-meta-id"),
        ({"headers": {name: ANSWER[name] for name in ANSWER if name != "x-image-meta-id"}}, "x-image-meta-id"),
        ({"headers": ANSWER | {"ETag": "x"}}, "etag"),
        ({"headers": ANSWER | {"CONTENT-TYPE": "application/json"}}, "twice"),
        *(({"body": BODY | {"size": other}}, "body") for other in ("1", True)),
        *(({"body": BODY | {"at": [BODY["at"][index]] * count}}, "body") for index, count in ((0, 2), (1, 2), (0, 1))),
        ({"body": BODY | {"id": "9a41c7d2-0e85-4f3b-a6c9-71d8f25b3e60"}}, "body"),
        ({"body": BODY | {"more": None}}, "body"),
        ({"body": {"at": BODY["at"], "id": AN_ID, "size": 1}}, "body"),
    ],
)
def test_a_difference_is_found(answer: dict[str, Any], named: str) -> None:
    assert named in compare(**answer)[0]


INI = "```ini\n[app:main]\npyrimage.auth = none\n```\n"
REQUEST, REPLY = "```http\nGET / HTTP/1.1\n```\n", "```http\nHTTP/1.1 200 OK\n```\n"


@pytest.mark.parametrize(
    "page",
    [
        INI + REPLY,
        INI + REQUEST,
        INI + REQUEST + REQUEST,
        INI + REQUEST + INI + REPLY,
        INI + REQUEST + REPLY + REPLY,
        INI + "```http\nPUT /images/x HTTP/1.1\n\nbytes\n```\n" + REPLY,
        INI + "```http\nPUT /images/x HTTP/1.1\nContent-Length: 4\n\nbytes\n```\n" + REPLY,
        INI + "```http\nPUT /images/x HTTP/1.1\nTransfer-Encoding: chunked\n\n4\nbytes\n0\n\n```\n" + REPLY,
        INI + "```http\nPUT /images/x HTTP/1.1\nAccept: a\naccept: b\n```\n" + REPLY,
    ],
)
def test_a_page_that_cannot_be_sent_is_refused(page: str) -> None:
    with pytest.raises(ValueError, match=r"line|sizes"):
        read_page(page)
