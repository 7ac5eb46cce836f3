"""The behaviour of ``Tokens``."""

import dataclasses
import functools
from datetime import timedelta
from typing import Any

import pytest

from ...errors import NotFound
from ..interfaces import Tokens
from ..records import Token
from .catalogue import NOON, TEXTS, Subject, at_once

HOUR = timedelta(hours=1)


def token(number: int, **fields: Any) -> Token:
    """Make an API token of alice; those with higher numbers are younger."""
    made = NOON + timedelta(seconds=number)
    defaults: dict[str, Any] = {"id": f"id-{number}", "user": "alice", "project": "p", "digest": f"{number:064}"}
    defaults |= {"is_login": False, "read_only": False, "created_at": made, "expires_at": None}
    return Token(**{**defaults, **fields})


def login(number: int, **fields: Any) -> Token:
    """Make what a login gave out, for an hour."""
    return token(number, **{"is_login": True, "expires_at": NOON + HOUR + timedelta(seconds=number), **fields})


class TokensConformance:
    """Adding, finding and listing; revoking; uses; and what expires."""

    @pytest.fixture
    def tokens(self, catalogue: Subject) -> Tokens:
        """The tokens of the catalogue under test."""
        return catalogue.rows.tokens

    def added(self, tokens: Tokens, *new: Token) -> None:
        """Add tokens in their order."""
        for each in new:
            tokens.add(each)

    def left(self, tokens: Tokens, *candidates: Token) -> list[Token]:
        """Return those that are still there, as they were added."""
        return [each for each in candidates if tokens.find(each.digest) == each]

    @pytest.mark.parametrize(
        "fields",
        [
            {},
            {"project": "tenant-a", "read_only": True, "expires_at": NOON + HOUR},
            {"is_login": True, "last_used_at": NOON, "id": "x" * 32, "user": "u" * 64, "project": "p" * 64},
        ],
    )
    def test_a_token_is_found_by_its_digest_as_it_was_added(self, tokens: Tokens, fields: dict[str, Any]) -> None:
        self.added(tokens, token(1), token(2, **fields))
        assert tokens.find(token(2).digest) == token(2, **fields)

    def test_no_other_digest_finds_it(self, tokens: Tokens) -> None:
        self.added(tokens, token(1, digest="a" * 64))
        for digest in ("b" * 64, f"{'a' * 63}b"):
            assert tokens.find(digest) is None

    def test_an_expired_token_is_found_until_it_is_removed(self, tokens: Tokens) -> None:
        old = token(1, expires_at=NOON - HOUR)
        self.added(tokens, old)
        assert self.left(tokens, old) == [old]

    def test_the_list_has_api_tokens_in_order_of_users_and_times_and_no_logins(self, tokens: Tokens) -> None:
        bobs, second, first = token(1, user="bob"), token(3), token(2)
        self.added(tokens, bobs, second, login(4), first)
        assert tokens.of_user() == [first, second, bobs]
        assert tokens.of_user("alice") == [first, second]
        assert tokens.of_user("carol") == []

    def test_users_compare_byte_by_byte(self, tokens: Tokens) -> None:
        self.added(tokens, *(token(number, user=text) for number, text in enumerate(TEXTS)))
        assert [each.user for each in tokens.of_user("a")] == ["a"]
        assert tokens.revoke_all("a") == 1
        assert {each.user for each in tokens.of_user()} == set(TEXTS) - {"a"}

    def test_a_revoked_token_is_gone_and_cannot_be_revoked_again(self, tokens: Tokens) -> None:
        self.added(tokens, token(1), token(2))
        assert tokens.revoke("id-1")
        assert self.left(tokens, token(1), token(2)) == [token(2)]
        assert not tokens.revoke("id-1")
        assert not tokens.revoke("ID-2")

    def test_what_was_made_from_a_token_goes_with_it_and_its_own_too(self, tokens: Tokens) -> None:
        chain = [token(0), *(login(n, parent=f"id-{n - 1}", generation=n) for n in range(1, 9))]
        self.added(tokens, *chain, login(20))
        assert tokens.revoke("id-2")
        assert self.left(tokens, *chain, login(20)) == [*chain[:2], login(20)]
        assert tokens.revoke("id-0")
        assert self.left(tokens, *chain, login(20)) == [login(20)]

    def test_nothing_is_made_from_a_token_that_is_not_there(self, tokens: Tokens) -> None:
        self.added(tokens, token(1))
        tokens.revoke("id-1")
        with pytest.raises(NotFound):
            tokens.add(login(2, parent="id-1", generation=1))
        assert tokens.find(login(2).digest) is None

    def test_of_a_revocation_and_what_is_made_at_once_nothing_stays(self, tokens: Tokens) -> None:
        for number in range(1, 20, 2):
            child = login(number + 1, parent=f"id-{number}", generation=1)
            self.added(tokens, token(number))
            revoke = functools.partial(tokens.revoke, f"id-{number}")
            revoked, added = at_once(revoke, functools.partial(tokens.add, child))
            assert revoked is True
            assert added is None or isinstance(added, NotFound)
            assert tokens.find(child.digest) is None

    def test_all_tokens_of_a_user_are_revoked_logins_too_and_others_stay(self, tokens: Tokens) -> None:
        mine = [token(1), token(2), login(3, parent="id-1", generation=1), login(4)]
        self.added(tokens, *mine, token(5, user="bob"))
        assert tokens.revoke_all("alice") == 2
        assert self.left(tokens, *mine, token(5, user="bob")) == [token(5, user="bob")]
        assert tokens.revoke_all("alice") == 0

    def test_a_use_is_written_once_in_the_time_that_is_named(self, tokens: Tokens) -> None:
        self.added(tokens, token(1), token(2))
        for minutes, expected in ((0, 0), (59, 0), (60, 60), (119, 60), (121, 121)):
            now = NOON + timedelta(minutes=minutes)
            tokens.note_use("id-1", now, now - HOUR)
            used = dataclasses.replace(token(1), last_used_at=NOON + timedelta(minutes=expected))
            assert tokens.of_user() == [used, token(2)]
        tokens.note_use("id-9", NOON, NOON)

    def test_a_users_logins_are_limited_to_the_youngest(self, tokens: Tokens) -> None:
        others = [token(1), login(2, user="bob"), token(3, expires_at=NOON - HOUR)]
        expired = login(4, created_at=NOON + HOUR, expires_at=NOON)
        logins = [login(number) for number in (7, 5, 6)]
        self.added(tokens, *others, expired, *logins)
        tokens.limit_logins("alice", NOON, 3)
        assert self.left(tokens, *others, expired, *logins) == [*others, *logins]
        tokens.limit_logins("alice", NOON, 2)
        assert self.left(tokens, *others, *logins) == [*others, login(7), login(6)]

    def test_logins_that_were_made_with_tokens_go_first(self, tokens: Tokens) -> None:
        made_with_token = [login(number, parent="id-1", generation=1) for number in (8, 9)]
        self.added(tokens, token(1), login(6), login(7), *made_with_token)
        tokens.limit_logins("alice", NOON, 3)
        assert self.left(tokens, login(6), login(7), *made_with_token) == [login(6), login(7), made_with_token[1]]

    def test_a_users_logins_are_limited_by_many_at_once(self, tokens: Tokens) -> None:
        logins = [login(number) for number in range(20)]
        self.added(tokens, *logins)
        assert at_once(*[lambda: tokens.limit_logins("alice", NOON, 3)] * 4) == [None] * 4
        assert self.left(tokens, *logins) == logins[-3:]

    def test_expired_tokens_are_removed_and_counted(self, tokens: Tokens) -> None:
        expired = [token(1, expires_at=NOON), login(2, expires_at=NOON - HOUR, user="bob")]
        valid = [token(3), token(4, expires_at=NOON + HOUR), login(5)]
        self.added(tokens, *expired, *valid)
        assert tokens.remove_expired(NOON, dry_run=True) == 2
        assert self.left(tokens, *expired, *valid) == [*expired, *valid]
        assert tokens.remove_expired(NOON, dry_run=False) == 2
        assert self.left(tokens, *expired, *valid) == valid
        assert tokens.remove_expired(NOON, dry_run=False) == 0
