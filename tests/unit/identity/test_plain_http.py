"""Credentials that others can read on their way are told, once."""

import logging

import pytest

from pyrimage.identity.plain_http import PlainHttpWarning

ELSEWHERE = {"wsgi.url_scheme": "http", "REMOTE_ADDR": "192.0.2.1"}


def test_credentials_over_plain_http_are_told_once(caplog: pytest.LogCaptureFixture) -> None:
    warning = PlainHttpWarning()
    for address in ("192.0.2.1", "192.0.2.2"):
        warning.look_at({**ELSEWHERE, "REMOTE_ADDR": address})
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "Credentials came from 192.0.2.1 over plain HTTP" in record.getMessage()
    assert "docs/proxies.md" in record.getMessage()


@pytest.mark.parametrize(
    "environ",
    [
        {"wsgi.url_scheme": "https"},
        *({"REMOTE_ADDR": address} for address in ("127.0.0.1", "::1", "localhost", "")),
    ],
    ids=str,
)
def test_nobody_can_read_what_is_encrypted_or_stays_on_this_machine(
    environ: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    PlainHttpWarning().look_at({**ELSEWHERE, **environ})
    assert caplog.records == []
