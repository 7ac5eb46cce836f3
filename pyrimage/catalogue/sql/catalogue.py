"""The catalogue over SQL: one object per process."""

from collections.abc import Iterator, Sequence
from functools import lru_cache

from sqlalchemy import Engine, and_, bindparam, false, func, select
from transaction import TransactionManager

from ...models import make_session_factory, migrations
from ...settings import Settings
from ..queries import ListQuery
from ..records import Identity, Image, ImageSummary, Member, Status
from .answered import SqlAnswers
from .claims import SqlClaims
from .identities import SqlIdentities
from .pages import read_brief_page, read_page
from .rows import (
    COLUMNS,
    IMAGES,
    LOCATIONS,
    MEMBERS,
    PROPERTIES,
    WITH_LOCATION,
    Statement,
    constant,
    record,
    visible,
)
from .tokens import SqlTokens
from .writes import SqlWrites

_MEMBER = (MEMBERS.c.image_id, MEMBERS.c.member, MEMBERS.c.can_share)
_MEMBERS = select(*_MEMBER).where(MEMBERS.c.image_id == bindparam("image_id")).order_by(MEMBERS.c.member)
_ONE_MEMBER = select(*_MEMBER).where(
    MEMBERS.c.image_id == bindparam("image_id"), MEMBERS.c.member == bindparam("member")
)
_SHARED = (
    select(*_MEMBER)
    .join(IMAGES, and_(IMAGES.c.id == MEMBERS.c.image_id, IMAGES.c.deleted == false()))
    .where(MEMBERS.c.member == bindparam("member"))
    .order_by(MEMBERS.c.image_id)
)


class SqlCatalogue:
    """The catalogue in the database of ``engine``.

    A question takes a connection from the pool and gives it back with the answer; it joins no transaction.
    sessions: makes those of writes. claims: uploads under way. tokens: what logs users in. identities: which directory
    is a file store's. active: all images that have bytes. answers: those of a registry.
    """

    def __init__(self, engine: Engine, settings: Settings) -> None:
        self.engine, self._settings = engine, settings
        self.sessions = make_session_factory(engine)
        self.claims = SqlClaims(engine, settings)
        self.tokens = SqlTokens(engine)
        self.identities = SqlIdentities(engine)
        self.active = SqlActiveImages(engine)
        self.answers = SqlAnswers(engine)

    def find(self, image_id: str, viewer: Identity) -> Image | None:
        """Return an image and its properties with one SELECT."""
        statement = find_statement(is_admin=viewer.is_admin, has_project=bool(viewer.project))
        with self.engine.connect() as connection:
            rows = connection.execute(statement, {"id": image_id, "project": viewer.project}).all()
        if not rows:
            return None
        return record(rows[0], {key: value for *_, key, value in rows if key is not None})

    def page(self, query: ListQuery, viewer: Identity) -> list[Image]:
        """Return a page of the list that ``query`` asks for."""
        with self.engine.connect() as connection:
            return read_page(connection, query, viewer)

    def brief_page(self, query: ListQuery, viewer: Identity) -> list[ImageSummary]:
        """Return the same page in brief."""
        with self.engine.connect() as connection:
            return read_brief_page(connection, query, viewer)

    def members_of(self, image_id: str, viewer: Identity) -> Sequence[Member]:
        """Return the members of an image."""
        with self.engine.connect() as connection:
            return [Member(*row) for row in connection.execute(_MEMBERS, {"image_id": image_id}).all()]

    def find_member(self, image_id: str, member: str, viewer: Identity) -> Member | None:
        """Return one member of an image."""
        with self.engine.connect() as connection:
            rows = connection.execute(_ONE_MEMBER, {"image_id": image_id, "member": member}).all()
        return Member(*rows[0]) if rows else None

    def shared_with(self, member: str, viewer: Identity) -> Sequence[Member]:
        """Return the memberships of a project in live images; why others have rows, ``SqlWrites.remove`` tells."""
        with self.engine.connect() as connection:
            return [Member(*row) for row in connection.execute(_SHARED, {"member": member}).all()]

    def writes(self, transaction_manager: TransactionManager, caller: Identity) -> SqlWrites:
        """Return the changes of the manager's transaction; their session takes a connection at its first statement."""
        return SqlWrites(self.sessions(info={"tm": transaction_manager}), self._settings)

    def check(self, *, upgrade: bool) -> None:
        """See whether the schema is the one that the code needs."""
        if upgrade:
            migrations.upgrade(self.engine)
        else:
            migrations.check(self.engine)

    def close(self) -> None:
        """Close the pool's connections."""
        self.engine.dispose()


class SqlActiveImages:
    """All images that have bytes, without their properties: each call is a short transaction of its own.

    page: so many rows are read at once, and held in memory.
    """

    def __init__(self, engine: Engine, page: int = 500) -> None:
        self._engine, self._page = engine, page

    def __iter__(self) -> Iterator[Image]:
        """Give the images in the order of their ids; no connection is held meanwhile."""
        last, statement = "", select(IMAGES.c.id).where(_IS_ACTIVE, IMAGES.c.id > bindparam("last"))
        statement = statement.order_by(IMAGES.c.id).limit(self._page)
        while True:
            with self._engine.connect() as connection:
                ids = connection.scalars(statement, {"last": last}).all()
            if not ids:
                return
            yield from self._read(ids)
            last = ids[-1]

    def find(self, image_id: str) -> Image | None:
        """Return an image if it is still active."""
        return next(iter(self._read([image_id])), None)

    def total(self) -> tuple[int, int]:
        """Return how many images there are, and the bytes of all."""
        statement = select(func.count(), func.coalesce(func.sum(IMAGES.c.size), 0)).where(_IS_ACTIVE)
        with self._engine.connect() as connection:
            count, size = connection.execute(statement).one()
        return count, int(size)  # a Decimal, for some databases

    def _read(self, ids: Sequence[str]) -> Sequence[Image]:
        # By their ids: joined with a range of them, PostgreSQL would read all locations before it again for each page.
        with self._engine.connect() as connection:
            return [record(row, {}) for row in connection.execute(_ACTIVE, {"ids": ids})]


_IS_ACTIVE = IMAGES.c.status == constant(Status.ACTIVE)
_ACTIVE: Statement = (
    select(*COLUMNS)
    .select_from(IMAGES)
    .outerjoin(LOCATIONS, WITH_LOCATION)
    .where(_IS_ACTIVE, IMAGES.c.id.in_(bindparam("ids", expanding=True)))
    .order_by(IMAGES.c.id)
)


@lru_cache
def find_statement(*, is_admin: bool, has_project: bool) -> Statement:
    """Make the SELECT of one image, with a row for each of its properties."""
    statement = (
        select(*COLUMNS, PROPERTIES.c.key, PROPERTIES.c.value)
        .select_from(IMAGES)
        .outerjoin(LOCATIONS, WITH_LOCATION)
        .outerjoin(PROPERTIES, PROPERTIES.c.image_id == IMAGES.c.id)
        .where(IMAGES.c.id == bindparam("id"))
    )
    return statement if is_admin else statement.where(IMAGES.c.deleted == false(), visible(has_project))
