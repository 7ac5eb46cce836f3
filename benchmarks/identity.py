"""What logins cost, and whether wrong passwords keep others waiting. See README.md."""

import argparse
import itertools
import os
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from statistics import median, quantiles
from typing import Any

from accounts import basic, password_of, write_users
from pyrimage.identity.hashes import hash_password
from servers.processes import OWNED, run
from servers.pyrimage import Answer

from . import latency, metadata
from .harness import Installation, row, spread

USER = "root"
WRONG = 100  # different passwords
AT_ONCE = 10
ONE_WORKER = {"workers": "1"}


class WithUsers(Installation):
    """An installation whose callers log in; requests of its own are an administrator's."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory, main={"pyrimage.auth": "users"}, server=ONE_WORKER)
        self._addresses = itertools.count()
        self.database.parent.mkdir()
        users = write_users(self.database.parent)
        hashed = hash_password(password_of(USER))
        users.with_name("htpasswd").write_text(f"{USER}:{hashed}\n", encoding="utf-8")

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Answer:
        """Send a request with the administrator's password."""
        return super().request(method, path, body, {**basic(USER), **(headers or {})}, **options)

    def new_token(self) -> str:
        """Make an API token; nothing, where there are none."""
        made = run("pyrimage-manage", "-c", self.ini, "token", "create", "--user", USER, cwd=self.directory)
        return made.stdout.strip()

    def guess(self, addresses: int) -> None:
        """Send 100 different wrong passwords, 10 at once, from so many addresses that nobody has used."""
        count = WRONG // addresses
        commands = [
            *("curl", "-sS", "-o", "/dev/null", "--parallel", "--parallel-max", str(AT_ONCE // addresses)),
            f"http://{USER}:wrong[1-{count}]@127.0.0.1:{self.port}/images",
        ]
        places = (
            f"127.1.{number // 250}.{number % 250 + 1}" for number in itertools.islice(self._addresses, addresses)
        )
        running = [
            subprocess.Popen([*OWNED, *commands, "--interface", place], stderr=subprocess.DEVNULL) for place in places
        ]
        for each in running:
            each.wait()


def logged_in(request: bytes, headers: Mapping[str, str]) -> bytes:
    """Return a request with credentials."""
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return request.removesuffix(b"\r\n") + lines.encode() + b"\r\n"


def compare_rates(open_to_all: Installation, users: WithUsers, rounds: int, seconds: float) -> None:
    """Print how many requests a second are answered with each kind of credentials, to those without."""
    plain = metadata.spell(open_to_all, f"HEAD {metadata.add_images(open_to_all)}")
    theirs = metadata.spell(users, f"HEAD {metadata.add_images(users)}")
    ways = {"a password": logged_in(theirs, basic(USER))}
    if token := users.new_token():
        ways["a token"] = logged_in(theirs, {"X-Auth-Token": token})
    samples: dict[str, list[metadata.Sample]] = {"nothing": [], **{name: [] for name in ways}}
    for _ in range(rounds):
        samples["nothing"].append(metadata.load(open_to_all, plain, seconds))
        for name, request in ways.items():
            samples[name].append(metadata.load(users, request, seconds))
    print(f"\nHEAD requests/s with each kind of credentials; rounds: {rounds}, of {seconds:g} s")
    for name, mine in samples.items():
        ratio = metadata.ratios(mine, samples["nothing"])
        print(row(name, spread([one.per_second for one in mine], ".0f"), f"{ratio} (aim 0.8)"))


def compare_waiting(users: WithUsers, rounds: int, seconds: float) -> None:
    """Print how long who is logged in waits while others send wrong passwords, to when they do not."""
    turns = {"idle": 0, "beside 100 wrong passwords": 1, "beside those of 10 addresses": 10}
    request = logged_in(metadata.spell(users, f"HEAD {metadata.add_images(users)}"), basic(USER))
    table: dict[str, list[float]] = {name: [] for name in turns}
    for _ in range(rounds):
        for name, addresses in turns.items():
            guessing = threading.Thread(target=users.guess, args=(addresses,)) if addresses else None
            if guessing:
                guessing.start()
            waited = latency.ask(users, request, latency.LENGTH * seconds)
            if guessing:
                guessing.join()
            table[name].append(quantiles(waited, n=100, method="inclusive")[98])
    print(f"\np99 of HEAD at {latency.RATE} requests/s, milliseconds, and to idle (aim 2 at most); rounds: {rounds}")
    for name, mine in table.items():
        ratios = [one / other for one, other in zip(mine, table["idle"], strict=True)]
        print(row(name, spread(mine, ".1f"), f"{median(ratios):.2f}"))


def main() -> None:
    """Compare, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each kind of request in each round")
    options = parser.parse_args()
    print(f"load {os.getloadavg()[0]:.2f}, {len(os.sched_getaffinity(0))} cores")
    with tempfile.TemporaryDirectory(prefix="pyrimage-benchmark-") as name, ExitStack() as stack:
        open_to_all = stack.enter_context(Installation(Path(name, "none"), server=ONE_WORKER))
        users = stack.enter_context(WithUsers(Path(name, "users")))
        compare_rates(open_to_all, users, options.rounds, options.seconds)
        compare_waiting(users, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
