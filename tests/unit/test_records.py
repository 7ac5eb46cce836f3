import dataclasses
import hashlib
import re
from datetime import UTC, datetime

import pytest

from factories import make_image
from pyrimage.records import EMPTY, Image, new_image_id, utcnow
from pyrimage.schemas.fields import is_image_id


def test_the_digests_of_nothing() -> None:
    assert EMPTY.size == 0
    assert EMPTY.checksum == hashlib.md5(b"").hexdigest()
    assert EMPTY.sha256 == hashlib.sha256(b"").hexdigest()
    assert (EMPTY.location, EMPTY.claim) == (None, None)


def test_an_image_is_deleted_once_it_has_the_time_of_it() -> None:
    assert not make_image().deleted
    assert make_image(deleted_at=utcnow()).deleted


@pytest.mark.parametrize("field", [field.name for field in dataclasses.fields(Image)])
def test_a_record_does_not_change(field: str) -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(make_image(), field, None)


def test_generated_ids_are_random_uuids_and_no_two_the_same() -> None:
    ids = {new_image_id() for _ in range(100)}
    assert len(ids) == 100
    pattern = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(pattern, each) and is_image_id(each) for each in ids)


def test_the_present_is_in_utc_and_names_no_zone() -> None:
    before, now, after = datetime.now(UTC), utcnow(), datetime.now(UTC)
    assert now.tzinfo is None
    assert before <= now.replace(tzinfo=UTC) <= after
