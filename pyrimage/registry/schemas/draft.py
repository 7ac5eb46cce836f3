"""What a request to record or change an image asks for, as the registry judges it.

Source: docs/v1.md, "Registry API"; ours for ``blob``.
"""

import dataclasses
from datetime import datetime, timedelta

import colander
from pyramid.request import Request

from ...catalogue.records import FACTS, Blob, Image, Status, utcnow
from ...catalogue.rules import (
    Fields,
    ImageDraft,
    changed_image,
    check_changeable,
    check_limits,
    cleared,
    format_problems,
    immutability_problems,
    new_image,
    permitted,
)
from ...errors import DataMismatch, Forbidden, Invalid
from ...signatures import MAX_CLOCK_SECONDS
from ...web.bodies import Object, read_json
from ...web.fields import Text, read_purge
from . import glance
from .blob import BLOB, make_blob
from .conditions import EXPECTED, check_found
from .record import IMAGE, Value, spell

CLOCKS = timedelta(seconds=MAX_CLOCK_SECONDS)

_FROM_STATE = colander.SchemaNode(Value(Text()), name="from_state", missing=None)
_NEW = colander.SchemaNode(Object(), IMAGE, BLOB, name="body")
_NEW_OF_GLANCE = colander.SchemaNode(Object(), glance.NEW_IMAGE, BLOB, name="body")
_CHANGE = colander.SchemaNode(Object(), IMAGE, BLOB, _FROM_STATE, EXPECTED, name="body")
_CHANGE_OF_GLANCE = colander.SchemaNode(Object(), glance.CHANGED_IMAGE, BLOB, _FROM_STATE, EXPECTED, name="body")


def read_new_record(request: Request) -> ImageDraft:
    """Read ``POST /images``: ``{"image": {"name": "f17"}}``, with ``"blob"`` where the bytes are there.

    Raises Invalid with everything that is wrong, LimitExceeded.
    """
    is_glance = glance.is_asking(request)
    body = read_json(request, _NEW_OF_GLANCE if is_glance else _NEW, absent={})
    fields: Fields = body["image"]
    properties = fields.pop("properties", {})
    blob, problems = make_blob(request, body["blob"], is_new=True)
    if is_glance and blob is None:
        state, blob = glance.read_new(request, fields, problems)
    else:
        state = {"status": _new_status(fields, blob, request, problems)}
    times = _new_times(fields, blob, request)
    problems += format_problems(fields, request.settings, spell, complete=blob is not None)
    if problems:
        raise Invalid(*problems)
    fields = permitted(cleared(fields), request.identity)
    image = dataclasses.replace(new_image(fields, properties, request.identity), **state, **times)
    _check_announced(image, blob)
    check_limits(request.settings, image, None, blob.size if blob else None)
    updated_at, activated_at = times.get("updated_at"), _activated_at(fields)
    return ImageDraft(image=image, data=blob, updated_at=updated_at, activated_at=activated_at)


def read_changed_record(request: Request, image: Image) -> ImageDraft:
    """Read ``PUT /images/<id>``: fields not sent stay as they are, and so do properties unless a header says else.

    Raises Invalid, Conflict, LimitExceeded, or Forbidden for another id or status.
    """
    is_glance = glance.is_asking(request)
    body = read_json(request, _CHANGE_OF_GLANCE if is_glance else _CHANGE, absent={})
    fields: Fields = body["image"]
    properties = fields.pop("properties", {})
    blob, problems = make_blob(request, body["blob"], is_new=False)
    check_found(image, body["from_state"], body["expected"])
    check_changeable(image, has_data=blob is not None)
    if is_glance and blob is None:
        state, blob = glance.read_change(request, fields, image, problems)
    else:
        state = {"status": _changed_status(fields, blob, request, image)}
    updated_at = fields.get("updated_at")  # that which the asking server made; clients send older ones back
    times: Fields = {"updated_at": updated_at} if updated_at and _is_now(updated_at) else {}
    if not (is_glance and image.status == Status.SAVING):
        problems += immutability_problems(cleared(fields), image, spell)
    problems += format_problems(fields, request.settings, spell, complete=blob is not None, image=image)
    purge = read_purge(request, problems, default=False)
    if problems:
        raise Invalid(*problems)
    fields = permitted(cleared(fields), request.identity)
    changed = changed_image(image, fields, properties, spell, purge=purge)
    changed = dataclasses.replace(changed, **state, **times)
    _check_announced(changed, blob)
    check_limits(request.settings, changed, image, blob.size if blob else None)
    when: Fields = {"updated_at": times.get("updated_at"), "activated_at": _activated_at(fields)}
    return ImageDraft(image=changed, old=image, data=blob, purge=purge, **when)


def _check_announced(image: Image, blob: Blob | None) -> None:
    announced = {name: getattr(image, name) for name in FACTS}
    wrong = [name for name, value in announced.items() if blob and value and value != getattr(blob, name)]
    if wrong:
        raise DataMismatch(*(f"{spell(name)}: {announced[name]} was announced, but not the data's." for name in wrong))


def _new_status(fields: Fields, blob: Blob | None, request: Request, problems: list[str]) -> str:
    """Return the status of a new image. Nothing is active without its bytes, and only administrators choose."""
    told, status = fields.pop("status", None), Status.QUEUED if blob is None else Status.ACTIVE
    if told in (None, status) or not request.identity.is_admin:
        return status
    if told != Status.KILLED or blob is not None:
        problems.append(f"{spell('status')}: {told!a} cannot be set; an image is active with its blob, else queued.")
    return Status.KILLED


def _changed_status(fields: Fields, blob: Blob | None, request: Request, image: Image) -> str:
    told, status = fields.pop("status", None), image.status if blob is None else Status.ACTIVE
    if told in (None, status):
        return status
    if told != Status.KILLED or image.status != Status.QUEUED or blob is not None or not request.identity.is_admin:
        raise Forbidden(f"{spell('status')} cannot be changed; the image's is {status}.")
    return Status.KILLED


def _new_times(fields: Fields, blob: Blob | None, request: Request) -> Fields:
    """Take the times of a new image: an administrator's as they are, else those that the asking server made."""
    sent = {name: fields[name] for name in ("created_at", "updated_at") if fields.get(name)}
    if request.identity.is_admin:
        return sent
    began = sent.get("created_at")
    took_long = blob is not None and blob.claim is not None and began is not None and began < utcnow()
    return {name: time for name, time in sent.items() if _is_now(time) or (took_long and name == "created_at")}


def _activated_at(fields: Fields) -> datetime | None:
    """Take the time that the asking server tells of its own upload; clients send an older one back."""
    time: datetime | None = fields.get("activated_at")
    return time if time is not None and _is_now(time) else None


def _is_now(time: datetime) -> bool:
    return abs(utcnow() - time) <= CLOCKS
