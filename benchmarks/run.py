"""Measure transfers, requests and latency, each beside what it is compared with. See README.md."""

import argparse
import importlib.metadata
import os
import platform
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from . import latency, metadata, transfers
from .harness import NGINX, Figure

PACKAGES = ("pyrimage", "pyramid", "WebOb", "waitress", "SQLAlchemy", "zope.sqlalchemy", "transaction", "pyramid_tm")
NEEDED = ("curl", "md5sum", "setpriv")


def version(*command: str) -> str:
    """Return the first line that a program says about itself."""
    said = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout
    return said.splitlines()[0].partition(" (x86")[0]


def describe_machine(directory: Path) -> None:
    """Print what figures of another day or machine would differ by."""
    models = re.findall(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text()) or [platform.machine()]
    kind = subprocess.run(["stat", "-f", "-c", "%T", directory], capture_output=True, text=True, check=True).stdout
    packages = [f"{name} {importlib.metadata.version(name)}" for name in PACKAGES]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    print(f"{len(models)} x {models[0]}, {memory:.0f} GiB, Linux {platform.release()}, load {os.getloadavg()[0]:.2f}")
    print(f"{directory} on {kind.strip()}")
    print(f"Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {', '.join(packages)}")
    nginx = version(NGINX, "-v") if NGINX else "no nginx"
    print(f"{version('curl', '--version')}, {version('md5sum', '--version')}, {nginx}")


def read_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each kind of request in each round")
    parser.add_argument("--mib", type=int, default=1024, help="of a large image; 8 at once have a fourth of it")
    parser.add_argument("--quick", action="store_true", help="2 rounds of 64 MiB and 0.5 s, to try it out")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.seconds, options.mib = 2, 0.5, 64
    return options


def measure(options: argparse.Namespace, directory: Path) -> list[Figure]:
    """Measure everything, each part below a directory that is removed when it ends."""
    mib, rounds, seconds = options.mib, options.rounds, options.seconds
    parts: list[Callable[[Path], list[Figure]]] = [
        lambda here: transfers.compare(here, mib, rounds),
        lambda here: metadata.compare(here, rounds, seconds),
        lambda here: latency.compare(here, mib, rounds, seconds),
    ]
    figures: list[Figure] = []
    for part in parts:
        with tempfile.TemporaryDirectory(dir=directory) as name:
            figures += part(Path(name))
    return figures


def main() -> None:
    """Measure everything, and print the table for README.md."""
    options = read_options()
    if missing := [program for program in NEEDED if shutil.which(program) is None]:
        raise SystemExit(f"not found: {', '.join(missing)} (apt-get install curl coreutils util-linux)")
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that everything is cleaned up
    with tempfile.TemporaryDirectory(prefix="pyrimage-benchmark-") as name:
        describe_machine(Path(name))
        figures = measure(options, Path(name))
    print(f"\n| rounds: {options.rounds} | aim | median (lowest to highest) |\n|---|---|---|")
    for what, aim, value in figures:
        print(f"| {what} | {aim} | {value} |")


if __name__ == "__main__":
    main()
