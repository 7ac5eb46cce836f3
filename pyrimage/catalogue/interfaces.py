"""What the catalogue can do, wherever its rows are: nothing here that could not travel over HTTP."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol, runtime_checkable

from ..errors import StoreMissing
from .queries import ListQuery
from .records import Blob, Claim, Identity, Image, ImageSummary, Location, Member, Token


class Reads(Protocol):
    """Questions, each on a short connection of its own, for any thread."""

    def find(self, image_id: str, viewer: Identity) -> Image | None:
        """Return an image that ``viewer`` may see (an administrator also deleted ones), else None."""

    def page(self, query: ListQuery, viewer: Identity) -> list[Image]:
        """Return a page of what ``viewer``'s list shows. Raises Invalid for a marker the viewer could not have seen."""

    def brief_page(self, query: ListQuery, viewer: Identity) -> list[ImageSummary]:
        """Return the same page in brief: read faster, for the rest of each image stays in the rows. Raises Invalid."""

    def members_of(self, image_id: str, viewer: Identity) -> Sequence[Member]:
        """Return the members of an image that ``viewer`` may see and that is not deleted, in order of their names."""

    def find_member(self, image_id: str, member: str, viewer: Identity) -> Member | None:
        """Return one of these members, else None."""

    def shared_with(self, member: str, viewer: Identity) -> Sequence[Member]:
        """Return the memberships of a project in images that are not deleted, in order of the images' ids.

        viewer: the project itself, or an administrator.
        """


class Writes(Protocol):
    """Changes that become true with the commit of one transaction.

    Those of members raise NotFound if the image is deleted, and RightLost unless ``caller``, at that moment, is an
    administrator, the image's owner or a member that can share it; NotFound may also be for who does not see it any
    more. They wait for others that write to the same image.

    A catalogue elsewhere is asked at the commit: only then what is refused is raised, and a transaction is one change.
    """

    @property
    def garbage(self) -> Sequence[Location]:
        """The owned locations that this transaction gives up; complete once it is committed."""

    def add(self, image: Image, blob: Blob | None) -> None:
        """Store a new image, and end the claim of its blob. Raises ImageExists, LimitExceeded, UploadEnded."""

    def change(self, old: Image, new: Image, blob: Blob | None, *, purge: bool) -> Image:
        """Store what differs between ``old``, as found, and ``new``; end the claim of the blob.

        purge: no property stays but the new ones; else none goes.

        Returns ``new`` with its new ``updated_at``, which is later than the image's last one. A catalogue elsewhere
        may store a still later one, and does where another change has come between.

        Raises Conflict if the image's status or owner, a format where one changes, or with a blob a format or what was
        announced is no longer what it was, LimitExceeded, UploadEnded.
        """

    def remove(self, image: Image, *, keep_status: bool) -> Image:
        """Mark an image deleted, and return it so; its owned locations become garbage.

        keep_status: only if its status is still what it was, else raises PreconditionFailed.
        Raises NotFound, and Conflict if its protection or owner is no longer what it was.
        """

    def put_member(self, image_id: str, member: str, can_share: bool | None, caller: Identity) -> None:
        """Add a member, or change whether it may share; None leaves that as it is, and is False for a new one.

        Raises LimitExceeded; not for one that is a member already.
        """

    def replace_members(self, image_id: str, memberships: Mapping[str, bool | None], caller: Identity) -> None:
        """Make these, by name, the only members; ``can_share`` is that of ``put_member``. Raises LimitExceeded."""

    def remove_member(self, image_id: str, member: str, caller: Identity) -> None:
        """Remove a member, which it may do itself. Raises NotFound if it is none."""


class Claims(Protocol):
    """Uploads under way and bytes to remove; each call is a short transaction of its own."""

    def begin(self, claim: Claim, caller: Identity, *, is_new: bool) -> int | None:
        """Record a claim with a fresh lease; return how many bytes it holds, None where it need not grow with them.

        caller: who uploads, and may do so.

        Raises ImageExists or Conflict if the image cannot take data, UploadInProgress if it is claimed already,
        LimitExceeded if the owner has no room.
        """

    def reserve(self, claim: Claim, came: int) -> int | None:
        """Make a claim hold the bytes that came, or more; return how many, None where nobody counts.

        What was recorded counts, not the size that ``claim`` names. Raises LimitExceeded, UploadEnded.
        """

    def renew(self, keys: Sequence[str]) -> None:
        """Renew the leases of these live claims."""

    def end(self, key: str, image_id: str, reason: str | None) -> None:
        """Forget a claim whose upload failed, and note the reason, cut to 1,000 characters, on the image if queued."""

    def expired(self, grace: timedelta, image_id: str | None = None) -> Sequence[Claim]:
        """Return claims whose lease ended more than ``grace`` ago, of one image or of all."""

    def seize(self, claim: Claim, grace: timedelta) -> bool:
        """Take an expired claim away from its upload; False if that renewed or ended it meanwhile."""

    def is_located(self, claim: Claim) -> bool:
        """Say whether an image's location names the claim's key: then its COMMIT, in doubt, had worked."""

    def known(self, keys: Sequence[str]) -> set[str]:
        """Return those of some keys that a claim or a location names, in whatever state and of whatever store.

        What was written under one of the others before the question was asked, nobody will ever ask for.
        """

    def garbage(self) -> Sequence[Location]:
        """Return the locations whose bytes are to be removed."""

    def forget_garbage(self, location: Location) -> None:
        """Forget a location whose bytes are gone."""


class Tokens(Protocol):
    """Tokens, whose secrets never come here; each call is a short transaction of its own.

    What is revoked or removed takes the tokens with it that were made from it, and theirs.
    """

    def add(self, token: Token) -> None:
        """Store a new token. Raises NotFound if the one that it was made from is not there any more."""

    def find(self, digest: str) -> Token | None:
        """Return the token of a digest, an expired one too, else None."""

    def of_user(self, user: str | None = None) -> Sequence[Token]:
        """Return the API tokens of a user, or of all, in order of users and times; no logins."""

    def note_use(self, token_id: str, now: datetime, since: datetime) -> None:
        """Write down that a token was used, unless a use after ``since`` is written already."""

    def revoke(self, token_id: str) -> bool:
        """Remove a token; False if there is none."""

    def revoke_all(self, user: str) -> int:
        """Remove all tokens of a user, logins too; return how many API tokens there were."""

    def limit_logins(self, user: str, now: datetime, most: int) -> None:
        """Remove a user's logins that have expired, then others until ``most`` are left.

        Those that were made with a token go first, for a token that only reads must not end logins by password; then
        the oldest.
        """

    def remove_expired(self, now: datetime, *, dry_run: bool) -> int:
        """Remove all that have expired; return how many. dry_run: remove none."""


class Marker(Protocol):
    """What marks the place of a store with an identity, so that another place is told from it."""

    @property
    def directory(self) -> Path:
        """The place."""

    def read(self) -> str | None:
        """Return the identity, None where there is no marker, an empty text for one without. Raises StoreMissing."""

    def write(self, identity: str, *, replace: bool) -> None:
        """Mark the place. replace: whether a marker that is there may go. Raises StoreMissing if that cannot be."""

    def withdraw(self, identity: str) -> None:
        """Remove the marker that was just written, if it is the one."""

    def unknown(self) -> StoreMissing:
        """Make the error for a marked place where the catalogue knows none."""

    def anothers(self, other: str) -> StoreMissing:
        """Make the error for the place of another store of this catalogue."""

    def refusal(self, problem: str, *, holds_nothing: bool = False) -> StoreMissing:
        """Make the error for a place that is not the store's."""


@runtime_checkable
class MarkedStore(Protocol):
    """A store whose place carries a marker."""

    @property
    def name(self) -> str:
        """What rows call the store."""

    @property
    def marker(self) -> Marker:
        """The marker of its place."""

    def holds(self, key: str) -> bool:
        """Say whether a blob is there, whatever the marker says."""


@dataclass(frozen=True, slots=True)
class BlobCount:
    """What a directory holds of what the rows name: so many blobs are there, and so many of images are missing."""

    there: int
    missing: int


class StoreIdentities(Protocol):
    """Which directory is a store's: the rows and the directory know the same identity, or it is refused."""

    def known(self, store: MarkedStore) -> str:
        """Return the identity that the rows know. Raises StoreMissing if they know none."""

    def identify(self, store: MarkedStore) -> str:
        """Return the identity that the rows know; where they know none yet, mark the directory with a new one.

        That is so at the first start on empty tables, and at the first one after an upgrade, if the directory holds
        what rows name. Raises StoreMissing for a directory that is marked already, or holds nothing of that.
        """

    def adopt(self, store: MarkedStore, *, although_empty: bool) -> BlobCount:
        """Make the directory the store's: the rows take its identity, or it gets the rows', or a new one.

        Raises StoreMissing if it is another store's, or holds nothing of what rows name, unless ``although_empty``.
        """


class ActiveImages(Protocol):
    """All images that have bytes, without their properties; no connection is held between two of them."""

    def __iter__(self) -> Iterator[Image]:
        """Give the images in the order of their ids."""

    def find(self, image_id: str) -> Image | None:
        """Return an image if it is still active."""

    def total(self) -> tuple[int, int]:
        """Return how many images there are, and the bytes of all."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request that changed something was answered with.

    key: the idempotency key that it came with. request: digest of what was asked, and by whom. body: empty for none.
    """

    key: str
    request: str
    body: str


class Answers(Protocol):
    """Answers of a registry, so that a request that comes again changes nothing; each call is a short transaction."""

    def find(self, key: str) -> Answer | None:
        """Return what a request with this key was answered with, if that is not forgotten."""

    def block(self, key: str) -> None:
        """Let no request with this key change anything, whatever comes; one that did has its answer."""

    def forget(self, before: datetime) -> bool:
        """Forget answers from before this time, or some of them; say whether there may be more."""


class Catalogue(Reads, Protocol):
    """One object per process, from which requests get their reads and their writes."""

    @property
    def claims(self) -> Claims:
        """Uploads under way."""

    @property
    def tokens(self) -> Tokens:
        """Tokens that log users in."""

    @property
    def identities(self) -> StoreIdentities:
        """What the places of stores carry."""

    @property
    def active(self) -> ActiveImages:
        """All images that have bytes."""

    def writes(self, transaction_manager: object, caller: Identity) -> Writes:
        """Return the changes of the transaction that this manager runs, or begins next; nothing is asked yet.

        transaction_manager: a ``transaction.TransactionManager``. caller: on whose behalf; its rights are checked
        before, and for members again.
        """

    def check(self, *, upgrade: bool) -> None:
        """See whether the catalogue is there and of this release. Raises ConfigurationError, DatabaseError.

        upgrade: bring its schema up to date, where it is ours to change.
        """

    def close(self) -> None:
        """Close all connections; the next question opens new ones."""


class RegistryWrites(Writes, Protocol):
    """Changes that a registry makes."""

    def note_answer(self, answer: Answer) -> None:
        """Write down what the request is answered with. Raises Conflict if its key has an answer by now."""


class StoreRows(StoreIdentities, Protocol):
    """What rows know of stores, for servers that have the stores; each call is a short transaction of its own."""

    def find(self, name: str) -> str | None:
        """Return the identity of a store."""

    def name_of(self, identity: str) -> str | None:
        """Return the name of the store that has an identity."""

    def introduce(self, name: str, identity: str, replaces: str | None) -> str:
        """Let a store have an identity if it has the one that this replaces, or none; return the one that it has.

        Raises Conflict if another store has it.
        """

    def keys(self, name: str, after: str) -> Sequence[tuple[str, bool]]:
        """Return the first keys after ``after`` that rows name in a store, and of each if an image has it."""


class RegistryCatalogue(Catalogue, Protocol):
    """A catalogue that a registry can serve."""

    @property
    def answers(self) -> Answers:
        """Answers to requests that may come again."""

    @property
    def identities(self) -> StoreRows:
        """What the places of stores carry."""

    def writes(self, transaction_manager: object, caller: Identity) -> RegistryWrites:
        """As ``Catalogue.writes``."""
