"""Claims that cannot be ended when they should be."""

import threading
from pathlib import Path

import pytest

from blob import make_store
from conftest import Installation
from factories import ADMIN
from pyrimage.catalogue.records import Claim
from pyrimage.models import ClaimRow
from pyrimage.stores import Stores
from pyrimage.uploads.claims import LiveClaims

CLAIM = Claim("f17", "file", "f17.0123456789abcdef", None, 5)
OTHER = Claim("f18", "file", "f18.0123456789abcdef", None, 5)


@pytest.fixture
def claims(own_installation: Installation, tmp_path: Path) -> LiveClaims:
    return LiveClaims(own_installation.catalogue.claims, Stores({"file": make_store(tmp_path / "store")}))


def test_claim_that_cannot_be_ended_is_ended_before_the_next_one_begins(
    claims: LiveClaims, own_installation: Installation, caplog: pytest.LogCaptureFixture
) -> None:
    claims.begin(CLAIM, ADMIN, is_new=True)
    claims.forget(CLAIM)
    with own_installation.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE claims RENAME TO gone")
    claims.end(CLAIM, "why")
    with own_installation.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE gone RENAME TO claims")
    assert "image f17: the claim of a failed upload cannot be ended now" in caplog.text
    assert own_installation.rows(ClaimRow) == 1
    claims.begin(OTHER, ADMIN, is_new=True)
    claims.forget(OTHER)
    assert own_installation.rows(ClaimRow) == 1


def test_claim_that_can_never_be_ended_does_not_keep_others(claims: LiveClaims, own_installation: Installation) -> None:
    with own_installation.engine.begin() as connection:
        refuse = f"BEFORE DELETE ON claims WHEN old.key = '{CLAIM.key}' BEGIN SELECT raise(ABORT, 'refused'); END"
        connection.exec_driver_sql(f"CREATE TRIGGER refuse {refuse}")
    for claim in (CLAIM, OTHER):
        claims.begin(claim, ADMIN, is_new=True)
        claims.forget(claim)
    claims.end(CLAIM, "why")
    claims.end(OTHER, "why")  # tries the first one again
    claims.end(OTHER, "why")
    assert own_installation.rows(ClaimRow) == 1


def test_no_thread_runs_without_an_upload(claims: LiveClaims) -> None:
    before = set(threading.enumerate())
    claims.forget(CLAIM)
    assert set(threading.enumerate()) == before
