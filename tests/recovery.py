"""When a database goes away under load: how long that took, and what a scrub makes of what stayed behind."""

import time
import uuid

from aftermath import leftovers, rows
from factories import meta
from journal import Journal
from servers.processes import run, wait_until
from servers.pyrimage import READY_SECONDS, Server

LONG_AGO = "2001-01-01 00:00:00"


def wait_for_calls(journal: Journal, count: int, server: Server) -> None:
    """Wait until clients have called so many times more."""
    wanted = journal.calls.total() + count
    wait_until(lambda: journal.calls.total() >= wanted, READY_SECONDS, server.log)


def wait_for_refusals(journal: Journal, count: int, server: Server) -> None:
    """Wait until so many more calls were refused: the database is away, and some notice."""
    wanted = journal.cut.total() + count
    wait_until(lambda: journal.cut.total() >= wanted, READY_SECONDS, server.log)


def wait_for_change(server: Server, since: float) -> None:
    """Wait until an image can be added, and print how long that took from a time of the monotonic clock."""

    def is_added() -> bool:
        return server.request("POST", "/v1/images", headers=meta(id=f"again-{uuid.uuid4()}")).status == 201

    wait_until(is_added, READY_SECONDS, server.log)
    print(f"{server.directory.name}: {time.monotonic() - since:.2f} s until it changed something again")


def left_by_scrub(server: Server, url: str) -> list[str]:
    """Scrub as if every lease had ended long ago; return what is left of uploads and deletions then."""
    begun = rows(url, "SELECT count(*) FROM claims")
    removed = rows(url, "SELECT count(*) FROM image_locations WHERE state = 'garbage'")
    rows(url, "UPDATE claims SET lease = :lease", lease=LONG_AGO)
    done = run("pyrimage-manage", "-c", server.ini, "scrub", cwd=server.directory)
    print(f"{begun[0][0]} claims and {removed[0][0]} garbage rows stayed behind: {done.stdout.splitlines()[-1:]}")
    if done.returncode:
        raise AssertionError(done.stdout + done.stderr)
    return leftovers(server, url)
