"""Requests that a registry has answered, over SQL."""

from contextlib import suppress
from datetime import datetime

from sqlalchemy import Engine, bindparam, delete, insert, select
from sqlalchemy.exc import IntegrityError

from ...models import AnsweredRow
from ..interfaces import Answer
from ..records import utcnow

_TABLE = AnsweredRow.__table__
_FIND = select(_TABLE.c.request, _TABLE.c.answer).where(_TABLE.c.key == bindparam("key"))

_BATCH = 1000  # rows that are forgotten at once; more are left for the next request


class SqlAnswers:
    """Answers in the database of ``engine``; each call is a short transaction of its own."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, key: str) -> Answer | None:
        """Find the answer with one SELECT by the primary key."""
        with self._engine.connect() as connection:
            row = connection.execute(_FIND, {"key": key}).one_or_none()
        return None if row is None else Answer(key, *row)

    def block(self, key: str) -> None:
        """Insert an answer to no request at all."""
        row = {"key": key, "request": "", "answer": "", "answered_at": utcnow()}
        with suppress(IntegrityError), self._engine.begin() as connection:
            connection.execute(insert(AnsweredRow).values(row))

    def forget(self, before: datetime) -> bool:
        """Look for the rows without a lock, and delete them by their keys, in order: so nobody waits in a circle."""
        old = select(_TABLE.c.key).where(_TABLE.c.answered_at < before).limit(_BATCH)
        with self._engine.begin() as connection:
            keys = sorted(connection.scalars(old))
            if keys:
                connection.execute(delete(AnsweredRow).where(AnsweredRow.key.in_(keys)))
        return len(keys) == _BATCH
