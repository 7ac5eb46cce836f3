"""What is left by the dead and by deletions, and how it goes."""

import threading
from concurrent.futures import ThreadPoolExecutor

from webtest import TestApp

from conftest import Installation
from default_catalogue import sql_catalogue_only
from default_store import file_store_only
from factories import ADMIN, data_headers, detail, image_row, insert_rows, upload
from faults import (
    DEAD,
    Gate,
    at_commit,
    break_reference,
    claim_upload,
    clean,
    expire_claims,
    finish,
    hinder,
    lease,
    other_program,
    raising,
)
from pyrimage.catalogue.records import Claim, utcnow
from pyrimage.catalogue.sql.claims import LEASE
from pyrimage.errors import StoreUnavailable
from pyrimage.models import ClaimRow, LocationRow
from pyrimage.models.location import GARBAGE
from pyrimage.uploads.claims import GRACE

# -- deletions


def test_bytes_are_there_until_the_deletion_is_committed(
    own_installation: Installation, committing_app: TestApp, active: str
) -> None:
    on_disk: list[list[str]] = []
    at_commit(own_installation, lambda session: on_disk.append(own_installation.stored_keys()))
    committing_app.delete(active, status=200)
    assert len(on_disk[0]) == 1
    assert own_installation.stored_keys() == []
    assert own_installation.rows(LocationRow) == 0


@sql_catalogue_only
def test_deletion_whose_commit_fails_removes_nothing(
    own_installation: Installation, committing_app: TestApp, active: str
) -> None:
    at_commit(own_installation, break_reference)
    committing_app.delete(active, status=500)
    assert committing_app.get(active, status=200).body == b"bytes"
    assert clean(own_installation) == []


def test_bytes_that_could_not_be_removed_are_a_garbage_row_that_scrub_finishes(
    own_installation: Installation, committing_app: TestApp, active: str
) -> None:
    store = hinder(own_installation)
    store.before["delete"] = raising(StoreUnavailable("away"))
    committing_app.delete(active, status=200)
    assert own_installation.rows(LocationRow) == 1
    (key,) = own_installation.stored_keys()
    store.before.clear()
    assert clean(own_installation) == [f"garbage: file {key}"]
    assert own_installation.stored_keys() == []
    assert own_installation.rows(LocationRow) == 0


def test_garbage_that_still_cannot_be_removed_is_told_and_keeps_nothing_else(
    own_installation: Installation, committing_app: TestApp
) -> None:
    store = hinder(own_installation)
    troubles = [raising(StoreUnavailable("away"))] * 3
    store.before["delete"] = lambda: troubles.pop()() if troubles else None
    for name in ("a", "b"):
        committing_app.delete(upload(committing_app, id=name), status=200)
    assert [str(error) for what, error in own_installation.scrub(GRACE)] == ["away", "None"]
    assert len(clean(own_installation)) == 1
    assert own_installation.stored_keys() == []


# -- the dead


def test_expired_claim_is_ended_by_the_next_post_with_its_id(
    own_installation: Installation, committing_app: TestApp
) -> None:
    claim = claim_upload(own_installation, "f17", is_new=True, age=DEAD)
    assert committing_app.get(upload(committing_app, b"bytes", id="f17")).body == b"bytes"
    (stored,) = own_installation.stored_keys()
    assert claim.key not in stored
    assert own_installation.rows(ClaimRow) == 0


def test_expired_claim_is_ended_by_the_next_put_into_its_image(
    own_installation: Installation, committing_app: TestApp, queued: str
) -> None:
    claim = claim_upload(own_installation, "f17", is_new=False, age=DEAD)
    committing_app.put(queued, b"bytes", headers=data_headers(), status=200)
    (stored,) = own_installation.stored_keys()
    assert claim.key not in stored
    assert detail(committing_app, queued)["last_error"] is None


def test_claim_within_its_grace_is_respected(own_installation: Installation, committing_app: TestApp) -> None:
    claim = claim_upload(own_installation, "f17", is_new=True, age=GRACE / 2)
    committing_app.post("/v1/images", b"bytes", headers=data_headers(id="f17"), status=409)
    assert clean(own_installation) == []
    assert own_installation.stored_keys() == [claim.key]


def test_scrub_ends_expired_claims(own_installation: Installation, committing_app: TestApp, queued: str) -> None:
    claim = claim_upload(own_installation, "f17", is_new=False, age=DEAD)
    assert clean(own_installation) == [f"claim of image f17: file {claim.key}"]
    assert own_installation.stored_keys() == []
    assert own_installation.rows(ClaimRow) == 0
    assert detail(committing_app, queued)["last_error"] == "The server stopped during the upload."


def test_scrub_removes_a_blob_that_was_finished_and_not_committed(own_installation: Installation) -> None:
    claim = claim_upload(own_installation, "f17", is_new=True, age=DEAD)
    own_installation.store.delete(claim.key)
    finish(own_installation.store, claim.key, b"dead!")
    assert len(clean(own_installation)) == 1
    assert own_installation.stored_keys() == []


def test_scrub_goes_on_where_another_one_stopped(own_installation: Installation) -> None:
    """A claim that is being ended stays expired, whatever its lease says."""
    claim = claim_upload(own_installation, "f17", is_new=True, age=DEAD)
    assert own_installation.catalogue.claims.seize(claim, GRACE)
    expire_claims(own_installation, -LEASE)
    assert len(clean(own_installation)) == 1
    assert own_installation.stored_keys() == []


def test_two_scrubs_at_once_do_what_one_does(
    own_installation: Installation, committing_app: TestApp, aside: ThreadPoolExecutor
) -> None:
    """Both are in the middle of the same removal at the same moment, of a claim's and of garbage's."""
    store = hinder(own_installation)
    store.before["delete"] = raising(StoreUnavailable("away"))
    committing_app.delete(upload(committing_app), status=200)
    kept = upload(committing_app, b"kept")
    claim_upload(own_installation, "f17", is_new=True, age=DEAD)
    both = threading.Barrier(2)
    store.before["delete"] = lambda: both.wait(30) and None
    scrubs = [aside.submit(clean, own_installation) for _ in range(2)]
    assert [len(scrub.result()) for scrub in scrubs] == [2, 2]
    assert committing_app.get(kept).body == b"kept"
    assert len(own_installation.stored_keys()) == own_installation.rows(LocationRow) == 1
    assert own_installation.rows(ClaimRow) == 0


def test_scrub_beside_a_deletion_does_what_the_deletion_does(
    own_installation: Installation, committing_app: TestApp, active: str, aside: ThreadPoolExecutor
) -> None:
    store, gate = hinder(own_installation), Gate()
    store.before["delete"] = gate
    deletion = aside.submit(own_installation.client().delete, active, status=200)
    gate.wait_until_reached()
    store.before.clear()
    assert len(clean(own_installation)) == 1
    gate.open()
    deletion.result()
    assert own_installation.stored_keys() == []
    assert own_installation.rows(LocationRow) == 0


IMPOSSIBLE = ("a/0123456789abcdef", "../../precious", "../precious.0123456789abcdef", "f17")  # for a file store


@file_store_only
def test_scrub_forgets_rows_under_whose_keys_nothing_can_lie(
    own_installation: Installation, committing_app: TestApp
) -> None:
    """They are told, and no other row waits for them."""
    claims = own_installation.catalogue.claims
    for number, key in enumerate(IMPOSSIBLE):
        claims.begin(Claim(f"i{number}", "file", key, None, None), ADMIN, is_new=True)
    dead = claim_upload(own_installation, "dead", is_new=True, age=DEAD)
    insert_rows(own_installation, image_row(id="gone", status="deleted", deleted=True, deleted_at=utcnow()))
    garbage = {"image_id": "gone", "store": "file", "owned": True, "state": GARBAGE}
    insert_rows(own_installation, *(LocationRow(key=key, **garbage) for key in IMPOSSIBLE))
    files = [own_installation.datadir.parent / "precious", own_installation.datadir.parent / IMPOSSIBLE[2][3:]]
    for path in files:
        path.touch()
    assert committing_app.get(upload(committing_app, id="i0")).body == b"bytes"
    told = "\n".join(clean(own_installation))
    assert [told.count(f"file {key}") for key in (*IMPOSSIBLE, dead.key)] == [1, 2, 2, 2, 1]
    assert clean(own_installation) == []
    assert own_installation.rows(ClaimRow) == 0
    assert own_installation.rows(LocationRow) == len(own_installation.stored_keys()) == 1
    assert all(path.exists() for path in files)


def test_scrub_leaves_an_upload_alone_that_renewed_its_lease_meanwhile(own_installation: Installation) -> None:
    claims = own_installation.catalogue.claims
    for name in ("f17", "f18"):
        claim_upload(own_installation, name, is_new=True, age=DEAD)
    dead, alive = claims.expired(GRACE)
    hinder(own_installation).before["delete"] = lambda: claims.renew([alive.key])
    assert clean(own_installation) == [f"claim of image {dead.image_id}: file {dead.key}"]
    assert own_installation.stored_keys() == [alive.key]


def test_claim_whose_bytes_cannot_be_removed_is_told_and_stays(own_installation: Installation) -> None:
    claim_upload(own_installation, "f17", is_new=True, age=DEAD)
    store = hinder(own_installation)
    store.before["delete"] = raising(StoreUnavailable("away"))
    assert [str(error) for what, error in own_installation.scrub(GRACE)] == ["away"]
    assert own_installation.rows(ClaimRow) == 1
    store.before.clear()
    assert len(clean(own_installation)) == 1
    assert own_installation.stored_keys() == []


def test_dry_run_tells_everything_and_changes_nothing(
    own_installation: Installation, committing_app: TestApp, active: str
) -> None:
    store = hinder(own_installation)
    store.before["delete"] = raising(StoreUnavailable("away"))
    committing_app.delete(active, status=200)
    claim_upload(own_installation, "f18", is_new=True, age=DEAD)
    files, until = own_installation.stored_keys(), lease(own_installation)
    would_be = clean(own_installation, dry_run=True)
    assert own_installation.stored_keys() == files
    assert lease(own_installation) == until
    with other_program(own_installation) as database:
        assert database.execute("SELECT state FROM claims").fetchall() == [("live",)]
    store.before.clear()
    assert clean(own_installation) == would_be
    assert len(would_be) == 2
