"""What a client gets: frozen records."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageSummary:
    """An image as the brief list has it. size: bytes, 0 while there are none. checksum: the md5, in hexadecimal."""

    id: str
    uri: str
    name: str | None = None
    disk_format: str | None = None
    container_format: str | None = None
    size: int = 0
    checksum: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Image(ImageSummary):
    """All that the service tells of an image.

    min_disk: GB. min_ram: MB. Times are UTC. sha256, location and last_error are None where the server does not tell:
    a Glance knows neither the first nor the last, and a location is told to administrators only.
    """

    status: str
    sha256: str | None = None
    is_public: bool = False
    protected: bool = False
    deleted: bool = False
    owner: str | None = None
    min_disk: int = 0
    min_ram: int = 0
    created_at: datetime | None = None
    updated_at: datetime | None = None
    deleted_at: datetime | None = None
    location: str | None = None
    last_error: str | None = None
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Member:
    """A project that an image is shared with. can_share: whether it may share the image with others."""

    member_id: str
    can_share: bool = False


@dataclass(frozen=True, slots=True)
class SharedImage:
    """An image that is shared with a project."""

    image_id: str
    can_share: bool = False
