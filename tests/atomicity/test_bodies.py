"""Bodies on their way in: trap 8; and those of no bytes."""

from pathlib import Path

import pytest
from webtest import TestApp

from breakage import Body, send, state_of
from conftest import Installation
from factories import data_headers, md5, meta, send_chunked
from pyrimage.models import ClaimRow, LocationRow
from pyrimage.stores.transfer import CHUNK


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


def test_chunked_upload_of_no_bytes_has_no_location(own_installation: Installation, committing_app: TestApp) -> None:
    send_chunked(committing_app, "POST", "/v1/images", b"", data_headers(id="f17"), status=201)
    assert own_installation.blobs_on_disk() == []
    assert own_installation.rows(LocationRow) == own_installation.rows(ClaimRow) == 0
    assert state_of(committing_app, "/v1/images/f17") == ("active", md5(b""))
    assert committing_app.get("/v1/images/f17").body == b""


def test_empty_image_asks_no_store(own_installation: Installation, committing_app: TestApp) -> None:
    own_installation.datadir.write_bytes(b"")  # so that none could answer
    path = committing_app.post("/v1/images", headers=meta(id="f17", size=0), status=201).headers["Location"]
    assert committing_app.get(path, status=200).body == b""
    committing_app.delete(path, status=200)
    assert own_installation.rows(LocationRow) == 0
