"""What a list may ask for."""

from dataclasses import dataclass
from datetime import datetime

SORT_KEYS = ("name", "status", "container_format", "disk_format", "size", "id", "created_at", "updated_at")
MAX_PROPERTIES = 20  # different ones in one query: each is a subquery


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Which images a list asks for, and in what order.

    marker: id of the last image of the page before. descending: also for the ties, ``created_at`` and ``id``.
    name, status, container_format, disk_format: exactly this one; ``''`` is an image without.
    min_ram (MB), min_disk (GB): exactly this much. size_min, size_max: bytes, both included.
    is_public: None for both kinds; the default is what the caller's own list shows: see ``default_scope``.
    changes_since: updated later than this, UTC without zone; deleted and killed images too, which no other list shows.
    deleted: True for those that are deleted, False for those that are not; None leaves it to ``changes_since``.
    properties: pairs of a key and its value, all of which an image must have.
    """

    limit: int = 25
    marker: str | None = None
    sort_key: str = "created_at"
    descending: bool = True
    name: str | None = None
    status: str | None = None
    container_format: str | None = None
    disk_format: str | None = None
    min_ram: int | None = None
    min_disk: int | None = None
    size_min: int | None = None
    size_max: int | None = None
    protected: bool | None = None
    is_public: bool | None = None
    default_scope: bool = True
    changes_since: datetime | None = None
    properties: tuple[tuple[str, str], ...] = ()
    deleted: bool | None = None
