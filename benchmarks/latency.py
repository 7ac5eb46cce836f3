"""How long a caller waits for metadata while large images come and go."""

import os
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

from . import metadata, transfers
from .harness import Figure, Installation, row, spread

RATE = 50  # requests per second
LENGTH = 3  # a turn lasts as long as so many of a kind of request in metadata.py

Job = Callable[[], object]


@dataclass
class Pending:
    """A request that was sent."""

    client: socket.socket
    began: float
    left: int  # bytes of the answer

    def complete(self) -> bool:
        """Receive more of the answer, and return whether that was its end."""
        received = self.client.recv(65536)
        if not received:
            raise SystemExit("the server closed a connection")
        self.left -= len(received)
        return self.left <= 0


@contextmanager
def repeated(jobs: Sequence[Job]) -> Iterator[None]:
    """Run each job again and again, at the same time, until the block ends."""
    ended = threading.Event()

    def repeat(job: Job) -> None:
        while not ended.is_set():
            job()

    with ThreadPoolExecutor() as pool:
        running = [pool.submit(repeat, job) for job in jobs]
        try:
            yield
        finally:
            ended.set()
    for future in running:
        future.result()


def ask(server: Installation, request: bytes, seconds: float) -> list[float]:
    """Send requests at a steady rate, however many are unanswered; return how many ms each answer took."""
    length, count, sent = metadata.answer_length(server, request), int(seconds * RATE), 0
    waited: list[float] = []
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        # Taken in turn, since each connection has its one worker.
        idle = deque(stack.enter_context(server.connect()) for _ in range(metadata.CONNECTIONS))
        began = time.perf_counter()
        while len(waited) < count:
            now, due = time.perf_counter(), began + sent / RATE
            if sent < count and now >= due:
                client = idle.popleft() if idle else stack.enter_context(server.connect())
                client.sendall(request)
                selector.register(client, selectors.EVENT_READ, Pending(client, now, length))
                sent += 1
                continue
            for key, _ in selector.select(due - now if sent < count else None):
                pending: Pending = key.data
                if pending.complete():
                    waited.append((time.perf_counter() - pending.began) * 1000)
                    selector.unregister(pending.client)
                    idle.append(pending.client)
    return waited


def compare(directory: Path, mib: int, rounds: int, seconds: float) -> list[Figure]:
    """Ask for metadata beside each kind of transfer in turn, and print how long it took."""
    large = transfers.make_file(directory / "large", mib)
    with Installation(directory / "ours") as server:
        image, size = transfers.store(server, large), large.stat().st_size

        def upload() -> object:
            return transfers.upload(server, large)

        def download() -> object:
            return transfers.download(image, size)

        jobs = {
            "idle": (),
            "during an upload": (upload,),
            "during a download": (download,),
            "during both": (upload, download),
        }
        request = metadata.spell(server, f"HEAD {metadata.add_images(server)}")
        table: dict[str, list[list[float]]] = {name: [] for name in jobs}
        for _ in range(rounds):
            for name, running in jobs.items():
                os.sync()
                with repeated(running):
                    table[name].append(ask(server, request, LENGTH * seconds))
    print(f"\nHEAD at {RATE} requests/s, milliseconds; rounds: {rounds}, of {LENGTH * seconds:g} s")
    print(row("", "p50", "p99", "longest"))
    figures = []
    for name, turns in table.items():
        p50 = [median(turn) for turn in turns]
        p99 = spread([quantiles(turn, n=100, method="inclusive")[98] for turn in turns], ".1f")
        print(row(name, spread(p50, ".1f"), p99, spread([max(turn) for turn in turns], ".1f")))
        what = f"wait for HEAD at {RATE} requests/s, {name}: p50, p99 in ms"
        figures.append(Figure(what, "", f"{median(p50):.1f}, {p99}"))
    return figures
