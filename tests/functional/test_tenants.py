"""Two tenants: who guesses an image's id cannot tell whether it is there, by nothing that is answered or done."""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import pytest

import pyrimage
from factories import ALICE, BOB, NOBODY, OCTETS, error_of, id_of, meta, reserve, upload
from permissions import HOMELESS, OF_IMAGES
from pyrimage.catalogue.records import Identity

if TYPE_CHECKING:
    from conftest import Installation

PACKAGE = str(Path(pyrimage.__file__).parent)
THERE, NOT_THERE = "f17", "g17"  # of the same length
CALLERS = {"another tenant": BOB, "a user without one": HOMELESS, "nobody": NOBODY}
KINDS: dict[str, dict[str, Any]] = {
    "active": {},
    "queued": {},
    "protected": {"protected": True},
    "deleted": {},
}
METHODS = ("POST", "PATCH", "OPTIONS")
WAYS: list[dict[str, str]] = [
    {},
    {"Range": "bytes=0-1"},
    {"If-None-Match": "*"},
    {"If-Match": "x"},
    {"Accept": "text/plain"},
    {"Content-Type": OCTETS, "x-image-meta-name": "mine"},
]


@dataclass(frozen=True)
class Seen:
    """An answer, and what was done for it: the statements, and the lines of the package that ran, in order."""

    status: str
    headers: list[tuple[str, str]]
    body: bytes
    statements: list[str]
    lines: list[tuple[str, int]]


def watch(app: Any, method: str, target: str, statements: list[str], **sent: Any) -> Seen:
    """Send a request twice, for what is made at the first time alone, and watch the second."""
    lines: list[tuple[str, int]] = []

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        lines.append((frame.f_code.co_filename, frame.f_lineno))
        return trace

    app.request(target, method=method, status="*", **sent)
    statements.clear()
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        answer = app.request(target, method=method, status="*", **sent)
    finally:
        sys.settrace(before)
    headers = [(name, value) for name, value in answer.headerlist if name != "x-openstack-request-id"]
    return Seen(answer.status, headers, answer.body, list(statements), lines)


def make_image(installation: "Installation", kind: str) -> None:
    owner = installation.client(ALICE)
    fields: dict[str, Any] = {"id": THERE, "name": "same", **KINDS[kind]}
    path = reserve(owner, **fields) if kind == "queued" else upload(owner, **fields)
    owner.put(f"{path}/members/tenant-c")
    if kind == "deleted":
        owner.delete(path)


def requests() -> Iterator[tuple[str, str]]:
    """Give every method at every path that takes an image's id, and methods that none of them takes."""
    rows = [row for row in OF_IMAGES["private"] if "project>" not in row.path]
    paths = list(dict.fromkeys(row.path.replace("<name>", "x").replace("<member>", "tenant-c") for row in rows))
    asked = {(row.method, row.path.replace("<name>", "x").replace("<member>", "tenant-c")) for row in rows}
    asked |= {(method, path) for path in [*paths, "/images/<id>/none"] for method in METHODS}
    own = [(method, f"/images/<id>/members/{BOB.project}") for method in ("PUT", "DELETE")]
    lists = [("GET", f"/images{rest}?marker=<id>&limit=3") for rest in ("", "/detail")]
    for method, path in [*sorted(asked), *own, *lists]:
        yield from ((method, version + path) for version in ("", "/v1"))


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("caller", CALLERS)
def test_an_image_that_is_not_visible_is_as_one_that_is_not_there(
    caller: str, kind: str, installation: "Installation", statements: list[str]
) -> None:
    make_image(installation, kind)
    app = installation.client(CALLERS[caller])
    for method, path in requests():
        for headers in WAYS if (caller, kind) == ("another tenant", "active") else WAYS[:1]:
            there, not_there = (
                watch(app, method, path.replace("<id>", each), statements, headers=headers)
                for each in (THERE, NOT_THERE)
            )
            assert there.status.startswith("400" if "marker" in path else "404"), (method, path, headers)
            told = there.body.replace(THERE.encode(), NOT_THERE.encode())
            assert (there.status, there.headers, told) == (not_there.status, not_there.headers, not_there.body)
            assert there.statements == not_there.statements, (method, path, headers)
            assert there.lines == not_there.lines, (method, path, headers)


@pytest.mark.parametrize("data", [b"", b"bytes"])
def test_a_taken_id_is_refused_in_one_way_whoever_has_it(
    data: bytes, installation: "Installation", statements: list[str]
) -> None:
    """What remains: that it is taken, docs/permissions.md, "What remains to be learned"."""
    app, seen = installation.client(BOB), []
    headers = {"Content-Type": OCTETS, **meta(id=THERE, name="same")}
    for kind in KINDS:
        make_image(installation, kind)
        seen.append(watch(app, "POST", "/v1/images", statements, body=data, headers=headers))
        installation.empty()
    upload(installation.client(ALICE), id=THERE, is_public=True)
    seen.append(watch(app, "POST", "/v1/images", statements, body=data, headers=headers))
    assert {(each.status, each.body) for each in seen} == {("409 Conflict", seen[0].body)}
    assert [each for each in seen if each != seen[0]] == []


def test_names_belong_to_each_tenant(installation: "Installation") -> None:
    """The same name and properties as another's image make an image, which each finds alone."""
    fields: dict[str, Any] = {"name": "same", "properties": {"os": "x"}}
    made = {caller: id_of(upload(installation.client(caller), **fields)) for caller in (ALICE, BOB)}
    for caller, image_id in made.items():
        for query in ("", "?name=same", "?property-os=x", "?sort_key=name", "?is_public=none"):
            listed = installation.client(caller).get(f"/v1/images{query}").json["images"]
            assert [image["id"] for image in listed] == [image_id]


@pytest.mark.parametrize("project", ["tenant-a", "tenant-c", "nobody's"])
def test_what_others_share_is_refused_in_one_way(
    project: str, installation: "Installation", statements: list[str]
) -> None:
    make_image(installation, "active")
    caller: Identity = BOB
    seen = watch(installation.client(caller), "GET", f"/shared-images/{project}", statements)
    assert (seen.status, seen.statements) == ("403 Forbidden", [])
    answer = installation.client(caller).get(f"/shared-images/{project}", status=403)
    assert error_of(answer) == "Only a project itself, and administrators, may list what is shared with it."
