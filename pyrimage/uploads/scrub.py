"""Cleaning up: what uploads of dead servers left, and bytes that deleted images had."""

import dataclasses
import logging
from collections.abc import Iterator
from datetime import timedelta

from ..catalogue.interfaces import Claims, Reads
from ..catalogue.queries import ListQuery
from ..catalogue.records import ADMINISTRATOR, Claim, Image, Location, Status
from ..errors import StoreError
from ..stores import Stores

log = logging.getLogger(__name__)


def scrub(
    stores: Stores, claims: Claims, grace: timedelta, *, dry_run: bool
) -> Iterator[tuple[str, StoreError | None]]:
    """End expired claims and remove garbage. Safe beside running servers and itself.

    Gives what was cleaned up, one by one, and the error where a store did not let us; the next run tries again.
    """
    for claim in claims.expired(grace):
        what = f"claim of image {claim.image_id}: {claim.store} {claim.key}"
        try:
            if dry_run or end_expired(stores, claims, claim, grace):
                yield what, None
        except StoreError as error:
            yield what, error
    for location in claims.garbage():
        what = f"garbage: {location.store} {location.key}"
        try:
            if not dry_run:
                remove_garbage(stores, claims, location)
            yield what, None
        except StoreError as error:
            yield what, error


def uploads_elsewhere(reads: Reads, page: int = 1000) -> Iterator[Image]:
    """Give the images into which servers of others upload, or did when they died.

    They have no claim, so nobody here knows which; nor where their bytes are. page: so many are held in memory.
    """
    query = ListQuery(limit=page, status=Status.SAVING, is_public=None, default_scope=False, sort_key="id")
    while images := reads.page(query, ADMINISTRATOR):
        yield from images
        query = dataclasses.replace(query, marker=images[-1].id)


def end_expired(stores: Stores, claims: Claims, claim: Claim, grace: timedelta) -> bool:
    """End a claim whose server died, and remove what it left; False if its upload is alive after all.

    Each step may be repeated, also by two at once.
    """
    if not claims.seize(claim, grace):
        return False
    if not claims.is_located(claim):
        _remove(stores, claim.store, claim.key)
    claims.end(claim.key, claim.image_id, "The server stopped during the upload.")
    log.warning("image %s: ended the expired claim of %s", claim.image_id, claim.key)
    return True


def remove_garbage(stores: Stores, claims: Claims, location: Location) -> None:
    """Remove the bytes of a garbage location, then its row."""
    _remove(stores, location.store, location.key)
    claims.forget_garbage(location)


def _remove(stores: Stores, store: str, key: str) -> None:
    """Remove bytes. Under a key that the store never makes there are none, whoever wrote it into a row."""
    place = stores.writable(store)
    if place.is_key(key):
        place.delete(key)
    else:
        log.warning("%a is not a key of the store %s: nothing to remove", key, store)
