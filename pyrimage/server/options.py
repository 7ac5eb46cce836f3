"""The options of ``[server:main]``: waitress' own, some with other defaults, and ours."""

import difflib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from waitress.adjustments import Adjustments, _int_marker, _str_marker, aslist

LARGEST = 10**9  # value of any whole number


def integer(minimum: int, maximum: int = LARGEST) -> Callable[[Any], int]:
    """Make a reader of whole numbers from ``minimum`` to ``maximum``."""

    def read(value: Any) -> int:
        text = str(value).strip()
        if not re.fullmatch("[0-9]{1,10}", text) or not minimum <= int(text) <= maximum:
            raise ValueError(f"use a whole number from {minimum} to {maximum}")
        return int(text)

    return read


port_number = integer(0, 65535)


def listen_addresses(value: Any) -> list[str]:
    """Read ``host:port`` words; the resolver would silently take a port above 65535 modulo 65536."""
    found: list[str] = aslist(value)
    if not found:
        raise ValueError("use host:port, or several with blanks between them")
    for address in found:
        _, colon, port = address.rpartition(":")
        if colon and port.isdecimal():  # otherwise there is no port, or the name of a service
            port_number(port)
    return found


def worker_count(value: Any) -> int:
    """Read a number of workers; ``auto`` is one for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if str(value).strip() == "auto" else integer(0)(value)


def absolute_path(value: Any) -> str:
    """Read an absolute path: a server in the background has another working directory."""
    if not Path(value).is_absolute():
        raise ValueError("use an absolute path; %(here)s is the directory of the ini file")
    return str(value)


class Options(Adjustments):
    """The options as attributes. Waitress' documentation explains its own.

    workers: number of processes that serve; 0: this one does, without a supervisor. upload_threads: of each process,
    for streamed bodies; other requests have ``threads``. relay_threads: likewise at most, to read files that have no
    descriptor; a slow client holds none. upload_timeout: seconds to wait for the next byte of a body.
    upload_min_rate: bytes/s, over 30 seconds of waiting for the client; 0: no minimum. shutdown_timeout: seconds that
    running transfers get when the server is stopped. worker_timeout: seconds without a heartbeat after which a worker
    that waits for no disk is killed and replaced; 0: never. pid_file: path of a file with the process id, locked while
    the process lives. connections_per_client: from one address; None: a quarter of ``connection_limit``, 0: no limit.

    ``inbuf_overflow`` is the length in bytes above which a body is streamed. ``channel_timeout`` also limits the time
    for a header and a body that is not streamed.
    """

    _params = (
        # Deprecated in waitress; it would hold back "100 Continue" until there is more to send.
        *(each for each in Adjustments._params if each[0] != "send_bytes"),
        ("port", port_number),
        ("listen", listen_addresses),
        ("connection_limit", integer(1)),
        ("connections_per_client", integer(0)),
        ("threads", integer(1)),
        ("workers", worker_count),
        ("upload_threads", integer(1)),
        ("relay_threads", integer(1)),
        ("upload_timeout", integer(1)),
        ("upload_min_rate", integer(0)),
        ("shutdown_timeout", integer(0)),
        ("worker_timeout", integer(0)),
        ("pid_file", absolute_path),
    )
    _param_map: ClassVar = dict(_params)

    workers = 0
    connection_limit = 1000  # waitress' 100 are soon taken, and a quarter of them by one host with many processes
    connections_per_client: int | None = None
    upload_threads = 64
    relay_threads = 64
    upload_timeout = 60
    upload_min_rate = 4096
    shutdown_timeout = 60
    worker_timeout = 30
    pid_file: str | None = None

    host = _str_marker("127.0.0.1")  # waitress would serve every network, on 8080
    port = _int_marker(9292)
    listen: Any = (f"{host}:{port}",)  # in an instance: tuples of family, type, protocol and address
    ident = "pyrimage"
    asyncore_use_poll = True  # select() breaks at the first file descriptor above 1023
    inbuf_overflow = 65536  # bytes of memory that each connection may fill with a body
    cleanup_interval = 10  # seconds by which channel_timeout may be late
    recv_bytes = 65536  # more would let one client's blank lines or tiny requests keep the main loop busy for longer
    # Images have no largest size. Waitress refuses bodies of this length *or more*, hence no round number.
    max_request_body_size = sys.maxsize


def read_options(settings: dict[str, Any]) -> Options:
    """Read and check the options. Raises ValueError for one that is unknown, malformed, or contradicts another."""
    for name, value in settings.items():
        if name not in Options._param_map:
            near = difflib.get_close_matches(name, Options._param_map, n=1)
            raise ValueError(f"unknown server setting {name!r}" + "".join(f", did you mean {n!r}?" for n in near))
        try:
            Options._param_map[name](value)
        except ValueError as error:
            raise ValueError(f"server setting {name} = {value}: {error}") from error
    try:
        options = Options(**settings)
    except ValueError as error:
        where = " ".join(f"{name} = {settings[name]}" for name in ("host", "port", "listen") if name in settings)
        raise ValueError(f"server setting {where}: {error}" if where else str(error)) from error
    if options.channel_request_lookahead > 0:
        raise ValueError("channel_request_lookahead must be 0: no request is read while another one runs")
    return options
