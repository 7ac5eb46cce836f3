"""The container of a Swift store, and other containers of its account where registered bytes lie."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from types import MappingProxyType
from typing import Any

from swiftclient import client

from ...errors import StoreUnavailable
from ..interfaces import Buffer
from .account import Account, Refused, Stream, get_info, put_object

log = logging.getLogger(__name__)

AT_ONCE = 4  # segments that are removed at the same time


@dataclass(frozen=True, slots=True)
class Limits:
    """What the cluster accepts. is_static: whether it has static large objects."""

    max_file_size: int
    max_segments: int
    min_segment_size: int
    is_static: bool


class Container:
    """One container, by its name; ``path`` is an object in it, or ``/<container>/<object>``.

    connect: makes an account that nobody else has. is_made: make the container with the first object.
    """

    def __init__(self, store: str, name: str, connect: Callable[[], Account], *, is_made: bool) -> None:
        self.name = name
        self._store, self._connect, self._is_made = store, connect, is_made

    @cached_property
    def account(self) -> Account:
        """The account, made by whoever needs it first."""
        return self._connect()

    @cached_property
    def limits(self) -> Limits:
        """What the cluster accepts; asked once. Raises StoreUnavailable."""
        try:
            info = self.account.call(get_info)
        except Refused as error:
            if error.status >= 500:
                raise
            info = {}  # it is not for everybody; then it may have no static large objects
        return _read_limits(info)

    def check(self) -> None:
        """Look whether it is there, and keep no connection: processes that will be forked do this."""
        with closing(self._connect()) as account:
            self._check(account)

    def put(
        self, name: str, data: Buffer, etag: str, headers: Mapping[str, str] = MappingProxyType({}), *, query: str = ""
    ) -> bytes:
        """Put an object, whose ETag must become ``etag``; return the body of the answer. Raises StoreError."""
        put = partial(self.account.call, put_object, self.name, name, data, {**headers, "ETag": etag}, query=query)
        try:
            answer, body = put()
        except Refused as error:
            if error.status != 404:
                raise
            if not self._is_made:
                raise self._missing() from error
            self.account.call(client.put_container, self.name)
            log.info("The store %s: made the container %s", self._store, self.name)
            answer, body = put()
        stored = unquoted(answer.get("etag", etag))
        if stored != etag:
            raise StoreUnavailable(f"The Swift store has stored other bytes than were sent: {stored} and not {etag}.")
        return bytes(body)

    def head(self, path: str) -> Mapping[str, str] | None:
        """Ask for an object's headers; None where there is no such object. Raises StoreError."""
        try:
            found: Mapping[str, str] = self.account.call(client.head_object, *self._split(path))
        except Refused as error:
            if error.status != 404:
                raise
            return None
        return found

    def open(self, path: str, headers: Mapping[str, str]) -> tuple[Mapping[str, str], Stream]:
        """Get an object: the headers of the answer, and the bytes as they come. Raises StoreError."""
        container, name = self._split(path)
        try:
            return self.account.open(container, name, headers)
        except Refused as error:
            if error.status == 404 and container == self.name:
                self._check(self.account)  # is it the object that is not there?
            raise

    def list(self, prefix: str = "") -> Iterator[dict[str, Any]]:
        """List objects in the order of their names: ``name``, ``last_modified``. Raises StoreError."""
        marker = ""
        while True:
            try:
                _, page = self.account.call(client.get_container, self.name, marker=marker, prefix=prefix)
            except Refused as error:
                if error.status != 404:
                    raise
                if self._is_made:
                    return
                raise self._missing() from error
            if not page:
                return
            yield from page
            marker = page[-1]["name"]

    def delete(self, names: Iterable[str]) -> None:
        """Remove objects, a few at the same time; those that are not there are already removed. Raises StoreError."""
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(self._delete, names):
                pass

    def _delete(self, name: str) -> None:
        try:
            self.account.call(client.delete_object, self.name, name)
        except Refused as error:
            if error.status != 404:
                raise

    def _check(self, account: Account) -> None:
        try:
            account.call(client.head_container, self.name)
        except Refused as error:
            if error.status != 404:
                raise
            if not self._is_made:
                raise self._missing() from error

    def _missing(self) -> StoreUnavailable:
        """Tell whoever runs the server what to do, and make the error for everybody else."""
        log.error(
            "The store %s: Swift has no container %a in the account of its user. Correct swift_store_container, make "
            "the container, or set swift_store_create_container_on_put = true.",
            self._store,
            self.name,
        )
        return StoreUnavailable(f"The store {self._store} is not there.")

    def _split(self, path: str) -> tuple[str, str]:
        if not path.startswith("/"):
            return self.name, path
        container, _, name = path[1:].partition("/")
        return container, name


def unquoted(etag: str) -> str:
    """Return an ETag without its quotes, which only some answers have."""
    return etag.strip('"')


def _read_limits(info: Mapping[str, Any]) -> Limits:
    """Read the limits of ``/info``; where it does not tell them, they are what Swift comes with."""
    cluster, static = info.get("swift", {}), info.get("slo")
    # A dynamic large object of more segments than a page of a list has would have no length.
    segments = cluster.get("container_listing_limit", 10_000) - 1
    if static is not None:
        segments = static.get("max_manifest_segments", 1000)
    return Limits(
        max_file_size=cluster.get("max_file_size", 5 * 2**30),
        max_segments=segments,
        min_segment_size=(static or {}).get("min_segment_size", 1),
        is_static=static is not None,
    )
