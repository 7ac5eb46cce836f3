"""The behaviour of ``Claims``."""

import dataclasses
import functools
from datetime import timedelta
from typing import Any

import pytest

from ...errors import Conflict, ImageExists, UploadEnded, UploadInProgress
from ..records import Claim, Image
from .catalogue import ADMIN, NOW, Subject, at_once, claim_on, completed, key_of, kinds_of, make, place_of


class ClaimsConformance:
    """Beginning, renewing, ending and seizing; and garbage."""

    def begun(self, catalogue: Subject, key: str = "key", *, expired: bool = False) -> tuple[Image, Claim]:
        """Claim a queued image."""
        image = catalogue.add()
        claim = catalogue.begin(image, key)
        if expired:
            catalogue.expire(claim.key)
        return image, claim

    def test_an_image_is_claimed_once(self, catalogue: Subject) -> None:
        image, _ = self.begun(catalogue, "first")
        with pytest.raises(UploadInProgress):
            catalogue.begin(image, "second")

    def test_a_new_id_is_claimed_once(self, catalogue: Subject) -> None:
        image = make()
        catalogue.begin(image, "first", is_new=True)
        with pytest.raises(UploadInProgress):
            catalogue.begin(image, "second", is_new=True)

    def test_of_claims_made_at_once_exactly_one_is_recorded(self, catalogue: Subject) -> None:
        for image in (make(), make(), make()):
            claims = [claim_on(image, f"{number}") for number in range(4)]
            outcomes = at_once(
                *(lambda claim=claim: catalogue.claims.begin(claim, ADMIN, is_new=True) for claim in claims)
            )
            assert kinds_of(outcomes) == ["NoneType", *["UploadInProgress"] * 3]

    def test_claimed_ids_compare_byte_by_byte(self, catalogue: Subject) -> None:
        for image_id in ("a", "A", "a-", "a."):
            catalogue.begin(make(id=image_id), is_new=True)

    def test_another_claim_begins_when_one_has_ended(self, catalogue: Subject) -> None:
        image, claim = self.begun(catalogue, "first")
        catalogue.claims.end(claim.key, image.id, "the client hung up")
        catalogue.begin(image, "second")

    def test_a_claim_ends_whatever_the_reason_is_made_of(self, catalogue: Subject) -> None:
        image, claim = self.begun(catalogue, "first")
        catalogue.claims.end(claim.key, image.id, "The store answers:\n\t\x1b[1m<html>")
        catalogue.begin(image, "second")

    @pytest.mark.parametrize("is_deleted", [False, True])
    def test_a_taken_id_is_not_claimed_as_a_new_one(self, catalogue: Subject, is_deleted: bool) -> None:
        image = catalogue.add()
        if is_deleted:
            catalogue.remove(image)
        with pytest.raises(ImageExists):
            catalogue.begin(image, is_new=True)

    def test_an_active_image_takes_no_data(self, catalogue: Subject) -> None:
        image = catalogue.upload("first")
        with pytest.raises(Conflict):
            catalogue.begin(image, "second")

    def test_a_deleted_image_takes_no_data(self, catalogue: Subject) -> None:
        image = catalogue.add()
        catalogue.remove(image)
        with pytest.raises(Conflict):
            catalogue.begin(image)

    def test_an_unknown_image_takes_no_data(self, catalogue: Subject) -> None:
        with pytest.raises(Conflict):
            catalogue.begin(make())

    def test_a_fresh_claim_is_not_expired(self, catalogue: Subject) -> None:
        self.begun(catalogue)
        assert catalogue.claims.expired(NOW) == []

    @pytest.mark.parametrize(("owner", "size"), [(None, None), ("tenant-a", 2**63 - 1)])
    def test_an_expired_claim_is_given_as_it_was_made(
        self, catalogue: Subject, owner: str | None, size: int | None
    ) -> None:
        claim = dataclasses.replace(claim_on(make(owner=owner)), size=size)
        catalogue.claims.begin(claim, ADMIN, is_new=True)
        catalogue.expire(claim.key)
        assert catalogue.claims.expired(NOW) == [claim]

    def test_the_grace_counts_from_the_end_of_the_lease(self, catalogue: Subject) -> None:
        _, claim = self.begun(catalogue, expired=True)  # an hour ago
        assert catalogue.claims.expired(timedelta(minutes=59)) == [claim]
        assert catalogue.claims.expired(timedelta(minutes=61)) == []
        assert not catalogue.claims.seize(claim, timedelta(minutes=61))

    def test_expired_claims_can_be_asked_for_by_image(self, catalogue: Subject) -> None:
        image, claim = self.begun(catalogue, "this", expired=True)
        other, others = self.begun(catalogue, "other", expired=True)
        assert catalogue.claims.expired(NOW, image.id) == [claim]
        assert len(catalogue.claims.expired(NOW)) == 2
        catalogue.claims.end(others.key, other.id, None)
        assert catalogue.claims.expired(NOW, other.id) == []

    def test_renewing_reaches_the_claims_that_were_named(self, catalogue: Subject) -> None:
        first, second, other = (self.begun(catalogue, expired=True)[1] for _ in range(3))
        catalogue.claims.renew([first.key, second.key, "unknown"])
        assert catalogue.claims.expired(NOW) == [other]

    def test_renewing_nothing_does_nothing(self, catalogue: Subject) -> None:
        _, claim = self.begun(catalogue, expired=True)
        catalogue.claims.renew([])
        assert catalogue.claims.expired(NOW) == [claim]

    def test_a_seized_claim_is_not_renewed_and_may_be_seized_again(self, catalogue: Subject) -> None:
        _, claim = self.begun(catalogue, expired=True)
        assert catalogue.claims.seize(claim, NOW)
        catalogue.claims.renew([claim.key])
        assert catalogue.claims.expired(timedelta(days=1)) == [claim]
        assert catalogue.claims.seize(claim, timedelta(days=1))

    def test_a_live_claim_is_not_seized(self, catalogue: Subject) -> None:
        image, claim = self.begun(catalogue)
        assert not catalogue.claims.seize(claim, NOW)
        catalogue.complete(image)

    def test_a_claim_that_has_ended_is_not_seized(self, catalogue: Subject) -> None:
        image, claim = self.begun(catalogue, expired=True)
        catalogue.claims.end(claim.key, image.id, None)
        assert not catalogue.claims.seize(claim, NOW)

    def test_of_the_commit_and_the_seizure_at_once_one_gets_the_claim(self, catalogue: Subject) -> None:
        image, claim = self.begun(catalogue, expired=True)
        ended, seized = at_once(lambda: catalogue.complete(image), lambda: catalogue.claims.seize(claim, NOW))
        assert (type(ended).__name__, seized) in [("Image", False), ("UploadEnded", True)]
        assert catalogue.claims.is_located(claim) is not seized

    def test_ending_notes_the_reason_on_a_queued_image_and_may_be_repeated(self, catalogue: Subject) -> None:
        image, claim = self.begun(catalogue)
        for _ in range(2):
            catalogue.claims.end(claim.key, image.id, "the client hung up \U0001f600")
        assert catalogue.find(image.id) == dataclasses.replace(image, last_error="the client hung up \U0001f600")

    def test_a_long_reason_is_cut_and_ends_the_claim(self, catalogue: Subject) -> None:
        image, claim = self.begun(catalogue)
        reason = "\U0001f600" * 999 + "ab" * 70_000
        catalogue.claims.end(claim.key, image.id, reason)
        assert catalogue.find(image.id) == dataclasses.replace(image, last_error=reason[:1000])
        catalogue.begin(image, "another")

    def test_ending_leaves_an_active_image_and_other_claims_alone(self, catalogue: Subject) -> None:
        self.begun(catalogue, "other", expired=True)
        image = catalogue.upload()
        catalogue.claims.end(key_of(image.id), image.id, "too late")
        assert catalogue.find(image.id) == image
        assert len(catalogue.claims.expired(NOW)) == 1

    def test_ending_in_the_name_of_another_image_does_nothing(self, catalogue: Subject) -> None:
        _, claim = self.begun(catalogue, expired=True)
        other = catalogue.add()
        catalogue.claims.end(claim.key, other.id, "not its own")
        assert catalogue.find(other.id) == other
        assert catalogue.claims.expired(NOW) == [claim]

    @pytest.mark.parametrize("other", [{"id": "other"}, {"owner": "tenant-b"}])
    def test_only_the_image_of_a_claim_and_its_owner_commit_it(self, catalogue: Subject, other: dict[str, Any]) -> None:
        image = make(owner="tenant-a")
        catalogue.begin(image, is_new=True)
        strange, _ = completed(dataclasses.replace(image, **other))
        _, blob = completed(image)
        with pytest.raises(UploadEnded), catalogue.transaction() as writes:
            writes.add(strange, blob)
        with catalogue.transaction() as writes:
            writes.add(*completed(image))

    def test_a_claim_is_for_no_more_bytes(self, catalogue: Subject) -> None:
        image, _ = self.begun(catalogue)
        new, blob = completed(dataclasses.replace(image, size=6))
        with pytest.raises(UploadEnded), catalogue.transaction() as writes:
            writes.change(image, new, blob, purge=False)

    @pytest.mark.parametrize("other", [{"image_id": "other"}, {"owner": "tenant-b"}, {"store": "s3"}, {"key": "KEY"}])
    def test_another_claim_than_the_one_recorded_is_neither_enlarged_nor_seized(
        self, catalogue: Subject, other: dict[str, Any]
    ) -> None:
        _, claim = self.begun(catalogue, expired=True)
        strange = dataclasses.replace(claim, **other)
        with pytest.raises(UploadEnded):
            catalogue.claims.reserve(strange, 6)
        assert not catalogue.claims.seize(strange, NOW)
        assert catalogue.claims.seize(dataclasses.replace(claim, size=None), NOW)

    def test_bytes_are_located_once_their_row_is_committed(self, catalogue: Subject) -> None:
        image, claim = self.begun(catalogue)
        assert not catalogue.claims.is_located(claim)
        catalogue.complete(image)
        assert catalogue.claims.is_located(claim)
        assert not catalogue.claims.is_located(dataclasses.replace(claim, key="KEY"))
        assert not catalogue.claims.is_located(dataclasses.replace(claim, store="s3"))

    def test_a_key_is_known_from_its_claim_until_it_was_seized_and_ended(self, catalogue: Subject) -> None:
        image, claim = self.begun(catalogue, expired=True)
        assert catalogue.claims.known([claim.key]) == {claim.key}
        assert catalogue.claims.seize(claim, NOW)
        assert catalogue.claims.known([claim.key]) == {claim.key}
        catalogue.claims.end(claim.key, image.id, None)
        assert catalogue.claims.known([claim.key]) == set()

    def test_a_key_is_known_from_its_location_until_its_garbage_is_forgotten(self, catalogue: Subject) -> None:
        image = catalogue.upload()
        key = key_of(image.id)
        assert catalogue.claims.known([key]) == {key}
        catalogue.remove(image)
        assert catalogue.claims.known([key]) == {key}
        catalogue.claims.forget_garbage(place_of(image))
        assert catalogue.claims.known([key]) == set()

    def test_of_many_keys_those_are_known_that_a_row_names(self, catalogue: Subject) -> None:
        located = key_of(catalogue.upload().id)
        _, claim = self.begun(catalogue)
        others = [located.upper(), f"{located}0", located[:-1], *map(str, range(500))]
        assert catalogue.claims.known([located, claim.key, *others]) == {located, claim.key}
        assert catalogue.claims.known([]) == set()

    def test_a_key_is_known_while_its_claim_becomes_a_location(self, catalogue: Subject) -> None:
        for _ in range(5):
            image, claim = self.begun(catalogue)
            ask = functools.partial(catalogue.claims.known, [claim.key])
            _, *asked = at_once(functools.partial(catalogue.complete, image), ask, ask, ask)
            assert asked == [{claim.key}] * 3

    def test_garbage_is_what_was_removed_until_it_is_forgotten(self, catalogue: Subject) -> None:
        images = [catalogue.upload() for _ in range(3)]
        first, second, _ = (place_of(image) for image in images)
        for image in images[:2]:
            catalogue.remove(image)
        assert {location.key for location in catalogue.claims.garbage()} == {first.key, second.key}
        for _ in range(2):
            catalogue.claims.forget_garbage(first)
        assert catalogue.claims.garbage() == [second]

    def test_the_bytes_of_an_image_cannot_be_forgotten(self, catalogue: Subject) -> None:
        image = catalogue.upload()
        catalogue.claims.forget_garbage(place_of(image))
        assert catalogue.find(image.id) == image
