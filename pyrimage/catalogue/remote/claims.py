"""Claims and garbage over a registry: a request for each method of ``Claims``, by the server itself but for one."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from ...errors import Conflict, Forbidden, NotFound
from ..records import ADMINISTRATOR, Claim, Identity, Location, json_record
from .records import Json
from .transport import Call, Registries

_BATCH = 500  # keys of one question


class RemoteClaims:
    """Claims that a registry records."""

    def __init__(self, registries: Registries) -> None:
        self._registries = registries

    def begin(self, claim: Claim, caller: Identity, *, is_new: bool) -> int | None:
        """Ask on behalf of who uploads, and could do so when the image was found."""
        path = "/claims/begin" if is_new else f"/images/{claim.image_id}/claims"
        try:
            answer = self._registries.ask(Call("POST", path, caller, value={"claim": json_record(claim)}))
        except (NotFound, Forbidden) as error:
            raise Conflict(str(error)) from error
        held: int | None = answer["held"]
        return held

    def reserve(self, claim: Claim, came: int) -> int | None:
        """Enlarge the claim."""
        held: int | None = self._ask("reserve", {"claim": json_record(claim), "came": came})["held"]
        return held

    def renew(self, keys: Sequence[str]) -> None:
        """Renew all with one request."""
        self._ask("renew", {"keys": list(keys)})

    def end(self, key: str, image_id: str, reason: str | None) -> None:
        """End the claim. A registry takes one line: what another server said, in a store's error, may be several."""
        line = None if reason is None else "".join(each if each.isprintable() else " " for each in reason)
        self._ask("end", {"key": key, "image_id": image_id, "reason": line})

    def expired(self, grace: timedelta, image_id: str | None = None) -> Sequence[Claim]:
        """Ask for those that ``seize`` would take."""
        answer = self._ask("expired", {"grace": grace.total_seconds(), "image_id": image_id})
        return [Claim(**each) for each in answer["claims"]]

    def seize(self, claim: Claim, grace: timedelta) -> bool:
        """Take the claim away from its upload."""
        return bool(self._ask("seize", {"claim": json_record(claim), "grace": grace.total_seconds()})["seized"])

    def is_located(self, claim: Claim) -> bool:
        """Ask for a location with the claim's key."""
        return bool(self._ask("is_located", {"claim": json_record(claim)})["is_located"])

    def known(self, keys: Sequence[str]) -> set[str]:
        """Ask for the keys, some at a time."""
        batches = (list(keys[start : start + _BATCH]) for start in range(0, len(keys), _BATCH))
        return {key for batch in batches for key in self._ask("known", {"keys": batch})["keys"]}

    def garbage(self) -> Sequence[Location]:
        """Ask for the garbage."""
        return [Location(**each) for each in self._ask("garbage")["garbage"]]

    def forget_garbage(self, location: Location) -> None:
        """Forget a location whose bytes are gone."""
        self._ask("forget_garbage", {"location": {"store": location.store, "key": location.key}})

    def _ask(self, operation: str, value: Json | None = None) -> Any:
        return self._registries.ask(Call("POST", f"/claims/{operation}", ADMINISTRATOR, value=value))
