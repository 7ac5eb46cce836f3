"""The rows of a table as test cases: what is there, what is asked step by step, and what is answered.

A case is laid beside its row by its name, which has the row's words. A row without a case stands in one of two lists
beside the cases: as decided otherwise, with the reason; or as tested where it needs a socket, two clients at once or a
failure, with that test's name.
"""

import io
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from conftest import Installation
from factories import (
    ADMIN,
    ALICE,
    BOB,
    CHUNKED,
    NOBODY,
    add_row,
    data_headers,
    error_of,
    id_of,
    image_headers,
    meta,
    reserve,
    stored,
    upload,
)
from pyrimage.catalogue.records import Identity

STRANGER = Identity(user="carol", project="tenant-c", roles=frozenset({"member"}))
CALLERS = {
    "admin": ADMIN,
    "tenant's admin": Identity(user="rose", project="tenant-a", roles=frozenset({"admin"})),
    "owner": ALICE,
    "member": BOB,
    "stranger": STRANGER,
    "nobody": NOBODY,
    "local": None,  # as ``auth = none`` makes them
}
BOTH = ("/v1", "")  # what a path begins with in each dialect
DATA = b"bytes"

There = Callable[[Installation], str]


@dataclass(frozen=True, kw_only=True)
class Step:
    """One request and its answer. ``{image}`` in the path is the id of the image that is there.

    by: who asks; Alice owns the image. body: of the request; length: what is announced of it, where that is not true.
    status, headers: of the answer, ``{url}`` being that of the collection. image: some of its image headers, in
    underscores; None for one that is not there. holds: some of its JSON's image.
    gives: the whole body, as bytes or as what its JSON means. listed: the ids of a list, in order; keys: of each item.
    says: what an error's message holds.
    """

    method: str
    path: str
    status: int
    by: str
    sent: Mapping[str, str]
    body: bytes
    length: int | None
    chunked: bool
    headers: Mapping[str, str]
    image: Mapping[str, str | None]
    holds: Mapping[str, Any]
    gives: Any
    listed: list[str] | None
    keys: Collection[str] | None
    says: str

    def __str__(self) -> str:
        return f"{self.method} {self.path} by {self.by}, {dict(self.sent)}"


_STEP: dict[str, Any] = {
    "by": "owner",
    "sent": {},
    "body": b"",
    "length": None,
    "chunked": False,
    "headers": {},
    "image": {},
    "holds": {},
    "gives": None,
    "listed": None,
    "keys": None,
    "says": "",
}


def ask(what: str, status: int, **more: Any) -> Step:
    """Make a step: ``ask("GET /images/{image}", 404, by="stranger")``."""
    method, path = what.split(" ", 1)
    return Step(**{**_STEP, **more}, method=method, path=path, status=status)


def send(what: str, status: int, body: bytes = DATA, **more: Any) -> Step:
    """Make a step that sends data; ``fields`` are its image headers."""
    return ask(what, status, body=body, sent=data_headers(**more.pop("fields", {})), **more)


def tell(what: str, status: int, fields: Mapping[str, Any], **more: Any) -> Step:
    """Make a step that sends image headers alone."""
    return ask(what, status, sent={**meta(**fields), **more.pop("sent", {})}, **more)


@dataclass(frozen=True)
class Case:
    """What is there, and what is asked in turn.

    settings: ``pyrimage.*`` keys, for an installation of the case's own. below: what the paths begin with.
    """

    there: There
    steps: tuple[Step, ...]
    settings: Mapping[str, str] | None
    below: Collection[str]


def case(there: There, *steps: Step, settings: Mapping[str, str] | None = None, below: Collection[str] = BOTH) -> Case:
    """Make a case."""
    return Case(there, steps, settings, below)


def nothing(installation: Installation) -> str:
    """Have no image; ``{image}`` is the id of none."""
    return "none"


def active(**fields: Any) -> There:
    """Upload an image of Alice's."""
    return lambda installation: id_of(upload(installation.client(ALICE), DATA, **fields))


def queued(**fields: Any) -> There:
    """Reserve an image of Alice's."""
    return lambda installation: id_of(reserve(installation.client(ALICE), **fields))


def deleted(installation: Installation) -> str:
    """Delete a public image of Alice's."""
    image = active(is_public=True)(installation)
    installation.client(ALICE).delete(f"/v1/images/{image}")
    return image


def row(**columns: Any) -> There:
    """Write the row of an image of Alice's; private and queued unless told otherwise."""
    return lambda installation: add_row(installation, **{"owner": "tenant-a", **columns})


@dataclass(frozen=True)
class Table:
    """The cases of a table by its rows; reasons of the rows decided otherwise; tests of rows that need more."""

    cases: Mapping[str, Case]
    otherwise: Mapping[str, str] = field(default_factory=dict)
    elsewhere: Mapping[str, str] = field(default_factory=dict)


def cases_of(tables: Mapping[str, Table]) -> list[Any]:
    """Return the parameters ``each, prefix`` of a test: every case with each beginning of its paths."""
    return [
        pytest.param(each, prefix, id=f"{title} | {name} | {prefix}")
        for title, table in tables.items()
        for name, each in table.cases.items()
        for prefix in each.below
    ]


def check(each: Case, prefix: str, installation: Installation, install_with: Callable[..., Installation]) -> None:
    """Ask the steps of a case, and compare; what is refused must leave everything as it was."""
    if each.settings is not None:
        installation = install_with(**each.settings)
    image = each.there(installation)
    for step in each.steps:
        before = _stored(installation) if step.status >= 400 else None
        answer = _send(step, prefix + step.path.format(image=image), installation)
        _compare(step, answer, f"http://localhost:80{prefix}/images")
        if before is not None and (after := _stored(installation)) != before:
            changed = {name: (rows, after[name]) for name, rows in before.items() if rows != after[name]}
            raise AssertionError(f"{step} was refused, and changed {changed}")


def check_listed(table: Table) -> None:
    """Check that a row has a case, or a reason, or the name of a test that is there; and one of them."""
    names = [*table.cases, *table.otherwise, *table.elsewhere]
    if twice := {name for name in names if names.count(name) > 1}:
        raise AssertionError(f"in two lists: {twice}")
    if bare := [name for name, reason in table.otherwise.items() if not (name.strip() and reason.strip())]:
        raise AssertionError(f"without a reason: {bare}")
    for place in table.elsewhere.values():
        path, _, test = place.partition("::")
        if f"def {test}(" not in (Path(__file__).parent / path).read_text(encoding="utf-8"):
            raise AssertionError(f"there is no test {place}")


def _send(step: Step, path: str, installation: Installation) -> Any:
    options: dict[str, Any] = {"method": step.method, "headers": dict(step.sent), "expect_errors": True}
    if step.chunked:
        options |= {"body_file": io.BytesIO(step.body), "environ": dict(CHUNKED)}
    elif step.length is not None:
        options |= {"body_file": io.BytesIO(step.body), "content_length": step.length}
    elif step.body:
        options["body"] = step.body
    return installation.client(CALLERS[step.by]).request(path, **options)


def _compare(step: Step, answer: Any, url: str) -> None:
    told = {name.replace("-", "_"): value for name, value in image_headers(answer).items()}
    pairs: list[tuple[str, Any, Any]] = [("status", answer.status_int, step.status)]
    pairs += [(name, answer.headers.get(name), value.format(url=url)) for name, value in step.headers.items()]
    pairs += [(name, told.get(name), value) for name, value in step.image.items()]
    pairs += [(name, answer.json["image"].get(name), value) for name, value in step.holds.items()]
    if isinstance(step.gives, bytes):
        pairs.append(("body", answer.body, step.gives))
    elif step.gives is not None:
        pairs.append(("body", json.loads(answer.body), step.gives))
    if step.listed is not None:
        pairs.append(("list", [image["id"] for image in answer.json["images"]], step.listed))
    if step.keys is not None:
        pairs += [("keys", set(image), set(step.keys)) for image in answer.json["images"]]
    if answer.status_int == step.status >= 400 and step.method != "HEAD":
        pairs.append((f"message {error_of(answer)!r} with", step.says in error_of(answer), True))
    wrong = [f"{name}: {seen!r}, not {wanted!r}" for name, seen, wanted in pairs if seen != wanted]
    if wrong:
        raise AssertionError(f"{step}: {'; '.join(wrong)}; {answer.body[:300]!r}")


def _stored(installation: Installation) -> dict[str, Any]:
    """Return all that is stored but why the last upload into an image failed, and owners' rows: they are only locks."""
    found = stored(installation)
    return {**found, "owners": None, "images": [{**row._mapping, "last_error": None} for row in found["images"]]}
