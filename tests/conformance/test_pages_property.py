"""Pages of lists are the same on every database."""

from hypothesis import given, settings

from conftest import Installation
from paging import Walk, check, walks


@settings(max_examples=20)
@given(walk=walks())
def test_pages_together_are_the_whole_list_in_its_order(walk: Walk, shared_installation: Installation) -> None:
    check(shared_installation, walk)
