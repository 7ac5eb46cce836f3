import inspect
import re

from pyrimage import errors
from pyrimage.errors import PyrimageError

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
