"""What registry servers cost: an API server that asks one, beside one that asks the database itself. See README.md."""

import argparse
import os
import re
import tempfile
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import NamedTuple, Self

from aftermath import rows
from factories import data_headers
from servers import databases
from servers.fleet import Registry

from . import metadata, transfers
from .harness import Installation, cpu_seconds, make_tables, processes_of, row, spread

SECRET = "of this benchmark alone"
DIRECT, REMOTE = "in process", "over a registry"
SMALL, UPLOADERS = 1000, 8  # bytes; connections


def cpu_with_children(pid: int) -> float:
    """Return what a process and its children have used, those that have ended too."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    living = cpu_seconds([pid, *map(int, listed)])
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return living + (int(fields[13]) + int(fields[14])) / os.sysconf("SC_CLK_TCK")


class Direct(Installation):
    """An API server that asks the database. left: images that shall be deleted when the clock has stopped."""

    def __init__(self, directory: Path, url: str, workers: int) -> None:
        super().__init__(directory, main={"sqlalchemy.url": url}, server={"workers": f"{workers}"})
        self.database_url, self.left = url, list[str]()

    def cpu(self) -> dict[str, float]:
        """Return the seconds of processors that each part has used."""
        ((postmaster,),) = rows(self.database_url, "SELECT pg_read_file('postmaster.pid', 0, 20)")
        return {"API server": self.cpu_seconds(), "database": cpu_with_children(int(postmaster.split()[0]))}


class Remote(Direct):
    """An API server that asks a registry, which runs as long as it does."""

    def __init__(self, directory: Path, url: str, workers: int) -> None:
        super().__init__(directory, url, workers)
        main = {"sqlalchemy.url": url, "pyrimage.registry_secret": SECRET}
        (directory / "registry").mkdir()
        self.registry = Registry(directory / "registry", main=main, server={"workers": f"{workers}"})
        client = {"pyrimage.registry_host": f"127.0.0.1:{self.registry.port}", "pyrimage.registry_secret": SECRET}
        self.configure("app:main", client)
        self.ini.write_text(re.sub(r"(?m)^sqlalchemy\.url.*\n", "", self.ini.read_text(encoding="utf-8")))

    def __enter__(self) -> Self:
        try:
            return super().__enter__()
        except BaseException:
            self.registry.stop()
            raise

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self.registry.stop()

    def prepare(self) -> None:
        """Start the registry."""
        make_tables(self.registry)
        self.registry.start()

    def cpu(self) -> dict[str, float]:
        """Return the seconds of processors that each part has used."""
        return {**super().cpu(), "registry": cpu_seconds(processes_of(self.registry))}


class Turn(NamedTuple):
    """What one kind of request came to on one server in one round: per second, and CPU ms of each part for one."""

    per_second: float
    cpu_ms: dict[str, float]


Table = dict[str, dict[str, list[Turn]]]  # kind of request: server: a turn for each round


def measured(server: Direct, work: Callable[[], int]) -> Turn:
    """Do some work, which says how often it did it."""
    before, began = server.cpu(), time.perf_counter()
    count = work()
    seconds, after = time.perf_counter() - began, server.cpu()
    return Turn(count / seconds, {part: (after[part] - before[part]) / count * 1000 for part in after})


def requests(server: Direct) -> dict[str, bytes]:
    """Fill a server with images, and return the requests for what is known of them."""
    image = metadata.add_images(server)
    lines = {
        "HEAD of an image": f"HEAD {image}",
        "GET of an image of 1000 bytes": f"GET {image}",
        "list of 25": "GET /v1/images",
        "list of 25 in detail": "GET /v1/images/detail",
    }
    return {kind: metadata.spell(server, line) for kind, line in lines.items()}


def load(server: Direct, request: bytes, seconds: float) -> int:
    """Keep connections busy with one request; return how often it was answered."""
    return round(metadata.load(server, request, seconds).per_second * seconds)


def upload_small(server: Direct, seconds: float) -> int:
    """Upload images of 1000 bytes over several connections; return how many."""
    counts, end = [0] * UPLOADERS, time.perf_counter() + seconds
    headers = data_headers(name="small", disk_format="raw", container_format="bare")

    def work(number: int) -> None:
        client = server.client()
        while time.perf_counter() < end:
            client.request("POST", "/v1/images", b"x" * SMALL, headers)
            answer = client.getresponse()
            if answer.status != 201:
                raise SystemExit(f"an upload was answered with {answer.status} {answer.read()!r}")
            answer.read()
            counts[number] += 1
        client.close()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(UPLOADERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts)


def upload_large(server: Direct, file: Path, times: int) -> int:
    """Upload a file several times, one after the other, each time by ``curl``."""
    for _ in range(times):
        server.left += transfers.send(server, file)[1]
    return times


def download_large(url: str, size: int, times: int) -> int:
    """Download a file several times likewise."""
    for _ in range(times):
        transfers.download(url, size)
    return times


def list_jobs(server: Direct, file: Path, options: argparse.Namespace) -> dict[str, Callable[[], int]]:
    """Return everything that a server is measured by; each says how often it did it."""
    jobs: dict[str, Callable[[], int]] = {
        kind: partial(load, server, request, options.seconds) for kind, request in requests(server).items()
    }
    url, size = transfers.store(server, file), file.stat().st_size
    jobs[f"download of {options.mib} MiB"] = partial(download_large, url, size, options.transfers)
    jobs["upload of 1000 bytes"] = partial(upload_small, server, options.seconds)
    jobs[f"upload of {options.mib} MiB"] = partial(upload_large, server, file, options.transfers)
    return jobs


def measure(servers: dict[str, Direct], file: Path, options: argparse.Namespace) -> Table:
    """Do every job on both in turn, ``rounds`` times over, and once before to warm up."""
    jobs = {name: list_jobs(server, file, options) for name, server in servers.items()}
    table: Table = {kind: {name: [] for name in servers} for kind in jobs[DIRECT]}
    for number in range(options.rounds + 1):
        for kind, turns in table.items():
            for name, server in servers.items():  # close together, so that each ratio is of the same moments
                os.sync()
                turn = measured(server, jobs[name][kind])
                turns[name] += [turn] if number else []
                while server.left:
                    server.call("DELETE", server.left.pop(), 200)
    return table


def compare(directory: Path, workers: int, options: argparse.Namespace) -> None:
    """Compare both with so many workers for each server, and print what came of it."""
    file = transfers.make_file(directory / "large", options.mib)
    kinds: dict[str, type[Direct]] = {DIRECT: Direct, REMOTE: Remote}
    with ExitStack() as stack:
        urls = {name: stack.enter_context(databases.fresh_database("postgresql", directory)) for name in kinds}
        servers = {
            name: stack.enter_context(kind(directory / name.replace(" ", "-"), urls[name], workers))
            for name, kind in kinds.items()
        }
        table = measure(servers, file, options)
    print(f"\nworkers of each server: {workers}; rounds: {options.rounds}")
    print(row("per second", *kinds, "ratio"))
    for kind, turns in table.items():
        rates = [spread([turn.per_second for turn in turns[name]], ".1f") for name in kinds]
        ratios = [b.per_second / a.per_second for a, b in zip(turns[DIRECT], turns[REMOTE], strict=True)]
        print(row(kind, *rates, spread(ratios)))
    for name in kinds:
        parts = list(table["list of 25"][name][0].cpu_ms)
        print(row(f"CPU ms, {name}", *parts))
        for kind, turns in table.items():
            print(row(kind, *(spread([turn.cpu_ms[part] for turn in turns[name]]) for part in parts)))


def main() -> None:
    """Compare, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each kind of request in each round")
    parser.add_argument("--mib", type=int, default=64, help="of a large image")
    parser.add_argument("--transfers", type=int, default=8, help="of it in each round, each way")
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2], help="of each server")
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.2f}, {len(os.sched_getaffinity(0))} cores")
    for workers in options.workers:
        with tempfile.TemporaryDirectory(prefix="pyrimage-benchmark-") as name:
            compare(Path(name), workers, options)


if __name__ == "__main__":
    main()
