"""Whatever a catalogue holds, an export carries it into every other database, and a second import changes nothing."""

import json
import tempfile
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import insert

from catalogues import Remotes
from conftest import Installation, install
from exports import ignore, kept, load_each, save_all
from factories import add_row, md5, reserve, sha256, stored, upload
from faults import finish
from pyrimage.catalogue.records import CONTAINER_FORMATS, DISK_FORMATS, MAX_BYTES, MAX_INT, Status
from pyrimage.export.directory import NewExport
from pyrimage.export.load import Outcome
from pyrimage.export.save import save
from pyrimage.models import ImageRow, LocationRow, MemberRow, PropertyRow
from pyrimage.stores import FOREIGN
from servers import databases

HOST = "images.example.org"
STATUSES = (Status.QUEUED, Status.SAVING, Status.ACTIVE, Status.KILLED, Status.DELETED)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation on SQLite."""
    made = install(tmp_path_factory.mktemp("source"), stores="file, http", allowed_hosts=HOST)
    yield made
    made.engine.dispose()


@pytest.fixture(scope="module", params=databases.KINDS)
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """An installation on another database, with another directory."""
    directory = tmp_path_factory.mktemp("target")
    with databases.fresh_database(request.param, directory) as url:
        made = install(directory, stores="file, http", allowed_hosts=HOST, **{"sqlalchemy.url": url})
        yield made
        made.engine.dispose()


characters = st.characters(exclude_categories=("Cc", "Cs"))
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"))
lines = st.text(characters, max_size=255)
EARLIEST, LATEST = map(datetime.fromisoformat, ("1900-01-01T00:00:00.000001", "9999-12-31T23:59:59.999999"))
times = st.datetimes(EARLIEST, LATEST)
members = st.dictionaries(st.text("abcÄ. -", min_size=3, max_size=9), st.booleans(), max_size=3)
properties = st.dictionaries(st.text("abc_0", min_size=1, max_size=9), st.text(characters), max_size=3)


@st.composite
def images(draw: st.DrawFn) -> dict[str, Any]:
    """Draw the columns of an image, its ``properties`` and ``members``, and its ``data``: bytes, a URL or None."""
    kind = draw(
        st.sampled_from(
            [Status.QUEUED, Status.ACTIVE, Status.KILLED, Status.DELETED, "empty", "registered", "elsewhere"]
        )
    )
    is_deleted = kind == Status.DELETED
    data: bytes | str | None = None
    size = draw(st.integers(0, MAX_BYTES))
    digests = draw(st.tuples(*(st.none() | st.text("0f", min_size=digits, max_size=digits) for digits in (32, 64))))
    if kind == Status.ACTIVE:
        data = draw(st.binary(min_size=1, max_size=9))
        size, digests = len(data), (md5(data), draw(st.sampled_from([None, sha256(data)])))
    elif kind == "elsewhere":
        data, size = draw(st.sampled_from(["rbd://pool/a", "/a path"])), max(size, 1)
    elif kind == "registered":
        data, size = f"http://{HOST}/{draw(st.text('abc', max_size=5))}?a=1", max(size, 1)
    elif kind == "empty":
        size = 0
    return {
        "status": kind if kind in STATUSES else Status.ACTIVE,
        "name": draw(lines),
        "disk_format": draw(st.sampled_from(["", *DISK_FORMATS])),
        "container_format": draw(st.sampled_from(["", *CONTAINER_FORMATS])),
        "size": size,
        "checksum": digests[0],
        "sha256": digests[1],
        "is_public": draw(st.booleans()),
        "protected": draw(st.booleans()),
        "deleted": is_deleted,
        "owner": draw(lines),
        "min_disk": draw(st.integers(0, MAX_INT)),
        "min_ram": draw(st.integers(0, MAX_INT)),
        "created_at": draw(times),
        "updated_at": draw(times),
        "deleted_at": draw(times) if is_deleted else None,
        "last_error": draw(st.none() | texts),
        "activated_at": draw(st.none() | times),
        "properties": draw(properties),
        "members": draw(members),
        "data": data,
    }


def fill(installation: Installation, found: Sequence[dict[str, Any]], prefix: str) -> None:
    """Write images past the API, with bytes, and members of deleted ones, as only the time brings them about."""
    for number, image in enumerate(found):
        image_id = f"{prefix}.{number}"
        columns = {name: image[name] for name in image.keys() - {"properties", "members", "data"}}
        with installation.engine.begin() as connection:
            connection.execute(insert(ImageRow).values(id=image_id, **columns))
            for key, value in image["properties"].items():
                connection.execute(insert(PropertyRow).values(image_id=image_id, key=key, value=value))
            for member, can_share in image["members"].items():
                connection.execute(insert(MemberRow).values(image_id=image_id, member=member, can_share=can_share))
            if (data := image["data"]) is None:
                continue
            is_owned = isinstance(data, bytes)
            store, key = ("http" if str(data).startswith("http:") else FOREIGN), data
            if is_owned:
                store, key = "file", installation.store.new_key(image_id)
            row = {"image_id": image_id, "store": store, "key": key, "owned": is_owned, "state": "active"}
            connection.execute(insert(LocationRow).values(row))
        if is_owned:
            finish(installation.store, key, data)


@settings(max_examples=30)
@given(found=st.lists(images(), max_size=8), prefix=st.sampled_from(["a", "Z.z"]))
def test_a_round_trip_keeps_everything(
    source: Installation, target: Installation, found: list[dict[str, Any]], prefix: str
) -> None:
    for each in (source, target):
        each.empty()
    fill(source, found, prefix)
    before = stored(source)
    with tempfile.TemporaryDirectory() as directory:
        exported = Path(directory, "there", "and-back")
        assert [each.error for each in save_all(source, exported, with_data=True)] == [None] * len(found)
        assert stored(source) == before
        assert {(each.outcome, each.reason) for each in load_each(target, exported)} <= {(Outcome.ADDED, "")}
        assert kept(target) == kept(source)
        after = stored(target)
        assert {(each.outcome, each.reason) for each in load_each(target, exported)} <= {(Outcome.EQUAL, "")}
        assert stored(target) == after

        back = Path(directory, "back")
        save_all(target, back, with_data=True)
        lines, others = ((each / "images.jsonl").read_bytes().splitlines() for each in (exported, back))
        assert [line.partition(b'"location"')[0] for line in lines[1:]] == [
            line.partition(b'"location"')[0] for line in others[1:]
        ]


@pytest.mark.parametrize("shared_installation", ["sqlite"], indirect=True)
def test_an_export_through_a_registry_is_the_same(installation: Installation, remotes: Remotes, tmp_path: Path) -> None:
    client = installation.client()
    for name in ("shared", "deleted"):
        upload(client, id=name, owner="tenant-a", properties={"os": "linux"})
    reserve(client, id="queued", size=5)
    reserve(client, id="oldest", updated_at="1900-01-01T00:00:00")
    client.put_json("/v1/images/shared/members/tenant-b", {"member": {"can_share": True}}, status=204)
    client.delete("/v1/images/deleted", status=200)
    add_row(installation, id="killed", status=Status.KILLED)
    save_all(installation, tmp_path / "plain", with_data=True)
    export = NewExport(tmp_path / "remote")
    remote = remotes.catalogue_of(installation).rows
    assert len(list(save(remote, installation.stores, export, ignore, with_data=True))) == 5
    export.close()
    plain, through = ((tmp_path / each / "images.jsonl").read_text().splitlines() for each in ("plain", "remote"))
    assert plain[1:] == through[1:]
    assert {json.loads(line)["id"] for line in plain[1:-1]} == {"shared", "deleted", "queued", "oldest", "killed"}
