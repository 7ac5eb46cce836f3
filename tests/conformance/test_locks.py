"""What locks a row changes it: an UPDATE to the value that is there locks nothing on a Galera cluster.

Transactions on two of its nodes wait for each other at no row. At COMMIT each sends the rows that it changed to the
other nodes, and of two that changed the same one the later fails. What was not changed is not sent.
"""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, event

from conftest import Installation
from pyrimage.catalogue.records import Image
from pyrimage.catalogue.testing import Subject
from pyrimage.catalogue.testing.catalogue import ADMIN, claim_on

LOCKS = {"UPDATE images": "images", "INSERT INTO owners": "owners"}


@contextmanager
def watched(engine: Engine) -> Iterator[list[tuple[str, bool]]]:
    """Note each statement that locks rows of images or owners, and whether some row is another one afterwards."""
    noted: list[tuple[str, bool]] = []
    before: list[Any] = []

    def rows_of(connection: Any, statement: str) -> Any:
        table = next((table for begin, table in LOCKS.items() if statement.startswith(begin)), None)
        return table and sorted(map(repr, connection.exec_driver_sql(f"SELECT * FROM {table}")))

    def look(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        before[:] = [rows_of(connection, statement)]

    def compare(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if before and before[0] is not None:
            was = before.pop()
            if cursor.rowcount:
                noted.append((statement, rows_of(connection, statement) != was))

    event.listen(engine, "before_cursor_execute", look)
    event.listen(engine, "after_cursor_execute", compare)
    try:
        yield noted
    finally:
        event.remove(engine, "before_cursor_execute", look)
        event.remove(engine, "after_cursor_execute", compare)


def grow(catalogue: Subject, image: Image) -> None:
    upload = dataclasses.replace(claim_on(image), size=None)
    catalogue.claims.begin(upload, ADMIN, is_new=False)
    catalogue.claims.reserve(upload, 5)


def give(catalogue: Subject, image: Image) -> None:
    catalogue.change(image, owner="tenant-b")


def take_data(catalogue: Subject, image: Image) -> None:
    catalogue.begin(image)
    catalogue.complete(image)


def replace_members(catalogue: Subject, image: Image) -> None:
    with catalogue.transaction() as writes:
        writes.replace_members(image.id, {"tenant-b": None}, ADMIN)


def remove_member(catalogue: Subject, image: Image) -> None:
    with catalogue.transaction() as writes:
        writes.remove_member(image.id, "tenant-b", ADMIN)


ACTS: dict[str, Callable[[Subject, Image], object]] = {
    "an image is added": lambda catalogue, image: catalogue.add(owner=image.owner),
    "an image is given away": give,
    "an upload begins": lambda catalogue, image: catalogue.begin(image),
    "an upload of unknown length goes on": grow,
    "data comes": take_data,
    "a change changes nothing": lambda catalogue, image: catalogue.change(image),
    "a property is added": lambda catalogue, image: catalogue.change(image, properties={"os": ""}, purge=False),
    "a member stays": lambda catalogue, image: catalogue.share(image.id, "tenant-b"),
    "a member is added": lambda catalogue, image: catalogue.share(image.id, "tenant-c"),
    "members are replaced by themselves": replace_members,
    "a member is removed": remove_member,
    "an image is deleted": lambda catalogue, image: catalogue.remove(image),
}


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_what_locks_a_row_changes_it(
    catalogue: Subject, installation: Installation, act: Callable[[Subject, Image], object]
) -> None:
    limited = catalogue.limited(user_image_quota=10, user_storage_quota=1000, image_member_quota=10)
    image = limited.add(owner="tenant-a")
    limited.add(owner="tenant-b")  # so that both owners have a row
    limited.share(image.id, "tenant-b")
    with watched(installation.engine) as noted:
        act(limited, image)
    assert noted
    assert [statement for statement, is_changed in noted if not is_changed] == []
