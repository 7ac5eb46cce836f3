"""Sharing over each database: the suite, who waits for whom, and the quota over HTTP."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from conftest import Installation, install
from factories import ALICE, BOB, error_of, id_of, upload
from pyrimage.catalogue.interfaces import Writes
from pyrimage.catalogue.testing import MembersConformance, Subject
from pyrimage.catalogue.testing.catalogue import ADMIN, at_once
from pyrimage.errors import LimitExceeded, NotFound

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


@pytest.fixture
def server(installation: Installation, tmp_path: Path) -> Iterator[Installation]:
    """Another server of the same database, with a quota."""
    made = install(tmp_path, **installation.shared, image_member_quota=str(QUOTA))
    yield made
    made.engine.dispose()


def test_of_sixteen_clients_that_share_at_once_as_many_succeed_as_the_quota_lets_s38(server: Installation) -> None:
    owner = server.client(ALICE)
    path = f"{upload(owner)}/members"

    def add(number: int) -> int:
        return server.client(ALICE).put(f"{path}/tenant-{number}", status="*").status_int

    statuses = at_once(*(lambda number=number: add(number) for number in range(MANY)))
    assert sorted(statuses) == [204] * QUOTA + [413] * (MANY - QUOTA)
    added = {f"tenant-{number}" for number, status in enumerate(statuses) if status == 204}
    assert {each["member_id"] for each in owner.get(path).json["members"]} == added
    assert "pyrimage.image_member_quota" in error_of(owner.put(f"{path}/one-more", status=413))


def test_an_image_that_is_deleted_while_clients_share_it_is_shared_with_nobody(server: Installation) -> None:
    path = upload(server.client(ALICE))

    def add(member: str) -> int:
        return server.client(ALICE).put(f"{path}/members/{member}", status="*").status_int

    def delete() -> int:
        return server.client(ALICE).delete(path, status="*").status_int

    *statuses, deleted = at_once(*(lambda name=name: add(name) for name in ("x", "y", "tenant-b")), delete)
    assert deleted == 200
    assert set(statuses) <= {204, 404}
    member = server.client(BOB)
    assert member.get("/v1/shared-images/tenant-b").json == {"shared_images": []}
    assert member.get("/v1/images").json == {"images": []}
    member.get(f"/v1/images/{id_of(path)}", status=404)
