"""What every catalogue must do: suites for pytest, run over each implementation by a small subclass.

::

    class TestMyImages(ImagesConformance):
        @pytest.fixture
        def catalogue(self) -> Catalogue: ...  # empty at the start of each test
"""

import dataclasses
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest

from ..errors import Conflict, ImageExists, Invalid, NotFound, UploadEnded, UploadInProgress
from ..records import EMPTY, Blob, Claim, Image, Location, Status, new_image_id
from ..schemas.listing import ListQuery
from ..security import Identity
from .interfaces import Claims, Images

ADMIN = Identity(user="root", roles=frozenset({"admin"}))
OWNER = Identity(user="alice", project="tenant-a", roles=frozenset({"member"}))
MEMBER = Identity(user="bob", project="tenant-b", roles=frozenset({"member"}))
STRANGER = Identity(user="carol", project="tenant-c", roles=frozenset({"member"}))
BLANK = Identity(user="dave", project="")
ANONYMOUS = Identity()

NOON = datetime(2011, 9, 22, 12, 0, 0, 123456)
NOW = timedelta(0)  # as a grace: expired is what is expired now

# One and the same to many a collation, and each a text of its own here.
TEXTS = ("a", "A", "a ", "\u00e1", "a\u0301", "\u00df", "ss", "a\u200b", "\U0001f600", "\U0001f601")


@dataclass(frozen=True)
class Catalogue:
    """A catalogue under test, and what the suites do with it.

    transaction: ``with transaction() as images`` commits at its end, and aborts if anything is raised.
    share: ``share(image_id, project)`` makes the project a member. expire: puts the lease of the claim with this key
    an hour into the past.
    """

    transaction: Callable[[], AbstractContextManager[Images]]
    claims: Claims
    share: Callable[[str, str], None]
    expire: Callable[[str], None]

    def add(self, blob: Blob | None = None, **fields: Any) -> Image:
        """Store a new image, queued unless told otherwise."""
        image = make(**fields)
        with self.transaction() as images:
            images.add(image, blob)
        return image

    def upload(self, key: str = "key", **fields: Any) -> Image:
        """Store an image with data, its whole way from the claim on."""
        image, blob = completed(make(**fields), key)
        self.claims.begin(claim_on(image, key), is_new=True)
        with self.transaction() as images:
            images.add(image, blob)
        return image

    def change(self, old: Image, blob: Blob | None = None, **fields: Any) -> Image:
        """Store an image's new fields."""
        new = dataclasses.replace(old, **fields)
        with self.transaction() as images:
            images.change(old, new, blob)
        return new

    def complete(self, queued: Image, key: str = "key") -> Image:
        """Commit an upload into a queued image."""
        new, blob = completed(queued, key)
        with self.transaction() as images:
            images.change(queued, new, blob)
        return new

    def remove(self, image: Image) -> list[Location]:
        """Delete an image."""
        with self.transaction() as images:
            return list(images.remove(image))

    def find(self, image_id: str, viewer: Identity = ADMIN) -> Image | None:
        """Find an image in a transaction of its own."""
        with self.transaction() as images:
            return images.find(image_id, viewer)

    def ids(self, viewer: Identity = ADMIN, **query: Any) -> list[str]:
        """List ids; for an administrator of every image, unless ``query`` says otherwise."""
        wanted = {"limit": 1000, "default_scope": not viewer.is_admin, **query}
        with self.transaction() as images:
            return [image.id for image in images.page(ListQuery(**wanted), viewer, detailed=False)]

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


def completed(image: Image, key: str) -> tuple[Image, Blob]:
    """Make what an upload of five bytes makes of an image, and its blob."""
    blob = Blob(5, "5" * 32, "6" * 64, Location("file", key), claim=key)
    facts = {"size": blob.size, "checksum": blob.checksum, "sha256": blob.sha256, "location": blob.location}
    return dataclasses.replace(image, status=Status.ACTIVE, **facts), blob


def claim_on(image: Image, key: str = "key") -> Claim:
    """Make the claim of an upload of five bytes."""
    return Claim(image.id, "file", key, image.owner, 5)


def at_once(*calls: Callable[[], object]) -> list[object]:
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


class ImagesConformance:
    """The behaviour of ``Images``."""

    @pytest.mark.parametrize(
        ("viewer", "visible"),
        [
            (ADMIN, {"private", "public", "shared", "nobody's", "deleted"}),
            (OWNER, {"private", "public", "shared"}),
            (MEMBER, {"public", "shared"}),
            (STRANGER, {"public"}),
            (BLANK, {"public"}),
            (ANONYMOUS, {"public"}),
        ],
        ids=str,
    )
    def test_find_gives_what_the_viewer_may_see(
        self, catalogue: Catalogue, viewer: Identity, visible: set[str]
    ) -> None:
        kinds = catalogue.one_of_each()
        assert {kind for kind, image_id in kinds.items() if catalogue.find(image_id, viewer)} == visible

    @pytest.mark.parametrize(
        ("viewer", "query", "visible"),
        [
            (ADMIN, {"default_scope": True}, {"public"}),
            (ADMIN, {"is_public": None}, {"private", "public", "shared", "nobody's"}),
            (ADMIN, {"is_public": True}, {"public"}),
            (ADMIN, {"is_public": False}, {"private", "shared", "nobody's"}),
            (dataclasses.replace(ADMIN, project="tenant-b"), {"default_scope": True}, {"public", "shared"}),
            (OWNER, {}, {"private", "public", "shared"}),
            (MEMBER, {}, {"public", "shared"}),
            (STRANGER, {}, {"public"}),
            (BLANK, {}, {"public"}),
            (ANONYMOUS, {}, {"public"}),
        ],
        ids=str,
    )
    def test_a_page_shows_what_the_viewer_may_see(
        self, catalogue: Catalogue, viewer: Identity, query: dict[str, Any], visible: set[str]
    ) -> None:
        kinds = catalogue.one_of_each()
        assert sorted(catalogue.ids(viewer, **query)) == sorted(kinds[kind] for kind in visible)

    def test_an_unknown_id_is_not_found(self, catalogue: Catalogue) -> None:
        assert catalogue.find("unknown") is None

    def test_an_image_is_found_exactly_as_it_was_added(self, catalogue: Catalogue) -> None:
        image = catalogue.upload(
            name="f17",
            disk_format="raw",
            container_format="bare",
            is_public=True,
            protected=True,
            owner="tenant-a",
            min_disk=2**31 - 1,
            min_ram=2**31 - 1,
            created_at=datetime(1900, 1, 1, 0, 0, 0, 1),
            updated_at=datetime(9999, 12, 31, 23, 59, 59, 999999),
            properties={"os": "linux", "empty": ""},
        )
        assert catalogue.find(image.id) == image

    def test_what_was_not_given_stays_none(self, catalogue: Catalogue) -> None:
        image = catalogue.add()
        assert (image.name, image.owner, image.disk_format, image.checksum) == (None,) * 4
        assert catalogue.find(image.id) == image

    def test_the_announced_size_and_digests_of_a_queued_image_are_kept(self, catalogue: Catalogue) -> None:
        image = catalogue.add(size=2**63 - 1, checksum="0" * 32, sha256="0" * 64)
        assert catalogue.find(image.id) == image

    def test_an_image_without_bytes_has_no_location(self, catalogue: Catalogue) -> None:
        image = catalogue.add(EMPTY, status=Status.ACTIVE, checksum=EMPTY.checksum, sha256=EMPTY.sha256)
        assert catalogue.find(image.id) == image

    def test_an_aborted_transaction_leaves_nothing(self, catalogue: Catalogue) -> None:
        image = make(properties={"os": "linux"})
        with pytest.raises(ZeroDivisionError), catalogue.transaction() as images:
            images.add(image, None)
            raise ZeroDivisionError
        assert catalogue.find(image.id) is None

    @pytest.mark.parametrize("is_deleted", [False, True])
    def test_a_taken_id_stays_taken(self, catalogue: Catalogue, is_deleted: bool) -> None:
        image = catalogue.add(id="taken", name="first")
        if is_deleted:
            catalogue.remove(image)
        with pytest.raises(ImageExists):
            catalogue.add(id="taken", name="second")
        assert getattr(catalogue.find("taken"), "name", None) == "first"

    def test_an_id_that_an_upload_has_claimed_is_taken(self, catalogue: Catalogue) -> None:
        image = make()
        catalogue.claims.begin(claim_on(image), is_new=True)
        with pytest.raises(UploadInProgress):
            catalogue.add(id=image.id)
        assert catalogue.find(image.id) is None

    def test_of_two_images_added_with_one_id_at_once_one_is_stored(self, catalogue: Catalogue) -> None:
        outcomes = at_once(*[lambda: catalogue.add(id="one")] * 2)
        assert kinds_of(outcomes) == ["Image", "ImageExists"]

    def test_a_finished_upload_ends_its_claim(self, catalogue: Catalogue) -> None:
        image = catalogue.upload("key")
        assert not catalogue.claims.seize(claim_on(image), grace=timedelta(days=-1))

    def test_an_upload_whose_claim_was_seized_adds_nothing(self, catalogue: Catalogue) -> None:
        image, blob = completed(make(), "key")
        catalogue.claims.begin(claim_on(image), is_new=True)
        catalogue.expire("key")
        catalogue.claims.seize(claim_on(image), NOW)
        with pytest.raises(UploadEnded), catalogue.transaction() as images:
            images.add(image, blob)
        assert catalogue.find(image.id) is None

    def test_fields_change(self, catalogue: Catalogue) -> None:
        others = catalogue.add(name="others", properties={"os": "linux"})
        image = catalogue.add(name="before", disk_format="raw", owner="tenant-a")
        later = NOON + timedelta(microseconds=1)
        changed = catalogue.change(image, name="after", disk_format=None, is_public=True, updated_at=later)
        assert catalogue.find(image.id) == changed
        assert catalogue.find(others.id) == others

    def test_properties_come_go_change_and_stay(self, catalogue: Catalogue) -> None:
        image = catalogue.add(properties={"stays": "1", "changes": "2", "goes": "3"})
        changed = catalogue.change(image, properties={"stays": "1", "changes": "", "comes": "4"})
        assert catalogue.find(image.id) == changed

    def test_an_upload_completes_a_queued_image(self, catalogue: Catalogue) -> None:
        image = catalogue.add()
        catalogue.claims.begin(claim_on(image), is_new=False)
        assert catalogue.find(image.id) == image
        assert catalogue.complete(image) == catalogue.find(image.id)

    def test_an_upload_whose_claim_was_seized_changes_nothing(self, catalogue: Catalogue) -> None:
        image = catalogue.add()
        catalogue.claims.begin(claim_on(image), is_new=False)
        catalogue.expire("key")
        catalogue.claims.seize(claim_on(image), NOW)
        with pytest.raises(UploadEnded):
            catalogue.complete(image)
        assert catalogue.find(image.id) == image

    def test_a_change_is_refused_when_an_upload_came_between(self, catalogue: Catalogue) -> None:
        image = catalogue.add(name="before")
        catalogue.claims.begin(claim_on(image), is_new=False)
        active = catalogue.complete(image)
        with pytest.raises(Conflict):
            catalogue.change(image, name="after", properties={"os": "linux"})
        assert catalogue.find(image.id) == active

    def test_a_change_is_refused_when_a_deletion_came_between(self, catalogue: Catalogue) -> None:
        image = catalogue.add(name="before")
        catalogue.remove(image)
        with pytest.raises(Conflict):
            catalogue.change(image, name="after")
        assert getattr(catalogue.find(image.id), "name", None) == "before"

    def test_of_two_changes_of_the_status_at_once_one_is_stored(self, catalogue: Catalogue) -> None:
        image = catalogue.add()
        changes = [lambda: catalogue.change(image, EMPTY, status=Status.ACTIVE)] * 2
        assert kinds_of(at_once(*changes)) == ["Conflict", "Image"]

    def test_one_property_added_twice_at_once_has_either_value(self, catalogue: Catalogue) -> None:
        image = catalogue.add()
        changes = [
            lambda: catalogue.change(image, name="one", properties={"os": "one"}),
            lambda: catalogue.change(image, name="two", properties={"os": "two"}),
        ]
        assert kinds_of(at_once(*changes)) in (["Image", "Image"], ["Conflict", "Image"])
        stored = catalogue.find(image.id)
        assert stored is not None
        assert stored.properties == {"os": stored.name}

    def test_a_removed_image_leaves_garbage_and_its_last_state(self, catalogue: Catalogue) -> None:
        image = catalogue.upload("key", name="f17", properties={"os": "linux"})
        assert catalogue.remove(image) == [Location("file", "key")]
        assert catalogue.claims.garbage() == [Location("file", "key")]
        deleted = catalogue.find(image.id)
        assert deleted is not None
        assert deleted.deleted
        assert deleted.deleted_at == deleted.updated_at
        times = {"updated_at": image.updated_at, "deleted_at": None}
        expected = dataclasses.replace(image, status=Status.DELETED, location=None)
        assert dataclasses.replace(deleted, **times) == expected

    def test_an_image_without_bytes_leaves_no_garbage(self, catalogue: Catalogue) -> None:
        assert catalogue.remove(catalogue.add()) == []
        assert catalogue.claims.garbage() == []

    def test_an_image_is_removed_once(self, catalogue: Catalogue) -> None:
        image = catalogue.upload()
        assert kinds_of(at_once(*[lambda: catalogue.remove(image)] * 2)) == ["NotFound", "list"]
        with pytest.raises(NotFound):
            catalogue.remove(image)

    def test_pages_are_newest_first_and_equal_times_sort_by_id(self, catalogue: Catalogue) -> None:
        expected = ["newest", "b", "a.", "a-", "a", "_", "B", "A", "1", "oldest"]
        for image_id in sorted(expected):
            seconds = {"newest": 1, "oldest": -1}.get(image_id, 0)
            catalogue.add(id=image_id, created_at=NOON + timedelta(microseconds=seconds), is_public=True)
        assert catalogue.ids() == catalogue.ids(ANONYMOUS) == expected
