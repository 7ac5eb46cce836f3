"""A deletion that meets somebody else."""

from collections.abc import Callable

import pytest
from sqlalchemy import event
from webtest import TestApp

from conftest import Installation
from factories import detail, error_of, insert_rows, meta, reserve, upload
from faults import hinder
from pyrimage.models import LocationRow


def meanwhile(installation: Installation, statement: str, action: Callable[[], object]) -> None:
    """Do something once, right before the installation runs a statement that begins like this."""

    def act(connection: object, cursor: object, text: str, *rest: object) -> None:
        if text.startswith(statement) and not done:
            done.append(text)
            action()

    done: list[str] = []
    event.listen(installation.engine, "before_cursor_execute", act)


def test_image_that_was_protected_meanwhile_is_not_deleted(
    own_installation: Installation, committing_app: TestApp
) -> None:
    path = upload(committing_app)
    other = own_installation.client()
    meanwhile(
        own_installation,
        "UPDATE images SET final_status",
        lambda: other.put(path, headers=meta(protected=True), status=200),
    )
    assert "protected" in error_of(committing_app.delete(path, status=409))
    assert committing_app.get(path).body == b"bytes"


def test_download_that_meets_a_deletion_is_not_taken_for_damage(
    own_installation: Installation, committing_app: TestApp
) -> None:
    path = upload(committing_app)
    other = own_installation.client()
    hinder(own_installation).before["open_reader"] = lambda: other.delete(path)
    assert "was deleted" in error_of(committing_app.get(path, status=404))


def test_missing_bytes_of_a_live_image_are_damage(own_installation: Installation, committing_app: TestApp) -> None:
    path = upload(committing_app)
    own_installation.lose_blobs()
    assert "missing" in error_of(committing_app.get(path, status=500))


def test_place_in_a_store_that_is_not_configured_stops_only_the_download(
    installation: Installation, testapp: TestApp
) -> None:
    path = upload(testapp, b"", size=0)
    image_id = path.rpartition("/")[2]
    insert_rows(installation, LocationRow(image_id=image_id, store="swift", key="k", owned=True, state="active"))
    assert "location" not in testapp.get("/v1/images/detail?is_public=none").json["images"][0]
    testapp.head(path, status=200)
    assert "'swift'" in error_of(testapp.get(path, status=503))


@pytest.mark.parametrize("claimed", [True, False])
def test_only_the_upload_that_still_had_its_claim_leaves_its_reason(
    claimed: bool, own_installation: Installation, committing_app: TestApp
) -> None:
    path = reserve(committing_app, id="queued")
    claims = own_installation.catalogue.claims
    if claimed:
        with own_installation.engine.begin() as connection:
            connection.exec_driver_sql(
                "INSERT INTO claims VALUES ('k', 'queued', 'file', '', 5, 'live', '2011-09-22 00:00:00.000000', 'x:1')"
            )
    claims.end("k", "queued", "why")
    assert detail(committing_app, path)["last_error"] == ("why" if claimed else None)
