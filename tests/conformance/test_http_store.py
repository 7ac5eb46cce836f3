"""The store on web servers: the half of the suite that is about reading, over origins of every kind."""

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest

from origins import serving
from pyrimage.opener import Opener
from pyrimage.readers import allowed_hosts
from pyrimage.stores.http import HttpStore
from pyrimage.stores.interfaces import Buffer
from pyrimage.stores.testing import ReadingConformance


class HttpConformance(ReadingConformance):
    behaviour: ClassVar[dict[str, Any]] = {}

    @pytest.fixture
    def store(self) -> Iterator[HttpStore]:
        with serving() as self.origin:
            yield HttpStore("http", Opener(allowed_hosts("127.0.0.1")))

    def put(self, store: HttpStore, data: Buffer) -> str:
        return self.origin.put(f"/{len(self.origin.paths)}", bytes(data), **self.behaviour)

    def missing(self, store: HttpStore) -> str:
        return self.origin.url("/missing")


class TestHttpStore(HttpConformance):
    pass


class TestWithoutRanges(HttpConformance):
    behaviour: ClassVar[dict[str, Any]] = {"ranges": False}
