"""What ``[server:main]`` may say: waitress' own options, some with other defaults, and ours beside them."""

import difflib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from waitress.adjustments import Adjustments, _int_marker, _str_marker, aslist

MOST = 10**9  # of whatever


def whole(least: int, most: int = MOST) -> Callable[[Any], int]:
    """Make a reader of whole numbers from ``least`` to ``most``."""

    def read(value: Any) -> int:
        text = str(value).strip()
        if not re.fullmatch("[0-9]{1,10}", text) or not least <= int(text) <= most:
            raise ValueError(f"use a whole number from {least} to {most}")
        return int(text)

    return read


port_number = whole(0, 65535)


def places(value: Any) -> list[str]:
    """Read ``host:port`` words; the system's resolver would take a port above 65535 for another one."""
    found: list[str] = aslist(value)
    if not found:
        raise ValueError("use host:port, or several with blanks between them")
    for place in found:
        _, colon, port = place.rpartition(":")
        if colon and port.isdecimal():  # else the port is left out, or a service's name
            port_number(port)
    return found


def processes(value: Any) -> int:
    """Read a number of workers; ``auto`` is one for each core that this process may use."""
    return len(os.sched_getaffinity(0)) if str(value).strip() == "auto" else whole(0)(value)


def absolute(value: Any) -> str:
    """Read an absolute path: in the background, a server is in another directory."""
    if not Path(value).is_absolute():
        raise ValueError("use an absolute path; %(here)s is the directory of the ini file")
    return str(value)


class Options(Adjustments):
    """The options as attributes. Waitress' documentation explains its own.

    workers: processes that serve; 0 is this one, without a supervisor. upload_threads: in each process, for bodies that
    are streamed; the other requests have ``threads``. upload_timeout: seconds without a byte of a body that is waited
    for. upload_min_rate: bytes/s over half a minute of waiting, 0 for none. shutdown_timeout: seconds that transfers
    have to end in when the server is stopped. worker_timeout: seconds after which a worker whose loop does not answer,
    and which waits for no disk, is killed and replaced; 0 for never. pid_file: names this process, which holds it
    locked. ``inbuf_overflow`` is the length from which on a body is streamed, and ``channel_timeout`` also what a
    header, and a shorter body, may take. connections_per_client: of one address; None is a quarter of
    ``connection_limit``, 0 any number.
    """

    _params = (
        # Waitress gives this one up; with it, "100 Continue" would wait for more to send.
        *(each for each in Adjustments._params if each[0] != "send_bytes"),
        ("port", port_number),
        ("listen", places),
        ("connection_limit", whole(1)),
        ("connections_per_client", whole(0)),
        ("threads", whole(1)),
        ("workers", processes),
        ("upload_threads", whole(1)),
        ("upload_timeout", whole(1)),
        ("upload_min_rate", whole(0)),
        ("shutdown_timeout", whole(0)),
        ("worker_timeout", whole(0)),
        ("pid_file", absolute),
    )
    _param_map: ClassVar = dict(_params)

    workers = 0
    connection_limit = 1000  # waitress' 100 are soon taken, and a quarter of them by one host of many processes
    connections_per_client: int | None = None
    upload_threads = 64
    upload_timeout = 60
    upload_min_rate = 4096
    shutdown_timeout = 60
    worker_timeout = 30
    pid_file: str | None = None

    host = _str_marker("127.0.0.1")  # waitress would serve every network, on 8080
    port = _int_marker(9292)
    listen: Any = (f"{host}:{port}",)  # in an instance: family, type, protocol and address of each place
    ident = "pyrimage"
    asyncore_use_poll = True  # select() breaks at the first file descriptor above 1023
    inbuf_overflow = 65536  # what every connection may make us hold; from there on a body stays with its client
    cleanup_interval = 10  # seconds by which channel_timeout may be late
    recv_bytes = 65536  # the larger, the longer can one client's blank lines or tiny requests keep the loop busy
    # Images have no largest size. Waitress refuses bodies of this length *or more*, hence no round number.
    max_request_body_size = sys.maxsize


def read_options(settings: dict[str, Any]) -> Options:
    """Read and check. Raises ValueError for an option that is unknown, malformed, or contradicts another."""
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
