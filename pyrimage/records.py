"""The frozen records that pass between layers: what is known about an image, its bytes and its upload."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

__all__ = ["EMPTY", "Blob", "Claim", "Image", "Location", "Member", "Status", "new_image_id", "utcnow"]


class Status:
    """The words of an image's life (v1, "Status"); plain text, as the API and the rows spell them."""

    QUEUED = "queued"
    ACTIVE = "active"
    KILLED = "killed"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Location:
    """Where bytes lie: a store's scheme and the key there. Never holds credentials."""

    store: str
    key: str
    owned: bool = True  # written by us, so ours to delete; registered by a client otherwise


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that arrived whole.

    size: bytes. checksum, sha256: lower-case hex digits.
    location: None for no bytes at all; then no store is ever asked.
    claim: key of the upload's claim, which the row's commit ends.
    """

    size: int
    checksum: str
    sha256: str
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
class Image:
    """What is known about one image.

    size: bytes; of a queued image what its client announced, 0 for nothing announced; likewise the digests.
    min_ram: MB, min_disk: GB. Times are UTC without zone.
    activated_at: since when the bytes are there, and nobody else's word; None where there are none.
    location: the readable bytes, None where there are none.
    last_error: why the last upload into a queued image failed.
    """

    id: str
    name: str | None = None
    status: str = Status.QUEUED
    size: int = 0
    checksum: str | None = None
    sha256: str | None = None
    disk_format: str | None = None
    container_format: str | None = None
    is_public: bool = False
    protected: bool = False
    owner: str | None = None
    min_disk: int = 0
    min_ram: int = 0
    created_at: datetime
    updated_at: datetime
    deleted_at: datetime | None = None
    activated_at: datetime | None = None
    last_error: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)
    location: Location | None = None

    @property
    def deleted(self) -> bool:
        """True once the image is gone for its users."""
        return self.deleted_at is not None


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
    """Return the present moment as rows and records hold it: UTC, without zone, to the microsecond."""
    return datetime.now(UTC).replace(tzinfo=None)
