"""Images, lists and claims over each database: the suites, and what no API server could ask a registry."""

import dataclasses
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from sqlalchemy import update

from conftest import Installation
from pyrimage.catalogue.records import EMPTY, Blob, Claim, Image, Location, Status
from pyrimage.catalogue.testing import (
    ClaimsConformance,
    FiltersConformance,
    ImagesConformance,
    PagesConformance,
    Subject,
)
from pyrimage.catalogue.testing.catalogue import ADMIN, NOON, NOW, TEXTS, at_once, completed, kinds_of, make
from pyrimage.errors import UploadEnded
from pyrimage.models import LocationRow


class TestLocalImages(ImagesConformance):
    projects = TEXTS

    def test_a_location_that_is_not_ours_is_dropped_with_its_image(
        self, catalogue: Subject, installation: Installation
    ) -> None:
        image = catalogue.upload()
        with installation.engine.begin() as connection:
            connection.execute(update(LocationRow).values(owned=False))
        assert catalogue.remove(image) == []
        assert installation.rows(LocationRow) == 0

    @pytest.mark.parametrize("clock", [NOON - timedelta(days=1), NOON], ids=["went back", "stood still"])
    def test_changes_of_what_was_found_long_ago_move_updated_at_on_whatever_the_clock_says(
        self, catalogue: Subject, clock: datetime
    ) -> None:
        image = catalogue.add()
        catalogue.begin(image)
        active, blob = completed(dataclasses.replace(image, updated_at=clock))

        def complete(new: Image, blob: Blob) -> Image:
            with catalogue.transaction() as writes:
                return writes.change(image, new, blob, purge=False)

        acts: list[Callable[[], Image]] = [
            lambda: catalogue.change(image, name="f17", updated_at=clock),
            lambda: catalogue.change(image, updated_at=clock, properties={"os": "linux"}),
            lambda: complete(active, blob),
        ]
        for act in acts:
            last = catalogue.find(image.id)
            assert last is not None
            changed = act()
            assert changed.updated_at > last.updated_at
            stored = catalogue.find(image.id)
            assert stored is not None
            assert stored.updated_at == changed.updated_at
            assert catalogue.ids(changes_since=last.updated_at) == [image.id]

    def test_of_changes_at_once_each_has_its_own_time_and_the_last_one_the_latest(self, catalogue: Subject) -> None:
        image = catalogue.add()
        changes = [
            lambda number=number: catalogue.change(
                image, min_ram=number + 1, updated_at=NOON + timedelta(seconds=number % 3)
            )
            for number in range(12)
        ]
        times = {changed.updated_at: changed.min_ram for changed in at_once(*changes)}
        stored = catalogue.find(image.id)
        assert stored is not None
        assert len(times) == len(changes)
        assert max(times) == stored.updated_at
        assert times[stored.updated_at] == stored.min_ram

    def test_more_properties_go_than_a_statement_takes_parameters(self, catalogue: Subject) -> None:
        image = catalogue.add(properties={f"key{number}": "" for number in range(2**16)})
        changed = catalogue.change(image, properties={"key1": "changes", "comes": ""})
        assert catalogue.find(image.id) == changed

    def test_property_keys_compare_byte_by_byte(self, catalogue: Subject) -> None:
        image = catalogue.add(properties={text: str(number) for number, text in enumerate(TEXTS)})
        changed = catalogue.change(image, properties={**image.properties, "A": "changed"})
        assert catalogue.find(image.id) == changed

    def test_of_two_that_make_an_image_active_at_once_without_a_claim_one_is_stored(self, catalogue: Subject) -> None:
        image = catalogue.add()
        changes = [lambda: catalogue.change(image, EMPTY, status=Status.ACTIVE)] * 2
        assert kinds_of(at_once(*changes)) == ["Conflict", "Image"]


class TestLocalPages(PagesConformance):
    pass


class TestLocalFilters(FiltersConformance):
    def test_property_keys_compare_byte_by_byte(self, catalogue: Subject) -> None:
        catalogue.add(properties={"os": "linux"})
        assert catalogue.ids(properties=(("OS", "linux"),)) == []


class TestLocalClaims(ClaimsConformance):
    """Keys are texts like others, whatever a store makes of them."""

    def begun_as(self, catalogue: Subject, key: str) -> Claim:
        claim = Claim(catalogue.add().id, "file", key, None, 5)
        catalogue.claims.begin(claim, ADMIN, is_new=False)
        return claim

    def test_keys_compare_byte_by_byte(self, catalogue: Subject) -> None:
        claims = [self.begun_as(catalogue, text) for text in TEXTS]
        for text in TEXTS:
            catalogue.expire(text)
        catalogue.claims.renew(["a"])
        assert {claim.key for claim in catalogue.claims.expired(NOW)} == set(TEXTS) - {"a"}
        assert [catalogue.claims.seize(claim, NOW) for claim in claims] == [False, *[True] * (len(TEXTS) - 1)]

    def test_keys_are_known_byte_by_byte(self, catalogue: Subject) -> None:
        for key in ("a", "\U0001f600"):
            self.begun_as(catalogue, key)
        assert catalogue.claims.known(TEXTS) == {"a", "\U0001f600"}

    def test_a_claim_is_for_no_other_store(self, catalogue: Subject) -> None:
        image = catalogue.add()
        catalogue.begin(image)
        new, blob = completed(image)
        elsewhere = dataclasses.replace(blob, location=Location("s3", str(blob.claim)))
        with pytest.raises(UploadEnded), catalogue.transaction() as writes:
            writes.change(image, new, elsewhere, purge=False)

    def test_a_key_whose_claim_has_ended_may_be_claimed_again(self, catalogue: Subject) -> None:
        image = make()
        claim = catalogue.begin(image, is_new=True)
        catalogue.claims.end(claim.key, image.id, None)
        catalogue.claims.begin(claim, ADMIN, is_new=True)
