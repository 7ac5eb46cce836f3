"""Pages of lists: whatever the order, the filters and what comes and goes between the pages."""

from typing import TYPE_CHECKING

from hypothesis import given, settings

from paging import Walk, check, walks

if TYPE_CHECKING:
    from conftest import Installation


@settings(max_examples=100)
@given(walk=walks())
def test_pages_together_are_the_whole_list_in_its_order(walk: Walk, shared_installation: "Installation") -> None:
    check(shared_installation, walk)
