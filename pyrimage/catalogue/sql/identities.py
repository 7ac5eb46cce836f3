"""Which directory is a store's: the database and the directory know the same identity, or it is refused."""

import logging
import secrets

from sqlalchemy import Connection, Engine, delete, insert, select
from sqlalchemy.exc import IntegrityError

from ...errors import DatabaseRefused, StoreMissing
from ...models import LocationRow, StoreRow
from ...models.location import ACTIVE
from ..interfaces import BlobCount, MarkedStore

log = logging.getLogger(__name__)


class SqlIdentities:
    """Identities in the database of ``engine``; each call is a short transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def known(self, store: MarkedStore) -> str:
        """Return the identity that the database knows. Raises StoreMissing if it knows none."""
        with self._engine.connect() as connection:
            identity = _find(connection, store)
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
            identity = _find(connection, store)
            if identity is None:
                # Before the INSERT too: of several who wait for one that is refused, MariaDB lets only one go on.
                _count_for_first_start(connection, store)
        return identity or self._introduce(store) or self.known(store)

    def adopt(self, store: MarkedStore, *, although_empty: bool) -> BlobCount:
        """Make the directory the store's: the database takes its identity, or it gets the database's, or a new one.

        Raises StoreMissing if it is another store's, or holds nothing of what rows name, unless ``although_empty``.
        """
        with self._engine.begin() as connection:
            known, carried = _find(connection, store), store.marker.read()
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


def _find(connection: Connection, store: MarkedStore) -> str | None:
    return connection.scalar(select(StoreRow.identity).where(StoreRow.name == store.name))


def _refuse_anothers(connection: Connection, store: MarkedStore, identity: str) -> None:
    """Raise StoreMissing for a directory that is another store's of this database: the two would be one place."""
    is_others = StoreRow.identity == identity, StoreRow.name != store.name
    if (other := connection.scalar(select(StoreRow.name).where(*is_others))) is not None:
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
