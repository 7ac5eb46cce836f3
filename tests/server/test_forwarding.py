"""What a trusted proxy says of the client; how URLs follow it: tests/system/test_proxied.py."""

import contextlib
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
SETTINGS = {"x-forwarded": SINGLY, "forwarded": TOGETHER}


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[str, Running]]:
    """One that trusts X-Forwarded-For and its kind, and one that trusts Forwarded."""
    with contextlib.ExitStack() as running:
        yield {name: running.enter_context(serving(echo, **settings)) for name, settings in SETTINGS.items()}


def test_the_client_is_whom_a_trusted_proxy_names(servers: dict[str, Running]) -> None:
    lines = ("X-Forwarded-For: 192.0.2.1", "X-Forwarded-Proto: https", "X-Forwarded-Host: a.example")
    seen = servers["x-forwarded"].get("/", *lines, "Forwarded: for=192.0.2.2").json
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"], seen["HTTP_HOST"]) == ("192.0.2.1", "https", "a.example")
    assert (seen["HTTP_X_FORWARDED_FOR"], "HTTP_FORWARDED" in seen) == ("192.0.2.1", False)
    seen = servers["forwarded"].get("/", *lines, "Forwarded: for=192.0.2.2;proto=http;unknown=1").json
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("192.0.2.2", "http")
    assert (seen["HTTP_FORWARDED"], "HTTP_X_FORWARDED_FOR" in seen) == ("for=192.0.2.2;proto=http;unknown=1", False)


@pytest.mark.parametrize(
    ("settings", "client", "left"),
    [
        ({}, "127.0.0.1", None),
        ({**SINGLY, "trusted_proxy": "192.0.2.9"}, "127.0.0.1", None),
        ({**SINGLY, "trusted_proxy": "*"}, "192.0.2.1", "192.0.2.1"),
        ({"clear_untrusted_proxy_headers": "false"}, "127.0.0.1", "192.0.2.1"),
    ],
)
def test_nobody_else_is_believed(settings: dict[str, Any], client: str, left: str | None) -> None:
    """What is not believed can be left to the application."""
    with serving(echo, **settings) as server:
        seen = server.get("/", "X-Forwarded-For: 192.0.2.1").json
    assert (seen["REMOTE_ADDR"], seen["pyrimage.forwarded"]) == (client, True)
    assert seen.get("HTTP_X_FORWARDED_FOR") == left


MALFORMED = {
    "x-forwarded": [
        'X-Forwarded-For: "192.0.2.1',
        'X-Forwarded-For: " "',
        'X-Forwarded-Host: a"b"',
        "X-Forwarded-Proto: http, https",
        "X-Forwarded-Proto: gopher",
        "X-Forwarded-Port: 80, 81",
    ],
    "forwarded": [
        f"Forwarded: by=1,{value}" for value in ("for", "for= 1", 'for="1', "for=:80", 'for=" "', "proto=gopher")
    ],
}


@pytest.mark.parametrize(("name", "line"), [(name, line) for name, lines in MALFORMED.items() for line in lines])
def test_what_cannot_be_understood_is_refused_in_our_shape(servers: dict[str, Running], name: str, line: str) -> None:
    answer = servers[name].get("/", line)
    error = answer.json["error"]
    assert (answer.status, error["code"], error["title"]) == (400, 400, "Bad Request")
    assert "Forwarded" in error["message"]
    assert answer.headers["x-openstack-request-id"].startswith("req-")


def test_a_malformed_header_is_logged_with_its_beginning_and_unknown_parameters_are_not(
    servers: dict[str, Running], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "waitress"):
        assert servers["forwarded"].get("/", "Forwarded: " + "a=;" * 1000).status == 200
        servers["x-forwarded"].get("/", 'X-Forwarded-Host: "' + "a" * 200_000)
    [said] = [record.getMessage() for record in caplog.records]
    assert said.startswith('Malformed proxy header X-Forwarded-Host from 127.0.0.1: Invalid quoting in value: "aaa')
    assert len(said) < 4100


@pytest.mark.parametrize("unit", ["a,", '"', "a;", "a=b;", ":", "[", ".,", '"a",', "\\", " ", '\\"'])
@pytest.mark.parametrize("header", ["FORWARDED", "X_FORWARDED_FOR", "X_FORWARDED_HOST", "X_FORWARDED_PROTO"])
def test_it_is_read_in_time_that_grows_with_its_length(
    header: str, unit: str, caplog: pytest.LogCaptureFixture
) -> None:
    """S40."""
    adj = read_options(TOGETHER if header == "FORWARDED" else SINGLY)
    reader = ForwardingReader(lambda *_: [], adj)
    base = {"REMOTE_ADDR": "127.0.0.1", "wsgi.url_scheme": "http"}

    def read(value: str) -> None:
        with contextlib.suppress(MalformedForwarding):
            reader({**base, f"HTTP_{header}": value}, lambda *_: lambda _: None)

    with caplog.at_level(logging.CRITICAL, "waitress"):
        check_growth(read, lambda length: '"' + unit * (length // len(unit)) + '"', adj.max_request_header_size)
