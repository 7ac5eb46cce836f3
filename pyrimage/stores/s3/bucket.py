"""A bucket: the operations of S3 on it, and what their errors mean to us.

Error texts and log lines name bucket, host and the code of an answer, never what else the answer says: some services
quote the key id, or all that was signed.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError, SSLError
from urllib3.exceptions import HTTPError

from ...errors import BlobDamaged, PyrimageError, StoreFull, StoreUnavailable, UploadEnded
from . import S3StoreFactory

log = logging.getLogger(__name__)

# What boto3's calls and streams raise, beside the answers that are errors.
BROKEN = (BotoCoreError, HTTPError)

CONNECT_SECONDS, READ_SECONDS, ATTEMPTS = 10, 60, 3
CONNECTIONS = 256  # that are kept open for the next request; there may be more

_FULL = {
    "QuotaExceeded",  # Ceph
    "XMinioStorageFull",
    "XMinioAdminBucketQuotaExceeded",
    "InsufficientStorage",
    "EntityTooLarge",  # Swift's word for a quota as well
}

_SETTINGS = "correct s3_store_access_key and s3_store_secret_key"
_REGION = "correct s3_store_region_name and s3_store_host: the bucket seems to be in another region"
_RIGHTS = "give its key the rights that docs/object-stores.md lists"
_EXPIRED = "renew the credentials that boto3 finds"
_ADVICE = {
    "403": f"{_SETTINGS}, or {_RIGHTS}",
    "AccessDenied": _RIGHTS,
    "InvalidAccessKeyId": f"nobody has this access key there: {_SETTINGS}",
    "SignatureDoesNotMatch": f"the secret is not that of the access key: {_SETTINGS}",
    "RequestTimeTooSkewed": "set this machine's clock",
    "ExpiredToken": _EXPIRED,
    "InvalidToken": _EXPIRED,
    "301": _REGION,
    "400": _REGION,
    "PermanentRedirect": _REGION,
    "AuthorizationHeaderMalformed": _REGION,
    "IllegalLocationConstraintException": _REGION,
}

# Their lines at DEBUG hold signatures and key ids.
_TALKATIVE = ("auth", "endpoint", "httpsession", "awsrequest", "parsers", "hooks", "credentials", "regions", "signers")


class Refused(StoreUnavailable):
    """The service does not let us. advice: what is wrong where, and what to do, for whoever runs the server."""

    def __init__(self, message: str, advice: str) -> None:
        super().__init__(message)
        self.advice = advice


class BucketMissing(Refused):
    """There is no such bucket."""


class BucketExists(StoreUnavailable):
    """Somebody was quicker; if that was a stranger, what follows is refused."""


class Answer(Exception):
    """An answer of the service that is an error, as much of it as may be told."""


class Bucket:
    """The bucket of a store. Its client is made when it is first needed: processes fork before."""

    def __init__(self, store: str, settings: S3StoreFactory) -> None:
        self.name, self.endpoint = settings.s3_store_bucket, settings.s3_store_host
        self._store, self._settings = store, settings
        self._clients: dict[str, Any] = {}
        self._lock = threading.Lock()

    def client(self, endpoint: str) -> Any:
        """Return the process's boto3 client for the service, at the URL by which somebody reaches it.

        Raises StoreUnavailable where boto3's own configuration cannot be read.
        """
        with self._lock:
            if endpoint not in self._clients:
                self._clients[endpoint] = self._make_client(endpoint)
            return self._clients[endpoint]

    def call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call an operation of boto3's client, by default on this bucket.

        Raises BlobDamaged where the object is not there, or another one; UploadEnded where the multipart upload is
        not; StoreFull; StoreUnavailable, after telling whoever runs the server what to do.
        """
        with _told():
            return self.ask(operation, **parameters)

    def ask(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Do what ``call`` does, and leave it to the caller to log."""
        return self._ask(self.client(self.endpoint), operation, parameters)

    def pages(self, operation: str, **parameters: Any) -> Iterator[dict[str, Any]]:
        """Give all pages of a list of this bucket. Raises StoreUnavailable."""
        paginator = self.client(self.endpoint).get_paginator(operation)
        with _told(), self._translated(operation):
            yield from paginator.paginate(Bucket=self.name, **parameters)

    def check(self) -> None:
        """Look for the bucket, with a client that leaves no connection open. Raises StoreUnavailable."""
        with closing(self._make_client(self.endpoint)) as client:
            try:
                self._ask(client, "head_bucket", {})
            except BucketMissing as error:
                if not self._settings.s3_store_create_bucket_on_put:
                    raise StoreUnavailable(error.advice) from error
            except Refused as error:
                raise StoreUnavailable(error.advice) from error

    def begin(self, operation: str, **parameters: Any) -> dict[str, Any]:
        """Call the first operation of an upload; if the bucket is missing and the settings say so, create it before."""
        with _told():
            try:
                return self.ask(operation, **parameters)
            except BucketMissing:
                if not self._settings.s3_store_create_bucket_on_put:
                    raise
            self._create()
            return self.ask(operation, **parameters)

    def presigned(self, endpoint: str, seconds: int, **parameters: Any) -> str:
        """Return a URL at an endpoint from which anybody can read an object for so long. Raises StoreUnavailable."""
        with _told(), self._translated("get_object"):
            url: str = self.client(endpoint).generate_presigned_url("get_object", parameters, seconds)
        return url

    def _create(self) -> None:
        region = self.client(self.endpoint).meta.region_name
        where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
        try:
            self.ask("create_bucket", **where)
        except BucketExists:
            return
        log.info("The store %s: created the bucket %s at %s", self._store, self.name, self.endpoint)

    def _ask(self, client: Any, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        with self._translated(operation):
            answer: dict[str, Any] = getattr(client, operation)(**{"Bucket": self.name, **parameters})
        return answer

    def _make_client(self, endpoint: str) -> Any:
        with self._translated("the start of boto3"):
            return _make_client(self._settings, endpoint)

    @contextmanager
    def _translated(self, operation: str) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise self._meaning(operation, error) from _answer(error)
        except BROKEN as error:
            raise self._unreachable(error) from error

    def _meaning(self, operation: str, error: ClientError) -> PyrimageError:
        code, status = _code(error), error.response["ResponseMetadata"].get("HTTPStatusCode")
        where = f"The bucket {self.name} at {self.endpoint}"
        if code == "NoSuchBucket" or (operation == "head_bucket" and status == 404):
            advice = f"{where} is not there: create it, correct s3_store_bucket, or set s3_store_create_bucket_on_put."
            return BucketMissing(f"The store {self._store} is not there.", advice)
        if code in _FULL or status == 507:
            return StoreFull(f"The store {self._store} is full.")
        if code == "NoSuchUpload":
            return UploadEnded("The upload's bytes were removed before it was complete.")
        if code in ("BucketAlreadyOwnedByYou", "BucketAlreadyExists"):
            return BucketExists(f"The store {self._store} is there already.")
        if status in (404, 412, 416):
            return BlobDamaged("The image's bytes are missing from the store, or are not as many as the row says.")
        what = f"answered {error.operation_name} with {status} {code}"
        if code in _ADVICE:
            message = f"The store {self._store} does not let this server in."
            return Refused(message, f"{where} {what}: {_ADVICE[code]}.")
        return StoreUnavailable(f"The store {self._store} does not work now.")

    def _unreachable(self, error: Exception) -> StoreUnavailable:
        message = f"The store {self._store} cannot be reached."
        if isinstance(error, NoCredentialsError):
            return Refused(message, f"There are no credentials for the store {self._store}: {_SETTINGS}.")
        if isinstance(error, SSLError):
            advice = f"The certificate of {self.endpoint} is not trusted: correct s3_store_host or s3_store_cacert."
            return Refused(message, advice)
        return StoreUnavailable(message)


@contextmanager
def _told() -> Iterator[None]:
    """Tell whoever runs the server what to do where the service does not let us."""
    try:
        yield
    except Refused as error:
        log.error("%s", error.advice)
        raise


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _answer(error: ClientError) -> Answer:
    metadata = error.response["ResponseMetadata"]
    request = metadata.get("RequestId") or "without id"
    return Answer(f"{error.operation_name}: {metadata.get('HTTPStatusCode')} {_code(error)} (request {request})")


def _make_client(settings: S3StoreFactory, endpoint: str) -> Any:
    for name in _TALKATIVE:
        logging.getLogger(f"botocore.{name}").setLevel(logging.INFO)
    session = boto3.Session(  # of its own: the default one is not for several threads
        aws_access_key_id=settings.s3_store_access_key,
        aws_secret_access_key=settings.s3_store_secret_key,
        region_name=settings.s3_store_region_name,
    )
    config = Config(
        signature_version="s3v4",
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=CONNECTIONS,
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        # A body goes with its Content-MD5, which is signed: one more digest of it would say no more.
        s3={"addressing_style": settings.s3_store_bucket_url_format, "payload_signing_enabled": False},
    )
    return session.client(
        "s3",
        region_name=session.region_name or "us-east-1",
        endpoint_url=endpoint,
        verify=str(settings.s3_store_cacert) if settings.s3_store_cacert else None,
        config=config,
    )
