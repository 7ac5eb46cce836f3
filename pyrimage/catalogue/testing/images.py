"""The behaviour of ``Images``, its lists aside."""

import dataclasses
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest

from ...errors import Conflict, ImageExists, NotFound, UploadEnded, UploadInProgress
from ..records import EMPTY, Identity, Image, Status, utcnow
from .catalogue import (
    ADMIN,
    ANONYMOUS,
    BLANK,
    MEMBER,
    NOON,
    NOW,
    OWNER,
    STRANGER,
    TEXTS,
    Subject,
    at_once,
    claim_on,
    completed,
    kinds_of,
    make,
    place_of,
)


class ImagesConformance:
    """Find, add, change and remove. projects: their names compare byte by byte; each can be sent as a header."""

    projects: Sequence[str] = tuple(text for text in TEXTS if text == text.strip())

    @pytest.mark.parametrize(
        ("viewer", "visible"),
        [
            pytest.param(ADMIN, {"private", "public", "shared", "nobody's", "deleted"}, id="admin"),
            pytest.param(OWNER, {"private", "public", "shared"}, id="owner"),
            pytest.param(MEMBER, {"public", "shared"}, id="member"),
            pytest.param(STRANGER, {"public"}, id="stranger"),
            pytest.param(BLANK, {"public"}, id="blank project"),
            pytest.param(ANONYMOUS, {"public"}, id="anonymous"),
        ],
    )
    def test_find_gives_what_the_viewer_may_see(self, catalogue: Subject, viewer: Identity, visible: set[str]) -> None:
        kinds = catalogue.one_of_each()
        assert {kind for kind, image_id in kinds.items() if catalogue.find(image_id, viewer)} == visible

    def test_an_unknown_id_is_not_found(self, catalogue: Subject) -> None:
        assert catalogue.find("unknown") is None

    def test_an_image_is_found_exactly_as_it_was_added(self, catalogue: Subject) -> None:
        image = catalogue.upload(
            name="f17",
            disk_format="raw",
            container_format="bare",
            is_public=True,
            protected=True,
            owner="tenant-a",
            min_disk=2**31 - 1,
            min_ram=2**31 - 1,
            created_at=datetime.fromisoformat("1900-01-01T00:00:00.000001"),
            updated_at=datetime.fromisoformat("9999-12-31T23:59:59.999999"),
            properties={"os": "linux", "empty": ""},
        )
        assert catalogue.find(image.id) == image

    def test_what_was_not_given_stays_none(self, catalogue: Subject) -> None:
        image = catalogue.add()
        assert (image.name, image.owner, image.disk_format, image.checksum) == (None,) * 4
        assert catalogue.find(image.id) == image

    def test_the_announced_size_and_digests_of_a_queued_image_are_kept(self, catalogue: Subject) -> None:
        image = catalogue.add(size=2**63 - 1, checksum="0" * 32, sha256="0" * 64)
        assert catalogue.find(image.id) == image

    def test_an_image_without_bytes_has_no_location(self, catalogue: Subject) -> None:
        facts = {"checksum": EMPTY.checksum, "sha256": EMPTY.sha256, "activated_at": utcnow()}
        image = catalogue.add(EMPTY, status=Status.ACTIVE, **facts)
        assert catalogue.find(image.id) == image

    def test_an_aborted_transaction_leaves_nothing(self, catalogue: Subject) -> None:
        image = make(properties={"os": "linux"})

        def fail_after_adding() -> None:
            with catalogue.transaction() as writes:
                writes.add(image, None)
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            fail_after_adding()
        assert catalogue.find(image.id) is None

    @pytest.mark.parametrize("is_deleted", [False, True])
    def test_a_taken_id_stays_taken(self, catalogue: Subject, is_deleted: bool) -> None:
        image = catalogue.add(id="taken", name="first")
        if is_deleted:
            catalogue.remove(image)
        with pytest.raises(ImageExists):
            catalogue.add(id="taken", name="second")
        assert getattr(catalogue.find("taken"), "name", None) == "first"

    def test_an_id_that_an_upload_has_claimed_is_taken(self, catalogue: Subject) -> None:
        image = make()
        catalogue.begin(image, is_new=True)
        with pytest.raises(UploadInProgress):
            catalogue.add(id=image.id)
        assert catalogue.find(image.id) is None

    def test_of_two_images_added_with_one_id_at_once_one_is_stored(self, catalogue: Subject) -> None:
        outcomes = at_once(*[lambda: catalogue.add(id="one")] * 2)
        assert kinds_of(outcomes) == ["Image", "ImageExists"]

    def test_a_finished_upload_ends_its_claim(self, catalogue: Subject) -> None:
        image = catalogue.upload()
        catalogue.expire(claim_on(image).key)
        assert not catalogue.claims.seize(claim_on(image), NOW)

    def test_an_upload_whose_claim_was_seized_adds_nothing(self, catalogue: Subject) -> None:
        image, blob = completed(make())
        claim = catalogue.begin(image, is_new=True)
        catalogue.expire(claim.key)
        catalogue.claims.seize(claim, NOW)
        with pytest.raises(UploadEnded), catalogue.transaction() as writes:
            writes.add(image, blob)
        assert catalogue.find(image.id) is None

    def test_fields_change(self, catalogue: Subject) -> None:
        others = catalogue.add(name="others", properties={"os": "linux"})
        image = catalogue.add(name="before", disk_format="raw", owner="tenant-a")
        changed = catalogue.change(image, name="after", disk_format=None, is_public=True)
        assert catalogue.find(image.id) == changed
        assert catalogue.find(others.id) == others

    @pytest.mark.parametrize("behind", [timedelta(seconds=20), timedelta(0)], ids=["went back", "stood still"])
    def test_every_change_moves_updated_at_on_whatever_the_clock_says(
        self, catalogue: Subject, behind: timedelta
    ) -> None:
        """What a list shows as changed since a moment is never missed."""
        image = catalogue.add(updated_at=utcnow())
        clock = image.updated_at - behind
        acts: list[Callable[[Image], Image]] = [
            lambda found: catalogue.change(found, name="f17", updated_at=clock),
            lambda found: catalogue.change(found, updated_at=clock, properties={"os": "linux"}),
        ]
        for act in acts:
            last = catalogue.find(image.id)
            assert last is not None
            changed = act(last)
            assert changed.updated_at > last.updated_at
            assert catalogue.find(image.id) == changed
            assert catalogue.ids(changes_since=last.updated_at) == [image.id]

    @pytest.mark.parametrize(
        ("last", "then"),
        [
            ("2100-01-01T00:00:00.999999", "2100-01-01T00:00:01.000000"),
            ("9999-12-31T23:59:59.999999", "9999-12-31T23:59:59.999999"),  # no time is later
        ],
    )
    def test_a_change_and_a_removal_move_a_time_that_is_still_to_come(
        self, catalogue: Subject, last: str, then: str
    ) -> None:
        """An administrator may have copied the image from a machine whose clock is wrong."""
        moment = datetime.fromisoformat(last)
        changing, going = catalogue.add(updated_at=moment), catalogue.add(updated_at=moment)
        assert catalogue.change(changing, name="f17", updated_at=NOON).updated_at == datetime.fromisoformat(then)
        catalogue.remove(going)
        gone = catalogue.find(going.id)
        assert gone is not None
        assert gone.updated_at == datetime.fromisoformat(then)
        assert gone.deleted_at is not None
        assert gone.deleted_at < moment

    def test_of_changes_at_once_no_answer_names_a_later_time_than_is_stored(self, catalogue: Subject) -> None:
        image = catalogue.add()
        changes = [lambda number=number: catalogue.change(image, min_ram=number + 1) for number in range(12)]
        times = [changed.updated_at for changed in at_once(*changes)]
        stored = catalogue.find(image.id)
        assert stored is not None
        assert image.updated_at < max(times) <= stored.updated_at

    def test_properties_come_go_change_and_stay(self, catalogue: Subject) -> None:
        image = catalogue.add(properties={"stays": "1", "changes": "2", "goes": "3"})
        changed = catalogue.change(image, properties={"stays": "1", "changes": "", "comes": "4"})
        assert catalogue.find(image.id) == changed

    def test_of_two_replacements_of_the_properties_the_last_one_stays(self, catalogue: Subject) -> None:
        image = catalogue.add(properties={"old": "1"})
        catalogue.change(image, properties={"first": "1", "both": "1"})
        last = catalogue.change(image, properties={"last": "2", "both": "2"})
        assert catalogue.find(image.id) == last

    def test_additions_to_the_properties_leave_those_of_others(self, catalogue: Subject) -> None:
        image = catalogue.add(properties={"old": "1", "kept": "1"})
        catalogue.change(image, properties={**image.properties, "first": "1", "both": "1"}, purge=False)
        catalogue.change(image, properties={**image.properties, "last": "2", "both": "2", "old": "2"}, purge=False)
        found = catalogue.find(image.id)
        assert found is not None
        assert found.properties == {"old": "2", "kept": "1", "first": "1", "both": "2", "last": "2"}

    def test_an_upload_completes_a_queued_image(self, catalogue: Subject) -> None:
        image = catalogue.add()
        catalogue.begin(image)
        assert catalogue.find(image.id) == image
        assert catalogue.complete(image) == catalogue.find(image.id)

    def test_an_upload_whose_claim_was_seized_changes_nothing(self, catalogue: Subject) -> None:
        image = catalogue.add()
        claim = catalogue.begin(image)
        catalogue.expire(claim.key)
        catalogue.claims.seize(claim, NOW)
        with pytest.raises(UploadEnded):
            catalogue.complete(image)
        assert catalogue.find(image.id) == image

    def test_a_change_is_refused_when_an_upload_came_between(self, catalogue: Subject) -> None:
        image = catalogue.add(name="before")
        catalogue.begin(image)
        active = catalogue.complete(image)
        with pytest.raises(Conflict):
            catalogue.change(image, name="after", properties={"os": "linux"})
        assert catalogue.find(image.id) == active

    def test_a_change_is_refused_when_a_deletion_came_between(self, catalogue: Subject) -> None:
        image = catalogue.add(name="before")
        catalogue.remove(image)
        with pytest.raises(Conflict):
            catalogue.change(image, name="after")
        assert getattr(catalogue.find(image.id), "name", None) == "before"

    def test_a_change_is_refused_when_the_image_was_given_away_meanwhile(self, catalogue: Subject) -> None:
        image = catalogue.add(owner="tenant-a")
        given = catalogue.change(image, owner="tenant-b")
        with pytest.raises(Conflict, match="owner"):
            catalogue.change(image, name="mine")
        assert catalogue.find(image.id) == given

    def test_a_change_of_formats_is_refused_when_they_changed_meanwhile(self, catalogue: Subject) -> None:
        image = catalogue.add()
        amazon = catalogue.change(image, disk_format="aki", container_format="aki")
        with pytest.raises(Conflict, match="format"):
            catalogue.change(image, container_format="bare")
        assert catalogue.find(image.id) == amazon
        catalogue.change(image, name="other fields are not concerned")

    @pytest.mark.parametrize(
        "meanwhile",
        [
            {"disk_format": "aki", "container_format": "aki"},
            {"container_format": "bare"},
            {"size": 4},
            {"checksum": "4" * 32},
            {"sha256": "4" * 64},
            {"size": 5, "checksum": "5" * 32, "sha256": "6" * 64},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("found", [{}, {"disk_format": "raw", "size": 5, "checksum": "5" * 32}], ids=str)
    def test_data_is_refused_when_what_it_was_checked_against_changed_meanwhile(
        self, catalogue: Subject, found: dict[str, Any], meanwhile: dict[str, Any]
    ) -> None:
        """The upload itself changes none of it."""
        image = catalogue.add(**found)
        claim = catalogue.begin(image)
        changed = catalogue.change(image, **meanwhile)
        with pytest.raises(Conflict):
            catalogue.complete(image)
        assert catalogue.find(image.id) == changed
        catalogue.expire(claim.key)
        assert catalogue.claims.seize(claim, NOW)

    def test_data_is_taken_when_only_other_fields_changed_meanwhile(self, catalogue: Subject) -> None:
        image = catalogue.add(disk_format="raw", size=5)
        catalogue.begin(image)
        catalogue.change(image, name="after", min_ram=512, protected=True, properties={"os": "linux"})
        catalogue.complete(image)
        stored = catalogue.find(image.id)
        assert stored is not None
        assert (stored.status, stored.name, stored.properties) == (Status.ACTIVE, "after", {"os": "linux"})

    def test_of_data_and_a_change_of_what_was_announced_at_once_the_later_is_refused(self, catalogue: Subject) -> None:
        image = catalogue.add()
        catalogue.begin(image)
        outcomes = at_once(lambda: catalogue.complete(image), lambda: catalogue.change(image, size=4))
        assert kinds_of(outcomes) == ["Conflict", "Image"]

    def test_a_removal_is_refused_when_the_image_was_given_away_meanwhile(self, catalogue: Subject) -> None:
        image = catalogue.add(owner="tenant-a")
        given = catalogue.change(image, owner="tenant-b")
        with pytest.raises(Conflict):
            catalogue.remove(image)
        assert catalogue.find(image.id) == given

    def test_an_image_that_is_given_to_two_owners_at_once_goes_to_one(self, catalogue: Subject) -> None:
        image = catalogue.add(owner="tenant-a")
        changes = [lambda owner=owner: catalogue.change(image, owner=owner) for owner in ("tenant-b", "tenant-c")]
        assert kinds_of(at_once(*changes)) == ["Conflict", "Image"]

    def test_of_two_changes_of_the_status_at_once_one_is_stored(self, catalogue: Subject) -> None:
        image = catalogue.add()
        catalogue.begin(image)
        changes = [lambda: catalogue.complete(image), lambda: catalogue.change(image, status=Status.KILLED)]
        assert kinds_of(at_once(*changes)) == ["Conflict", "Image"]

    def test_one_property_added_twice_at_once_has_either_value(self, catalogue: Subject) -> None:
        image = catalogue.add()
        changes = [
            lambda: catalogue.change(image, name="one", properties={"os": "one"}),
            lambda: catalogue.change(image, name="two", properties={"os": "two"}),
        ]
        assert kinds_of(at_once(*changes)) in (["Image", "Image"], ["Conflict", "Image"])
        stored = catalogue.find(image.id)
        assert stored is not None
        assert stored.properties == {"os": stored.name}

    def test_a_removed_image_leaves_garbage_and_its_last_state(self, catalogue: Subject) -> None:
        image = catalogue.upload(name="f17", properties={"os": "linux"})
        assert catalogue.remove(image) == [place_of(image)]
        assert catalogue.claims.garbage() == [place_of(image)]
        deleted = catalogue.find(image.id)
        assert deleted is not None
        assert deleted.deleted
        assert deleted.deleted_at == deleted.updated_at
        times: dict[str, Any] = {"updated_at": image.updated_at, "deleted_at": None}
        expected = dataclasses.replace(image, status=Status.DELETED, deleted=True, location=None)
        assert dataclasses.replace(deleted, **times) == expected

    def test_an_image_without_bytes_leaves_no_garbage(self, catalogue: Subject) -> None:
        assert catalogue.remove(catalogue.add()) == []
        assert catalogue.claims.garbage() == []

    def test_an_image_is_removed_once(self, catalogue: Subject) -> None:
        image = catalogue.upload()
        assert kinds_of(at_once(*[lambda: catalogue.remove(image)] * 2)) == ["NotFound", "list"]
        with pytest.raises(NotFound):
            catalogue.remove(image)

    @pytest.mark.parametrize("text", TEXTS, ids=ascii)
    def test_a_text_comes_back_as_it_went_in(self, catalogue: Subject, text: str) -> None:
        image = catalogue.add(name=text, owner=text, properties={"text": text})
        assert catalogue.find(image.id) == image

    def test_property_values_compare_byte_by_byte(self, catalogue: Subject) -> None:
        image = catalogue.add(properties={f"key{number}": "a" for number in range(len(TEXTS))})
        changed = catalogue.change(image, properties=dict(zip(image.properties, TEXTS, strict=True)))
        assert catalogue.find(image.id) == changed

    def test_ids_compare_byte_by_byte(self, catalogue: Subject) -> None:
        ids = ["a", "A", "a-", "a_", "a."]
        for image_id in ids:
            catalogue.add(id=image_id, name=image_id)
        assert [getattr(catalogue.find(image_id), "name", None) for image_id in ids] == ids
        assert catalogue.find("a ") is None

    def test_owners_and_members_compare_byte_by_byte(self, catalogue: Subject) -> None:
        images = {text: (catalogue.add(owner=text).id, catalogue.add().id) for text in self.projects}
        for text, (_, shared) in images.items():
            catalogue.share(shared, text)
        for text, (own, shared) in images.items():
            viewer = Identity(user="u", project=text)
            visible = [each for pair in images.values() for each in pair if catalogue.find(each, viewer)]
            assert visible == [own, shared]

    def test_a_long_property_comes_back_whole(self, catalogue: Subject) -> None:
        image = catalogue.add(properties={"long": "\U0001f600" * 70_000, "k" * 255: "long key"})
        assert catalogue.find(image.id) == image
