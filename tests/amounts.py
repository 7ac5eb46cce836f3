"""How much the tests that can be long do: a little, or much where PYRIMAGE_TEST_LONG is set, as make test-long does."""

import os

IS_LONG = bool(os.environ.get("PYRIMAGE_TEST_LONG"))


def amount(little: int, much: int) -> int:
    """Return one of two numbers that differ in nothing but how long they take."""
    return much if IS_LONG else little
