"""What a trusted proxy says of the client; how URLs follow it: tests/system/test_proxied.py."""

import contextlib
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from growth import check_growth
from pyrimage.server.forwarding import ForwardingReader, MalformedForwarding
from pyrimage.server.options import read_options
from servers.in_process_server import Running, echo, serving

TRUSTED: dict[str, Any] = {"trusted_proxy": "127.0.0.1", "trusted_proxy_count": 2}
SINGLY = {**TRUSTED, "trusted_proxy_headers": "x-forwarded-for x-forwarded-host x-forwarded-proto x-forwarded-port"}
TOGETHER = {**TRUSTED, "trusted_proxy_headers": "forwarded"}


@pytest.fixture(scope="module")
def singly() -> Iterator[Running]:
    with serving(echo, **SINGLY) as running:
        yield running


@pytest.fixture(scope="module")
def together() -> Iterator[Running]:
    with serving(echo, **TOGETHER) as running:
        yield running


MALFORMED = [
    'X-Forwarded-For: "192.0.2.1',
    'X-Forwarded-For: " "',
    'X-Forwarded-Host: a"b"',
    'X-Forwarded-Host: "a',
    "X-Forwarded-Proto: http, https",
    "X-Forwarded-Proto: gopher",
    "X-Forwarded-Port: 80, 81",
    'X-Forwarded-Port: "80',
]
MALFORMED_TOGETHER = ["for", "for= 1", " for =1", 'for="1', "for=:80", 'for=" "', "proto=gopher"]


def test_the_client_is_whom_a_trusted_proxy_names(singly: Running, together: Running) -> None:
    lines = ("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: a.example")
    seen = singly.get("/", *lines, "Forwarded: for=192.0.2.2").json
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"], seen["HTTP_HOST"]) == ("192.0.2.1", "https", "a.example")
    assert (seen["HTTP_X_FORWARDED_FOR"], "HTTP_FORWARDED" in seen) == ("192.0.2.1", False)
    seen = together.get("/", *lines, "Forwarded: for=192.0.2.2;proto=http;unknown=1").json
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("192.0.2.2", "http")
    assert (seen["HTTP_FORWARDED"], "HTTP_X_FORWARDED_FOR" in seen) == ("for=192.0.2.2;proto=http;unknown=1", False)


@pytest.mark.parametrize("settings", [{}, {**SINGLY, "trusted_proxy": "192.0.2.9"}])
def test_nobody_else_is_believed(settings: dict[str, Any]) -> None:
    with serving(echo, **settings) as server:
        seen = server.get("/", "X-Forwarded-For: 192.0.2.1", 'X-Forwarded-Host: "').json
    assert (seen["REMOTE_ADDR"], seen["pyrimage.forwarded"]) == ("127.0.0.1", True)
    assert not [name for name in seen if name.startswith("HTTP_X_FORWARDED")]


def test_a_header_that_is_not_believed_can_be_left_to_the_application() -> None:
    with serving(echo, clear_untrusted_proxy_headers="false") as server:
        seen = server.get("/", "X-Forwarded-For: 192.0.2.1").json
    assert (seen["REMOTE_ADDR"], seen["HTTP_X_FORWARDED_FOR"]) == ("127.0.0.1", "192.0.2.1")


@pytest.mark.parametrize("line", MALFORMED)
def test_what_cannot_be_understood_is_refused_in_our_shape(singly: Running, line: str) -> None:
    refused(singly, line)


@pytest.mark.parametrize("value", MALFORMED_TOGETHER)
def test_so_is_what_cannot_be_understood_of_forwarded(together: Running, value: str) -> None:
    refused(together, f"Forwarded: by=1,{value}")


def refused(server: Running, line: str) -> None:
    answer = server.get("/", line)
    error = json.loads(answer.body)["error"]
    assert (answer.status, error["code"], error["title"]) == (400, 400, "Bad Request")
    assert "Forwarded" in error["message"]
    assert answer.headers["x-openstack-request-id"].startswith("req-")


def test_a_malformed_header_is_logged_with_its_beginning(singly: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "waitress"):
        singly.get("/", 'X-Forwarded-Host: "' + "a" * 200_000)
    [said] = [record.getMessage() for record in caplog.records if record.name == "waitress"]
    assert said.startswith('Malformed proxy header X-Forwarded-Host from 127.0.0.1: Invalid quoting in value: "aaa')
    assert len(said) < 4100


def test_unknown_parameters_write_no_lines(together: Running, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "waitress"):
        assert together.get("/", "Forwarded: " + "a=;" * 1000).status == 200
    assert caplog.records == []


@pytest.mark.parametrize("unit", ["a,", '"', "a;", "a=b;", ":", "[", ".,", '"a",', "\\", " ", '\\"'])
@pytest.mark.parametrize("header", ["FORWARDED", "X_FORWARDED_FOR", "X_FORWARDED_HOST", "X_FORWARDED_PROTO"])
def test_it_is_read_in_time_that_grows_with_its_length(header: str, unit: str) -> None:
    """S40."""
    adj = read_options(TOGETHER if header == "FORWARDED" else SINGLY)
    reader = ForwardingReader(lambda *_: [], adj)
    base = {"REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "http"}

    def read(value: str) -> None:
        with contextlib.suppress(MalformedForwarding):
            reader({**base, f"HTTP_{header}": value}, lambda *_: lambda _: None)

    logging.getLogger("waitress").disabled = True
    try:
        check_growth(read, lambda length: '"' + unit * (length // len(unit)) + '"', adj.max_request_header_size)
    finally:
        logging.getLogger("waitress").disabled = False
