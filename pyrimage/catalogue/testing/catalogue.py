"""A catalogue under test, and who looks at it.

The suites ask what a server asks: a claim's key is one of its image, a transaction makes one change, a change is of
now, and what is active has bytes.
"""

import dataclasses
import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from transaction import TransactionManager

from ..interfaces import Catalogue, Claims, Writes
from ..queries import ListQuery
from ..records import Blob, Claim, Identity, Image, Location, Status, new_image_id, utcnow

ADMIN = Identity(user="root", roles=frozenset({"admin"}))
OWNER = Identity(user="alice", project="tenant-a", roles=frozenset({"member"}))
MEMBER = Identity(user="bob", project="tenant-b", roles=frozenset({"member"}))
MEMBER_ADMIN = Identity(user="eve", project="tenant-b", roles=frozenset({"admin"}))
STRANGER = Identity(user="carol", project="tenant-c", roles=frozenset({"member"}))
BLANK = Identity(user="dave", project="")
ANONYMOUS = Identity()

NOON = datetime.fromisoformat("2011-09-22T12:00:00.123456")
NOW = timedelta(0)  # as a grace: expired is what is expired now

# One and the same to many a collation, and each a text of its own here.
TEXTS = ("a", "A", "a ", "\u00e1", "a\u0301", "\u00df", "ss", "a\u200b", "\U0001f600", "\U0001f601")


@dataclass(frozen=True)
class Subject:
    """A catalogue under test, and what the suites do with it.

    rows: the catalogue itself.
    expire: puts the lease of the claim with this key an hour into the past.
    limited: ``limited(user_image_quota=3)`` gives the same catalogue under other limits; at first there are none.
    """

    rows: Catalogue
    expire: Callable[[str], None]
    limited: Callable[..., "Subject"]

    @property
    def claims(self) -> Claims:
        """Uploads under way."""
        return self.rows.claims

    @contextmanager
    def transaction(self, caller: Identity = ADMIN) -> Iterator[Writes]:
        """Commit at the end, and abort if anything is raised."""
        manager = TransactionManager(explicit=True)
        with manager:
            yield self.rows.writes(manager, caller)

    def add(self, blob: Blob | None = None, **fields: Any) -> Image:
        """Store a new image, queued unless told otherwise."""
        image = make(**fields)
        with self.transaction() as writes:
            writes.add(image, blob)
        return image

    def begin(self, image: Image, key: str = "key", *, is_new: bool = False) -> Claim:
        """Claim an image."""
        claim = claim_on(image, key)
        self.claims.begin(claim, ADMIN, is_new=is_new)
        return claim

    def upload(self, key: str = "key", **fields: Any) -> Image:
        """Store an image with data, its whole way from the claim on."""
        image, blob = completed(make(**fields), key)
        self.claims.begin(dataclasses.replace(claim_on(image, key), size=blob.size), ADMIN, is_new=True)
        with self.transaction() as writes:
            writes.add(image, blob)
        return image

    def change(self, old: Image, blob: Blob | None = None, *, purge: bool = True, **fields: Any) -> Image:
        """Store an image's new fields; now, unless they say otherwise."""
        new = dataclasses.replace(old, **{"updated_at": utcnow(), **fields})
        with self.transaction() as writes:
            return writes.change(old, new, blob, purge=purge)

    def complete(self, queued: Image, key: str = "key") -> Image:
        """Commit an upload into a queued image."""
        new, blob = completed(dataclasses.replace(queued, updated_at=utcnow()), key)
        with self.transaction() as writes:
            return writes.change(queued, new, blob, purge=False)

    def remove(self, image: Image) -> list[Location]:
        """Delete an image; return what became garbage."""
        with self.transaction() as writes:
            writes.remove(image, keep_status=False)
        return list(writes.garbage)

    def share(self, image_id: str, project: str, can_share: bool | None = None) -> None:
        """Make a project a member of an image."""
        with self.transaction() as writes:
            writes.put_member(image_id, project, can_share, ADMIN)

    def find(self, image_id: str, viewer: Identity = ADMIN) -> Image | None:
        """Find an image."""
        return self.rows.find(image_id, viewer)

    def ids(self, viewer: Identity = ADMIN, **query: Any) -> list[str]:
        """List ids; for an administrator of every image, unless ``query`` says otherwise."""
        wanted = {"limit": 1000, "default_scope": not viewer.is_admin, **query}
        return [image.id for image in self.rows.brief_page(ListQuery(**wanted), viewer)]

    def one_of_each(self) -> dict[str, str]:
        """Store an image of each kind that visibility tells apart; return their ids by kind."""
        kinds = {
            "private": self.add(owner="tenant-a"),
            "public": self.add(owner="tenant-a", is_public=True),
            "shared": self.add(owner="tenant-a"),
            "nobody's": self.add(),
            "deleted": self.add(owner="tenant-a", is_public=True),
        }
        for kind in ("shared", "deleted"):
            self.share(kinds[kind].id, "tenant-b")
        self.remove(kinds["deleted"])
        return {kind: image.id for kind, image in kinds.items()}


def make(**fields: Any) -> Image:
    """Make an image's record."""
    return Image(**{"id": new_image_id(), "created_at": NOON, "updated_at": NOON, **fields})


def key_of(image_id: str, key: str = "key") -> str:
    """Return the key, as stores make them, that stands for the test's own word."""
    return f"{image_id}.{hashlib.sha256(key.encode()).hexdigest()[:16]}"


def place_of(image: Image, key: str = "key") -> Location:
    """Return where an image's bytes lie."""
    return Location("file", key_of(image.id, key))


def completed(image: Image, key: str = "key") -> tuple[Image, Blob]:
    """Make what an upload of five bytes, or as many as were announced, makes of an image, and its blob."""
    blob = Blob(image.size or 5, "5" * 32, "6" * 64, place_of(image, key), claim=key_of(image.id, key))
    facts: dict[str, Any] = {
        "size": blob.size,
        "checksum": blob.checksum,
        "sha256": blob.sha256,
        "location": blob.location,
        "activated_at": utcnow(),
    }
    return dataclasses.replace(image, status=Status.ACTIVE, **facts), blob


def claim_on(image: Image, key: str = "key") -> Claim:
    """Make the claim of an upload of five bytes."""
    return Claim(image.id, "file", key_of(image.id, key), image.owner, 5)


def at_once(*calls: Callable[[], object]) -> list[Any]:
    """Run the calls in threads, from the same moment on; return what each returned or raised."""
    barrier = threading.Barrier(len(calls))

    def run(call: Callable[[], object]) -> object:
        barrier.wait()
        try:
            return call()
        except Exception as error:  # noqa: BLE001 - what was raised is what the test looks at
            return error

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def kinds_of(outcomes: Iterable[object]) -> list[str]:
    """Name the types of what ``at_once`` returned, in order of the alphabet."""
    return sorted(type(outcome).__name__ for outcome in outcomes)
