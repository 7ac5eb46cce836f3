"""Lists read a page's rows, however many there are: counted by the databases themselves."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, insert, text

from conftest import Installation
from pyrimage.catalogue.queries import ListQuery
from pyrimage.catalogue.records import Identity, Image
from pyrimage.catalogue.sql.catalogue import find_statement
from pyrimage.catalogue.sql.pages import read_page
from pyrimage.catalogue.testing.catalogue import ADMIN, ANONYMOUS, MEMBER, NOON, OWNER, STRANGER
from pyrimage.models import Base, ImageRow, LocationRow, MemberRow

IMAGES = 20_000
PAGE = 25

# What a page of three scopes may cost, in steps of SQLite's machine or rows that a server reads.
LIMITS = {"sqlite": 10_000, "postgresql": 500, "mysql": 500}


def name(number: int) -> str:
    """Half the images have one name, twenty have none."""
    if number % 1000 == 500:
        return ""
    return f"f{number // 2000}" if number > IMAGES // 2 else "f"


def image_row(number: int) -> dict[str, Any]:
    created_at = NOON + timedelta(seconds=number)
    return {
        "id": f"image-{number:05}",
        "name": name(number),
        "status": "active",
        "size": 5,
        "disk_format": "raw",
        "container_format": "bare",
        "is_public": number % 5 == 0,
        "protected": False,
        "owner": "tenant-a" if number % 3 == 0 else f"tenant-{number % 100}",
        "min_disk": 0,
        "min_ram": 0,
        "created_at": created_at,
        "updated_at": created_at,
        "deleted": number % 10 == 3,
    }


@pytest.fixture(scope="module")
def full_installation(shared_installation: Installation) -> Iterator[Installation]:
    """The installation with many images, each with a location; some are shared."""
    numbers = range(IMAGES)
    rows: dict[type[Base], list[dict[str, Any]]] = {
        ImageRow: [image_row(number) for number in numbers],
        LocationRow: [
            {"image_id": f"image-{n:05}", "store": "file", "key": f"key-{n}", "owned": True, "state": "active"}
            for n in numbers
        ],
        MemberRow: [
            {"image_id": f"image-{n:05}", "member": "tenant-b" if n % 400 == 7 else f"other-{n}", "can_share": False}
            for n in numbers[7::20]
        ],
    }
    with shared_installation.engine.begin() as connection:
        for model, values in rows.items():
            connection.execute(insert(model), values)
    if connection.dialect.name != "sqlite":  # servers do so by themselves, after a while
        with shared_installation.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            word = "" if connection.dialect.name == "postgresql" else "TABLE"
            for model in rows:
                connection.execute(text(f"ANALYZE {word} {model.__table__}"))
    yield shared_installation
    shared_installation.empty()


def count_steps(connection: Connection, action: Callable[[], object]) -> int:
    """Count the steps of SQLite's machine, to the hundred."""
    hundreds = [0]

    def note() -> int:
        hundreds[0] += 1
        return 0

    driver: Any = connection.connection.dbapi_connection
    driver.set_progress_handler(note, 100)
    action()
    driver.set_progress_handler(None, 0)
    return hundreds[0] * 100


def count_rows(connection: Connection, action: Callable[[], object]) -> int:
    """Count the rows that a server reads."""
    statement = {
        "postgresql": "SELECT sum(seq_tup_read + coalesce(idx_tup_fetch, 0)) FROM pg_stat_xact_user_tables",
        "mysql": "SELECT sum(variable_value) FROM information_schema.session_status "
        "WHERE variable_name LIKE 'Handler_read%'",
    }[connection.dialect.name]
    before = connection.scalar(text(statement)) or 0
    action()
    return int((connection.scalar(text(statement)) or 0) - before)


@dataclass(frozen=True)
class Reader:
    """One connection, and what its database does for questions of the catalogue."""

    connection: Connection

    def page(self, query: ListQuery, viewer: Identity) -> list[Image]:
        return read_page(self.connection, query, viewer)

    def cost(self, action: Callable[[], object]) -> int:
        """Say what the database does for an action."""
        count = count_steps if self.connection.dialect.name == "sqlite" else count_rows
        return count(self.connection, action)


@pytest.fixture
def reader(full_installation: Installation) -> Iterator[Reader]:
    with full_installation.engine.connect() as connection:
        yield Reader(connection)


def cost_of_a_page(reader: Reader, viewer: Identity, **query: Any) -> int:
    """Say what the database does for a page that is nearly full, once it has settled for a plan."""
    wanted = ListQuery(**{"limit": PAGE, "default_scope": not viewer.is_admin, **query})
    found = reader.page(wanted, viewer)
    assert 20 <= len(found) <= PAGE
    for _ in range(10):  # until psycopg has prepared the statements, and PostgreSQL chosen between two kinds of plans
        reader.page(wanted, viewer)
    return reader.cost(lambda: reader.page(wanted, viewer))


VIEWERS: list[tuple[Identity, dict[str, Any]]] = [
    (ADMIN, {"is_public": None}),
    (ADMIN, {"is_public": True}),
    (ADMIN, {"is_public": False}),
    (OWNER, {}),  # of a third
    (MEMBER, {}),  # of a few
    (STRANGER, {}),  # owner of none
    (ANONYMOUS, {}),
]
ORDERS = [(sort_key, descending) for sort_key in ("created_at", "name") for descending in (True, False)]
MARKERS = ["image-19000", "image-10000", "image-01000", None]

# Every viewer meets both keys, in one of the directions, and the markers take turns.
WALKS = [
    pytest.param(*viewer, *ORDERS[turn], MARKERS[(number // 2 + turn) % len(MARKERS)], id=f"{number}-{turn}")
    for number, viewer in enumerate(VIEWERS)
    for turn in (number % 2, number % 2 + 2)
]


@pytest.mark.parametrize(("viewer", "query", "sort_key", "descending", "marker"), WALKS)
def test_a_page_reads_few_rows(
    reader: Reader, viewer: Identity, query: dict[str, Any], sort_key: str, descending: bool, marker: str | None
) -> None:
    more = {"marker": marker, "descending": descending, "sort_key": sort_key, **query}
    assert cost_of_a_page(reader, viewer, **more) < LIMITS[reader.connection.dialect.name]


@pytest.mark.parametrize("marker", [None, "image-13000"])
@pytest.mark.parametrize(("sort_key", "descending"), ORDERS)
def test_a_page_of_one_name_reads_few_rows(reader: Reader, sort_key: str, descending: bool, marker: str | None) -> None:
    more = {"marker": marker, "descending": descending, "sort_key": sort_key}
    for viewer, query in (VIEWERS[0], VIEWERS[4]):
        assert cost_of_a_page(reader, viewer, name="f6", **more, **query) < LIMITS[reader.connection.dialect.name]


def test_an_image_is_found_by_reading_few_rows(reader: Reader) -> None:
    statement = find_statement(is_admin=False, has_project=True)
    cost = reader.cost(
        lambda: reader.connection.execute(statement, {"id": "image-10005", "project": MEMBER.project}).all()
    )
    assert cost < LIMITS[reader.connection.dialect.name] / 10


def test_sorting_all_images_would_cost_ten_times_as_much(reader: Reader) -> None:
    everything = text("SELECT id FROM images ORDER BY name, created_at")
    cost = reader.cost(lambda: reader.connection.execute(everything).fetchmany(PAGE))
    assert cost > 10 * LIMITS[reader.connection.dialect.name]
