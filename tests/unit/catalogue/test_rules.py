from factories import make_image
from pyrimage.catalogue.records import EMPTY, Status
from pyrimage.catalogue.rules import ImageDraft


def test_data_that_came_leaves_no_reason_why_earlier_data_did_not() -> None:
    draft = ImageDraft(image=make_image(last_error="The store is full."), data=None)
    assert draft.completed(None).last_error == "The store is full."
    done = draft.completed(EMPTY)
    assert (done.status, done.last_error) == (Status.ACTIVE, None)
