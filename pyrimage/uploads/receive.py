"""The bytes of a request into a store, and those of an image out of it."""

import dataclasses
import logging
from typing import IO

from pyramid.request import Request

from ..catalogue.interfaces import Claims
from ..catalogue.records import DIGESTS, EMPTY, Blob, Claim, Image, Location
from ..catalogue.rules import Body, ImageDraft, Registered, check_limits
from ..errors import BlobDamaged, DataMismatch, Invalid, LimitExceeded, NotFound
from ..stores.interfaces import RedirectingStore
from ..stores.transfer import copy
from .data_manager import Removal, Upload

log = logging.getLogger(__name__)

URL_SECONDS = 3600  # that a temporary URL is good for: to begin in, a download may take longer


class _Meter:
    """What the bytes of one upload must stay within: the cap, and what its claim holds, which grows with them."""

    def __init__(self, claims: Claims, claim: Claim, held: int | None, cap: int | None) -> None:
        self._claims, self._claim, self._held, self._cap = claims, claim, held, cap

    def check(self, came: int) -> None:
        """Refuse bytes before they are written. Raises LimitExceeded, UploadEnded."""
        if self._cap is not None and came > self._cap:
            raise LimitExceeded(f"More bytes came than the {self._cap} that are accepted (pyrimage.image_size_cap).")
        if self._held is not None and came > self._held:
            self._held = self._claims.reserve(self._claim, came)


def receive(request: Request, draft: ImageDraft) -> Blob | None:
    """Take the data of a draft: a body into its store, verified, durable and readable; what is there as it is; None.

    No connection to the database is held meanwhile. What becomes of the bytes is the transaction's to say.

    Raises DataMismatch, LimitExceeded, Conflict, StoreError, ClientLeft, ClientTooSlow, and Invalid for a registered
    location at which nothing is.
    """
    body, image = draft.data, draft.image
    if isinstance(body, Registered):
        return _registered(request, draft, body)
    if not isinstance(body, Body):
        return body
    store, claims = request.stores.writable(body.store), request.claims
    claim = Claim(image.id, store.name, store.new_key(image.id), image.owner, body.size)
    held = claims.begin(claim, request.identity, is_new=draft.old is None)
    upload = request.upload = Upload(request.tm, claims, claim)
    writer = upload.writer = store.open_writer(claim.key, body.size)
    cap = request.settings.image_size_cap
    check = None if held is None and cap is None else _Meter(claims.rows, claim, held, cap).check
    blob = copy(request.body_file_raw, writer, body.size, check)
    _verify(image, body, blob)
    log.info("image %s: %d bytes came, md5 %s", image.id, blob.size, blob.checksum)
    if blob == EMPTY:  # chunked, and there was no chunk
        upload.discard()
        return dataclasses.replace(blob, claim=claim.key)
    writer.finish()
    return dataclasses.replace(blob, location=Location(store.name, claim.key), claim=claim.key)


def _registered(request: Request, draft: ImageDraft, data: Registered) -> Blob:
    """Make the blob of a location, whose store is asked for the size if nobody told it."""
    image, location, size = draft.image, data.location, data.size
    if size is None:
        size = request.stores.stat(location)
        check_limits(request.settings, image, draft.old, size)
    if not size:
        raise Invalid("There are no bytes at the location; an image of none has no location.")
    log.info("image %s: %d bytes are registered in the store %s", image.id, size, location.store)
    return Blob(size, image.checksum, image.sha256, location)


def _verify(image: Image, body: Body, blob: Blob) -> None:
    problems = [
        f"{body.spell(name)}: {announced} was announced, but the data's is {getattr(blob, name)}."
        for name in DIGESTS
        if (announced := getattr(image, name)) is not None and announced != getattr(blob, name)
    ]
    if problems:
        raise DataMismatch(*problems)


def open_reader(request: Request, image: Image, offset: int = 0, length: int | None = None) -> IO[bytes] | None:
    """Open the bytes of an active image, or a part of them; None for one that has none.

    Raises BlobDamaged, StoreUnavailable, and NotFound if the image was deleted since it was found.
    """
    location = image.location
    if location is None:
        if image.size:
            raise BlobDamaged(f"Image {image.id} has lost its location.")
        return None
    try:
        return request.stores[location.store].open_reader(location.key, image.size, offset, length)
    except BlobDamaged as error:
        now = request.catalogue.find(image.id, request.identity)
        if now is None or now.deleted:
            raise NotFound(f"Image {image.id} was deleted.") from error
        raise


def temporary_url(request: Request, image: Image, disposition: str) -> str | None:
    """Return a URL from which the client can read the bytes of an active image, if its store gives such.

    disposition: the ``Content-Disposition`` of what is read there. The URL is a secret.
    """
    location = image.location
    store = request.stores[location.store] if location else None
    if location is None or not isinstance(store, RedirectingStore):
        return None
    return store.temporary_url(location.key, URL_SECONDS, disposition)


def remove_after_commit(request: Request) -> None:
    """Remove the bytes that the request's transaction gives up, once it is committed."""
    Removal(request.tm, request.claims, request.writes)
