"""Tokens over a registry: a request for each method of ``Tokens``, by the server itself."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from ..records import ADMINISTRATOR, Token, json_record, json_value
from .records import Json, token_of
from .transport import Call, Registries


class RemoteTokens:
    """Tokens that a registry keeps."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    def add(self, token: Token) -> None:
        """Store the token."""
        self._ask("add", {"token": json_record(token)})

    def find(self, digest: str) -> Token | None:
        """Ask for the token of a digest."""
        found = self._ask("find", {"digest": digest})["token"]
        return None if found is None else token_of(found)

    def of_user(self, user: str | None = None) -> Sequence[Token]:
        """Ask for the API tokens."""
        return [token_of(each) for each in self._ask("of_user", {"user": user})["tokens"]]

    def note_use(self, token_id: str, now: datetime, since: datetime) -> None:
        """Write the time down."""
        self._ask("note_use", {"id": token_id, "now": json_value(now), "since": json_value(since)})

    def revoke(self, token_id: str) -> bool:
        """Remove a token; where it was removed and the answer was lost, it is not there any more."""
        return bool(self._ask("revoke", {"id": token_id})["revoked"])

    def revoke_all(self, user: str) -> int:
        """Remove all of a user."""
        return int(self._ask("revoke_all", {"user": user})["count"])

    def limit_logins(self, user: str, now: datetime, most: int) -> None:
        """Remove a user's oldest logins."""
        self._ask("limit_logins", {"user": user, "now": json_value(now), "most": most})

    def remove_expired(self, now: datetime, *, dry_run: bool) -> int:
        """Remove what has expired, or count it."""
        return int(self._ask("remove_expired", {"now": json_value(now), "dry_run": dry_run})["count"])

    def _ask(self, operation: str, value: Json) -> Any:
        return self._registries.ask(Call("POST", f"/tokens/{operation}", ADMINISTRATOR, value=value))
