"""Bodies on their way in: trap 8; and those of no bytes."""

import errno
import logging
from pathlib import Path

import pytest
from webtest import TestApp

from conftest import Installation
from default_store import file_store_only
from factories import data_headers, detail, md5, meta, send_chunked
from faults import Body, ChunkedBody, assert_no_bytes, raising, send, state_of
from pyrimage.models import ClaimRow, LocationRow
from pyrimage.stores.transfer import CHUNK

# What a server's body raises, and what becomes of it.
BROKEN = [
    (ConnectionResetError("x"), 400, "The client left after 2 of 5 bytes."),
    (TimeoutError("x"), 408, "The client was too slow (upload_timeout, upload_min_rate): 2 of 5 bytes had come."),
    (ValueError("x"), 400, "The body's chunks are malformed; 2 of 5 bytes had come."),
    (
        OSError(errno.EFBIG, "x"),
        413,
        "The server takes no body that long (max_request_body_size); 2 of 5 bytes had come.",
    ),
]


@file_store_only
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_body_is_never_read_as_a_whole(own_installation: Installation, queued: str, method: str) -> None:
    """Trap 8: ``request.body`` and its like read everything before the first byte is stored."""

    class Endless(Body):
        """Four chunks; each is in the store before the next is asked for."""

        def read(self, size: int = -1) -> bytes:
            assert 0 < size <= CHUNK
            stored = sum(path.stat().st_size for path in Path(own_installation.datadir).glob("staging/*"))
            assert stored == self.reads * CHUNK
            self.reads += 1
            return bytes(CHUNK) if self.reads <= 4 else b""

    body = Endless(bytes(4 * CHUNK))
    path = queued if method == "PUT" else "/v1/images"
    assert send(own_installation, method, path, body).status_int < 300
    assert body.reads == 5


@pytest.mark.parametrize(("error", "status", "told"), BROKEN)
def test_body_that_breaks_off_is_told_and_leaves_nothing(
    own_installation: Installation,
    committing_app: TestApp,
    queued: str,
    error: Exception,
    status: int,
    told: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """S40: no image, no bytes, no claim; and no traceback, for nothing is wrong with the server."""
    caplog.set_level(logging.INFO)
    answer = send(own_installation, "PUT", queued, Body(b"12345", meanwhile=raising(error)))
    assert (answer.status_int, answer.json["error"]["message"]) == (status, told)
    (line,) = (record for record in caplog.records if told in record.getMessage())
    assert (line.levelno, line.exc_info) == (logging.INFO, None)
    assert_no_bytes(own_installation, images=1)
    assert detail(committing_app, queued)["last_error"] == told
    assert send(own_installation, "PUT", queued, Body(b"12345")).status_int == 200


def test_chunked_body_that_breaks_off_is_told_with_what_had_come(own_installation: Installation) -> None:
    body = ChunkedBody(b"12345", meanwhile=raising(ConnectionResetError()))
    answer = send(own_installation, "POST", "/v1/images", body, name="f17")
    assert answer.json["error"]["message"] == "The client left after 2 bytes."
    assert_no_bytes(own_installation, images=0)


def test_chunked_upload_of_no_bytes_has_no_location(own_installation: Installation, committing_app: TestApp) -> None:
    send_chunked(committing_app, "POST", "/v1/images", b"", data_headers(id="f17"), status=201)
    assert own_installation.stored_keys() == []
    assert own_installation.rows(LocationRow) == own_installation.rows(ClaimRow) == 0
    assert state_of(committing_app, "/v1/images/f17") == ("active", md5(b""))
    assert committing_app.get("/v1/images/f17").body == b""


@file_store_only
def test_empty_image_asks_no_store(own_installation: Installation, committing_app: TestApp, tmp_path: Path) -> None:
    own_installation.datadir.rename(tmp_path / "away")
    path = committing_app.post("/v1/images", headers=meta(id="f17", size=0), status=201).headers["Location"]
    assert committing_app.get(path, status=200).body == b""
    committing_app.delete(path, status=200)
    assert own_installation.rows(LocationRow) == 0
