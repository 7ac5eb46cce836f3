"""Changes of the catalogue over a registry: all of a transaction's are one request, sent when it votes."""

import dataclasses
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from urllib.parse import urlencode

from transaction import TransactionManager
from transaction.interfaces import IDataManager, ITransaction
from zope.interface import implementer

from ...errors import Conflict, Forbidden, NotFound, PyrimageError, RightLost
from ..records import FACTS, Blob, Identity, Image, Location, Status, utcnow
from ..rules import FORMATS
from .records import blob_json, changes_of, fields_of
from .transport import Call, Registries

_TICK = timedelta(microseconds=1)  # how exactly rows hold times
_LAST = datetime.fromisoformat("9999-12-31T23:59:59.999999")


@implementer(IDataManager)
class _Commit:
    """Sends the request of a transaction when that votes: it is the real commit, and always the last to vote."""

    def __init__(self, writes: "RemoteWrites") -> None:
        self._writes, self.transaction_manager = writes, writes.transaction_manager

    def sortKey(self) -> str:
        """Sort after ``pyrimage.uploads``."""
        return f"~pyrimage.registry:{id(self)}"

    def tpc_vote(self, transaction: ITransaction) -> None:
        """Send the request."""
        self._writes.send()

    def abort(self, transaction: ITransaction) -> None:
        """Do nothing: nothing was sent, or it is done."""

    tpc_begin = commit = tpc_finish = tpc_abort = abort


class RemoteWrites:
    """The one change that a transaction makes at a registry, on behalf of ``caller``.

    garbage: what the registry gives up, known when it has answered.
    """

    def __init__(self, registries: Registries, transaction_manager: TransactionManager, caller: Identity) -> None:
        self.transaction_manager, self._registries, self._caller = transaction_manager, registries, caller
        self._call: Call | None = None
        self._lost: Mapping[type[PyrimageError], type[PyrimageError]] = {}
        self.garbage: Sequence[Location] = ()

    def add(self, image: Image, blob: Blob | None) -> None:
        """Post the record, and the blob if there is one."""
        value = {"image": fields_of(image)} | ({} if blob is None else {"blob": blob_json(blob)})
        self._prepare("POST", "/images", value, key=None if blob is None else blob.claim)

    def change(self, old: Image, new: Image, blob: Blob | None, *, purge: bool) -> Image:
        """Put what differs, and what must not have changed since ``old`` was found: as ``SqlWrites.change`` has it."""
        after = dataclasses.replace(new, updated_at=_later(new.updated_at, old))
        kept = ["owner"]
        if blob is not None:
            kept += [*FORMATS, *FACTS]
        elif any(getattr(old, name) != getattr(new, name) for name in FORMATS):
            kept += FORMATS
        value = {
            "image": changes_of(old, after, purge=purge),
            "from_state": old.status,
            "expected": {name: getattr(old, name) for name in kept},
        }
        value |= {} if blob is None else {"blob": blob_json(blob)}
        # Who could change it when it was found, and may not any more, or does not see it: then it has changed.
        lost = {NotFound: Conflict, Forbidden: Conflict}
        self._prepare(
            "PUT", f"/images/{old.id}", value, key=None if blob is None else blob.claim, purge=purge, lost=lost
        )
        return after

    def remove(self, image: Image, *, keep_status: bool) -> Image:
        """Delete the image, if it is as protected as it was, and of the same owner. The registry says when that was."""
        words = {"protected": str(image.protected).lower(), "owner": image.owner or ""}
        if keep_status:
            words["from_state"] = image.status
        self._prepare("DELETE", f"/images/{image.id}", query=urlencode(words), lost={Forbidden: Conflict})
        now = utcnow()
        gone = dataclasses.replace(image, status=Status.DELETED, deleted=True, deleted_at=now, location=None)
        return dataclasses.replace(gone, updated_at=_later(now, image))

    def put_member(self, image_id: str, member: str, can_share: bool | None, caller: Identity) -> None:
        """Put the member."""
        value = None if can_share is None else {"member": _share(can_share)}
        self._prepare("PUT", f"/images/{image_id}/members/{member}", value, lost={Forbidden: RightLost})

    def replace_members(self, image_id: str, memberships: Mapping[str, bool | None], caller: Identity) -> None:
        """Put all of the members."""
        value = [{"member_id": name, **_share(can_share)} for name, can_share in memberships.items()]
        path = f"/images/{image_id}/members"
        self._prepare("PUT", path, {"memberships": value}, lost={Forbidden: RightLost})

    def remove_member(self, image_id: str, member: str, caller: Identity) -> None:
        """Delete the member."""
        self._prepare("DELETE", f"/images/{image_id}/members/{member}", lost={Forbidden: RightLost})

    def send(self) -> None:
        """Send the request. Raises what it is refused with, in the words of ``Writes``; DatabaseAway if in doubt."""
        if self._call is None:
            return
        call, self._call = self._call, None
        try:
            answer = self._registries.ask(call)
        except PyrimageError as error:
            if type(error) in self._lost:
                raise self._lost[type(error)](str(error)) from error
            raise
        self.garbage = [Location(**each) for each in (answer or {}).get("garbage", ())]

    def _prepare(
        self,
        method: str,
        path: str,
        value: object = None,
        *,
        query: str = "",
        key: str | None = None,
        purge: bool = False,
        lost: Mapping[type[PyrimageError], type[PyrimageError]] | None = None,
    ) -> None:
        if self._call is not None:
            raise RuntimeError("A transaction of a remote catalogue makes one change.")
        key = key or f"{uuid.uuid4()}"
        self._call = Call(method, path, self._caller, query, value, key=key, purge=purge)
        self._lost = lost or {}
        self.transaction_manager.get().join(_Commit(self))


def _share(can_share: bool | None) -> dict[str, bool]:
    return {} if can_share is None else {"can_share": can_share}


def _later(time: datetime, image: Image) -> datetime:
    """Return the time, or the first one after the image's last change."""
    return max(time, min(image.updated_at, _LAST - _TICK) + _TICK)
