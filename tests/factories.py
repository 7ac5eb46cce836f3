"""Things that tests make."""

import hashlib
import io
import json
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from pyrimage.catalogue import records
from pyrimage.catalogue.records import Identity, Image, Location, Status, new_image_id, utcnow
from pyrimage.models import Base, ImageRow
from pyrimage.stores.directory import MARKER

ADMIN = Identity(user="root", roles=frozenset({"admin"}))
ALICE = Identity(user="alice", project="tenant-a", roles=frozenset({"member"}))
BOB = Identity(user="bob", project="tenant-b", roles=frozenset({"member"}))
READER = Identity(user="rita", project="tenant-a", roles=frozenset({"reader"}), can_write=False)
AUDITOR = Identity(user="otto", roles=frozenset({"admin"}), can_write=False)  # with a token that only reads
NOBODY = records.NOBODY

OCTETS = "application/octet-stream"


def meta(**fields: Any) -> dict[str, str]:
    """Make image headers: ``meta(disk_format="raw", properties={"os": "x"})``."""
    properties = fields.pop("properties", {})
    headers = {f"x-image-meta-{name.replace('_', '-')}": str(value) for name, value in fields.items()}
    return headers | {f"x-image-meta-property-{key}": value for key, value in properties.items()}


def data_headers(**fields: Any) -> dict[str, str]:
    """Make image headers for a request with a body."""
    return {"Content-Type": OCTETS, **meta(**fields)}


def make_image(**fields: Any) -> Image:
    """Make a record; a queued image unless told otherwise."""
    now: datetime = utcnow()
    return Image(**{"id": new_image_id(), "created_at": now, "updated_at": now, **fields})


def md5(data: bytes) -> str:
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def files_below(directory: Path) -> list[str]:
    """Return the files below a directory, as sorted relative paths; a store's marker is not counted."""
    files = (path for path in directory.rglob("*") if path.is_file() and path.name != MARKER)
    return sorted(str(path.relative_to(directory)) for path in files)


def location_of(image: Image) -> Location:
    if image.location is None:
        raise AssertionError(f"image {image.id} has no location")
    return image.location


def error_of(response: Any) -> str:
    """Return an error answer's message, and check its shape."""
    body = json.loads(response.body)
    error = body["error"]
    if set(body) != {"error"} or set(error) != {"code", "title", "message"} or error["code"] != response.status_int:
        raise AssertionError(body)
    return str(error["message"])


CHUNKED = {"pyrimage.chunked": True}  # what our server leaves in the environ; there is no CONTENT_LENGTH then


def send_chunked(client: Any, method: str, path: str, data: bytes, headers: dict[str, str], **expected: Any) -> Any:
    """Send a body of which nothing announces the length."""
    return client.request(
        path, method=method, body_file=io.BytesIO(data), headers=headers, environ=dict(CHUNKED), **expected
    )


def wire(text: str) -> str:
    """Spell text as WSGI hands it over and takes it: UTF-8 bytes read as latin-1."""
    return text.encode().decode("latin-1")


def stored(installation: Any) -> dict[str, Any]:
    """Return all that an installation holds: the rows of every table, and the keys of the default store.

    But for what a registry remembers of requests: that says nothing of images.
    """
    with installation.engine.connect() as connection:
        rows = {table.name: connection.execute(select(table)).all() for table in Base.metadata.sorted_tables}
    del rows["answered_requests"]
    return {**rows, "stored": installation.stored_keys()}


def insert_rows(installation: Any, *rows: Base) -> None:
    """Write rows past the API, as older releases or other hands may have done."""
    with Session(installation.engine, expire_on_commit=False) as session:
        for row in rows:  # one by one, so that foreign keys find what they name
            session.add(row)
            session.flush()
        session.commit()


def image_row(**columns: Any) -> ImageRow:
    """Make a row; of a private queued image without owner unless told otherwise."""
    now = utcnow()
    defaults: dict[str, Any] = {
        "id": new_image_id(),
        "name": "",
        "status": Status.QUEUED,
        "size": 0,
        "disk_format": "",
        "container_format": "",
        "is_public": False,
        "protected": False,
        "owner": "",
        "min_disk": 0,
        "min_ram": 0,
        "created_at": now,
        "updated_at": now,
        "deleted": False,
    }
    return ImageRow(**{**defaults, **columns})


def add_row(installation: Any, **columns: Any) -> str:
    """Write an ``image_row`` and return its id."""
    row = image_row(**columns)
    insert_rows(installation, row)
    return str(row.id)


def reserve(app: Any, **fields: Any) -> str:
    """Make a queued image through the API and return its path below ``/v1``."""
    return f"/v1/images/{app.post('/v1/images', headers=meta(**fields), status=201).headers['x-image-meta-id']}"


def upload(app: Any, data: bytes = b"bytes", **fields: Any) -> str:
    """Make an active image through the API and return its path below ``/v1``."""
    made = app.post("/v1/images", data, headers=data_headers(**fields), status=201)
    return f"/v1/images/{made.headers['x-image-meta-id']}"


def detail(app: Any, path: str) -> dict[str, Any]:
    """Return an image's JSON as an administrator's detailed lists have it, in the wire's spelling where both do."""
    found: dict[str, Any] = {}
    for collection in ("/images", "/v1/images"):
        images = {image["id"]: image for image in app.get(f"{collection}/detail?is_public=None").json["images"]}
        found |= images[path.rpartition("/")[2]]
    return found


def image_headers(answer: Any) -> dict[str, str]:
    """Return an answer's ``x-image-meta-*`` headers by the rest of their names, as text."""
    prefix = "x-image-meta-"
    pairs = ((name.lower(), value.encode("latin-1").decode()) for name, value in answer.headers.items())
    return {name.removeprefix(prefix): value for name, value in pairs if name.startswith(prefix)}


def id_of(path: str) -> str:
    """Return the id at the end of an image's path."""
    return path.rpartition("/")[2]
