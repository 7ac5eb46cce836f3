"""409: the id is taken, or the image is not in a state for data. Nothing changes."""

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from webtest import TestApp

from factories import add_row, data_headers, error_of, insert_rows, reserve, stored, upload
from pyrimage.catalogue.records import utcnow
from pyrimage.models import ClaimRow

if TYPE_CHECKING:
    from conftest import Installation

DATA = b"bytes"


def claim(installation: "Installation", image_id: str, lease: int = 60) -> None:
    """Record an upload by another server."""
    values = {
        "store": "file",
        "owner": "",
        "state": "live",
        "server": "other:1",
        "lease": utcnow() + timedelta(seconds=lease),
    }
    insert_rows(installation, ClaimRow(key=f"{image_id}.0123456789abcdef", image_id=image_id, **values))


@pytest.mark.parametrize("data", [b"", DATA])
def test_a_taken_id_is_a_conflict(data: bytes, testapp: TestApp, installation: "Installation") -> None:
    upload(testapp, name="f17", id="taken")
    before = stored(installation)
    assert "taken" in error_of(testapp.post("/v1/images", data, headers=data_headers(id="taken"), status=409))
    assert stored(installation) == before


@pytest.mark.parametrize("data", [b"", DATA])
def test_the_id_of_a_deleted_image_stays_taken(data: bytes, testapp: TestApp, installation: "Installation") -> None:
    """S14."""
    testapp.delete(upload(testapp, name="f17", id="once"))
    before = stored(installation)
    assert "once" in error_of(testapp.post("/v1/images", data, headers=data_headers(id="once"), status=409))
    assert stored(installation) == before


@pytest.mark.parametrize("data", [b"", DATA])
def test_the_id_of_an_upload_under_way_is_a_conflict(
    data: bytes, testapp: TestApp, installation: "Installation"
) -> None:
    claim(installation, "busy")
    before = stored(installation)
    assert "busy" in error_of(testapp.post("/v1/images", data, headers=data_headers(id="busy"), status=409))
    assert stored(installation) == before


def test_the_claim_of_a_dead_server_is_not_in_the_way_of_a_reservation(
    testapp: TestApp, installation: "Installation"
) -> None:
    claim(installation, "dead", lease=-3600)
    path = reserve(testapp, id="dead")
    testapp.put(path, DATA, headers=data_headers(), status=200)
    assert stored(installation)["claims"] == []


def test_a_second_upload_into_one_image_is_a_conflict(testapp: TestApp, installation: "Installation") -> None:
    path = reserve(testapp, id="busy")
    claim(installation, "busy")
    before = stored(installation)
    assert "busy" in error_of(testapp.put(path, DATA, headers=data_headers(), status=409))
    assert stored(installation) == before


@pytest.mark.parametrize("status", ["active", "saving", "killed", "pending_delete", "deactivated"])
def test_data_for_an_image_that_is_not_queued_is_a_conflict(status: str, installation: "Installation") -> None:
    """S12."""
    path = f"/v1/images/{add_row(installation, status=status)}"
    before = stored(installation)
    assert status in error_of(installation.client().put(path, DATA, headers=data_headers(), status=409))
    assert stored(installation) == before


def test_the_conflict_is_told_before_the_headers_are_judged(testapp: TestApp) -> None:
    testapp.put(upload(testapp, name="f17"), DATA, headers=data_headers(size="x"), status=409)
