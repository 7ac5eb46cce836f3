"""The behaviour of the quotas of owners and of properties."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable

import pytest

from ...errors import LimitExceeded, UploadEnded, UploadInProgress
from ..records import EMPTY, Claim, Image, Status, utcnow
from .catalogue import ADMIN, NOW, TEXTS, Subject, at_once, claim_on, completed, make

MIB = 2**20
CLIENTS = 16
ROOM = 7  # images of five bytes, for 16 who come at once

Action = Callable[[Subject, int], object]


def add(catalogue: Subject, number: int) -> Image:
    """Reserve an image."""
    return catalogue.add(id=f"image-{number}", owner="tenant-a")


def upload(catalogue: Subject, number: int) -> Image:
    """Upload five bytes."""
    return catalogue.upload(id=f"image-{number}", owner="tenant-a")


def begin(catalogue: Subject, number: int, size: int | None = 5, owner: str | None = "tenant-a") -> Claim:
    """Claim a new id."""
    claim = dataclasses.replace(claim_on(make(id=f"image-{number}", owner=owner)), size=size)
    catalogue.claims.begin(claim, ADMIN, is_new=True)
    return claim


def give(catalogue: Subject, number: int) -> Image:
    """Make an image of five bytes that belongs to another one, and give it away."""
    unlimited = catalogue.limited(user_image_quota=None, user_storage_quota=None)
    image = unlimited.upload(id=f"image-{number}", owner=f"tenant-{number}")
    return catalogue.change(image, owner="tenant-a")


def stream(catalogue: Subject, number: int) -> Image:
    """Upload five bytes of which nobody knew how many would come."""
    claim = begin(catalogue, number, size=None)
    catalogue.claims.reserve(claim, 5)
    image, blob = completed(make(id=claim.image_id, owner=claim.owner))
    with catalogue.transaction() as writes:
        writes.add(image, blob)
    return image


def tally(outcomes: Iterable[object]) -> dict[str, int]:
    """Count what ``at_once`` returned, errors by their kinds."""
    return Counter(type(each).__name__ if isinstance(each, Exception) else "done" for each in outcomes)


class QuotasConformance:
    """What is counted, what is not, and what is never passed."""

    @pytest.mark.parametrize("more", [add, upload, begin, give])
    @pytest.mark.parametrize("first", [add, upload, begin, give, stream])
    def test_an_owner_has_as_many_images_as_the_quota_says(
        self, catalogue: Subject, first: Action, more: Action
    ) -> None:
        limited = catalogue.limited(user_image_quota=2)
        first(limited, 1)
        first(limited, 2)
        with pytest.raises(LimitExceeded, match=r"have 3 images; 2 are accepted \(pyrimage.user_image_quota\)"):
            more(limited, 3)

    def test_an_image_that_was_deleted_or_whose_upload_failed_counts_no_more(self, catalogue: Subject) -> None:
        limited = catalogue.limited(user_image_quota=1)
        catalogue.remove(add(limited, 1))
        claim = begin(limited, 2)
        limited.claims.end(claim.key, claim.image_id, "the client hung up")
        add(limited, 3)

    def test_an_image_that_was_given_away_counts_no_more(self, catalogue: Subject) -> None:
        limited = catalogue.limited(user_image_quota=1)
        catalogue.change(add(limited, 1), owner="tenant-b")
        add(limited, 2)

    def test_owners_are_counted_apart(self, catalogue: Subject) -> None:
        limited = catalogue.limited(user_image_quota=2, user_storage_quota=5)
        for owner in (*TEXTS, None):
            limited.add(owner=owner)
            limited.upload(owner=owner)
        for owner in (*TEXTS, None):
            with pytest.raises(LimitExceeded):
                limited.add(owner=owner)

    def test_a_queued_image_takes_its_data_where_no_more_images_are_accepted(self, catalogue: Subject) -> None:
        image = catalogue.add(owner="tenant-a")
        catalogue.add(owner="tenant-a")
        limited = catalogue.limited(user_image_quota=0)
        limited.begin(image)
        limited.change(limited.complete(image), name="f17")

    def test_an_image_is_not_counted_again_for_its_upload(self, catalogue: Subject) -> None:
        limited = catalogue.limited(user_image_quota=2)
        limited.begin(add(limited, 1))
        begin(limited, 2)
        with pytest.raises(LimitExceeded):
            begin(limited, 3)

    def test_an_upload_that_gives_the_image_away_counts_for_the_new_owner(self, catalogue: Subject) -> None:
        image = catalogue.add(owner="tenant-b")
        add(catalogue, 1)
        claim = dataclasses.replace(claim_on(image), owner="tenant-a")
        with pytest.raises(LimitExceeded):
            catalogue.limited(user_image_quota=1).claims.begin(claim, ADMIN, is_new=False)
        limited = catalogue.limited(user_image_quota=2)
        limited.claims.begin(claim, ADMIN, is_new=False)
        with pytest.raises(LimitExceeded):
            add(limited, 2)
        new, blob = completed(dataclasses.replace(image, owner="tenant-a", updated_at=utcnow()))
        with limited.transaction() as writes:
            stored = writes.change(image, new, blob, purge=False)
        assert catalogue.find(image.id) == stored
        assert stored.owner == "tenant-a"

    @pytest.mark.parametrize("more", [upload, begin, give, stream])
    @pytest.mark.parametrize("first", [upload, begin, give, stream])
    def test_an_owners_images_have_as_many_bytes_as_the_quota_says(
        self, catalogue: Subject, first: Action, more: Action
    ) -> None:
        """S36."""
        enough = catalogue.limited(user_storage_quota=10)
        first(enough, 1)
        first(enough, 2)
        with pytest.raises(
            LimitExceeded, match=r"more than the 10 bytes that are accepted \(pyrimage.user_storage_quota\)"
        ):
            more(enough, 3)
        with pytest.raises(LimitExceeded):
            more(catalogue.limited(user_storage_quota=14), 4)
        more(catalogue.limited(user_storage_quota=15), 5)

    def test_bytes_that_are_only_announced_do_not_count(self, catalogue: Subject) -> None:
        limited = catalogue.limited(user_storage_quota=5)
        limited.add(owner="tenant-a", size=1000)
        upload(limited, 1)
        limited.add(owner="tenant-a", size=1000)

    def test_an_empty_image_is_added_where_no_more_bytes_are_accepted(self, catalogue: Subject) -> None:
        upload(catalogue, 1)
        limited = catalogue.limited(user_storage_quota=1)
        facts = {"status": Status.ACTIVE, "checksum": EMPTY.checksum, "sha256": EMPTY.sha256, "activated_at": utcnow()}
        image = limited.add(EMPTY, owner="tenant-b", **facts)
        limited.change(image, owner="tenant-a")

    def test_bytes_of_an_image_that_was_deleted_or_whose_upload_failed_count_no_more(self, catalogue: Subject) -> None:
        """S36."""
        limited = catalogue.limited(user_storage_quota=5)
        catalogue.remove(upload(limited, 1))
        claim = begin(limited, 2)
        limited.claims.end(claim.key, claim.image_id, "the client hung up")
        upload(limited, 3)

    def test_an_expired_claim_counts_until_it_is_ended(self, catalogue: Subject) -> None:
        limited = catalogue.limited(user_storage_quota=5)
        claim = begin(limited, 1)
        catalogue.expire(claim.key)
        for _ in range(2):
            with pytest.raises(LimitExceeded):
                begin(limited, 2)
            limited.claims.seize(claim, NOW)
        limited.claims.end(claim.key, claim.image_id, None)
        begin(limited, 2)

    def test_a_claim_on_the_same_image_is_told_before_the_quota(self, catalogue: Subject) -> None:
        limited = catalogue.limited(user_image_quota=1, user_storage_quota=5)
        claim = begin(limited, 1)
        with pytest.raises(UploadInProgress):
            limited.begin(make(id=claim.image_id, owner=claim.owner), "other", is_new=True)

    def test_a_claim_of_unknown_length_is_ahead_of_its_bytes_while_there_is_room(self, catalogue: Subject) -> None:
        limited = catalogue.limited(user_storage_quota=200 * MIB)
        claim = dataclasses.replace(claim_on(make(owner="tenant-a")), size=None)
        assert limited.claims.begin(claim, ADMIN, is_new=True) == 0
        assert limited.claims.reserve(claim, MIB) == 2 * MIB
        assert limited.claims.reserve(claim, 64 * MIB) == 128 * MIB
        assert limited.claims.reserve(claim, 128 * MIB + 1) == 192 * MIB + 1
        with pytest.raises(LimitExceeded):
            begin(limited, 1, 8 * MIB)
        begin(limited, 2, 8 * MIB - 1)
        assert limited.claims.reserve(claim, 192 * MIB) == 192 * MIB
        begin(limited, 3, 1)

    def test_a_claim_of_unknown_length_holds_what_came_where_no_more_is_left(self, catalogue: Subject) -> None:
        limited = catalogue.limited(user_storage_quota=10)
        claim = dataclasses.replace(claim_on(make(owner="tenant-a")), size=None)
        assert limited.claims.begin(claim, ADMIN, is_new=True) == 0
        assert limited.claims.reserve(claim, 6) == 6
        with pytest.raises(LimitExceeded):
            limited.claims.reserve(claim, 11)
        begin(limited, 1, 4)
        with pytest.raises(LimitExceeded):
            limited.claims.reserve(claim, 7)

    def test_without_a_quota_a_claim_need_not_grow(self, catalogue: Subject) -> None:
        for limits in ({}, {"user_image_quota": 3}):
            claim = dataclasses.replace(claim_on(make(owner="tenant-a")), size=None)
            assert catalogue.limited(**limits).claims.begin(claim, ADMIN, is_new=True) is None

    @pytest.mark.parametrize("limit", [{}, {"user_storage_quota": 10}], ids=str)
    @pytest.mark.parametrize("said", [5, None])
    def test_a_claim_keeps_a_size_whatever_is_said_of_it(
        self, catalogue: Subject, said: int | None, limit: dict[str, int]
    ) -> None:
        """S36: one without could be committed with any number of bytes."""
        limited = catalogue.limited(**limit)
        claim = begin(limited, 1)
        limited.claims.reserve(dataclasses.replace(claim, size=said), 5)
        catalogue.expire(claim.key)
        assert limited.claims.expired(NOW) == [claim]
        image, blob = completed(make(id=claim.image_id, owner=claim.owner))
        with pytest.raises(UploadEnded), limited.transaction() as writes:
            writes.add(dataclasses.replace(image, size=6), dataclasses.replace(blob, size=6))
        with limited.transaction() as writes:
            writes.add(image, blob)

    def test_what_is_said_of_a_claims_size_admits_no_more_bytes(self, catalogue: Subject) -> None:
        """S36."""
        limited = catalogue.limited(user_storage_quota=10)
        claim = begin(limited, 1)
        for said in (5, None):
            with pytest.raises(LimitExceeded):
                limited.claims.reserve(dataclasses.replace(claim, size=said), 11)
            assert limited.claims.reserve(dataclasses.replace(claim, size=said), 6) == 6
        begin(limited, 2, 4)

    def test_a_claim_that_was_ended_does_not_grow(self, catalogue: Subject) -> None:
        limited = catalogue.limited(user_storage_quota=10)
        claim = begin(limited, 1, size=None)
        catalogue.expire(claim.key)
        limited.claims.seize(claim, NOW)
        for _ in range(2):
            with pytest.raises(UploadEnded):
                limited.claims.reserve(claim, 5)
            limited.claims.end(claim.key, claim.image_id, None)

    @pytest.mark.parametrize("limit", [{"user_image_quota": ROOM}, {"user_storage_quota": 5 * ROOM}], ids=str)
    @pytest.mark.parametrize("actions", [(begin,), (upload,), (stream,), (give,), (begin, upload, stream, give)])
    def test_of_sixteen_at_once_as_many_succeed_as_there_is_room_for(
        self, catalogue: Subject, actions: tuple[Action, ...], limit: dict[str, int]
    ) -> None:
        limited = catalogue.limited(**limit)
        calls = [lambda number=number: actions[number % len(actions)](limited, number) for number in range(CLIENTS)]
        assert tally(at_once(*calls)) == {"done": ROOM, "LimitExceeded": CLIENTS - ROOM}

    def test_of_sixteen_reservations_at_once_as_many_succeed_as_there_is_room_for(self, catalogue: Subject) -> None:
        limited = catalogue.limited(user_image_quota=ROOM)
        outcomes = at_once(*[lambda number=number: add(limited, number) for number in range(CLIENTS)])
        assert tally(outcomes) == {"done": ROOM, "LimitExceeded": CLIENTS - ROOM}

    @pytest.mark.parametrize("limit", [{"user_image_quota": 1}, {"user_storage_quota": 5}], ids=str)
    @pytest.mark.parametrize("action", [upload, stream, give])
    def test_sixteen_at_once_are_told_so_where_the_owner_has_too_much(
        self, catalogue: Subject, action: Action, limit: dict[str, int]
    ) -> None:
        """The quota was set, or lowered, later: the owner has no row yet whose lock could be waited for."""
        for number in (100, 101):
            upload(catalogue, number)
        limited = catalogue.limited(**limit)
        outcomes = at_once(*[lambda number=number: action(limited, number) for number in range(CLIENTS)])
        assert tally(outcomes) == {"LimitExceeded": CLIENTS}

    def test_an_image_has_as_many_properties_as_the_quota_says(self, catalogue: Subject) -> None:
        limited = catalogue.limited(image_property_quota=2)
        image = catalogue.add(properties={"one": "1"})
        second = limited.change(image, properties={"one": "1", "two": "2"})
        with pytest.raises(LimitExceeded, match=r"have 3 properties; 2 are accepted \(pyrimage.image_property_quota\)"):
            limited.change(second, properties={**second.properties, "three": "3"})
        assert catalogue.find(image.id) == second

    def test_properties_that_come_back_beside_others_are_counted(self, catalogue: Subject) -> None:
        limited = catalogue.limited(image_property_quota=2)
        image = limited.add(properties={"one": "1", "two": "2"})
        replaced = limited.change(image, properties={"three": "3", "four": "4"})
        with pytest.raises(LimitExceeded):
            limited.change(image, properties={"one": "changed", "two": "2"}, purge=False)
        assert catalogue.find(image.id) == replaced

    def test_properties_that_are_there_may_stay_change_and_go(self, catalogue: Subject) -> None:
        properties = {str(number): "" for number in range(5)}
        image, limited = catalogue.add(properties=properties), catalogue.limited(image_property_quota=2)
        image = limited.change(image, name="f17", properties={**properties, "1": "changed"})
        image = limited.change(image, properties={"1": "changed", "2": "", "3": ""})
        limited.change(image, properties={"1": "changed", "new": ""})

    @pytest.mark.parametrize(
        ("properties", "size"), [({"os": "linux"}, 7), ({"os": "\u00e1\U0001f600"}, 8), ({"a": "", "b": "c"}, 3)]
    )
    def test_an_images_properties_have_as_many_bytes_as_the_limit_says(
        self, catalogue: Subject, properties: dict[str, str], size: int
    ) -> None:
        image = catalogue.add()
        message = rf"would have {size} bytes; {size - 1} are accepted \(pyrimage.image_property_bytes\)"
        for purge in (True, False):
            with pytest.raises(LimitExceeded, match=message):
                catalogue.limited(image_property_bytes=size - 1).change(image, properties=properties, purge=purge)
            assert catalogue.find(image.id) == image
        changed = catalogue.limited(image_property_bytes=size).change(image, properties=properties, purge=False)
        assert catalogue.find(image.id) == changed

    def test_bytes_of_properties_that_others_added_count(self, catalogue: Subject) -> None:
        limited = catalogue.limited(image_property_bytes=10)
        image = catalogue.add()
        first = limited.change(image, properties={"one": "1"}, purge=False)
        with pytest.raises(LimitExceeded):
            limited.change(image, properties={"two": "2345"}, purge=False)
        assert catalogue.find(image.id) == first
        limited.change(image, properties={"two": "234"}, purge=False)
        with pytest.raises(LimitExceeded):
            limited.change(image, properties={"one": "12"}, purge=False)
        limited.change(image, properties={"other": "12345"})

    def test_properties_of_too_many_bytes_may_stay_change_and_go_while_they_do_not_grow(
        self, catalogue: Subject
    ) -> None:
        limited = catalogue.limited(image_property_bytes=4)
        image = catalogue.add(properties={"one": "111", "two": "222"})
        image = limited.change(image, name="f17")
        for purge in (True, False):
            image = limited.change(image, properties={"one": "222", "two": "111"}, purge=purge)
            for grown in ({"one": "2222", "two": "111"}, {"one": "222", "two": "111", "x": ""}):
                with pytest.raises(LimitExceeded):
                    limited.change(image, properties=grown, purge=purge)
        smaller = limited.change(image, properties={"x": "1111"})
        with pytest.raises(LimitExceeded):
            limited.change(image, properties={"one": "222"})  # less than ``image`` had, and more than there is
        assert catalogue.find(image.id) == smaller

    @pytest.mark.parametrize("value", ["v" * 4, "\U0001f600"], ids=ascii)
    def test_of_sixteen_properties_added_at_once_as_many_stay_as_there_are_bytes_for(
        self, catalogue: Subject, value: str
    ) -> None:
        limited = catalogue.limited(image_property_bytes=10 * ROOM + 5)
        image = catalogue.add(properties={"one": ""})
        calls = [
            lambda key=f"key_{number:02}": limited.change(
                image, properties={**image.properties, key: value}, purge=False
            )
            for number in range(CLIENTS)
        ]
        assert tally(at_once(*calls)) == {"done": ROOM, "LimitExceeded": CLIENTS - ROOM}
        stored = catalogue.find(image.id)
        assert stored is not None
        assert len(stored.properties) == ROOM + 1

    def test_of_sixteen_properties_added_at_once_as_many_stay_as_there_is_room_for(self, catalogue: Subject) -> None:
        """S38."""
        limited = catalogue.limited(image_property_quota=ROOM + 2)
        image = catalogue.add(properties={"one": "", "two": ""})
        calls = [
            lambda key=f"key_{number}": limited.change(image, properties={**image.properties, key: ""}, purge=False)
            for number in range(CLIENTS)
        ]
        assert tally(at_once(*calls)) == {"done": ROOM, "LimitExceeded": CLIENTS - ROOM}
        stored = catalogue.find(image.id)
        assert stored is not None
        assert len(stored.properties) == ROOM + 2
