"""How images are shared."""

import contextlib
from collections.abc import Callable, Mapping, Sequence

import pytest

from ...errors import LimitExceeded, NotFound, RightLost
from ..interfaces import Writes
from ..records import Identity, Image, Member
from .catalogue import (
    ADMIN,
    ANONYMOUS,
    BLANK,
    MEMBER,
    NOON,
    OWNER,
    STRANGER,
    TEXTS,
    Subject,
    at_once,
    kinds_of,
    make,
)

MANY = 16

Write = Callable[[Writes, str, Identity], None]

WRITES: dict[str, Write] = {
    "put": lambda writes, image_id, caller: writes.put_member(image_id, "tenant-e", None, caller),
    "replace": lambda writes, image_id, caller: writes.replace_members(image_id, {"tenant-e": None}, caller),
    "remove": lambda writes, image_id, caller: writes.remove_member(image_id, "tenant-d", caller),
}


class MembersConformance:
    """Adding, changing, replacing, removing and listing; quotas; and what goes on at once."""

    def of(self, catalogue: Subject, image: Image) -> dict[str, bool]:
        """Return an image's members and whether they may share it."""
        found = catalogue.rows.members_of(image.id, ADMIN)
        assert {each.image_id for each in found} <= {image.id}
        return {each.member: each.can_share for each in found}

    def replace(self, catalogue: Subject, image: Image, memberships: Mapping[str, bool | None]) -> None:
        """Replace all members of an image."""
        with catalogue.transaction() as writes:
            writes.replace_members(image.id, memberships, ADMIN)

    def remove(self, catalogue: Subject, image: Image, member: str) -> None:
        """Remove a member of an image."""
        with catalogue.transaction() as writes:
            writes.remove_member(image.id, member, ADMIN)

    def shared_with(self, catalogue: Subject, member: str) -> Sequence[Member]:
        """Return the memberships of a project."""
        return catalogue.rows.shared_with(member, ADMIN)

    def test_a_new_image_has_no_members(self, catalogue: Subject) -> None:
        assert self.of(catalogue, catalogue.add()) == {}

    @pytest.mark.parametrize("before", [None, False, True])
    @pytest.mark.parametrize("can_share", [None, False, True])
    def test_a_member_is_added_or_changed_and_otherwise_stays_as_it_was(
        self, catalogue: Subject, can_share: bool | None, before: bool | None
    ) -> None:
        image = catalogue.add()
        catalogue.share(image.id, "tenant-b", before)
        assert self.of(catalogue, image) == {"tenant-b": bool(before)}
        catalogue.share(image.id, "tenant-b", can_share)
        assert self.of(catalogue, image) == {"tenant-b": bool(before) if can_share is None else can_share}

    def test_one_member_is_found(self, catalogue: Subject) -> None:
        image, other = catalogue.add(), catalogue.add()
        catalogue.share(image.id, "tenant-b", can_share=True)
        catalogue.share(other.id, "tenant-c")
        assert catalogue.rows.find_member(image.id, "tenant-b", ADMIN) == Member(image.id, "tenant-b", can_share=True)
        assert catalogue.rows.find_member(image.id, "tenant-c", ADMIN) is None
        assert catalogue.rows.find_member("unknown", "tenant-b", ADMIN) is None

    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    @pytest.mark.parametrize(
        ("caller", "may"), [(ADMIN, True), (OWNER, True), (MEMBER, True), (STRANGER, False), (ANONYMOUS, False)]
    )
    def test_who_may_share_is_looked_up_when_members_are_locked(
        self, catalogue: Subject, write: Write, caller: Identity, may: bool
    ) -> None:
        image = catalogue.add(owner="tenant-a")
        catalogue.share(image.id, "tenant-b", can_share=True)
        catalogue.share(image.id, "tenant-d", can_share=False)
        refused = contextlib.nullcontext() if may else pytest.raises((RightLost, NotFound))
        with refused, catalogue.transaction(caller) as writes:
            write(writes, image.id, caller)

    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    def test_a_member_that_cannot_share_does_not(self, catalogue: Subject, write: Write) -> None:
        image = catalogue.add()
        catalogue.share(image.id, "tenant-b", can_share=False)
        catalogue.share(image.id, "tenant-d", can_share=False)
        with pytest.raises(RightLost), catalogue.transaction(MEMBER) as writes:
            write(writes, image.id, MEMBER)

    def test_a_member_removes_itself(self, catalogue: Subject) -> None:
        image = catalogue.add()
        catalogue.share(image.id, "tenant-b", can_share=False)
        with catalogue.transaction(MEMBER) as writes:
            writes.remove_member(image.id, "tenant-b", MEMBER)
        assert self.of(catalogue, image) == {}

    @pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
    def test_nobody_shares_what_is_nobodys(self, catalogue: Subject, write: Write) -> None:
        image = catalogue.add()
        catalogue.share(image.id, "tenant-d")
        with pytest.raises((RightLost, NotFound)), catalogue.transaction(BLANK) as writes:
            write(writes, image.id, BLANK)

    def test_members_are_in_order_of_their_names_and_names_compare_byte_by_byte(self, catalogue: Subject) -> None:
        image = catalogue.add()
        for text in TEXTS:
            catalogue.share(image.id, text)
        assert list(self.of(catalogue, image)) == sorted(TEXTS, key=str.encode)
        self.remove(catalogue, image, "a")
        assert set(self.of(catalogue, image)) == set(TEXTS) - {"a"}

    def test_changes_reach_one_member_of_one_image(self, catalogue: Subject) -> None:
        image, other = catalogue.add(), catalogue.add()
        for each in (image, other):
            for member in ("tenant-b", "tenant-c"):
                catalogue.share(each.id, member)
        catalogue.share(image.id, "tenant-b", can_share=True)
        assert self.of(catalogue, image) == {"tenant-b": True, "tenant-c": False}
        self.remove(catalogue, image, "tenant-b")
        assert self.of(catalogue, image) == {"tenant-c": False}
        self.replace(catalogue, image, {})
        assert self.of(catalogue, other) == {"tenant-b": False, "tenant-c": False}

    def test_a_replacement_leaves_whom_it_names_and_keeps_what_it_does_not_say(self, catalogue: Subject) -> None:
        image = catalogue.add()
        for member, can_share in {"kept": True, "set": True, "same": False, "gone": True}.items():
            catalogue.share(image.id, member, can_share)
        self.replace(catalogue, image, {"kept": None, "set": False, "same": None, "new": None, "new too": True})
        after = {"kept": True, "set": False, "same": False, "new": False, "new too": True}
        assert self.of(catalogue, image) == after

    @pytest.mark.parametrize("count", [0, 1, 3000])
    def test_a_replacement_may_be_of_any_length(self, catalogue: Subject, count: int) -> None:
        image = catalogue.add()
        catalogue.share(image.id, "before")
        names = [f"tenant-{number:05}" for number in range(count)]
        for _ in range(2):
            self.replace(catalogue, image, dict.fromkeys(names))
            assert list(self.of(catalogue, image)) == names

    def test_who_is_no_member_is_not_removed(self, catalogue: Subject) -> None:
        image = catalogue.add()
        catalogue.share(image.id, "tenant-b")
        self.remove(catalogue, image, "tenant-b")
        for member in ("tenant-b", "TENANT-B", "never"):
            with pytest.raises(NotFound):
                self.remove(catalogue, image, member)

    def test_who_was_removed_stays_out_until_added_again_s4(self, catalogue: Subject) -> None:
        image = catalogue.add(owner="tenant-a")
        catalogue.share(image.id, "tenant-b", can_share=True)
        self.remove(catalogue, image, "tenant-b")
        assert catalogue.find(image.id, MEMBER) is None
        assert catalogue.ids(MEMBER) == []
        assert self.shared_with(catalogue, "tenant-b") == []
        catalogue.share(image.id, "tenant-b")
        assert self.of(catalogue, image) == {"tenant-b": False}
        assert catalogue.ids(MEMBER) == [image.id]

    def test_a_member_sees_the_image_and_others_do_not(self, catalogue: Subject) -> None:
        image = catalogue.add(owner="tenant-a")
        catalogue.share(image.id, "tenant-b")
        assert [catalogue.find(image.id, viewer) for viewer in (OWNER, MEMBER, STRANGER)] == [image, image, None]

    def test_sharing_leaves_the_image_as_it_was(self, catalogue: Subject) -> None:
        image = catalogue.add(created_at=NOON, updated_at=NOON, properties={"a": "b"})
        catalogue.share(image.id, "tenant-b")
        self.replace(catalogue, image, {"tenant-c": True})
        self.remove(catalogue, image, "tenant-c")
        assert catalogue.find(image.id) == image

    def test_what_is_shared_with_a_project_is_in_order_of_the_ids(self, catalogue: Subject) -> None:
        for image_id in ("b", "a", "A"):
            catalogue.add(id=image_id, is_public=image_id == "a")
            catalogue.share(image_id, "tenant-b", can_share=image_id == "A")
            catalogue.share(image_id, "tenant-c")
        assert self.shared_with(catalogue, "tenant-b") == [
            Member("A", "tenant-b", can_share=True),
            Member("a", "tenant-b", can_share=False),
            Member("b", "tenant-b", can_share=False),
        ]
        assert self.shared_with(catalogue, "TENANT-B") == []

    def test_what_is_deleted_is_shared_no_more_and_stays_a_place_in_its_members_lists(self, catalogue: Subject) -> None:
        images = [catalogue.add(id=image_id, owner="tenant-a") for image_id in ("1", "2")]
        for image in images:
            catalogue.share(image.id, "tenant-b")
        catalogue.remove(images[1])
        assert [each.image_id for each in self.shared_with(catalogue, "tenant-b")] == ["1"]
        assert catalogue.ids(MEMBER, marker="2") == ["1"]

    @pytest.mark.parametrize("is_deleted", [True, False])
    def test_an_image_that_is_not_there_is_not_shared(self, catalogue: Subject, is_deleted: bool) -> None:
        image = make()
        if is_deleted:
            image = catalogue.add()
            catalogue.share(image.id, "tenant-b")
            catalogue.remove(image)
        before = self.of(catalogue, image)
        with pytest.raises(NotFound):
            catalogue.share(image.id, "tenant-c")
        with pytest.raises(NotFound):
            self.replace(catalogue, image, {})
        with pytest.raises(NotFound):
            self.remove(catalogue, image, "tenant-b")
        assert self.of(catalogue, image) == before

    def test_the_quota_is_for_each_image_and_those_who_are_members_never_count_again_s38(
        self, catalogue: Subject
    ) -> None:
        for_two, for_one = catalogue.limited(image_member_quota=2), catalogue.limited(image_member_quota=1)
        image, other = catalogue.add(), catalogue.add()
        for each in (image, other):
            for member in ("b", "c"):
                for_two.share(each.id, member)
        with pytest.raises(LimitExceeded, match="image_member_quota"):
            for_two.share(image.id, "d")
        for_two.share(image.id, "b", can_share=True)
        for_one.share(image.id, "b")  # lowered since
        assert self.of(catalogue, image) == {"b": True, "c": False}
        self.remove(for_two, image, "c")
        for_two.share(image.id, "d")
        assert self.of(catalogue, image) == {"b": True, "d": False}

    @pytest.mark.parametrize(
        ("quota", "names", "is_accepted"),
        [
            (0, [], True),
            (0, ["b"], True),
            (0, ["d"], False),
            (1, ["d"], True),
            (2, ["b", "c"], True),
            (1, ["b", "c"], True),
            (1, ["b", "d"], False),
            (2, ["d", "e"], True),
            (2, ["b", "c", "d"], False),
            (3, ["b", "c", "d"], True),
        ],
    )
    def test_a_replacement_with_somebody_new_keeps_to_the_quota_s38(
        self, catalogue: Subject, quota: int, names: list[str], is_accepted: bool
    ) -> None:
        limited, image = catalogue.limited(image_member_quota=quota), catalogue.add()
        for member in ("b", "c"):
            catalogue.share(image.id, member)
        if is_accepted:
            self.replace(limited, image, dict.fromkeys(names))
        else:
            with pytest.raises(LimitExceeded, match="image_member_quota"):
                self.replace(limited, image, dict.fromkeys(names))
        assert list(self.of(catalogue, image)) == (names if is_accepted else ["b", "c"])

    def test_additions_at_once_never_pass_the_quota_s38(self, catalogue: Subject) -> None:
        limited, image = catalogue.limited(image_member_quota=5), catalogue.add()
        names = [f"tenant-{number}" for number in range(MANY)]
        outcomes = at_once(*(lambda name=name: limited.share(image.id, name) for name in names))
        assert kinds_of(outcomes) == [*["LimitExceeded"] * 11, *["NoneType"] * 5]
        added = {name for name, outcome in zip(names, outcomes, strict=True) if outcome is None}
        assert set(self.of(catalogue, image)) == added

    def test_additions_and_replacements_at_once_never_pass_the_quota_s38(self, catalogue: Subject) -> None:
        limited, image = catalogue.limited(image_member_quota=3), catalogue.add()
        replacements = [dict.fromkeys(f"{number}-{each}" for each in range(3)) for number in range(MANY // 2)]
        outcomes = at_once(
            *(lambda number=number: limited.share(image.id, f"tenant-{number}") for number in range(MANY // 2)),
            *(lambda names=names: self.replace(limited, image, names) for names in replacements),
        )
        assert set(kinds_of(outcomes)) <= {"LimitExceeded", "NoneType"}
        assert outcomes[MANY // 2 :] == [None] * (MANY // 2)
        assert len(self.of(catalogue, image)) == 3

    def test_additions_of_one_member_at_once_are_all_answered(self, catalogue: Subject) -> None:
        limited, image = catalogue.limited(image_member_quota=1), catalogue.add()
        assert at_once(*[lambda: limited.share(image.id, "tenant-b")] * MANY) == [None] * MANY
        assert self.of(catalogue, image) == {"tenant-b": False}

    def test_of_removals_at_once_one_finds_the_member(self, catalogue: Subject) -> None:
        image = catalogue.add()
        catalogue.share(image.id, "tenant-b")
        outcomes = at_once(*[lambda: self.remove(catalogue, image, "tenant-b")] * 4)
        assert kinds_of(outcomes) == ["NoneType", *["NotFound"] * 3]

    def test_a_removal_at_once_with_replacements_that_keep_the_member_finds_it(self, catalogue: Subject) -> None:
        image = catalogue.add()
        catalogue.share(image.id, "tenant-b")
        keep = [lambda: self.replace(catalogue, image, {"tenant-b": None})] * 4
        assert at_once(*keep, lambda: self.remove(catalogue, image, "tenant-b"), *keep) == [None] * 9

    def test_of_a_deletion_and_additions_at_once_no_answer_shares_what_is_deleted(self, catalogue: Subject) -> None:
        for _ in range(3):
            image = catalogue.add(owner="tenant-a")
            adds = [lambda name=name: catalogue.share(image.id, name) for name in ("b", "c", "tenant-b")]  # noqa: B023
            *outcomes, removed = at_once(*adds, lambda: catalogue.remove(image))  # noqa: B023
            assert removed == []
            assert set(kinds_of(outcomes)) <= {"NoneType", "NotFound"}
            assert [self.shared_with(catalogue, name) for name in ("b", "c", "tenant-b")] == [[], [], []]
            assert catalogue.find(image.id, MEMBER) is None
