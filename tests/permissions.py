"""The tables of docs/permissions.md, as tests read them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from factories import ADMIN, ALICE, BOB, NOBODY, READER
from pyrimage.catalogue.records import Identity

SHARER = Identity(user="eve", project="tenant-s", roles=frozenset({"member"}))
STRANGER = Identity(user="carol", project="tenant-c", roles=frozenset({"member"}))
HOMELESS = Identity(user="dave", roles=frozenset({"member"}))
CALLERS = {
    "anonymous": [NOBODY],
    "stranger": [STRANGER, HOMELESS],
    "member": [BOB],
    "sharing member": [SHARER],
    "owner": [ALICE],
    "reader": [READER],
    "administrator": [ADMIN],
}
KINDS = ("public", "private", "shared", "protected", "ownerless", "deleted")
WITH_DATA, NOT_HERE = "also with data", "of a version that is not here"
NOTES = {"", WITH_DATA, NOT_HERE}

_PAGE = Path(__file__).parent.parent / "docs" / "permissions.md"


@dataclass(frozen=True)
class Row:
    """A request of a table, and what stands there for each caller. path: ``/images/<id>``, below a version, too."""

    method: str
    path: str
    note: str
    cells: dict[str, str]

    @property
    def request(self) -> tuple[str, str, str]:
        return self.method, self.path, self.note


def section(title: str) -> str:
    _, _, rest = _PAGE.read_text(encoding="utf-8").partition(f"\n## {title}\n")
    assert rest, f"docs/permissions.md has no section {title!r}"
    return rest.partition("\n## ")[0]


def tables(title: str) -> Iterator[list[tuple[str, dict[str, str]]]]:
    """Give the lines of each table of a section: the first cell, and by the caller the cell in its column."""
    for table in re.findall(r"(?:^\|.*\n)+", section(title), re.MULTILINE):
        (_, *heads), _, *lines = [
            [cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()
        ]
        columns = [list(CALLERS) if head == "everybody" else head.split(", ") for head in heads]
        callers = [caller for column in columns for caller in column]
        assert callers == list(CALLERS), f"{title}: the callers are {callers}"
        found = []
        for first, *cells in lines:
            of_callers = zip(columns, cells, strict=True)
            found.append((first, {caller: cell for column, cell in of_callers for caller in column}))
        yield found


def requests(title: str, number: int = 0) -> list[Row]:
    """Return the requests of a section's table; a HEAD for every GET, unless it has a line of its own."""
    rows = []
    for first, cells in list(tables(title))[number]:
        note = re.sub("`[^`]*`", "", first).strip(" ,")
        assert note in NOTES, note
        rows += [Row(method, path, note, cells) for method, path in re.findall("`([A-Z]+) ([^`]+)`", first)]
    own = {row.request for row in rows}
    heads = [Row("HEAD", row.path, row.note, row.cells) for row in rows if row.method == "GET"]
    return [*rows, *(row for row in heads if row.request not in own)]


EVERYBODY, IN_GENERAL = requests("For everybody"), requests("Lists and new images")
OF_IMAGES = {kind: requests(f"{kind.title()} images") for kind in KINDS}
LISTED = dict(list(tables("Lists and new images"))[1])
