"""Requests for metadata, as many as a server answers, beside a bare Pyramid view and waitress as released."""

import selectors
import time
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from .harness import Figure, Installation, row, spread

CONNECTIONS = 8  # as many as production.ini has threads
IMAGES = 40
WARM_UP_SECONDS = 1.0

STOCK, ONE, TWO = "stock waitress", "1 worker", "2 workers"
BARE = "bare JSON view"
AIMS_TO_BARE = {"HEAD of an image": ">= 0.45", "list of 25": ">= 0.35"}


class Sample(NamedTuple):
    """What one kind of request came to on one server in one round."""

    per_second: float
    cpu_ms: float  # per request, of the server's processes


Table = dict[str, dict[str, list[Sample]]]  # kind of request: server: a sample for each round


def add_images(server: Installation) -> str:
    """Upload small public images with three properties each; return the first one's path."""
    properties = {key: f"the {key}" for key in ("os", "kernel", "architecture")}
    fields = {"is_public": True, "disk_format": "qcow2", "container_format": "bare", "properties": properties}
    answers = [
        server.call("POST", "/v1/images", 201, b"x" * 1000, name=f"image {number}", **fields)
        for number in range(IMAGES)
    ]
    return f"/v1/images/{answers[0].image['id']}"


def spell(server: Installation, line: str) -> bytes:
    """Return the bytes of a request: ``"GET /bare"``."""
    return f"{line} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode()


def spell_all(server: Installation) -> dict[str, bytes]:
    """Fill a server with images, and return the requests that it is loaded with."""
    lines = {
        BARE: "GET /bare",
        "HEAD of an image": f"HEAD {add_images(server)}",
        "list of 25": "GET /v1/images",
        "list of 25 in detail": "GET /v1/images/detail",
    }
    return {kind: spell(server, line) for kind, line in lines.items()}


def answer_length(server: Installation, request: bytes) -> int:
    """Return how long the answer is; ids and dates have a fixed width, so all answers to one request are alike."""
    answer = server.exchange(request.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
    return len(answer) - len(b"Connection: close\r\n")


def load(server: Installation, request: bytes, seconds: float) -> Sample:
    """Keep every connection busy with one request at a time.

    The client looks at lengths and status lines only, for it shares the machine with the server.
    """
    length, answers = answer_length(server, request), 0
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        for _ in range(CONNECTIONS):
            client = stack.enter_context(server.connect(request))
            selector.register(client, selectors.EVENT_READ, (client, bytearray()))
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


def measure(servers: dict[str, Installation], rounds: int, seconds: float) -> Table:
    """Load each server with each kind of request in turn, ``rounds`` times over."""
    requests = {name: spell_all(server) for name, server in servers.items()}
    for name, server in servers.items():
        for request in requests[name].values():
            load(server, request, min(seconds, WARM_UP_SECONDS))
    table: Table = {kind: {name: [] for name in servers} for kind in requests[STOCK]}
    for _ in range(rounds):
        for kind, samples in table.items():
            for name, server in servers.items():  # one after the other, so that each ratio is of the same moments
                samples[name].append(load(server, requests[name][kind], seconds))
    return table


def compare(directory: Path, rounds: int, seconds: float) -> list[Figure]:
    """Compare the servers, and print what came of it."""
    with ExitStack() as stack:
        servers = {
            STOCK: stack.enter_context(Installation(directory / "stock", stock=True)),
            ONE: stack.enter_context(Installation(directory / "one", server={"workers": "1"})),
            TWO: stack.enter_context(Installation(directory / "two", server={"workers": "2"})),
        }
        table = measure(servers, rounds, seconds)
    print(f"\n{CONNECTIONS} connections; rounds: {rounds}, of {seconds:g} s for each")
    print(row("requests/s", *servers))
    for kind, samples in table.items():
        print(row(kind, *(spread([one.per_second for one in turns], ".0f") for turns in samples.values())))
    print(row("CPU ms per request", *servers))
    for kind, samples in table.items():
        print(row(kind, *(spread([one.cpu_ms for one in turns]) for turns in samples.values())))
    return [figure for kind in table if kind != BARE for figure in figures(table, kind)]


def ratios(mine: list[Sample], others: list[Sample]) -> str:
    """Return the ratios of the rates in each round."""
    return spread([a.per_second / b.per_second for a, b in zip(mine, others, strict=True)])


def figures(table: Table, kind: str) -> list[Figure]:
    """Set the rates of a kind of request beside those that they are compared with."""
    samples, bare = table[kind], table[BARE]
    to_bare = ", ".join(f"{name} {ratios(samples[name], bare[name])}" for name in (ONE, TWO))
    return [
        Figure(f"{kind}, requests/s to those on stock waitress", ">= 0.9", ratios(samples[ONE], samples[STOCK])),
        Figure(f"{kind}, requests/s with 2 workers to those with 1", ">= 1.2", ratios(samples[TWO], samples[ONE])),
        Figure(f"{kind}, requests/s to those of a bare Pyramid view", AIMS_TO_BARE.get(kind, ""), to_bare),
    ]
