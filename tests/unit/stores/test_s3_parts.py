"""How large the parts of an image are at S3, which takes 10,000."""

import pytest

from pyrimage.errors import LimitExceeded
from pyrimage.stores.s3.writer import LARGEST, MOST_PARTS, size_of_part

MIB = 2**20


@pytest.mark.parametrize(
    ("size", "part"),
    [
        (1, 8 * MIB),
        (8 * MIB + 1, 8 * MIB),
        (MOST_PARTS * 8 * MIB, 8 * MIB),
        (MOST_PARTS * 8 * MIB + 1, 9 * MIB),
        (LARGEST - 1, 128 * MIB),
        (LARGEST, 128 * MIB),
    ],
)
def test_an_image_of_known_size_has_equal_parts_and_no_more_than_there_may_be(size: int, part: int) -> None:
    sizes = {size_of_part(number, size, 8 * MIB) for number in (1, 2, 500, 501, MOST_PARTS)}
    assert sizes == {part}
    assert MOST_PARTS * part >= size


def test_parts_grow_where_nobody_knows_the_size_to_1_tib() -> None:
    sizes = [size_of_part(number, None, 8 * MIB) for number in range(1, MOST_PARTS + 1)]
    assert sizes[:500] == [8 * MIB] * 500
    assert sizes[500] == 16 * MIB
    assert sizes == sorted(sizes)
    assert sizes[-1] == 128 * MIB
    assert sum(sizes) > 2**40


@pytest.mark.parametrize(("number", "size"), [(1, LARGEST + 1), (MOST_PARTS + 1, None)])
def test_what_is_longer_is_refused(number: int, size: int | None) -> None:
    with pytest.raises(LimitExceeded):
        size_of_part(number, size, 8 * MIB)
