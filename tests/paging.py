"""Walks along the pages of a list, with whatever order, filters and changes between the pages, and their check."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from hypothesis import strategies as st

from factories import ADMIN, ALICE, BOB, NOBODY, image_row, insert_rows
from model import BLANK, Image, Model, Query
from pyrimage.catalogue.records import Identity, Status, utcnow
from pyrimage.models import Base, MemberRow, PropertyRow

# Few of each, so that there are equals; and such as databases like to take for equal, or to sort their own way.
IDS = [*"0123456789", "A", "AA", "a", "a-", "a.", "aa", "b", "b-", "b_", "c", "Z", "z"]
NAMES = [None, "a", "B", "b", "b ", "a\N{COMBINING ACUTE ACCENT}", "\N{FULLWIDTH TILDE}", "\N{GRINNING FACE}"]
MOMENTS = [datetime.fromisoformat("2001-01-01") + timedelta(microseconds=late) for late in (0, 1, 1_000_000)]
BOSS = Identity(user="boss", project="tenant-b", roles=frozenset({"admin"}))
SORT_KEYS = ["name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at"]
IMAGES = st.fixed_dictionaries(
    {
        "name": st.sampled_from(NAMES),
        "status": st.sampled_from([Status.ACTIVE, Status.QUEUED, Status.ACTIVE, Status.KILLED, Status.DELETED]),
        "size": st.sampled_from([0, 1, 2, 2**40]),
        "disk_format": st.sampled_from([None, "raw", "iso"]),
        "container_format": st.sampled_from([None, "bare"]),
        "is_public": st.booleans(),
        "protected": st.booleans(),
        "owner": st.sampled_from([None, "tenant-a", "tenant-b"]),
        "min_disk": st.integers(0, 1),
        "min_ram": st.integers(0, 1),
        "created_at": st.sampled_from(MOMENTS),
        "updated_at": st.sampled_from(MOMENTS),
        "properties": st.dictionaries(st.sampled_from(["os", "arch"]), st.sampled_from(["x", "X", ""])),
        "members": st.dictionaries(st.sampled_from(["tenant-a", "tenant-b"]), st.booleans()),
    }
)


@dataclass(frozen=True)
class Walk:
    """Who walks along which list, and what happens between the pages.

    gaps: for each, the images that are deleted, by numbers, and those that come.
    """

    caller: Identity
    collection: str
    query: Query
    gaps: list[tuple[list[int], dict[str, Image]]]


@dataclass(frozen=True)
class Walks:
    """The images that are there at first, and walks one after the other."""

    images: dict[str, Image]
    walks: list[Walk]


def _filters(image: Image) -> dict[Any, st.SearchStrategy[Any]]:
    """Make filters that this image passes."""
    equal = ("name", "status", "disk_format", "container_format", "min_disk", "min_ram", "protected")
    return {name: st.just(image[name]) for name in equal} | {
        "size_min": st.just(image["size"]),
        "size_max": st.just(image["size"]),
        "changes-since": st.sampled_from([MOMENTS[0] - timedelta(1), image["updated_at"]]),
        "properties": st.just(image["properties"]),
    }


@st.composite
def _walk(draw: st.DrawFn, images: dict[str, Image]) -> Walk:
    """Make a walk whose filters leave something to see, mostly."""
    filters = _filters(draw(st.sampled_from(list(images.values()))))
    names = sorted(draw(st.sets(st.sampled_from(sorted(filters)), max_size=2) | st.just({"properties"})))
    query = {name: draw(filters[name]) for name in names} | {"limit": draw(st.integers(1, 4))}
    keys = [None, *SORT_KEYS, *(name for name in names * 8 if name in SORT_KEYS)]
    order = draw(st.tuples(st.sampled_from(keys), st.sampled_from([None, "asc", "desc"])))
    query |= {name: word for name, word in zip(("sort_key", "sort_dir"), order, strict=True) if word}
    query |= draw(st.sampled_from([{"is_public": is_public} for is_public in (None, None, True, False)] + [{}]))
    if draw(st.sampled_from([False, False, False, True])):
        query["marker"] = draw(st.sampled_from(sorted(images)))  # of this list, or of no list of the caller's
    gap = st.tuples(
        st.lists(st.sampled_from(range(20)), max_size=2), st.dictionaries(st.sampled_from(IDS), IMAGES, max_size=2)
    )
    return Walk(
        draw(st.sampled_from([ADMIN, ALICE, BOB, BOSS, NOBODY])),
        draw(st.sampled_from(["/v1/images", "/v1/images/detail", "/images"])),
        query,
        draw(st.lists(gap, max_size=2)),
    )


@st.composite
def walks(draw: st.DrawFn) -> Walks:
    """Make images and walks."""
    images = draw(st.dictionaries(st.sampled_from(IDS), IMAGES, min_size=6))
    return Walks(images, draw(st.lists(_walk(images), min_size=1, max_size=16)))


def parameters(query: Query) -> dict[str, str]:
    """Spell a query."""
    spelled = {f"property-{key}": value for key, value in query.get("properties", {}).items()}
    for name, value in query.items():
        if name == "is_public":
            spelled[name] = str(value)
        elif isinstance(value, datetime):
            spelled[name] = f"{(value + timedelta(hours=2)).isoformat()}+02:00"
        elif name != "properties":
            spelled[name] = "" if value is None else str(value)
    return spelled


def add(installation: Any, model: Model, images: dict[str, Image]) -> None:
    """Write images past the API, which gives nobody such times and statuses."""
    rows: list[Base] = []
    for image_id, image in images.items():
        deleted_at = image["updated_at"] if image["status"] == Status.DELETED else None
        more = {"id": image_id, "deleted_at": deleted_at, "deleted": deleted_at is not None}
        columns = {name: value for name, value in image.items() if name not in ("properties", "members")}
        columns |= {name: "" for name, value in columns.items() if value is None}
        rows.append(image_row(**columns, **more))
        rows += [PropertyRow(image_id=image_id, key=key, value=value) for key, value in image["properties"].items()]
        rows += [MemberRow(image_id=image_id, member=it, can_share=may) for it, may in image["members"].items()]
        model.images[image_id] = {**BLANK, **image, **more}
    insert_rows(installation, *rows)


def check(installation: Any, walks: Walks) -> None:
    """Walk: each page must be the model's, and together they must show once and in order what stays, and no other."""
    model = Model()
    try:
        add(installation, model, walks.images)
        for walk in walks.walks:
            _check(installation, model, walk)
    finally:
        installation.empty()


def _check(installation: Any, model: Model, walk: Walk) -> None:
    known, whole = set(model.images), {**walk.query, "limit": 1000}
    before = model.page(walk.caller, whole) or []
    seen, deleted = _pages(installation, model, walk)
    after = model.page(walk.caller, whole) or []
    stays = [image_id for image_id in before if image_id in after and image_id not in deleted]
    _agree([image_id for image_id in seen if image_id in stays], stays)
    _agree(set(seen) - set(before) - (model.images.keys() - known) - deleted, set())
    moved = deleted if _moves_deleted(walk.query) else set()
    fixed = sorted(image_id for image_id in seen if image_id not in moved)
    _agree(fixed, sorted(set(fixed)))


def _moves_deleted(query: Query) -> bool:
    """Say whether an image that is deleted stays in the list, at another place; as a marker it is of no use then."""
    return "changes-since" in query and query.get("sort_key") in ("status", "updated_at")


def _pages(installation: Any, model: Model, walk: Walk) -> tuple[list[str], set[str]]:
    """Return the ids on all pages, and those that were deleted meanwhile."""
    client, query, gaps = installation.client(walk.caller), dict(walk.query), iter(walk.gaps)
    seen: list[str] = []
    deleted: set[str] = set()
    while True:
        expected = model.page(walk.caller, query)
        answer = client.get(walk.collection, parameters(query), status=400 if expected is None else 200)
        page = [image["id"] for image in answer.json.get("images", ())]
        _agree(page, expected or [])
        if not page:
            return seen, deleted
        seen += page
        query["marker"] = page[-1]
        deletions, additions = next(gaps, ((), {}))
        fixed = page[-1] if _moves_deleted(query) else None
        for number in deletions:
            alive = [id_ for id_, image in model.images.items() if not image["deleted"] and id_ != fixed]
            alive.sort(key=lambda image_id: image_id != page[-1])
            image_id = alive[max(number - 5, 0) % len(alive)] if alive else "none"  # often the marker itself
            status = model.delete(ADMIN, image_id, utcnow())
            installation.client(ADMIN).delete(f"/v1/images/{image_id}", status=status)
            deleted |= {image_id} if status == 200 else set()
        add(installation, model, {id_: image for id_, image in additions.items() if id_ not in model.images})


def _agree(shown: Any, expected: Any) -> None:
    if shown != expected:
        raise AssertionError(f"{shown} is not {expected}")
