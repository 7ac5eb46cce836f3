"""Kill what a test has started in the background: ``python reaper.py DIRECTORY``.

A test holds its standard input open; when that ends, in whatever way, every process that has DIRECTORY as its ``HOME``
is killed.
"""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path


def processes_of(home: Path) -> set[int]:
    """Return the processes, those that only wait for somebody to take note of their end apart."""
    wanted = f"HOME={home}".encode()
    found = set()
    for each in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            if wanted in each.read_bytes().split(b"\0"):
                found.add(int(each.parent.name))
    return found


if __name__ == "__main__":
    sys.stdin.read()
    while left := processes_of(Path(sys.argv[1])):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.01)
