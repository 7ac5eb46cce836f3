"""Sharing over each database: the suite, and who waits for whom."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import event

from conftest import Installation
from factories import ALICE, BOB, id_of, upload
from faults import DEADLINE
from pyrimage.catalogue.interfaces import Writes
from pyrimage.catalogue.records import Identity
from pyrimage.catalogue.testing import MembersConformance, Subject
from pyrimage.catalogue.testing.catalogue import ADMIN, ANONYMOUS, STRANGER
from pyrimage.catalogue.testing.members import WRITES as CALLERS_WRITES
from pyrimage.catalogue.testing.members import Write as CallersWrite
from pyrimage.errors import LimitExceeded, NotFound, RightLost

MANY, QUOTA = 16, 5

Call = Callable[[], object]
Write = Callable[[Writes, str], None]

WRITES: dict[str, Write] = {
    "put": lambda writes, image_id: writes.put_member(image_id, "tenant-b", None, ADMIN),
    "replace": lambda writes, image_id: writes.replace_members(image_id, {"tenant-b": None}, ADMIN),
    "remove": lambda writes, image_id: writes.remove_member(image_id, "tenant-b", ADMIN),
}


@pytest.fixture
def begin(installation: Installation) -> Iterator[Callable[[Call], Future[object]]]:
    """Give a function that starts a call aside, and returns when it has sent its first statement that writes."""
    here, wrote = threading.get_ident(), threading.Event()

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if threading.get_ident() != here and not statement.lstrip().startswith("SELECT"):
            wrote.set()

    def start(call: Call) -> Future[object]:
        future = aside.submit(call)
        if not wrote.wait(DEADLINE):
            raise AssertionError("nothing was written")
        return future

    event.listen(installation.engine, "before_cursor_execute", note)
    with ThreadPoolExecutor(1) as aside:
        yield start
    event.remove(installation.engine, "before_cursor_execute", note)


class TestLocalMembers(MembersConformance):
    @pytest.mark.parametrize("caller", [STRANGER, ANONYMOUS])
    @pytest.mark.parametrize("write", CALLERS_WRITES.values(), ids=CALLERS_WRITES)
    def test_who_does_not_see_the_image_has_lost_its_right_too(
        self, catalogue: Subject, write: CallersWrite, caller: Identity
    ) -> None:
        image = catalogue.add(owner="tenant-a")
        catalogue.share(image.id, "tenant-d")
        with pytest.raises(RightLost), catalogue.transaction(caller) as writes:
            write(writes, image.id, caller)

    @pytest.mark.parametrize("name", WRITES)
    def test_what_waits_for_a_deletion_then_finds_nothing(
        self, catalogue: Subject, begin: Callable[[Call], Future[object]], name: str
    ) -> None:
        image = catalogue.add()
        if name == "remove":
            catalogue.share(image.id, "tenant-b")

        def write() -> None:
            with catalogue.transaction() as writes:
                WRITES[name](writes, image.id)

        before = self.of(catalogue, image)
        with catalogue.transaction() as writes:
            writes.remove(image, keep_status=False)
            waiting = begin(write)
        with pytest.raises(NotFound, match=image.id):
            waiting.result(DEADLINE)
        assert self.of(catalogue, image) == before

    @pytest.mark.parametrize("name", ["put", "replace"])
    def test_what_waits_for_an_addition_then_counts_it_s38(
        self, catalogue: Subject, begin: Callable[[Call], Future[object]], name: str
    ) -> None:
        limited, image = catalogue.limited(image_member_quota=2), catalogue.add()
        limited.share(image.id, "first")

        def write() -> None:
            if name == "put":
                limited.share(image.id, "third")
            else:
                self.replace(limited, image, dict.fromkeys(["first", "second", "third"]))

        with limited.transaction() as writes:
            writes.put_member(image.id, "second", None, ADMIN)
            waiting = begin(write)
        with pytest.raises(LimitExceeded):
            waiting.result(DEADLINE)
        assert list(self.of(catalogue, image)) == ["first", "second"]

    def test_a_removal_waits_for_a_replacement_that_keeps_the_member(
        self, catalogue: Subject, begin: Callable[[Call], Future[object]]
    ) -> None:
        image = catalogue.add()
        catalogue.share(image.id, "tenant-b")
        with catalogue.transaction() as writes:
            writes.replace_members(image.id, {"tenant-b": None, "tenant-c": None}, ADMIN)
            waiting = begin(lambda: self.remove(catalogue, image, "tenant-b"))
        waiting.result(DEADLINE)
        assert list(self.of(catalogue, image)) == ["tenant-c"]

    def test_a_member_whose_right_is_taken_away_meanwhile_cannot_give_it_back(
        self, catalogue: Subject, installation: Installation, begin: Callable[[Call], Future[object]]
    ) -> None:
        path = upload(installation.client(ALICE))
        catalogue.share(id_of(path), "tenant-b", True)
        with catalogue.transaction() as writes:
            writes.remove_member(id_of(path), "tenant-b", ADMIN)
            waiting = begin(lambda: installation.client(BOB).put(f"{path}/members/tenant-b", status="*").status_int)
        assert waiting.result(DEADLINE) == 404
        assert installation.client(ALICE).get(f"{path}/members").json == {"members": []}
