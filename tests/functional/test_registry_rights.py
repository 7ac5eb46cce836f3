"""S7: a user who reaches the registry with a valid signature can do no more than through the API.

The same calls go through both faces over the same images: what one refuses the other does, and leaves the same rows.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from conftest import Installation, install
from factories import (
    ADMIN,
    ALICE,
    BOB,
    NOBODY,
    READER,
    data_headers,
    error_of,
    id_of,
    insert_rows,
    meta,
    reserve,
    stored,
    upload,
)
from pyrimage.catalogue.records import Identity
from pyrimage.models import Base, MemberRow
from pyrimage.models.location import ACTIVE
from registries import Registry, blob_of, registry_of

STRANGER = Identity(user="carol", project="tenant-c", roles=frozenset({"member"}))
HOMELESS = Identity(user="dave", roles=frozenset({"member"}))
CALLERS = {
    "owner": ALICE,
    "reader": READER,
    "member": BOB,
    "stranger": STRANGER,
    "homeless": HOMELESS,
    "nobody": NOBODY,
    "admin": ADMIN,
}
IMAGES = ("public", "private", "nobody's", "protected", "queued", "deleted", "none")
VARYING = ("created_at", "updated_at", "deleted_at", "final_updated_at")


@dataclass(frozen=True)
class Call:
    """One call as the API takes it and as the registry does; ``{}`` in the path, or as the id, is the image's id."""

    method: str
    path: str
    fields: Mapping[str, Any]
    more: Mapping[str, str]

    def at_the_api(self, app: Any, image: str) -> Any:
        headers = {**meta(**self._fields(image)), **self.more}
        return app.request(f"/v1{self.path.format(image)}", method=self.method, headers=headers, status="*")

    def at_the_registry(self, registry: Registry, image: str) -> Any:
        speaks = self.method in ("POST", "PUT") and "members" not in self.path
        header = {"X-Glance-Registry-Purge-Props": "true", **self.more}
        value = {"image": self._fields(image)} if speaks else None
        return registry.ask(self.method, self.path.format(image), value, "*", header)

    @property
    def is_of_an_image(self) -> bool:
        return "{}" in (self.path + str(self.fields.get("id")))

    def _fields(self, image: str) -> dict[str, Any]:
        return {name: image if value == "{}" else value for name, value in self.fields.items()}


def call(method: str, path: str, more: Mapping[str, str] | None = None, **fields: Any) -> Call:
    return Call(method, path, fields, more or {})


KEEP = {"X-Glance-Registry-Purge-Props": "false"}
CALLS = {
    "show": call("HEAD", "/images/{}"),
    "rename": call("PUT", "/images/{}", name="renamed"),
    "change nothing": call("PUT", "/images/{}"),
    "publish": call("PUT", "/images/{}", is_public=True),
    "hide": call("PUT", "/images/{}", is_public=False),
    "protect": call("PUT", "/images/{}", protected=True),
    "unprotect": call("PUT", "/images/{}", protected=False),
    "give away": call("PUT", "/images/{}", owner="tenant-c"),
    "add a property": call("PUT", "/images/{}", KEEP, properties={"new": "1"}),
    "replace properties": call("PUT", "/images/{}", properties={"new": "1"}),
    "one amazon format": call("PUT", "/images/{}", disk_format="ami"),
    "a format that does not go": call("PUT", "/images/{}", disk_format="ami", container_format="bare"),
    "another size": call("PUT", "/images/{}", size=6),
    "another digest": call("PUT", "/images/{}", checksum="7" * 32),
    "another id": call("PUT", "/images/{}", id="other"),
    **{f"status {word}": call("PUT", "/images/{}", status=word) for word in ("active", "deactivated", "deleted")},
    "another time": call("PUT", "/images/{}", created_at="2011-09-22T19:57:47", updated_at="2011-09-22T19:57:47"),
    "a quota of properties": call("PUT", "/images/{}", properties={"a": "1", "b": "2", "c": "3", "d": "4"}),
    "delete": call("DELETE", "/images/{}"),
    "list members": call("GET", "/images/{}/members"),
    "share": call("PUT", "/images/{}/members/tenant-e"),
    "leave": call("DELETE", "/images/{}/members/tenant-b"),
    "reserve": call("POST", "/images", id="new", name="new"),
    "reserve for another": call("POST", "/images", id="new", owner="tenant-c"),
    "reserve in public": call("POST", "/images", id="new", is_public=True),
    "reserve what is taken": call("POST", "/images", id="{}"),
    "reserve too much": call("POST", "/images", id="new", size=10**9),
    "reserve as queued": call("POST", "/images", id="new", status="queued"),
    "reserve as of old": call("POST", "/images", id="new", created_at="2011-09-22T19:57:47"),
    "what is shared": call("GET", "/shared-images/tenant-b"),
}
SETTINGS = {"publicize_image": "admin", "image_property_quota": "3", "image_size_cap": "1MB"}


@dataclass(frozen=True)
class Pair:
    """An API and a registry of one database, which holds an image of each kind."""

    api: Installation
    registry: Registry
    ids: Mapping[str, str]
    before: Mapping[str, Any]

    def settle(self) -> dict[str, Any]:
        """Return what is stored, without the times of the call but for their years, and put back what was."""
        found = stored(self.api)
        changed = {name for name, rows in found.items() if name != "stored" and rows != self.before[name]}
        with self.api.engine.begin() as connection:
            for table in reversed(Base.metadata.sorted_tables) if changed else ():
                connection.execute(table.delete())
            for table in Base.metadata.sorted_tables if changed else ():
                if self.before.get(table.name):
                    connection.execute(table.insert(), [dict(row._mapping) for row in self.before[table.name]])
        images = [
            {key: str(value)[:4] if key in VARYING else value for key, value in row._mapping.items()}
            for row in found["images"]
        ]
        # Whoever asks the registry removes bytes; owners' rows are only locks.
        places = [row for row in found["image_locations"] if row.state == ACTIVE]
        return {**found, "stored": None, "owners": None, "images": images, "image_locations": places}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    api = install(tmp_path_factory.mktemp("api"), **SETTINGS)
    with registry_of(api, tmp_path_factory.mktemp("registry"), **SETTINGS) as registry:
        yield Pair(api, registry, arrange(api), stored(api))
    api.engine.dispose()


def arrange(api: Installation) -> dict[str, str]:
    """Make an image of each kind, and share what can be shared with Bob's project; return their ids."""
    owner, admin = api.client(ALICE), api.client(ADMIN)
    fields: dict[str, Any] = {"name": "f17", "disk_format": "raw", "container_format": "bare", "properties": {"a": "1"}}
    paths = {
        "public": upload(admin, **fields, owner="tenant-a", is_public=True),
        "private": upload(owner, **fields),
        "nobody's": upload(admin, **fields),
        "protected": upload(owner, **fields, protected=True),
        "queued": reserve(owner, **fields),
        "deleted": upload(owner, **fields),
    }
    ids = {kind: id_of(path) for kind, path in paths.items()}
    insert_rows(api, *(MemberRow(image_id=each, member="tenant-b", can_share=False) for each in ids.values()))
    owner.delete(paths["deleted"])
    return {**ids, "none": "none"}


# The same refusal in other words: where sharing is not allowed, 404 at the API, as v1 has it, and 403 at the registry;
# for nobody 401 at the API, where one can log in, and 403 at the registry, whose callers are named by a server.
SAME = {404: {404, 403}, 401: {403}}


@pytest.mark.parametrize("name", CALLS)
def test_both_faces_refuse_the_same_calls_and_leave_the_same_rows(name: str, pair: Pair) -> None:
    """S1, S2, S7."""
    each, differing = CALLS[name], []
    for kind in IMAGES if each.is_of_an_image else ("none",):
        for caller, identity in CALLERS.items():
            shown = each.at_the_api(pair.api.client(identity), pair.ids[kind]).status_int, pair.settle()
            told = each.at_the_registry(pair.registry.by(identity), pair.ids[kind]).status_int, pair.settle()
            is_same = told[0] in SAME.get(shown[0], {shown[0]}) or max(shown[0], told[0]) < 400
            if not is_same or shown[1] != told[1]:
                differing.append((kind, caller, shown[0], told[0]))
    assert differing == []


def test_lists_show_each_caller_the_same_images(pair: Pair) -> None:
    """S7."""
    for identity in CALLERS.values():
        for query in ("", "?is_public=false", "?is_public=none", "?changes-since=2000-01-01", "?name=f17&limit=2"):
            shown = pair.api.client(identity).get(f"/v1/images{query}").json["images"]
            told = pair.registry.by(identity).ask("GET", f"/images{query}").json["images"]
            assert [image["id"] for image in shown] == [image["id"] for image in told]


def test_an_upload_counts_for_the_caps_and_quotas_of_both(
    install_with: Callable[..., Installation], tmp_path: Path
) -> None:
    """S7: as at the API, where a body says how long it is."""
    limits = {"image_size_cap": "4", "user_image_quota": "1"}
    api = install_with(**limits)
    api.client(ALICE).post("/v1/images", b"bytes", headers=data_headers(), status=413)
    with registry_of(api, tmp_path / "registry", **limits) as registry:
        alice = registry.by(ALICE)
        claim = alice.claim()
        sent = {"image": {"id": claim["image_id"]}, "blob": blob_of(claim)}
        assert "pyrimage.image_size_cap" in error_of(alice.ask("POST", "/images", sent, 413))
        alice.claim(status=413)


# Sharing: as at the API, but for 403 where a caller sees the image and may not share it


def names(registry: Registry, path: str) -> dict[str, bool]:
    found = registry.ask("GET", path, status=200).json["members"]
    return {each["member_id"]: each["can_share"] for each in found}


@pytest.mark.parametrize(
    ("method", "path", "value"),
    [
        *(("PUT", "/tenant-c", value) for value in (None, {"member": {"can_share": True}})),
        ("PUT", "", {"memberships": []}),
        ("DELETE", "/tenant-d", None),
    ],
)
def test_who_may_not_share_is_told_403_if_it_sees_the_image(
    method: str, path: str, value: Any, registry: Registry
) -> None:
    image = f"/images/{registry.by(ALICE).add()['id']}"
    members = f"{image}/members"
    for member in ("tenant-b", "tenant-d"):
        registry.by(ALICE).ask("PUT", f"{members}/{member}", status=204)
    before = names(registry, members)
    for caller, status in ((BOB, 403), (STRANGER, 404), (NOBODY, 404)):
        error_of(registry.by(caller).ask(method, members + path, value, status))
    registry.ask("PUT", image, {"image": {"is_public": True}}, 200)
    for caller in (STRANGER, NOBODY):
        error_of(registry.by(caller).ask(method, members + path, value, 403))
    assert names(registry, members) == before
