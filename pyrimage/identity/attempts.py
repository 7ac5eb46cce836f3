"""How often somebody may try to log in."""

import ipaddress
import math
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import TooManyAttempts

ATTEMPTS = 10  # that may fail in a window
CACHED_ATTEMPTS = 100  # after which even logins that are remembered are refused
WINDOW_SECONDS = 60.0
MAX_SOURCES = 10_000  # that are remembered; then those are forgotten that began first


@dataclass(slots=True)
class Window:
    """The attempts of one source in a minute, without those that were right."""

    end: float
    count: int = 0


class Attempts:
    """The attempts that failed of late, by where they came from, in this process.

    An attempt is counted before it is looked at, so that no more are looked at than may fail, and taken back when it
    was right. Source: ours.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._windows: OrderedDict[str, Window] = OrderedDict()  # in the order in which they end

    def add(self, source: str) -> Window:
        """Count an attempt, and return where. Raises TooManyAttempts if no more may fail."""
        with self._lock:
            window = self._find(source)
            if window is None:
                window = self._windows[source] = Window(self._clock() + WINDOW_SECONDS)
                if len(self._windows) > MAX_SOURCES:
                    self._windows.popitem(last=False)
            window.count += 1
            if window.count > ATTEMPTS:
                raise self._refusal(window)
            return window

    def take_back(self, window: Window) -> None:
        """Uncount an attempt, which was right."""
        with self._lock:
            window.count -= 1

    def check_flood(self, source: str) -> None:
        """Raise TooManyAttempts for a source with so many attempts that it may be guessing what is remembered."""
        with self._lock:
            window = self._find(source)
            if window is not None and window.count > CACHED_ATTEMPTS:
                raise self._refusal(window)

    def _find(self, source: str) -> Window | None:
        window = self._windows.get(source)
        if window is not None and window.end <= self._clock():
            del self._windows[source]
            return None
        return window

    def _refusal(self, window: Window) -> TooManyAttempts:
        seconds = max(1, math.ceil(window.end - self._clock()))
        text = f"Too many logins from your address have failed; the next is looked at in {seconds} seconds."
        return TooManyAttempts(text, seconds)


def source_of(address: str) -> str:
    """Return what attempts from an address are counted for: all addresses of an IPv6 network of 64 bits are one.

    What is no address, such as that of a Unix socket, stands for itself.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return address
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    if ip.ipv4_mapped is not None:
        return str(ip.ipv4_mapped)
    return str(ipaddress.ip_network((ip, 64), strict=False))
