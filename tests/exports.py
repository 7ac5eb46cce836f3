"""Exports and imports of installations in the test's process, and what there is to compare."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import select

from conftest import Installation
from factories import sha256
from pyrimage.catalogue.records import IMAGE_FIELDS
from pyrimage.export.directory import Export, NewExport
from pyrimage.export.load import Loaded, Outcome, load
from pyrimage.export.save import Saved, all_images, save
from pyrimage.models import ClaimRow, ImageRow, MemberRow, PropertyRow
from pyrimage.stores import FOREIGN
from pyrimage.uploads.claims import LiveClaims


class Kept(NamedTuple):
    """What an import has to keep: the rows of images, properties and members, and what ``data_of`` tells."""

    images: list[Any]
    properties: list[Any]
    members: list[Any]
    data: dict[str, str]


def ignore(size: int) -> None:
    pass


def save_all(installation: Installation, directory: Path, *, with_data: bool = False) -> list[Saved]:
    export = NewExport(directory)
    try:
        return list(save(installation.catalogue, installation.stores, export, ignore, with_data=with_data))
    finally:
        export.close()


def load_each(installation: Installation, directory: Path, *, adopts: bool = False) -> list[Loaded]:
    claims, store = LiveClaims(installation.catalogue.claims, installation.stores), installation.settings.default_store
    return list(load(installation.catalogue, claims, Export(directory), store, ignore, adopts=adopts))


def load_all(installation: Installation, directory: Path, *, adopts: bool = False) -> dict[str, Outcome]:
    """Import; return by id what became of the images."""
    found = [(each.name, each.outcome) for each in load_each(installation, directory, adopts=adopts)]
    if len(dict(found)) < len(found):
        raise AssertionError(found)
    return dict(found)


def kept(installation: Installation) -> Kept:
    """Return what has to be the same after an import."""
    images, properties, members = (
        select(*(ImageRow.__table__.c[name] for name in IMAGE_FIELDS)).order_by(ImageRow.id),
        select(PropertyRow.__table__).order_by(PropertyRow.image_id, PropertyRow.key),
        select(MemberRow.__table__).order_by(MemberRow.image_id, MemberRow.member),
    )
    with installation.engine.connect() as connection:
        rows = [[tuple(row) for row in connection.execute(each)] for each in (images, properties, members)]
        claims = connection.execute(select(ClaimRow.key)).all()
    if claims:
        raise AssertionError(claims)
    return Kept(rows[0], rows[1], rows[2], data_of(installation))


def data_of(installation: Installation) -> dict[str, str]:
    """Return for each image that has bytes their sha256, or the URL of those that were registered."""
    found = {}
    for image in all_images(installation.catalogue):
        if image.location is not None:
            if image.location.store == FOREIGN:
                found[image.id] = image.location.key
                continue
            store = installation.stores[image.location.store]
            if image.location.owned:
                with store.open_reader(image.location.key, image.size) as reader:
                    found[image.id] = sha256(reader.read())
            else:
                found[image.id] = store.url(image.location.key)
    return found


def blob_of(export: Path, data: bytes) -> Path:
    digest = sha256(data)
    return export / "blobs" / digest[:2] / digest


def edit(export: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the lines of images."""
    path = export / "images.jsonl"
    first, *lines, last = path.read_bytes().splitlines(keepends=True)
    images = [json.loads(line) for line in lines]
    for image in images:
        change(image)
    path.write_bytes(first + b"".join(json.dumps(image).encode() + b"\n" for image in images) + last)


def reasons(installation: Installation, export: Path, **options: bool) -> dict[str, str]:
    """Import; return by name why what was not added was not, and an empty text for the rest."""
    return {each.name: each.reason for each in load_each(installation, export, **options)}
