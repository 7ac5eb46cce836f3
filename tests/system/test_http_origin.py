"""The store on web servers over nginx: the half of the suite that is about reading."""

import itertools
from collections.abc import Iterator

import pytest

from pyrimage.opener import Opener
from pyrimage.readers import allowed_hosts
from pyrimage.stores.http import HttpStore
from pyrimage.stores.interfaces import Buffer
from pyrimage.stores.testing import ReadingConformance, pattern
from servers import origin

pytestmark = pytest.mark.system

SIZE = 3_000_001


@pytest.fixture(scope="module")
def nginx(tmp_path_factory: pytest.TempPathFactory) -> Iterator[origin.Origin]:
    with origin.serving(tmp_path_factory.mktemp("nginx")) as running:
        yield running


@pytest.fixture
def store() -> HttpStore:
    return HttpStore("http", Opener(allowed_hosts("127.0.0.1")))


@pytest.mark.parametrize("below", ["", "/norange", "/nolength", "/redirect"])
class TestNginx(ReadingConformance):
    names = itertools.count()

    @pytest.fixture(autouse=True)
    def place(self, nginx: origin.Origin, below: str) -> None:
        self.nginx, self.below = nginx, below

    def put(self, store: HttpStore, data: Buffer) -> str:
        name = f"blob{next(self.names)}"
        (self.nginx.static / name).write_bytes(data)
        return f"{self.nginx.url}{self.below}/{name}"

    def missing(self, store: HttpStore) -> str:
        return f"{self.nginx.url}{self.below}/missing"

    def test_the_size_is_asked_for(self, store: HttpStore) -> None:
        assert store.stat(self.put(store, pattern(SIZE))) == SIZE


def test_a_slow_origin_is_waited_for_as_long_as_bytes_come(store: HttpStore, nginx: origin.Origin) -> None:
    data = pattern(200_000)
    (nginx.static / "slow").write_bytes(data)
    with store.open_reader(f"{nginx.url}/slow/slow", len(data)) as reader:
        assert b"".join(iter(lambda: reader.read(65536), b"")) == data
