"""What an API server and its registries say is encrypted, and the registries' certificates are checked."""

import dataclasses
import logging
from pathlib import Path
from typing import Any

import pytest

from catalogues import remote_catalogue
from factories import ADMIN
from origins import certified
from origins import serving as serving_origin
from pyrimage.catalogue.remote import transport
from pyrimage.errors import DatabaseAway
from registries import Registry

ANSWER = b"HTTP/1.1 404 Not Found\r\nx-openstack-request-id: req-1\r\nContent-Length: 28\r\n\r\n" + (
    b'{"error": {"message": "no"}}'
)


@pytest.mark.parametrize(
    ("name", "days", "is_trusted", "said"),
    [
        ("127.0.0.1", 2, True, None),
        ("127.0.0.1", 2, False, "self-signed certificate"),
        ("127.0.0.2", 2, True, "IP address mismatch"),
        ("registry.example", 2, True, "IP address mismatch"),
        ("127.0.0.1", -1, True, "certificate has expired"),
    ],
    ids=["right", "self-signed", "another address's", "another host's", "expired"],
)
def test_a_registrys_certificate_must_be_trusted_and_of_the_host(
    name: str,
    days: int,
    is_trusted: bool,
    said: str | None,
    tmp_path: Path,
    registry: Registry,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S47: what is signed is not sent before that."""
    monkeypatch.setattr(transport, "PATIENCE", 0)
    certificate, context = certified(tmp_path, name, days)
    more: dict[str, Any] = {"registry_client_ca_file": certificate} if is_trusted else {}
    settings = registry.installation.settings
    with serving_origin(context) as origin:
        origin.paths["/images/f17"] = lambda asked: [ANSWER]
        with remote_catalogue(settings, origin.port, registry_client_protocol="https", **more) as catalogue:
            if said is None:
                assert catalogue.find("f17", ADMIN) is None
                assert len(origin.asked) == 1
            else:
                with pytest.raises(DatabaseAway):
                    catalogue.find("f17", ADMIN)
                assert origin.asked == []
                (warned,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
                assert said in warned


def test_https_never_becomes_http(registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    """S47: not even where something answers that speaks no TLS."""
    monkeypatch.setattr(transport, "PATIENCE", 0)
    monkeypatch.setattr(transport, "PATIENCE_IN_DOUBT", 0)
    with serving_origin() as origin:  # which waits for the end of a line that does not come
        origin.paths["/images/f17"] = lambda asked: [ANSWER]
        settings = dataclasses.replace(registry.installation.settings, registry_client_timeout=1)
        with (
            remote_catalogue(settings, origin.port, registry_client_protocol="https") as catalogue,
            pytest.raises(DatabaseAway),
        ):
            catalogue.find("f17", ADMIN)
        assert all(not asked.headers.get("x-pyrimage-signature") for asked in origin.asked)
