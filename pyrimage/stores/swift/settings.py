"""The settings of a Swift store, and their readers."""

import re
from dataclasses import dataclass
from pathlib import Path

from ...readers import certificates, endpoint, flag, setting, word

MB = 2**20


def megabytes(text: str) -> int:
    """Read a number of MB that fit into memory, several times."""
    if not re.fullmatch("[0-9]{1,4}", text) or not 1 <= int(text) <= 1024:
        raise ValueError("use a whole number of MB from 1 to 1024: that much of an upload is held in memory")
    return int(text)


def container_name(text: str) -> str:
    """Read the name of a container."""
    if not text.isprintable() or not 0 < len(text.encode()) <= 256 or "/" in text or text in (".", ".."):
        raise ValueError("use up to 256 bytes without a slash")
    return text


def credential(text: str) -> str:
    """Read what goes into a header."""
    if not text or not text.isprintable():
        raise ValueError("use a text of one line, without control characters")
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class SwiftSettings:
    """The settings of a Swift store."""

    swift_store_auth_address: str = setting(
        endpoint, "Where Swift's users log in: the URL of Keystone (version 3), or of Swift's own authentication (1)."
    )
    swift_store_auth_version: str | None = setting(
        word("1", "3"),
        "How they do. 1: Swift's own way. 3: Keystone, which needs `pip install pyrimage[keystone]`.",
        default=None,
        default_text="`3` if the last part of the address is `v3`, else `1`",
    )
    swift_store_user: str = setting(
        credential, "The user of the service: `account:user`; with Keystone `project:user`, each by its name."
    )
    swift_store_key: str = setting(credential, "The user's key or password.", secret=True)
    swift_store_user_domain_name: str = setting(credential, "Keystone's domain of the user.", default="Default")
    swift_store_project_domain_name: str = setting(credential, "Keystone's domain of the project.", default="Default")
    swift_store_region: str | None = setting(
        credential, "The region of Keystone's catalogue whose Swift is used; unset: its first.", default=None
    )
    swift_store_endpoint_type: str = setting(
        word("publicURL", "internalURL", "adminURL"),
        "Which of the addresses that Keystone's catalogue has for Swift.",
        default="publicURL",
    )
    swift_store_cacert: Path | None = setting(
        certificates,
        "The certificates that sign those of Swift and Keystone, where the system does not know them.",
        default=None,
    )
    swift_store_container: str = setting(container_name, "The container, used by nothing else.", default="glance")
    swift_store_create_container_on_put: bool = setting(
        flag, "Make the container at the first upload, if it is not there.", default=False
    )
    swift_store_large_object_size: int = setting(
        megabytes, "MB up to which an image is one object; a larger one is stored in segments.", default=32
    )
    swift_store_large_object_chunk_size: int = setting(
        megabytes, "MB of a segment. Several of each upload are held in memory.", default=32
    )
    swift_enable_snet: bool = setting(
        flag, "Reach Swift over a provider's internal network: at its host name with `snet-` before it.", default=False
    )
    swift_store_temp_url_key: str | None = setting(
        credential,
        "The key for temporary URLs of the account or the container, as Swift knows it; with it, clients can be "
        "redirected to Swift.",
        secret=True,
        default=None,
    )

    def __post_init__(self) -> None:
        """Refuse what does not go together."""
        if self.is_keystone and not all(self.swift_store_user.partition(":")):
            raise ValueError("Keystone needs swift_store_user = project:user")

    @property
    def is_keystone(self) -> bool:
        """Say whether users log in at Keystone."""
        by_address = "3" if self.swift_store_auth_address.endswith("/v3") else "1"
        return (self.swift_store_auth_version or by_address) == "3"
