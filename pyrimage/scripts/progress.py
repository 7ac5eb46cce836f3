"""How far a long run has come: a line that is written over and over, for a terminal only."""

import sys
import time
from collections.abc import Callable

SHOWN_SECONDS = 0.2
CLEAR_LINE = "\r\x1b[K"


class Progress:
    """The line, on standard error, which nothing else is written to meanwhile unless it was cleared."""

    def __init__(self) -> None:
        self.is_shown = sys.stderr.isatty()
        self._next = 0.0  # when the line is written again

    def show(self, text: Callable[[], str]) -> None:
        """Write the line, a few times in a second at most."""
        if self.is_shown and time.monotonic() >= self._next:
            self._next = time.monotonic() + SHOWN_SECONDS
            print(f"{CLEAR_LINE}{text()}", end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        """Make room for a line of output."""
        if self.is_shown:
            print(CLEAR_LINE, end="", file=sys.stderr, flush=True)
            self._next = 0.0
