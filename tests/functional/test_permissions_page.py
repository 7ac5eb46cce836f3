"""docs/permissions.md says what every caller is answered; this test is its tables. The identities are made here."""

import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest
from pyramid.interfaces import IContextFound

from factories import AUDITOR, CHUNKED, NOBODY, OCTETS, add_row, insert_rows, stored
from permissions import CALLERS, EVERYBODY, HOMELESS, IN_GENERAL, KINDS, LISTED, NOT_HERE, OF_IMAGES, WITH_DATA, Row
from pyrimage.environ import UNAUTHENTICATED
from pyrimage.errors import Unauthenticated
from pyrimage.models import MemberRow

if TYPE_CHECKING:
    from conftest import Installation

COLUMNS: dict[str, dict[str, Any]] = {
    "public": {"is_public": True},
    "private": {},
    "shared": {},
    "protected": {"protected": True},
    "ownerless": {"owner": ""},
    "deleted": {"status": "deleted", "deleted": True},
}
BODIES = {
    "/images/<id>/members": b'{"memberships": []}',
    "/images/<id>/members/<member>": b'{"member": {"can_share": true}}',
    "/images": b"bytes",
    "/images/<id>": b"bytes",
}
SPELLINGS = ("", "/v1")

# Faces that another page describes, by their packages: that of the identity calls has no images.
ELSEWHERE = ("pyrimage.api.identity",)

Place = tuple[type, str, str]  # of a view: its context, its name, and a method


class Unreadable(io.BytesIO):
    """A body of which nobody may take anything."""

    def read(self, *size: Any) -> bytes:
        raise AssertionError("the body of a refused request was read")

    readline = readlines = __iter__ = read  # type: ignore[assignment]


def make_image(installation: "Installation", kind: str, status: str = "active") -> None:
    """Make image f17: of tenant-a, and shared with two callers' projects unless it is private, and with another."""
    fields = {"id": "f17", "name": "f17", "status": status, "owner": "tenant-a", **COLUMNS[kind]}
    add_row(installation, **fields)
    names = ("other",) if kind == "private" else ("tenant-b", "tenant-s", "other")
    insert_rows(installation, *(MemberRow(image_id="f17", member=n, can_share=n == "tenant-s") for n in names))


def spelled(rows: list[Row], spelling: str) -> Iterator[Row]:
    """Give the rows whose paths exist in that spelling."""
    for row in rows:
        if not spelling or (row.path.startswith(("/images", "/shared-images")) and row.note != NOT_HERE):
            yield row


def bodies(row: Row) -> tuple[bool, ...]:
    """Say whether a row's request comes with a body, without one, or once so and once so."""
    if row.method == "PUT" and "members" in row.path:
        return (True,)
    return (False, True) if row.note == WITH_DATA else (False,)


def send(app: Any, row: Row, spelling: str, project: str, status: int, *, has_body: bool) -> Any:
    """Send a row's request. A body that comes with one that is refused cannot be read."""
    path = row.path.replace("<id>", "f17").replace("<name>", "f17.raw").replace("<member>", "other")
    path = path.replace("<own project>", project).replace("<another project>", "other")
    headers = {"x-image-meta-name": "f17"} if row.path == "/images" else {}
    if row.note == NOT_HERE:
        headers["Accept"] = "application/vnd.openstack.images-v9"
    sent: dict[str, Any] = {}
    if has_body:
        data = BODIES[row.path]
        sent = {"environ": dict(CHUNKED), "body_file": Unreadable(data) if status >= 400 else io.BytesIO(data)}
        headers["Content-Type"] = OCTETS
    return app.request(spelling + path, method=row.method, headers=headers, status=status, **sent)


def check(installation: "Installation", kind: str, row: Row, spelling: str) -> None:
    """Send a row's request as each caller; what is refused changes nothing, and what is not, if it writes, does."""
    for has_body in bodies(row):
        before = None
        for who, caller in ((who, caller) for who, callers in CALLERS.items() for caller in callers):
            if "project>" in row.path and caller == HOMELESS:  # has none
                continue
            if before is None:
                installation.empty()
                make_image(installation, kind, "queued" if has_body and row.path == "/images/<id>" else "active")
                before = stored(installation)
            app, project, status = installation.client(caller), caller.project or "tenant-b", int(row.cells[who])
            answer = send(app, row, spelling, project, status, has_body=has_body)
            assert ("WWW-Authenticate" in answer.headers) is (status == 401)
            is_same = status >= 400 or row.method in ("GET", "HEAD")
            assert (stored(installation) == before) is is_same, (row.request, who)
            before = before if is_same else None


@pytest.mark.parametrize("spelling", SPELLINGS)
@pytest.mark.parametrize("kind", KINDS)
def test_every_caller_is_answered_as_the_page_says_of_an_image(
    kind: str, spelling: str, installation: "Installation"
) -> None:
    """S1, S3, S10."""
    for row in OF_IMAGES[kind]:
        check(installation, kind, row, spelling)


@pytest.mark.parametrize("kind", KINDS)
def test_an_administrator_whose_token_only_reads_sees_all_and_changes_nothing(
    kind: str, installation: "Installation"
) -> None:
    make_image(installation, kind)
    before, app = stored(installation), installation.client(AUDITOR)
    for row in [*EVERYBODY, *IN_GENERAL, *OF_IMAGES[kind]]:
        of_administrators = int(row.cells["administrator"])
        is_told = row.method in ("GET", "HEAD") or (kind == "deleted" and "members" in row.path)
        send(app, row, "", "tenant-b", of_administrators if is_told else 403, has_body=bodies(row)[-1])
    assert stored(installation) == before


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_caller_is_answered_as_the_page_says_at_other_paths(spelling: str, installation: "Installation") -> None:
    """S10."""
    for row in spelled([*EVERYBODY, *IN_GENERAL], spelling):
        check(installation, "shared", row, spelling)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_where_reading_is_not_open_who_sends_no_credentials_is_told_to_and_the_database_is_not_asked(
    spelling: str, installation: "Installation", statements: list[str]
) -> None:
    """S41."""
    make_image(installation, "public")
    statements.clear()
    environ: dict[str, Any] = {UNAUTHENTICATED: Unauthenticated("Log in.", "Basic")}
    app = installation.client(**environ)
    for row in spelled(EVERYBODY, spelling):
        send(app, row, spelling, "", int(row.cells["anonymous"]), has_body=False)
    for row in spelled([*IN_GENERAL, *OF_IMAGES["public"]], spelling):
        for has_body in bodies(row):
            answer = send(app, row, spelling, "tenant-b", 401, has_body=has_body)
            assert answer.headers["WWW-Authenticate"] == "Basic"
    assert statements == []


@pytest.mark.parametrize("query", ["", "?is_public=none", "?is_public=false", "?is_public=true"])
def test_lists_show_each_caller_what_the_page_says(query: str, installation: "Installation") -> None:
    """S10, S55: to nobody else than an administrator does ``is_public`` make a difference."""
    assert list(LISTED) == list(KINDS)
    for kind in KINDS:
        make_image(installation, kind)
        for name, callers in CALLERS.items():
            for caller in callers if name != "administrator" or query == "?is_public=none" else ():
                for path in ("/images", "/images/detail", "/v1/images", "/v1/images/detail", "/v1/"):
                    listed = installation.client(caller).get(path + query).json["images"]
                    assert len(listed) == {"yes": 1, "no": 0}[LISTED[kind][name]], (kind, name, path)
        installation.empty()


def places(installation: "Installation") -> set[Place]:
    """Return the views of all resources, with each method that they take; every page of theirs has a line."""
    found: set[Place] = set()
    for view in installation.registry.introspector.get_category("views"):
        about = view["introspectable"]
        context, methods = about["context"], about["request_methods"] or "GET"
        is_resource = isinstance(context, type) and not issubclass(context, Exception)
        if is_resource and not context.__module__.startswith(ELSEWHERE):
            found |= {
                (context, about["name"], method) for method in (("GET", "HEAD") if methods == "GET" else [methods])
            }
    return found


def test_the_page_is_complete(own_installation: "Installation") -> None:
    """Each view is reached by a line of the page in each of its spellings, and by one for each kind of image."""
    reached: set[tuple[Place, str]] = set()
    spelling = ""

    def note(event: Any) -> None:
        request = event.request
        reached.add(((type(request.context), request.view_name, request.method), spelling))

    own_installation.registry.registerHandler(note, (IContextFound,))
    make_image(own_installation, "public")
    app = own_installation.client(NOBODY)
    for spelling in SPELLINGS:
        for row in spelled([*EVERYBODY, *IN_GENERAL, *OF_IMAGES["public"]], spelling):
            send(app, row, spelling, "tenant-b", int(row.cells["anonymous"]), has_body=False)
    for context, name, method in places(own_installation):
        at = {where for (kind, *rest), where in reached if issubclass(kind, context) and rest == [name, method]}
        is_spelled = any(part in context.__module__ + context.__name__ for part in ("Image", "Member", "Shared"))
        assert at == (set(SPELLINGS) if is_spelled else {""}), (context, name, method, at)
    assert list(OF_IMAGES) == list(COLUMNS)
    asked = {kind: {row.request for row in of_kind} for kind, of_kind in OF_IMAGES.items()}
    assert [kind for kind in KINDS if asked[kind] != asked["public"]] == []
