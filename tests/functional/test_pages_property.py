"""Pages of lists: whatever the order, the filters and what comes and goes between the pages."""

from typing import TYPE_CHECKING

from hypothesis import given, settings

import paging

if TYPE_CHECKING:
    from conftest import Installation


@settings(max_examples=40)
@given(walks=paging.walks())
def test_pages_together_are_the_whole_list_in_its_order(
    walks: paging.Walks, shared_installation: "Installation"
) -> None:
    paging.check(shared_installation, walks)
