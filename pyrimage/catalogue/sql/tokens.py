"""Tokens over SQL: short transactions on connections of their own."""

import dataclasses
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, and_, bindparam, delete, false, func, insert, or_, select, true, update
from sqlalchemy.exc import IntegrityError

from ...errors import NotFound
from ...models import TokenRow
from ..records import Token

_NAMES = [field.name for field in dataclasses.fields(Token)]
_COLUMNS = [TokenRow.__table__.c[name] for name in _NAMES]
_FIND = select(*_COLUMNS).where(TokenRow.digest == bindparam("digest"))

_BATCH = 500  # rows that one login removes; more are left for the next


class SqlTokens:
    """Tokens in the database of ``engine``. Those that were made from a row go with it by its foreign key."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, token: Token) -> None:
        """Insert the token; where its parent went at this moment, the foreign key tells.

        One that is there already was added before, and the answer lost on its way.
        """
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(TokenRow).values({name: getattr(token, name) for name in _NAMES}))
        except IntegrityError as error:
            if self.find(token.digest) != token:
                raise NotFound("The token that this one was to be made from has ended.") from error

    def find(self, digest: str) -> Token | None:
        """Find the token with one SELECT by the unique index."""
        with self._engine.connect() as connection:
            row = connection.execute(_FIND, {"digest": digest}).one_or_none()
        return _record(row) if row is not None else None

    def of_user(self, user: str | None = None) -> Sequence[Token]:
        """Return the API tokens."""
        statement = select(*_COLUMNS).where(TokenRow.is_login == false())
        if user is not None:
            statement = statement.where(TokenRow.user == user)
        with self._engine.connect() as connection:
            rows = connection.execute(statement.order_by(TokenRow.user, TokenRow.created_at, TokenRow.id)).all()
        return [_record(row) for row in rows]

    def note_use(self, token_id: str, now: datetime, since: datetime) -> None:
        """Write the time where it is older: of many requests at once, one does."""
        is_due = or_(TokenRow.last_used_at.is_(None), TokenRow.last_used_at <= since)
        with self._engine.begin() as connection:
            connection.execute(update(TokenRow).where(TokenRow.id == token_id, is_due).values(last_used_at=now))

    def revoke(self, token_id: str) -> bool:
        """Delete the row."""
        with self._engine.begin() as connection:
            return connection.execute(delete(TokenRow).where(TokenRow.id == token_id)).rowcount > 0

    def revoke_all(self, user: str) -> int:
        """Delete the rows; those of logins that go with their parents are not counted."""
        mine = TokenRow.user == user
        count = select(func.count()).where(mine, TokenRow.is_login == false())
        with self._engine.begin() as connection:
            found = connection.scalar(count) or 0
            connection.execute(delete(TokenRow).where(mine))
        return found

    def limit_logins(self, user: str, now: datetime, most: int) -> None:
        """Look for the rows without a lock, and delete them by their ids, in order: so nobody waits in a circle."""
        logins = and_(TokenRow.user == user, TokenRow.is_login == true())
        newest_first = select(TokenRow.id).where(logins, TokenRow.expires_at > now)
        newest_first = newest_first.order_by(TokenRow.parent.is_not(None), TokenRow.created_at.desc(), TokenRow.id)
        with self._engine.begin() as connection:
            ids = [*connection.scalars(select(TokenRow.id).where(logins, TokenRow.expires_at <= now))]
            ids += connection.scalars(newest_first.limit(_BATCH).offset(most))
            if ids:
                connection.execute(delete(TokenRow).where(TokenRow.id.in_(sorted(ids)[:_BATCH])))

    def remove_expired(self, now: datetime, *, dry_run: bool) -> int:
        """Delete the rows, or count them."""
        expired = TokenRow.expires_at <= now
        with self._engine.begin() as connection:
            count = connection.scalar(select(func.count()).where(expired)) or 0
            if not dry_run:
                connection.execute(delete(TokenRow).where(expired))
        return count


def _record(row: Sequence[Any]) -> Token:
    return Token(**dict(zip(_NAMES, row, strict=True)))
