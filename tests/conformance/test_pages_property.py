"""Pages of lists are the same on every database."""

from hypothesis import given, settings

import paging
from conftest import Installation


@settings(max_examples=10)
@given(walks=paging.walks())
def test_pages_together_are_the_whole_list_in_its_order(walks: paging.Walks, shared_installation: Installation) -> None:
    paging.check(shared_installation, walks)
