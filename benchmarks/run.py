"""Compare the service with a bare Pyramid view in the same server, and transfers with md5sum. See README.md."""

import argparse
import http.client
import importlib.metadata
import os
import platform
import re
import selectors
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from pyramid.config import Configurator

ROOT = Path(__file__).parents[1]
PROGRAMS = Path(sys.executable).parent
PACKAGES = ("pyrimage", "pyramid", "WebOb", "waitress", "SQLAlchemy", "zope.sqlalchemy", "transaction", "pyramid_tm")

CONNECTIONS = 8  # as many as production.ini has threads
IMAGES = 40
WARM_UP_SECONDS = 1.0
TRANSFER_MIB = 256
TRANSFERS = 3
MIB = 2**20

# Appended to production.ini: both applications in one process.
SECTION = """
[composite:benchmark]
paste.composite_factory = run:both
"""


class Sample(NamedTuple):
    """What one kind of request came to in one round."""

    per_second: float
    cpu_ms: float  # per request, of the server's process


class Server(NamedTuple):
    """The server under test."""

    port: int
    pid: int

    def connect(self) -> socket.socket:
        """Open a connection."""
        return socket.create_connection(("127.0.0.1", self.port))

    def cpu_seconds(self) -> float:
        """Return what all threads of the process have used."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def both(loader: Any, global_conf: dict[str, str]) -> Callable[..., Any]:
    """Serve ``/bare``, a view without any rules, beside the application: a ``paste.composite_factory``."""
    config = Configurator()
    config.add_view(lambda request: {"name": "bare"}, name="bare", renderer="json")
    bare, main = config.make_wsgi_app(), loader.get_app("main", global_conf=global_conf)

    def dispatch(environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        return (bare if environ["PATH_INFO"] == "/bare" else main)(environ, start_response)

    return dispatch


@contextmanager
def serving(directory: Path) -> Iterator[Server]:
    """Run production.ini, with data and log in ``directory``, until the block ends."""
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
    config = directory / "benchmark.ini"
    sample = (ROOT / "production.ini").read_text(encoding="utf-8")
    config.write_text(re.sub(r"\b9292\b", str(port), sample) + SECTION, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "PYTHONWARNINGS": "ignore"}
    with (directory / "server.log").open("w") as log:
        manage = (PROGRAMS / "pyrimage-manage", "-c", config, "db", "upgrade")
        subprocess.run(manage, env=environment, stdout=log, stderr=log, check=True)
        pserve = (PROGRAMS / "pserve", "-n", "benchmark", config)
        process = subprocess.Popen(pserve, env=environment, stdout=log, stderr=log)
    server = Server(port, process.pid)
    try:
        while process.poll() is None:
            with suppress(OSError), server.connect():
                break
            time.sleep(0.05)
        else:
            raise SystemExit(f"pserve ended early:\n{(directory / 'server.log').read_text()}")
        yield server
    finally:
        process.terminate()
        process.wait()


def add_image(server: Server, name: str, data: Any, size: int) -> str:
    """Upload a public image with three properties; return its id."""
    headers = {
        "Content-Type": "application/octet-stream",
        "Content-Length": str(size),
        "x-image-meta-name": name,
        "x-image-meta-is-public": "true",
        "x-image-meta-disk-format": "qcow2",
        "x-image-meta-container-format": "bare",
        **{f"x-image-meta-property-{key}": f"the {key}" for key in ("os", "kernel", "architecture")},
    }
    return ask(server, "POST", "/v1/images", 201, data, headers)["x-image-meta-id"]


def ask(
    server: Server, method: str, path: str, expected: int, data: Any = None, headers: dict[str, str] | None = None
) -> http.client.HTTPMessage:
    """Make one request, read the answer to its end and return its headers."""
    connection = http.client.HTTPConnection("127.0.0.1", server.port, blocksize=MIB)
    connection.request(method, path, data, headers or {})
    answer, buffer = connection.getresponse(), bytearray(MIB)
    if answer.status != expected:
        raise SystemExit(f"{method} {path}: {answer.status} {answer.read(1000)!r}")
    while answer.readinto(buffer):
        pass
    connection.close()
    return answer.headers


def answer_length(server: Server, request: bytes) -> int:
    """Return how long the answer is; ids and dates have a fixed width, so all answers to one request are alike."""
    with server.connect() as connection:
        connection.sendall(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    return len(answer) - len(b"Connection: close\r\n")


def load(server: Server, request: bytes, seconds: float) -> Sample:
    """Keep every connection busy with one request at a time.

    The client looks at lengths and status lines only, for it shares the machine with the server.
    """
    length, answers = answer_length(server, request), 0
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(CONNECTIONS):
            client = stack.enter_context(server.connect())
            selector.register(client, selectors.EVENT_READ, (client, bytearray()))
            client.sendall(request)
        cpu, began = server.cpu_seconds(), time.perf_counter()
        while (elapsed := time.perf_counter() - began) < seconds:
            for key, _ in selector.select(1):
                client, answer = key.data
                answer += (received := client.recv(65536))
                if not received or len(answer) > length or not answer.startswith(b"HTTP/1.1 200 "):
                    raise SystemExit(f"{request!r} was answered with {bytes(answer)!r}")
                if len(answer) == length:
                    answers += 1
                    answer.clear()
                    client.sendall(request)
        return Sample(answers / elapsed, (server.cpu_seconds() - cpu) / answers * 1000)


def compare_requests(server: Server, rounds: int, seconds: float) -> None:
    """Load the server with each kind of request in turn, and print each beside the bare view of its own round."""
    ids = [add_image(server, f"image {number}", b"x" * 1000, 1000) for number in range(IMAGES)]
    kinds = {
        "bare JSON view": "GET /bare",
        "HEAD image": f"HEAD /v1/images/{ids[0]}",
        "list of 25": "GET /v1/images",
        "list of 25 in detail": "GET /v1/images/detail",
    }
    requests = [f"{line} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode() for line in kinds.values()]
    for request in requests:
        load(server, request, WARM_UP_SECONDS)
    table = [[load(server, request, seconds) for request in requests] for _ in range(rounds)]
    print(f"\n{rounds} rounds of {seconds:g} s over {CONNECTIONS} connections: median (lowest to highest)")
    print(row("", "requests/s", "to bare", "CPU ms/request", "bare to it"))
    for number, kind in enumerate(kinds):
        pairs = [(samples[number], samples[0]) for samples in table]
        speeds = spread([mine.per_second for mine, _ in pairs], ".0f")
        speed_ratios = spread([mine.per_second / bare.per_second for mine, bare in pairs], ".3f")
        costs = spread([mine.cpu_ms for mine, _ in pairs], ".2f")
        cost_ratios = spread([bare.cpu_ms / mine.cpu_ms for mine, bare in pairs], ".3f")
        print(row(kind, speeds, speed_ratios, costs, cost_ratios))


def compare_transfers(server: Server, directory: Path) -> None:
    """Upload and download a large file, and print both beside md5sum of the same file."""
    path = directory / "image"
    with path.open("wb") as file:
        for _ in range(TRANSFER_MIB):
            file.write(os.urandom(MIB))
    table = []
    for number in range(TRANSFERS):
        with path.open("rb") as file:
            times = [time.perf_counter()]
            subprocess.run(["md5sum", path], stdout=subprocess.DEVNULL, check=True)
            times.append(time.perf_counter())
            image_id = add_image(server, f"large {number}", file, TRANSFER_MIB * MIB)
            times.append(time.perf_counter())
            ask(server, "GET", f"/v1/images/{image_id}", 200)
            times.append(time.perf_counter())
            ask(server, "DELETE", f"/v1/images/{image_id}", 200)
        table.append([TRANSFER_MIB * MIB / 1e6 / (end - start) for start, end in pairwise(times)])
    print(f"\n{TRANSFERS} transfers of {TRANSFER_MIB} MiB, one at a time: median (lowest to highest)")
    print(row("", "MB/s", "to md5sum"))
    for number, kind in enumerate(("md5sum", "upload", "download")):
        speeds = spread([speeds[number] for speeds in table], ".0f")
        print(row(kind, speeds, spread([speeds[number] / speeds[0] for speeds in table], ".2f")))


def spread(values: Sequence[float], form: str) -> str:
    """Show the median and what it was found among: ``0.22 (0.21 to 0.24)``."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def row(kind: str, *figures: str) -> str:
    """Lay out a line of a table."""
    return f"{kind:20}" + "".join(f"{figure:>25}" for figure in figures)


def describe_machine(directory: Path) -> None:
    """Print what figures of another day or machine would differ by."""
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) or [platform.machine()]
    packages = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    print(f"{len(models)} x {models[0]}, Linux {platform.release()}, load {os.getloadavg()[0]:.2f}, {directory}")
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {', '.join(packages)}")


def main() -> None:
    """Run everything; it takes about a minute and a half."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each kind of request in each round")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pyrimage-benchmark-") as name:
        directory = Path(name)
        describe_machine(directory)
        with serving(directory) as server:
            compare_requests(server, options.rounds, options.seconds)
            compare_transfers(server, directory)


if __name__ == "__main__":
    main()
