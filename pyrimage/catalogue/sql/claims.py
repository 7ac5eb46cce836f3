"""Claims and garbage over SQL: short transactions on connections of their own.

Never on the request's session: that commits with its request, and holds SQLite's only write lock once flushed.
"""

import contextlib
import os
import socket
from collections.abc import Sequence
from datetime import timedelta

from sqlalchemy import ColumnElement, Engine, and_, delete, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from ...errors import Conflict, DatabaseConflict, ImageExists, UploadEnded, UploadInProgress
from ...models import ClaimRow, ImageRow, LocationRow
from ...models.claim import ENDING, LIVE
from ...models.location import GARBAGE
from ...settings import Settings
from ..records import Claim, Identity, Location, Status, utcnow
from .quotas import admit

LEASE = timedelta(seconds=120)
MAX_REASON = 1000  # characters of last_error; what is longer is cut, for the claim has to end
CONFLICTS = 9  # in a row, after which a claim is tried to be enlarged once more
STEP = 64 * 2**20  # bytes; how far the claim of an upload of unknown length is ahead of what came, at most


class SqlClaims:
    """Claims in the database of ``engine``."""

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self._engine, self._settings = engine, settings

    def begin(self, claim: Claim, caller: Identity, *, is_new: bool) -> int | None:
        """Insert the claim; one that is there already, because its answer was lost on the way, is begun again."""
        try:
            return self._insert(claim, is_new=is_new)
        except UploadInProgress:
            if not self._is_begun(claim):
                raise
        return None if self._settings.user_storage_quota is None or claim.size is not None else 0

    def _insert(self, claim: Claim, *, is_new: bool) -> int | None:
        """Insert the claim, unless the image cannot take data, another claim holds it or its owner has no room."""
        image = select(ImageRow.status, ImageRow.owner).where(ImageRow.id == claim.image_id)
        with self._engine.begin() as connection:
            status, owner = connection.execute(image).one_or_none() or (None, None)
            if is_new and status is not None:
                raise ImageExists(f"The id {claim.image_id} is taken.")
            if not is_new and status != Status.QUEUED:
                raise Conflict(f"Image {claim.image_id} is {status}; only a queued image takes data.")
            is_more = owner != (claim.owner or "")
            room = admit(self._settings, connection, claim.owner, claim.image_id, is_more=is_more, size=claim.size or 0)
            held = 0 if room is not None and claim.size is None else None
            values = {
                "key": claim.key,
                "image_id": claim.image_id,
                "store": claim.store,
                "owner": claim.owner or "",
                "size": claim.size if held is None else held,
                "state": LIVE,
                "lease": utcnow() + LEASE,
                "server": f"{socket.gethostname()}:{os.getpid()}",
            }
            try:
                connection.execute(insert(ClaimRow).values(values))
            except IntegrityError as error:
                raise UploadInProgress(f"Another upload into image {claim.image_id} is under way.") from error
        return held

    def _is_begun(self, claim: Claim) -> bool:
        with self._engine.connect() as connection:
            mine = and_(_is_row_of(claim), ClaimRow.state == LIVE)
            return connection.execute(select(ClaimRow.key).where(mine)).first() is not None

    def reserve(self, claim: Claim, came: int) -> int | None:
        """Enlarge the claim, by more than is needed now where there is room for that.

        Who sends it from elsewhere may say another size than is recorded: that counts for nothing. An upload shall not
        fail because another one of its owner enlarged its claim through another node of a cluster at that moment.
        """
        for _ in range(CONFLICTS):
            with contextlib.suppress(DatabaseConflict):
                return self._reserve(claim, came)
        return self._reserve(claim, came)

    def _reserve(self, claim: Claim, came: int) -> int | None:
        with self._engine.begin() as connection:
            room = admit(self._settings, connection, claim.owner, claim.image_id, is_more=False, size=came)
            held = None
            if room is not None:
                held = came + (min(came, STEP) if came + STEP <= room else 0)  # nobody shall hold what others may need
            size = ClaimRow.size if held is None else held
            alive = and_(_is_row_of(claim), ClaimRow.state == LIVE)
            if not connection.execute(update(ClaimRow).where(alive).values(size=size)).rowcount:
                raise UploadEnded(f"The upload into image {claim.image_id} took longer than its lease, and was ended.")
        return held

    def renew(self, keys: Sequence[str]) -> None:
        """Renew the leases with one UPDATE."""
        with self._engine.begin() as connection:
            alive = and_(ClaimRow.key.in_(keys), ClaimRow.state == LIVE)
            connection.execute(update(ClaimRow).where(alive).values(lease=utcnow() + LEASE))

    def end(self, key: str, image_id: str, reason: str | None) -> None:
        """Delete the claim and write down the reason."""
        noted = None if reason is None else reason[:MAX_REASON]
        with self._engine.begin() as connection:
            queued = and_(ImageRow.id == image_id, ImageRow.status == Status.QUEUED)
            mine = and_(ClaimRow.key == key, ClaimRow.image_id == image_id)
            if connection.execute(delete(ClaimRow).where(mine)).rowcount:
                connection.execute(update(ImageRow).where(queued).values(last_error=noted))

    def expired(self, grace: timedelta, image_id: str | None = None) -> Sequence[Claim]:
        """Return the claims that ``seize`` would take."""
        columns = (ClaimRow.image_id, ClaimRow.store, ClaimRow.key, ClaimRow.owner, ClaimRow.size)
        statement = select(*columns).where(_is_expired(grace))
        if image_id is not None:
            statement = statement.where(ClaimRow.image_id == image_id)
        with self._engine.connect() as connection:
            rows = connection.execute(statement)
            return [Claim(image_id, store, key, owner or None, size) for image_id, store, key, owner, size in rows]

    def seize(self, claim: Claim, grace: timedelta) -> bool:
        """Mark the claim ``ending``, so that its upload, should it still be alive, cannot commit any more."""
        with self._engine.begin() as connection:
            mine = and_(_is_row_of(claim), _is_expired(grace))
            return connection.execute(update(ClaimRow).where(mine).values(state=ENDING)).rowcount > 0

    def is_located(self, claim: Claim) -> bool:
        """Look for a location row with the claim's key."""
        same = and_(LocationRow.key == claim.key, LocationRow.store == claim.store)
        with self._engine.connect() as connection:
            return connection.execute(select(LocationRow.id).where(same)).first() is not None

    def known(self, keys: Sequence[str]) -> set[str]:
        """Look for the keys among the claims, then the locations: a commit in between moves one from here to there."""
        tables = (ClaimRow, LocationRow)
        with self._engine.connect() as connection:
            return {key for row in tables for key in connection.scalars(select(row.key).where(row.key.in_(keys)))}

    def garbage(self) -> Sequence[Location]:
        """Return the garbage rows."""
        statement = select(LocationRow.store, LocationRow.key).where(LocationRow.state == GARBAGE)
        with self._engine.connect() as connection:
            return [Location(*row) for row in connection.execute(statement)]

    def forget_garbage(self, location: Location) -> None:
        """Delete the garbage row."""
        same = and_(LocationRow.store == location.store, LocationRow.key == location.key)
        with self._engine.begin() as connection:
            connection.execute(delete(LocationRow).where(same, LocationRow.state == GARBAGE))


def _is_row_of(claim: Claim) -> ColumnElement[bool]:
    same = and_(ClaimRow.image_id == claim.image_id, ClaimRow.store == claim.store)
    return and_(ClaimRow.key == claim.key, same, ClaimRow.owner == (claim.owner or ""))


def _is_expired(grace: timedelta) -> ColumnElement[bool]:
    # One that somebody began to end, and did not finish, stays expired whatever its lease says.
    return or_(ClaimRow.state == ENDING, ClaimRow.lease < utcnow() - grace)
