"""An owner's bytes beside uploads that fail, are overtaken or die; and what counting them locks and takes."""

from collections.abc import Callable, Iterator

import pytest
from webtest import TestApp

from conftest import Installation
from default_catalogue import sql_catalogue_only
from factories import data_headers, detail, error_of, meta, reserve, send_chunked, upload
from faults import (
    DEAD,
    Body,
    ChunkedBody,
    at_commit,
    break_reference,
    claim_upload,
    clean,
    expire_claims,
    on_connect,
    raising,
    send,
)
from pyrimage.models import ClaimRow

Installer = Callable[..., Installation]
Bodies = type[Body]

ROOM = 10
BODIES = pytest.mark.parametrize("body", [Body, ChunkedBody])


@pytest.fixture
def limited(install_with: Installer) -> Iterator[Installation]:
    """An installation where ten bytes have room; after the test they must have it still."""
    made = install_with(user_storage_quota=str(ROOM))
    yield made
    client = made.client()
    assert made.rows(ClaimRow) == 0
    client.delete(upload(client, bytes(ROOM)))
    client.post("/v1/images", bytes(ROOM + 1), headers=data_headers(), status=413)


@BODIES
def test_an_image_that_is_deleted_during_its_upload_leaves_the_usage_as_it_was(
    limited: Installation, body: Bodies
) -> None:
    """S36."""
    path = reserve(limited.client())
    sent = body(bytes(ROOM), meanwhile=lambda: limited.client().delete(path, status=200))
    assert send(limited, "PUT", path, sent).status_int == 409
    assert limited.stored_keys() == []


@BODIES
def test_an_image_that_is_given_away_during_its_upload_counts_for_nobody(limited: Installation, body: Bodies) -> None:
    """S36: the claim holds room of the owner that was."""
    client = limited.client()
    path = reserve(client)
    full = upload(client, bytes(ROOM), owner="tenant-a")
    sent = body(bytes(ROOM), meanwhile=lambda: client.put(path, headers=meta(owner="tenant-a"), status=200))
    answer = send(limited, "PUT", path, sent)
    assert answer.status_int == 409
    assert "another owner" in error_of(answer)
    assert detail(client, path)["status"] == "queued"
    client.delete(full)
    upload(client, bytes(ROOM), owner="tenant-a")


@BODIES
def test_an_upload_that_breaks_off_leaves_the_usage_as_it_was(limited: Installation, body: Bodies) -> None:
    """S36."""
    assert send(limited, "POST", "/v1/images", body(bytes(ROOM), raising(OSError("gone")))).status_int == 500


@sql_catalogue_only
@BODIES
def test_an_upload_whose_commit_fails_leaves_the_usage_as_it_was(limited: Installation, body: Bodies) -> None:
    """S36."""
    at_commit(limited, break_reference)
    assert send(limited, "POST", "/v1/images", body(bytes(ROOM))).status_int == 500


def test_an_upload_of_a_server_that_died_counts_until_it_is_scrubbed(limited: Installation) -> None:
    """S36."""
    claim_upload(limited, "dead", is_new=True, age=DEAD)
    client = limited.client()
    client.post("/v1/images", bytes(ROOM - 4), headers=data_headers(), status=413)
    client.delete(upload(client, bytes(ROOM - 5)))
    assert len(clean(limited)) == 1


def test_an_upload_of_a_server_that_died_is_not_in_the_way_of_the_next_one_into_its_image(
    limited: Installation,
) -> None:
    client = limited.client()
    claim_upload(limited, "dead", is_new=True, age=DEAD)
    send_chunked(client, "POST", "/v1/images", bytes(ROOM + 1), data_headers(id="dead"), status=413)
    claim_upload(limited, "dead", is_new=True, age=DEAD)
    client.delete(upload(client, bytes(ROOM), id="dead"))


def test_an_upload_that_was_ended_is_told_while_its_bytes_come(limited: Installation) -> None:
    """S36: bytes that no claim holds are not taken."""

    def end() -> None:
        expire_claims(limited, DEAD)
        assert len(clean(limited)) == 1

    body = ChunkedBody(bytes(ROOM), meanwhile=end)
    assert send(limited, "POST", "/v1/images", body).status_int == 409
    assert body.reads == 3  # so short a body is read to its end before the first byte would be stored
    assert limited.stored_keys() == []


@BODIES
def test_nothing_is_locked_while_bytes_come(limited: Installation, body: Bodies) -> None:
    """Trap 13: the owner's other uploads go on."""
    client = limited.client()
    on_connect(limited, "busy_timeout = 0")

    def go_on() -> None:
        client.delete(upload(client, bytes(ROOM // 2)))

    answer = send(limited, "POST", "/v1/images", body(bytes(ROOM // 2), meanwhile=go_on), id="f17")
    assert answer.status_int == 201
    client.delete("/v1/images/f17")


def test_counting_takes_no_second_connection(install_with: Installer) -> None:
    limits = {"user_image_quota": "5", "user_storage_quota": "30", "image_property_quota": "5"}
    pool = {"sqlalchemy.pool_size": "1", "sqlalchemy.max_overflow": "0", "sqlalchemy.pool_timeout": "1"}
    client: TestApp = install_with(**limits, **pool).client()
    path = reserve(client, properties={"a": ""})
    upload(client)
    send_chunked(client, "POST", "/v1/images", b"bytes", data_headers(), status=201)
    client.put(path, b"bytes", headers=data_headers(properties={"b": ""}), status=200)
    client.put(path, headers=meta(owner="tenant-a", properties={"c": ""}), status=200)
    client.post("/v1/images", bytes(21), headers=data_headers(), status=413)
    send_chunked(client, "POST", "/v1/images", bytes(21), data_headers(), status=413)
