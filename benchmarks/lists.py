"""Compare the lists of many images with the same lists of few. See README.md."""

import argparse
import io
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from urllib.parse import urlencode

import pytest

from bulk_images import TENANT, analyse, fill
from pyrimage.app import main as make_app
from pyrimage.catalogue.records import ADMINISTRATOR, Identity
from pyrimage.environ import IDENTITY
from pyrimage.models import make_engine
from servers import databases

SIZES = (1_000, 200_000)
LIMIT = 10  # so that the smaller one has more than PAGES of them
PAGES = 50
CALLS = 20  # of each list in a round
WARM_UP = 10

CALLERS = {"default list": ADMINISTRATOR, "tenant's list": Identity(user="alice", project=TENANT)}

List = Callable[[], list[str]]


class Service:
    """An application over a database with so many images, in this process."""

    def __init__(self, url: str, directory: Path, images: int) -> None:
        settings = {"pyrimage.auth": "none", "pyrimage.auto_migrate": "true", "sqlalchemy.url": url}
        self.app = make_app({}, **settings, **{"pyrimage.filesystem_store_datadir": str(directory)})
        engine = make_engine(settings)
        fill(engine, images)
        if engine.dialect.name == "postgresql":
            analyse(engine)
        engine.dispose()

    def ids(self, caller: Identity, **query: str) -> list[str]:
        """Ask for a page of the brief list."""
        environ = {
            "REQUEST_METHOD": "GET",
            "PATH_INFO": "/v1/images",
            "QUERY_STRING": urlencode({"limit": LIMIT, **query}),
            "SCRIPT_NAME": "",
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "9292",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(),
            "wsgi.errors": sys.stderr,
            IDENTITY: caller,
        }
        body = b"".join(self.app(environ, lambda status, headers, error=None: None))
        return [image["id"] for image in json.loads(body)["images"]]

    def page_50(self, caller: Identity, **query: str) -> List:
        """Go to page 50, and return a function that asks for it."""
        for _ in range(PAGES - 1):
            query["marker"] = self.ids(caller, **query)[-1]
        return partial(self.ids, caller, **query)


@contextmanager
def services(kind: str) -> Iterator[list[Service]]:
    """Make an application for each of SIZES. Raises pytest's Skipped where there is no such database."""
    with ExitStack() as stack:
        made = []
        for images in SIZES:
            directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="pyrimage-benchmark-")))
            url = stack.enter_context(databases.fresh_database(kind, directory))
            made.append(Service(url, directory, images))
        yield made


def lists(service: Service) -> dict[str, List]:
    """Return what is compared, by name."""
    found: dict[str, List] = {}
    for (name, caller), key, direction in product(CALLERS.items(), ("created_at", "name"), ("desc", "asc")):
        order = {"sort_key": key, "sort_dir": direction}
        found[f"{name}, {key} {direction}"] = partial(service.ids, caller, **order)
        found[f"{name}, {key} {direction}, page {PAGES}"] = service.page_50(caller, **order)
    return found


def measure(pair: tuple[List, List]) -> tuple[float, float]:
    """Call both in turn; return the median of each, in microseconds."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(CALLS):
        for ask, mine in zip(pair, times, strict=True):
            began = time.perf_counter()
            page = ask()
            mine.append((time.perf_counter() - began) * 1e6)
            if len(page) != LIMIT:
                raise SystemExit(f"a page of {len(page)} images")
    return median(times[0]), median(times[1])


def compare(kind: str, rounds: int) -> None:
    """Measure each list over both sizes in turn, and print the medians and the ratio of each round."""
    with services(kind) as (few, many):
        small, large = lists(few), lists(many)
        pairs = {name: (small[name], large[name]) for name in small}
        for pair in pairs.values():
            for ask in pair * WARM_UP:
                ask()
        table = [{name: measure(pair) for name, pair in pairs.items()} for _ in range(rounds)]
    print(f"\n{kind}: {rounds} rounds of {CALLS} requests; medians in microseconds, ratios (lowest to highest)")
    print(f"{'':42}" + "".join(f"{size:>12,}" for size in SIZES) + f"{'ratio':>24}")
    for name in pairs:
        ratios = [results[name][1] / results[name][0] for results in table]
        sides = "".join(f"{median(results[name][side] for results in table):12.0f}" for side in (0, 1))
        print(f"{name:42}{sides}{median(ratios):10.2f} ({min(ratios):.2f} to {max(ratios):.2f})")


def main() -> None:
    """Compare on each database that is there; it takes about two minutes, half of them to make the images."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    for kind in ("sqlite", "postgresql"):
        try:
            compare(kind, options.rounds)
        except pytest.skip.Exception as reason:
            print(f"\n{reason}")


if __name__ == "__main__":
    main()
