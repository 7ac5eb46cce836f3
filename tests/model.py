"""The images as the documents of v1 have them, over a plain dict: what the application is held against.

Nothing of the package is used but the callers' identities, or both could be wrong together.
"""

import hashlib
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from factories import OCTETS, meta, wire
from pyrimage.catalogue.records import Identity

Image = dict[str, Any]
Query = dict[str, Any]

BLANK: Image = {
    "name": None,
    "status": "queued",
    "size": 0,
    "checksum": None,
    "sha256": None,
    "disk_format": None,
    "container_format": None,
    "is_public": False,
    "protected": False,
    "deleted": False,
    "owner": None,
    "min_disk": 0,
    "min_ram": 0,
    "deleted_at": None,
    "properties": {},
    "members": {},  # by project: may it share?
    "data": b"",
    "has_failed": False,  # its last upload
    "stood": {},  # what a deletion changed: a page goes on from where its marker stood
}
FORMATS = ("disk_format", "container_format")
SETTABLE = ("name", *FORMATS, "is_public", "protected", "min_disk", "min_ram")
FACTS = ("size", "checksum", "sha256")
EQUAL = ("name", "status", *FORMATS, "min_disk", "min_ram", "protected")
AMAZON = {"aki", "ari", "ami"}


@dataclass(frozen=True)
class Sent:
    """What a client sends: the values of headers (None: an empty one), and a body or none."""

    fields: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, str] = field(default_factory=dict)
    data: bytes | None = None
    chunked: bool = False
    purge: bool | None = None
    collection: str = "/v1/images"

    @property
    def headers(self) -> dict[str, str]:
        """Spell it."""
        properties = {key: wire(value) for key, value in self.properties.items()}
        headers = meta(**{name: _spelled(value) for name, value in self.fields.items()}, properties=properties)
        if self.data is not None:
            headers["Content-Type"] = OCTETS
        if self.purge is not None:
            headers["x-glance-registry-purge-props"] = str(self.purge)
        return headers


def _spelled(value: Any) -> str:
    return "" if value is None else value.isoformat() if isinstance(value, datetime) else wire(str(value))


def facts(data: bytes) -> dict[str, Any]:
    """Return what is known of data that came."""
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
    return {"size": len(data), "checksum": md5, "sha256": hashlib.sha256(data).hexdigest()}


def may_change(caller: Identity, image: Image) -> bool:
    return caller.can_write and (caller.is_admin or _owns(caller, image))


def refusal(caller: Identity) -> int:
    """Return the status that tells a caller that it may not: nobody could log in."""
    return 401 if caller.user is None else 403


def _owns(caller: Identity, image: Image) -> bool:
    return caller.project is not None and caller.project == image["owner"]


def _is_listed_for(caller: Identity, image: Image) -> bool:
    return image["is_public"] or _owns(caller, image) or caller.project in image["members"]


def _broken_promises(sent: Sent, data: bytes, before: Image | None) -> set[str]:
    """Return the facts that were announced, now or when the image was reserved, and are not the data's."""
    promised = {name: sent.fields.get(name, before and before[name]) for name in FACTS}
    if before is not None:  # the 0 of a queued image announces nothing: clients send it back
        promised["size"] = promised["size"] or before["size"] or None
    return {name for name, fact in facts(data).items() if promised[name] not in (None, fact)}


def _formats(sent: Sent, image: Image) -> dict[str, Any] | None:
    """Apply Amazon's rule: one of its formats makes both equal. Return None for others beside it."""
    disk, container = both = [sent.fields.get(name, image[name]) for name in FORMATS]
    if AMAZON & {disk, container} and disk != container:
        if disk is not None and container is not None:
            return None
        both = [disk or container] * 2
    return dict(zip(FORMATS, both, strict=True))


class Model:
    """The images by their ids, deleted ones too, and what each request does to them and answers."""

    def __init__(self) -> None:
        self.images: dict[str, Image] = {}

    def find(self, caller: Identity, image_id: str) -> Image | None:
        """Return an image that the caller may see."""
        image = self.images.get(image_id)
        if image is None or not (caller.is_admin or (_is_listed_for(caller, image) and not image["deleted"])):
            return None
        return image

    def post(self, caller: Identity, sent: Sent, now: datetime) -> int:
        """Return the status that answers; keep the image if that is 201."""
        if not caller.can_write:
            return refusal(caller)
        image_id, formats = sent.fields["id"], _formats(sent, BLANK)
        data = b"" if sent.data is None and sent.fields.get("size") == 0 else sent.data
        broken = set() if data is None else _broken_promises(sent, data, None)
        if formats is None or (sent.collection == "/images" and not sent.fields.get("name")):
            return 400
        if broken and (sent.data is None or (not sent.chunked and "size" in broken)):
            return 400
        if image_id in self.images:
            return 409
        if broken:
            return 400
        times = {"created_at": now, "updated_at": now}
        if caller.is_admin:
            times |= {name: sent.fields[name] for name in times if sent.fields.get(name)}
        settable = {name: sent.fields[name] for name in (*SETTABLE, *FACTS) if name in sent.fields}
        owner = sent.fields.get("owner", caller.project) if caller.is_admin else caller.project
        image = {**BLANK, **settable, **formats, **times, "owner": owner, "properties": sent.properties, "members": {}}
        image["size"] = image["size"] or 0
        if data is not None:
            image |= {"data": data, "status": "active", **facts(data)}
        self.images[image_id] = {"id": image_id, **image}
        return 201

    def put(self, caller: Identity, image_id: str, sent: Sent, now: datetime) -> int:
        """Return the status that answers; change the image if that is 200."""
        image = self.find(caller, image_id)
        if image is None:
            return 404
        if not may_change(caller, image) or image["deleted"]:
            return refusal(caller)
        if sent.data is not None and image["status"] != "queued":
            return 409
        formats = _formats(sent, image)
        broken = set() if sent.data is None else _broken_promises(sent, sent.data, image)
        if formats is None or (not sent.chunked and "size" in broken):
            return 400
        announced = {name: sent.fields[name] for name in FACTS if name in sent.fields}
        if image["status"] == "active" and any((announced[name] or 0) != (image[name] or 0) for name in announced):
            return 400
        if any(sent.fields.get(name, image[name]) != image[name] for name in ("id", "status")):
            return 403
        if broken:
            image["has_failed"] = True
            return 400
        settable = (*SETTABLE, *FACTS, *(("owner",) if caller.is_admin else ()))
        kept = image["properties"] if sent.purge is False or sent.data is not None else {}
        image |= {name: sent.fields[name] for name in settable if name in sent.fields}
        image |= {**formats, "size": image["size"] or 0, "properties": kept | sent.properties, "updated_at": now}
        if sent.data is not None:
            image |= {"data": sent.data, "status": "active", "has_failed": False, **facts(sent.data)}
        return 200

    def delete(self, caller: Identity, image_id: str, now: datetime) -> int:
        """Return the status that answers; mark the image deleted if that is 200."""
        image = self.find(caller, image_id)
        if image is None or (image["deleted"] and caller.can_write):
            return 404
        if image["protected"] or not may_change(caller, image):
            return refusal(caller)
        image["stood"] = {name: image[name] for name in ("status", "updated_at")}
        image |= {"status": "deleted", "deleted": True, "deleted_at": now, "updated_at": now, "data": b""}
        return 200

    def read(self, caller: Identity, image_id: str, first: int | None, last: int | None) -> tuple[int, int, bytes]:
        """Return the status that answers, the offset and the bytes. No first: the last ``last`` of them."""
        image = self.find(caller, image_id)
        if image is None or image["status"] != "active":
            return 404, 0, b""
        data: bytes = image["data"]
        is_none = first is None and last is None
        if not data or is_none or (first is not None and last is not None and last < first):
            return 200, 0, data
        start = max(len(data) - (last or 0), 0) if first is None else first
        part = data[start:] if first is None or last is None else data[start : last + 1]
        return (206, start, part) if part else (416, 0, b"")

    def members(self, caller: Identity, image_id: str) -> dict[str, bool] | None:
        """Return who may see the image, and share it further; None where there is no image for the caller."""
        image = self.find(caller, image_id)
        return None if image is None or image["deleted"] else image["members"]

    def share(self, caller: Identity, image_id: str, wanted: dict[str, bool | None], *, replace: bool = False) -> int:
        """Return the status that answers; share if that is 204. None: as it was; of a new member, no."""
        status = self._may_share(caller, image_id)
        if status == 204:
            members = self.images[image_id]["members"]
            kept = {name: bool(members.get(name)) if may is None else may for name, may in wanted.items()}
            self.images[image_id]["members"] = kept if replace else members | kept
        return status

    def unshare(self, caller: Identity, image_id: str, member: str) -> int:
        """Return the status that answers; end a membership if that is 204: everybody may end their own."""
        members = self.members(caller, image_id)
        status = self._may_share(caller, image_id)
        if members is not None and caller.project == member and caller.can_write:
            status = 204
        if members is None or status != 204:
            return status
        return 404 if members.pop(member, None) is None else 204

    def _may_share(self, caller: Identity, image_id: str) -> int:
        members = self.members(caller, image_id)
        if members is None:
            return 404
        if not caller.can_write:
            return refusal(caller)
        may = may_change(caller, self.images[image_id]) or members.get(caller.project or "")
        return 204 if may else 404

    def shared_with(self, caller: Identity, member: str) -> dict[str, bool] | None:
        """Return the images shared with a project, and whether it may share them; None for whom that is no matter."""
        if not (caller.is_admin or caller.project == member):
            return None
        shared = {image_id: image for image_id, image in self.images.items() if member in image["members"]}
        return {image_id: image["members"][member] for image_id, image in shared.items() if not image["deleted"]}

    def page(self, caller: Identity, query: Query) -> list[str] | None:
        """Return the ids that a list shows, None if the marker is none. ``is_public`` None: both kinds."""
        key, is_descending = query.get("sort_key", "created_at"), query.get("sort_dir", "desc") == "desc"

        def place(image: Image) -> tuple[Any, ...]:
            return "" if image[key] is None else image[key], image["created_at"], image["id"]

        found = [image for image in self.images.values() if _is_wanted(caller, image, query)]
        found.sort(key=place, reverse=is_descending)
        if "marker" in query:
            last = self.images.get(query["marker"])
            if last is None or not (caller.is_admin or _is_listed_for(caller, last)):
                return None
            if "changes-since" not in query:  # which would show it where it is now
                last = {**last, **last["stood"]}
            found = [image for image in found if place(image) != place(last)]
            found = [image for image in found if (place(image) < place(last)) is is_descending]
        return [image["id"] for image in found[: query.get("limit", 25)]]


def _is_wanted(caller: Identity, image: Image, query: Query) -> bool:
    """Say whether a list of this caller's with these filters shows the image."""
    if caller.is_admin and "is_public" in query:
        is_in_scope = query["is_public"] in (None, image["is_public"])
    else:
        is_in_scope = _is_listed_for(caller, image)
    since = query.get("changes-since")
    return (
        is_in_scope
        and (image["updated_at"] > since if since else image["status"] not in ("killed", "deleted"))
        and all((image[name] or "") == (query[name] or "") for name in EQUAL if name in query)
        and query.get("size_min", 0) <= image["size"] <= query.get("size_max", image["size"])
        and all(image["properties"].get(key) == value for key, value in query.get("properties", {}).items())
    )
