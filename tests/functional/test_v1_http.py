"""The list of v1, "Errors and HTTP at large"."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from webtest import TestApp

from factories import data_headers, id_of, meta, reserve, upload
from tables import DATA, Case, Table, active, ask, case, cases_of, check, check_listed, nothing, row, send, tell

if TYPE_CHECKING:
    from conftest import Installation

NOT_THERE = {"error": {"code": 404, "title": "Not Found", "message": "There is nothing at this path."}}

CASES = {
    "glanceclient reads, for each value of the outer object, its message": case(
        nothing,
        *(
            ask("GET /images/none", 404, sent=accept, gives=NOT_THERE)
            for accept in ({}, {"Accept": "*/*"}, {"Accept": "application/json"}, {"Accept": "text/html"})
        ),
    ),
    "HEAD errors have no body": case(
        row(), ask("HEAD /images/none", 404, gives=b""), ask("HEAD /images?limit=x", 400, gives=b"")
    ),
    "405 carries Allow": case(
        active(),
        ask("PATCH /images", 405, headers={"Allow": "GET, HEAD, POST"}),
        ask("POST /images/{image}", 405, headers={"Allow": "GET, HEAD, PUT, DELETE"}),
    ),
    "413 from a quota": case(
        nothing,
        tell("POST /images", 413, {"name": "f17", "properties": {"a": "1"}}, says="pyrimage.image_property_quota"),
        settings={"image_property_quota": "0"},
    ),
    "chunked uploads are normal, with the length, if it is known, in x-image-meta-size": case(
        row(),
        send("POST /images", 201, chunked=True, fields={"name": "f17", "size": 5}, image={"size": "5"}),
        send("POST /images", 201, chunked=True, fields={"name": "f17"}, image={"size": "5"}),
        send("PUT /images/{image}", 200, chunked=True, fields={"size": 5}),
        ask("GET /images/{image}", 200, gives=DATA),
    ),
}
DECIDED_OTHERWISE = {
    "the body is WebOb's: text/html, flat JSON or text/plain": "One shape, in JSON unless text is asked for.",
    "some errors have a fixed plain text": "One shape for all.",
    "in plain text WebOb strips everything between < and >": "The text is ours, and nothing is taken out of it.",
    "a bad header on an unknown id is 400, not 404": (
        "404: the image is looked for before any header is read, and what is not there has one answer."
    ),
    "401 carries WWW-Authenticate": "It comes with the modes of identity that answer 401.",
    "400 from a declared size": "413, as from a quota.",
    "a registry that is down: 500": "It comes with the registry.",
}
ELSEWHERE = {
    "curl sends Expect: 100-continue": ("system/test_curl.py::test_upload_sends_its_body_after_the_server_says_go_on"),
    "an early refusal can be told before the bytes come": (
        "server/test_body.py::test_no_client_is_told_to_continue_after_the_answer"
    ),
    "logging of x-auth-token values and locations: never": (
        "functional/test_v1_http.py::test_neither_tokens_nor_locations_are_logged"
    ),
}


TABLES = {"at large": Table(CASES, DECIDED_OTHERWISE, ELSEWHERE)}


@pytest.mark.parametrize(("each", "prefix"), cases_of(TABLES))
def test_a_row(
    each: Case, prefix: str, installation: "Installation", install_with: Callable[..., "Installation"]
) -> None:
    check(each, prefix, installation, install_with)


@pytest.mark.parametrize("title", TABLES)
def test_every_other_row_has_its_reason_or_its_test(title: str) -> None:
    check_listed(TABLES[title])


@pytest.mark.parametrize("prefix", ["/v1", ""])
def test_neither_tokens_nor_locations_are_logged(
    prefix: str, testapp: TestApp, caplog: pytest.LogCaptureFixture
) -> None:
    """S46, as far as there are tokens and locations."""
    secrets = {
        "X-Auth-Token": "secret-token",
        "Authorization": "Basic c2VjcmV0",
        "x-image-meta-location": "http://user:secret@example.org/secret",
    }
    image = id_of(upload(testapp, name="f17"))
    with caplog.at_level(logging.DEBUG):
        for path in (f"{prefix}/images", f"{prefix}/images/{image}", f"{prefix}/images/{id_of(reserve(testapp))}"):
            for method in ("GET", "POST", "PUT", "DELETE"):
                headers = {**data_headers(name="f18"), **secrets}
                testapp.request(path, method=method, headers=headers, body=b"bytes", expect_errors=True)
        testapp.post(
            f"{prefix}/images", headers={**meta(name="f17"), "x-glance-api-copy-from": "http://secret"}, status=400
        )
    assert caplog.records
    assert [word for word in ("secret", "c2VjcmV0") if word in caplog.text] == []
