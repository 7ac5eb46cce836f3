"""Which directory is a store's: the database and the directory know the same identity, or it is refused."""

import contextlib
import logging
import secrets
from collections.abc import Sequence

from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from ...errors import Conflict, DatabaseRefused, StoreMissing
from ...models import LocationRow, StoreRow
from ...models.location import ACTIVE
from ..interfaces import BlobCount, MarkedStore

log = logging.getLogger(__name__)

_PAGE = 1000  # keys


class SqlIdentities:
    """Identities in the database of ``engine``; each call is a short transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def known(self, store: MarkedStore) -> str:
        """Return the identity that the database knows. Raises StoreMissing if it knows none."""
        with self._engine.connect() as connection:
            identity = _find(connection, store.name)
        if identity is None:
            unknown = "is not known to the database as its store's directory; the first start of a server makes it so"
            raise store.marker.refusal(unknown)
        return identity

    def identify(self, store: MarkedStore) -> str:
        """Return the identity that the database knows; where it knows none yet, mark the directory with a new one.

        That is so at the first start on an empty database, and at the first one after an upgrade, if the directory
        holds what rows name. Raises StoreMissing for a directory that is marked already, or holds nothing of that.
        """
        with self._engine.connect() as connection:
            identity = _find(connection, store.name)
            if identity is None:
                # Before the INSERT too: of several who wait for one that is refused, MariaDB lets only one go on.
                _count_for_first_start(connection, store)
        return identity or self._introduce(store) or self.known(store)

    def find(self, name: str) -> str | None:
        """Return the identity of a store."""
        with self._engine.connect() as connection:
            return _find(connection, name)

    def name_of(self, identity: str) -> str | None:
        """Return the name of the store that has an identity."""
        with self._engine.connect() as connection:
            return connection.scalar(select(StoreRow.name).where(StoreRow.identity == identity))

    def introduce(self, name: str, identity: str, replaces: str | None) -> str:
        """Insert or update the store's row; of several who do at once, one wins."""
        with self._engine.begin() as connection:
            if (other := _other_of(connection, name, identity)) is not None:
                raise Conflict(f"The store {other} has this identity.")
            mine = update(StoreRow).where(StoreRow.name == name, StoreRow.identity == replaces)
            if replaces is not None:
                connection.execute(mine.values(identity=identity))
        if self.find(name) is None:
            with contextlib.suppress(IntegrityError), self._engine.begin() as connection:
                connection.execute(insert(StoreRow).values(name=name, identity=identity))
        return self.find(name) or identity

    def keys(self, name: str, after: str) -> Sequence[tuple[str, bool]]:
        """Return a page of the keys."""
        rows = select(LocationRow.key, LocationRow.state).where(LocationRow.store == name, LocationRow.key > after)
        with self._engine.connect() as connection:
            found = connection.execute(rows.order_by(LocationRow.key).limit(_PAGE))
            return [(key, state == ACTIVE) for key, state in found]

    def adopt(self, store: MarkedStore, *, although_empty: bool) -> BlobCount:
        """Make the directory the store's: the database takes its identity, or it gets the database's, or a new one.

        Raises StoreMissing if it is another store's, or holds nothing of what rows name, unless ``although_empty``.
        """
        with self._engine.begin() as connection:
            known, carried = _find(connection, store.name), store.marker.read()
            identity = carried or known or _new_identity()
            _refuse_anothers(connection, store, identity)
            if identity != known:
                connection.execute(delete(StoreRow).where(StoreRow.name == store.name))
                connection.execute(insert(StoreRow).values(name=store.name, identity=identity))
            count = _count(connection, store)
            if count.missing and not count.there and not although_empty:
                raise _holds_nothing(store, count)
            if not carried:
                store.marker.write(identity, replace=True)
        return count

    def _introduce(self, store: MarkedStore) -> str | None:
        """Mark the directory; return None if another server was quicker."""
        identity = _new_identity()
        try:
            with self._engine.begin() as connection:
                # First of all, so that others who start now wait for our COMMIT, and then find the row.
                connection.execute(insert(StoreRow).values(name=store.name, identity=identity))
                if (carried := store.marker.read()) is not None:
                    _refuse_anothers(connection, store, carried)
                    raise store.marker.unknown()
                count = _count_for_first_start(connection, store)
                store.marker.write(identity, replace=False)
        except IntegrityError:
            return None
        except (DatabaseRefused, StoreMissing):  # other errors of the database may mean that the row is there
            store.marker.withdraw(identity)
            raise
        if count.there:
            text = "%s is the directory of the store %s from now on; of the images' blobs, %d are missing there"
            log.warning(text, store.marker.directory, store.name, count.missing)
        else:
            log.info("%s is the directory of the store %s from now on", store.marker.directory, store.name)
        return identity


def _find(connection: Connection, name: str) -> str | None:
    return connection.scalar(select(StoreRow.identity).where(StoreRow.name == name))


def _other_of(connection: Connection, name: str, identity: str) -> str | None:
    return connection.scalar(select(StoreRow.name).where(StoreRow.identity == identity, StoreRow.name != name))


def _refuse_anothers(connection: Connection, store: MarkedStore, identity: str) -> None:
    """Raise StoreMissing for a directory that is another store's of this database: the two would be one place."""
    if (other := _other_of(connection, store.name, identity)) is not None:
        raise store.marker.anothers(other)


def _new_identity() -> str:
    return secrets.token_hex(16)


def _count(connection: Connection, store: MarkedStore) -> BlobCount:
    there = missing = 0
    for key, state in connection.execute(
        select(LocationRow.key, LocationRow.state).where(LocationRow.store == store.name)
    ):
        if store.holds(key):
            there += 1
        elif state == ACTIVE:
            missing += 1
    return BlobCount(there, missing)


def _count_for_first_start(connection: Connection, store: MarkedStore) -> BlobCount:
    count = _count(connection, store)
    if count.missing and not count.there:
        raise _holds_nothing(store, count)
    return count


def _holds_nothing(store: MarkedStore, count: BlobCount) -> StoreMissing:
    problem = f"holds none of the {count.missing} blobs that the database names"
    return store.marker.refusal(problem, holds_nothing=True)
