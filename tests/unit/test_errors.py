import inspect
import re

import pytest

from pyrimage import errors
from pyrimage.errors import DataMismatch, Invalid, PyrimageError, RangeNotSatisfiable, StoreMissing, Unauthenticated

CLASSES = [each for each in vars(errors).values() if inspect.isclass(each) and issubclass(each, Exception)]


def drawn_parents() -> dict[str, str]:
    """Read the tree in the docstring: the parent of each class by the depth of its indentation."""
    parents, above = {}, ["PyrimageError"]
    for line in (errors.__doc__ or "").splitlines():
        if match := re.fullmatch(r" {4}((?:│   |    )*)[├└]── (\w+).*", line):
            depth = len(match[1]) // 4 + 1
            parents[match[2]] = above[depth - 1]
            above[depth:] = [match[2]]
    return parents


def test_the_drawn_tree_is_the_tree() -> None:
    parents = {each.__name__: each.__base__.__name__ for each in CLASSES if each.__base__ and each is not PyrimageError}
    assert drawn_parents() == parents


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_one_of_ours_and_says_what_it_means(error: type[Exception]) -> None:
    assert issubclass(error, PyrimageError)
    assert error.__doc__


@pytest.mark.parametrize("error", CLASSES)
def test_the_text_is_what_was_given(error: type[Exception]) -> None:
    more = {RangeNotSatisfiable: (5,), StoreMissing: ("Mount it.",), Unauthenticated: ("Basic",)}.get(error, ())
    assert str(error("Something is wrong.", *more)) == "Something is wrong."


@pytest.mark.parametrize("error", [Invalid, DataMismatch])
def test_an_invalid_request_has_its_problems_one_by_one_and_as_one_text(error: type[Invalid]) -> None:
    caught = error("a is wrong.", "b is wrong.")
    assert caught.problems == ("a is wrong.", "b is wrong.")
    assert str(caught) == "a is wrong. b is wrong."
