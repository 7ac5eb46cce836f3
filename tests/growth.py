"""How CPU time grows with the length of what is read: a measure that holds on a busy machine, too."""

import time
from collections.abc import Callable
from typing import Any

FACTOR = 2.5  # of CPU time, for twice the length; where it is quadratic, that is 4
FLOOR = 0.002  # seconds of CPU time; what takes less is taken for this, for it says nothing
SMALLEST = 1024
TRIES = 7


def check_growth(run: Callable[[Any], object], make: Callable[[int], Any], largest: int) -> None:
    """Run with what ``make`` returns for lengths that double up to ``largest``; fail where the time more than doubles.

    It begins with the short ones, so that what would take minutes is found within seconds. Memory that the system
    gives in one go can make one or two steps higher than they should be, but not three: a time is too long only if it
    is so beside a half, a quarter and an eighth of the length.
    """
    lengths = [largest]
    while lengths[0] > SMALLEST:
        lengths.insert(0, lengths[0] // 2)
    times = [FLOOR] * 3
    for length in lengths:
        given = make(length)
        eighth, quarter, half = times[-3:]
        allowed = max(FACTOR * half, FACTOR**2 * quarter, FACTOR**3 * eighth)
        times.append(min_cpu_seconds(run, given, allowed))
        if times[-1] > allowed:
            shown = ", ".join(f"{seconds:.4f}" for seconds in times[3:])
            raise AssertionError(
                f"{length} bytes take too long; seconds for {lengths[0]} bytes and each double: {shown}"
            )


def min_cpu_seconds(run: Callable[[Any], object], given: Any, allowed: float) -> float:
    """Return the least time of some tries, which is what no other program disturbed; one good one is enough."""
    least = float("inf")
    for _ in range(TRIES):
        began = time.thread_time()
        run(given)
        least = min(least, max(FLOOR, time.thread_time() - began))
        if least <= allowed:
            break
    return least
