import re

from pyrimage.catalogue.records import new_image_id


def test_generated_ids_are_random_uuids_and_no_two_the_same() -> None:
    ids = {new_image_id() for _ in range(100)}
    assert len(ids) == 100
    pattern = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
    assert all(re.fullmatch(pattern, each) for each in ids)
