"""The frozen records that pass between layers, and the one description of each field of an image.

Tables, headers, JSON and validation are made from ``IMAGE_FIELDS``; ``docs/architecture.md`` shows how one is added.
"""

import dataclasses
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum
from typing import Any

ADMIN = "admin"  # the role that may do everything
MEMBER, READER = "member", "reader"  # roles in a project
WRITERS = frozenset({ADMIN, MEMBER})  # roles of which who changes something needs one

DISK_FORMATS = ("aki", "ari", "ami", "raw", "iso", "vhd", "vhdx", "vdi", "vmdk", "qcow2", "ploop")
CONTAINER_FORMATS = ("aki", "ari", "ami", "bare", "ovf", "ova", "docker")
MAX_INT = 2**31 - 1  # what an INTEGER column holds
MAX_BYTES = 2**63 - 1  # what a BIGINT column holds
LOCATION_LENGTH = 512  # characters of a location's key, which may be a URL


class Status:
    """The words of an image's life (docs/v1.md, "Status"); plain text, as the API and the rows spell them."""

    QUEUED = "queued"
    SAVING = "saving"  # of other servers alone, which upload without a claim
    ACTIVE = "active"
    KILLED = "killed"
    PENDING_DELETE = "pending_delete"  # of other servers alone
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Text:
    """A text of up to ``length`` characters; rows hold ``''`` for None, so that lists can be sorted by it."""

    length: int = 255


class Project(Text):
    """A project's id."""


@dataclass(frozen=True, slots=True)
class Word(Text):
    """One of ``words``."""

    length: int = 20
    words: tuple[str, ...] = ()


class LongText:
    """A text that only the size of a request bounds; rows hold NULL for None."""


@dataclass(frozen=True, slots=True)
class Digest:
    """So many hexadecimal ``digits``, in lower case."""

    digits: int


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number from 0 to ``maximum``."""

    maximum: int = MAX_INT


class Flag:
    """True or false."""


class Time:
    """A time in UTC, without zone, to the microsecond."""


Kind = Text | LongText | Digest | Whole | Flag | Time


class Shown(Enum):
    """Where a field goes out."""

    DETAIL = "detail"  # headers, and the JSON of an image
    EXTRA = "extra"  # as DETAIL, but not in /v1's JSON: tools send all of that back, and a Glance refuses what is new
    JSON = "json"  # as EXTRA, but in no header
    REGISTRY = "registry"  # in the registry's JSON only


class SetBy(Enum):
    """Whose word counts."""

    CLIENT = "client"
    ADMIN = "admin"
    ADMIN_AT_FIRST = "admin at first"  # an administrator's, when the image is made
    NEW = "new"  # the client's, when the image is made
    SERVER = "server"


@dataclass(frozen=True, slots=True)
class Field:
    """What there is to know about one field of an image.

    is_fact: a fact about the data: what is announced before it comes, and does not change afterwards.
    hyphens: the guide prints the header's name with hyphens.
    unset: the value of an image whose client did not set the field, or cleared it. is_required: there is no such.
    has_default: the column has ``unset`` as its default. A migration that adds a column to rows has to name one.
    """

    kind: Kind
    shown: Shown = Shown.EXTRA
    set_by: SetBy = SetBy.CLIENT
    is_fact: bool = False
    hyphens: bool = False
    unset: Any = None
    is_required: bool = False
    has_default: bool = False


def _field(kind: Kind, shown: Shown = Shown.EXTRA, *, unset: Any = None, is_required: bool = False, **more: Any) -> Any:
    default: dict[str, Any] = {} if is_required else {"default": unset}
    described = Field(kind, shown, unset=unset, is_required=is_required, **more)
    return dataclasses.field(metadata={"field": described}, **default)


@dataclass(frozen=True, slots=True)
class Identity:
    """A caller: nobody, a user of a project, or one who holds the role ``admin``.

    can_write: False for a user who is only a reader of the project, and for a token that only reads.
    """

    user: str | None = None
    project: str | None = None
    roles: frozenset[str] = frozenset()
    can_write: bool = True

    @property
    def is_admin(self) -> bool:
        """True for the holder of the role ``admin``."""
        return ADMIN in self.roles

    @property
    def is_known(self) -> bool:
        """True for everybody but nobody."""
        return self.user is not None or bool(self.roles)

    @property
    def name(self) -> str | None:
        """The user's, or that of the role for an administrator without one; None for nobody."""
        return self.user or (ADMIN if self.is_admin else None)

    def __str__(self) -> str:
        """Return who it is, for log lines: ``alice/build``, of user and project."""
        name = self.name or "-"
        return name if self.project is None else f"{name}/{self.project}"


ADMINISTRATOR = Identity(roles=frozenset({ADMIN}))
NOBODY = Identity(can_write=False)


@dataclass(frozen=True, slots=True)
class Location:
    """Where bytes lie: a store's name and the key there. Never holds credentials."""

    store: str
    key: str
    owned: bool = True  # written by us, so ours to delete; registered by a client otherwise


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that arrived whole, or lie where a client has registered them.

    size: bytes. checksum, sha256: lower-case hex digits; None for registered ones of which nobody told them.
    location: None for no bytes at all; then no store is ever asked.
    claim: key of the upload's claim, which the row's commit ends.
    """

    size: int
    checksum: str | None
    sha256: str | None
    location: Location | None = None
    claim: str | None = None


EMPTY = Blob(
    size=0,
    checksum="d41d8cd98f00b204e9800998ecf8427e",
    sha256="e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
)


@dataclass(frozen=True, slots=True)
class Claim:
    """An upload under way, recorded before its first byte.

    size: bytes declared, None if unknown.
    """

    image_id: str
    store: str
    key: str
    owner: str | None
    size: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A secret that stands for a user; the secret itself is known to its holder alone.

    id: short, and no secret. digest: of the secret, sha256 as hex digits.
    is_login: what a login gave out; others are API tokens, made by an operator. read_only: nobody changes anything
    with it. parent: id of the token that it was made from, and ends with; generation: how many stand above it so.
    expires_at: None for never. last_used_at: to the hour, and of API tokens only. Times are UTC without zone.
    """

    id: str
    user: str
    project: str
    digest: str
    is_login: bool
    read_only: bool
    created_at: datetime
    expires_at: datetime | None
    last_used_at: datetime | None = None
    parent: str | None = None
    generation: int = 0

    def has_expired(self, now: datetime) -> bool:
        """Say whether it is too late to use it."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSummary:
    """What every list shows of an image; in the order in which it is shown.

    size: bytes; of a queued image what its client announced, 0 for nothing announced; likewise the digests.
    """

    id: str = _field(Text(64), Shown.DETAIL, set_by=SetBy.NEW, is_required=True)
    name: str | None = _field(Text(), Shown.DETAIL)
    disk_format: str | None = _field(Word(words=DISK_FORMATS), Shown.DETAIL, hyphens=True)
    container_format: str | None = _field(Word(words=CONTAINER_FORMATS), Shown.DETAIL, hyphens=True)
    size: int = _field(Whole(MAX_BYTES), Shown.DETAIL, unset=0, is_fact=True)
    checksum: str | None = _field(Digest(32), Shown.DETAIL, is_fact=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Image(ImageSummary):
    """What is known about one image; in the order in which it is shown.

    min_ram: MB, min_disk: GB. Times are UTC without zone.
    deleted: gone for its users. last_error: why the last upload into a queued image failed.
    activated_at: since when the bytes are there, and nobody else's word; None where there are none.
    location: the readable bytes, None where there are none.
    """

    status: str = _field(Text(30), Shown.DETAIL, unset=Status.QUEUED, set_by=SetBy.SERVER)
    is_public: bool = _field(Flag(), Shown.DETAIL, unset=False, hyphens=True)
    protected: bool = _field(Flag(), Shown.DETAIL, unset=False)
    deleted: bool = _field(Flag(), Shown.DETAIL, unset=False, set_by=SetBy.SERVER)
    owner: str | None = _field(Project(), Shown.DETAIL, set_by=SetBy.ADMIN)
    min_disk: int = _field(Whole(), Shown.DETAIL, unset=0, hyphens=True)
    min_ram: int = _field(Whole(), Shown.DETAIL, unset=0, hyphens=True)
    created_at: datetime = _field(Time(), Shown.DETAIL, set_by=SetBy.ADMIN_AT_FIRST, is_required=True)
    updated_at: datetime = _field(Time(), Shown.DETAIL, set_by=SetBy.ADMIN_AT_FIRST, is_required=True)
    deleted_at: datetime | None = _field(Time(), Shown.DETAIL, set_by=SetBy.SERVER)
    sha256: str | None = _field(Digest(64), is_fact=True)
    last_error: str | None = _field(LongText(), Shown.JSON, set_by=SetBy.SERVER)
    activated_at: datetime | None = _field(Time(), Shown.REGISTRY, set_by=SetBy.SERVER)
    properties: Mapping[str, str] = dataclasses.field(default_factory=dict)
    location: Location | None = None

    @property
    def modified_at(self) -> datetime:
        """Since when the bytes are what they are, for they never change; where there are none, the last change of all.

        No clock that ran ahead makes it later than now.
        """
        since = (self.activated_at if self.status == Status.ACTIVE else None) or self.updated_at
        return min(since, utcnow())


IMAGE_FIELDS: Mapping[str, Field] = {
    field.name: field.metadata["field"] for field in dataclasses.fields(Image) if "field" in field.metadata
}
SUMMARY_FIELDS = tuple(field.name for field in dataclasses.fields(ImageSummary))
FACTS = tuple(name for name, field in IMAGE_FIELDS.items() if field.is_fact)
DIGESTS = tuple(name for name in FACTS if isinstance(IMAGE_FIELDS[name].kind, Digest))


@dataclass(frozen=True, slots=True)
class Member:
    """A project that an image is shared with: it may see the image, and with ``can_share`` share it further."""

    image_id: str
    member: str
    can_share: bool


def new_image_id() -> str:
    """Make the id of an image whose client supplied none."""
    return str(uuid.uuid4())


def utcnow() -> datetime:
    """Return the present time as rows and records hold it: UTC, without zone, to the microsecond."""
    return datetime.now(UTC).replace(tzinfo=None)


def json_value(value: Any) -> Any:
    """Return a field's value as JSON holds it: a time as text, to the microsecond; everything else as it is."""
    return value.isoformat("T", "microseconds") if isinstance(value, datetime) else value


def json_record(record: Any) -> dict[str, Any]:
    """Return the JSON of a record of plain values and times: a claim, a location, a token."""
    return {name: json_value(value) for name, value in dataclasses.asdict(record).items()}
