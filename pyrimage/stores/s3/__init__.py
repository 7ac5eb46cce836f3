"""The store in a bucket of S3, or of anything that speaks its protocol: settings, and what makes the store of them."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from pyramid.config import Configurator

from ...readers import certificates, flag, setting, word
from ...settings import Settings
from .. import Identify, Store

BUCKET = re.compile("[A-Za-z0-9][A-Za-z0-9._-]{2,254}")

_CREDENTIALS = "Without the two keys, boto3 looks for credentials by itself: environment, ~/.aws, the machine's role."


def host(text: str) -> str:
    """Read a host, with or without scheme; return its URL, https unless it says http."""
    parts = urlsplit(text if "://" in text else f"https://{text}")
    is_host = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc
    if not is_host or parts.path not in ("", "/") or parts.query or parts.fragment or parts.port == 0:
        raise ValueError("use a host such as s3.eu-central-1.amazonaws.com, with http:// before it for one without TLS")
    return f"{parts.scheme}://{parts.netloc.lower()}"


def bucket(text: str) -> str:
    """Read the name of a bucket."""
    if not BUCKET.fullmatch(text):
        raise ValueError("use the name of a bucket: 3 letters, digits, dots, - and _ or more")
    return text


def part_size(text: str) -> int:
    """Read how many MB a part has."""
    if not re.fullmatch("[0-9]{1,3}", text) or not 5 <= int(text) <= 128:
        raise ValueError("use a whole number from 5 to 128")
    return int(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class S3StoreFactory:
    """The settings of an S3 store."""

    s3_store_host: str = setting(
        host, "The host of the S3 service, with its port. https, unless it begins with http://."
    )
    s3_store_bucket: str = setting(bucket, "The bucket that holds the images, and nothing else.")
    s3_store_access_key: str | None = setting(
        str, f"Which key requests are signed with. {_CREDENTIALS}", secret=True, default=None
    )
    s3_store_secret_key: str | None = setting(
        str, f"The secret of the access key. {_CREDENTIALS}", secret=True, default=None
    )
    s3_store_create_bucket_on_put: bool = setting(
        flag, "Create the bucket at the first upload if it is not there.", default=False
    )
    s3_store_region_name: str | None = setting(
        str,
        "The region of the bucket, as requests are signed for it.",
        default=None,
        default_text="what boto3 finds in its environment, else `us-east-1`",
    )
    s3_store_bucket_url_format: str = setting(
        word("auto", "path", "virtual"),
        "Where requests name the bucket. path: in the path, as most services want that are not Amazon's. virtual: in "
        "the host name. auto: as boto3 sees fit.",
        default="auto",
    )
    s3_store_cacert: Path | None = setting(
        certificates,
        "A file with the certificates of authorities (PEM) that may have signed the service's.",
        default=None,
        default_text="those that come with botocore",
    )
    s3_store_large_object_chunk_size: int = setting(
        part_size,
        "MB of a part. What is longer than one part is sent in parts; images beyond 10,000 parts have larger ones.",
        default=8,
    )
    s3_store_public_host: str | None = setting(
        host, "The host at which clients reach the S3 service, for downloads that are redirected there.", default=None
    )

    def __post_init__(self) -> None:
        """Refuse half of a pair of keys."""
        if (self.s3_store_access_key is None) != (self.s3_store_secret_key is None):
            raise ValueError("set both s3_store_access_key and s3_store_secret_key, or none of them")

    def make(self, name: str, settings: Settings, identify: Identify) -> Store:
        """Make the store."""
        from .store import S3Store  # noqa: PLC0415 - boto3 takes long to import, and many servers have no such store

        return S3Store(name, self, part_size=self.s3_store_large_object_chunk_size * 2**20)


def includeme(config: Configurator) -> None:
    """Make the kind known."""
    config.add_image_store("s3", S3StoreFactory)
