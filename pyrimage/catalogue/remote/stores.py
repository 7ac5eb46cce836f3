"""Which directory is a store's, and all images that have bytes, over a registry."""

import dataclasses
import logging
import secrets
import time
from collections.abc import Iterator
from typing import Any

from ...errors import Conflict, DatabaseRefused, StoreMissing
from ..interfaces import BlobCount, MarkedStore, Reads
from ..queries import ListQuery
from ..records import ADMINISTRATOR, Image, Status
from .records import Json
from .transport import Call, Registries

log = logging.getLogger(__name__)

_PAGE = 500  # images that are held in memory
_OTHERS_SECONDS = 5.0  # that another server may need between its marker and its row


class RemoteIdentities:
    """Identities that a registry keeps, of directories that are here."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    def known(self, store: MarkedStore) -> str:
        """Return the identity that the registry knows."""
        identity = self._find(store)
        if identity is None:
            unknown = "is not known to the registry as its store's directory; the first start of a server makes it so"
            raise store.marker.refusal(unknown)
        return identity

    def identify(self, store: MarkedStore) -> str:
        """Return the identity that the registry knows; where it knows none yet, mark the directory with a new one.

        The marker comes first, which only one of several servers can write. One that finds it waits for the row.
        """
        identity = self._find(store)
        if identity is not None:
            return identity
        if store.marker.read() is not None:
            return self._wait(store)
        count = self._count(store)
        if count.missing and not count.there:
            raise _holds_nothing(store, count)
        made = secrets.token_hex(16)
        try:
            store.marker.write(made, replace=False)
        except StoreMissing:
            store.marker.withdraw(made)  # one that a power cut might take
            if store.marker.read() is None:
                raise
            return self._wait(store)
        try:
            known = self._introduce(store, made, None)
        except (DatabaseRefused, StoreMissing):  # after other errors the registry may know it all the same
            store.marker.withdraw(made)
            raise
        if known != made:  # of another directory
            store.marker.withdraw(made)
        else:
            _say(store, count)
        return known

    def adopt(self, store: MarkedStore, *, although_empty: bool) -> BlobCount:
        """Make the directory the store's: the registry is told first, so that no marker is there that nobody knows."""
        known, carried = self._find(store), store.marker.read()
        identity = carried or known or secrets.token_hex(16)
        count = self._count(store)
        if count.missing and not count.there and not although_empty:
            raise _holds_nothing(store, count)
        if identity != known:
            self._introduce(store, identity, known)
        if not carried:
            store.marker.write(identity, replace=True)
        return count

    def _wait(self, store: MarkedStore) -> str:
        """Return the identity that another server, whose marker is there, is about to introduce."""
        until = time.monotonic() + _OTHERS_SECONDS
        while (identity := self._find(store)) is None:
            if time.monotonic() > until:
                raise store.marker.unknown()
            time.sleep(0.1)
        return identity

    def _find(self, store: MarkedStore) -> str | None:
        identity: str | None = self._ask("find", {"name": store.name})["identity"]
        return identity

    def _introduce(self, store: MarkedStore, identity: str, replaces: str | None) -> str:
        words = {"name": store.name, "identity": identity, "replaces": replaces}
        try:
            return str(self._ask("introduce", words)["identity"])
        except Conflict as error:
            other = self._ask("name", {"identity": identity})["name"]
            raise store.marker.anothers(other) from error

    def _count(self, store: MarkedStore) -> BlobCount:
        there = missing = 0
        last: str | None = None
        while keys := self._ask("keys", {"name": store.name, "after": last})["keys"]:
            for key, is_active in keys:
                if store.holds(key):
                    there += 1
                elif is_active:
                    missing += 1
            last = keys[-1][0]
        return BlobCount(there, missing)

    def _ask(self, operation: str, value: Json) -> Any:
        return self._registries.ask(Call("POST", f"/stores/{operation}", ADMINISTRATOR, value=value))


class RemoteActiveImages:
    """All images that have bytes, a page at a time."""

    def __init__(self, reads: Reads, registries: Registries) -> None:
        self._reads, self._registries = reads, registries

    def __iter__(self) -> Iterator[Image]:
        """Give the images in the order of their ids."""
        query = ListQuery(_PAGE, sort_key="id", descending=False, status=Status.ACTIVE, default_scope=False)
        while images := self._reads.page(query, ADMINISTRATOR):
            yield from images
            query = dataclasses.replace(query, marker=images[-1].id)

    def find(self, image_id: str) -> Image | None:
        """Return an image if it is still active."""
        image = self._reads.find(image_id, ADMINISTRATOR)
        return image if image is not None and image.status == Status.ACTIVE else None

    def total(self) -> tuple[int, int]:
        """Ask for both numbers."""
        answer = self._registries.ask(Call("POST", "/stores/total", ADMINISTRATOR))
        return answer["images"], answer["bytes"]


def _say(store: MarkedStore, count: BlobCount) -> None:
    if count.there:
        text = "%s is the directory of the store %s from now on; of the images' blobs, %d are missing there"
        log.warning(text, store.marker.directory, store.name, count.missing)
    else:
        log.info("%s is the directory of the store %s from now on", store.marker.directory, store.name)


def _holds_nothing(store: MarkedStore, count: BlobCount) -> StoreMissing:
    problem = f"holds none of the {count.missing} blobs that the registry names"
    return store.marker.refusal(problem, holds_nothing=True)
