"""What may stand in [server:main], and what stands there if nothing does."""

import os
import re
from typing import Any

import pytest
from waitress.adjustments import Adjustments

from pyrimage.server.factory import server_factory
from pyrimage.server.options import Options, read_options

OURS = {
    "connections_per_client": None,
    "pid_file": None,
    "relay_threads": 64,
    "shutdown_timeout": 60,
    "upload_min_rate": 4096,
    "upload_threads": 64,
    "upload_timeout": 60,
    "worker_timeout": 30,
    "workers": 0,
}
WRONG = {
    "unknown server setting 'treads', did you mean 'threads'?": {"treads": "4"},
    "unknown server setting '_start'": {"_start": "no"},
    "unknown server setting 'send_bytes'": {"send_bytes": "18000"},
    "channel_request_lookahead must be 0": {"channel_request_lookahead": "1"},
    "host or port may not be set if listen is set": {"listen": "localhost:1", "port": "1"},
    "server setting port = 65536: use a whole number from 0 to 65535": {"port": "65536"},
    "server setting listen = 127.0.0.1:7 127.0.0.1:65544: use": {"listen": "127.0.0.1:7 127.0.0.1:65544"},
    "server setting listen = [::1]:65544: use": {"listen": "[::1]:65544"},
    "server setting listen = nosuch.invalid:7: Invalid host/port": {"listen": "nosuch.invalid:7", "threads": "7"},
    "server setting listen = : use host:port": {"listen": ""},
    "server setting connection_limit = 0: use a whole number from 1": {"connection_limit": "0"},
    "server setting connections_per_client = -1: use a whole number from 0": {"connections_per_client": "-1"},
    "server setting pid_file = api.pid: use an absolute path": {"pid_file": "api.pid"},
    "server setting threads = 0: use a whole number from 1": {"threads": "0"},
    "server setting workers = -1: use a whole number from 0": {"workers": "-1"},
    "server setting workers = many: use": {"workers": "many"},
    "server setting relay_threads = 0: use a whole number from 1": {"relay_threads": "0"},
    "server setting upload_threads = 0: use a whole number from 1": {"upload_threads": "0"},
    "server setting upload_timeout = 0: use a whole number from 1": {"upload_timeout": "0"},
    "server setting upload_timeout = 10000000000: use": {"upload_timeout": "10000000000"},
    "server setting upload_min_rate = 1.5: use a whole number from 0": {"upload_min_rate": "1.5"},
    "server setting worker_timeout = -1: use a whole number from 0": {"worker_timeout": "-1"},
    "server setting shutdown_timeout = \u0665: use a whole number from 0": {"shutdown_timeout": "\u0665"},
}


@pytest.mark.parametrize(("text", "settings"), WRONG.items(), ids=WRONG)
def test_a_wrong_setting_is_told_before_the_application_is_loaded(text: str, settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        server_factory({}, **settings)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        *((name, " 7 ", 7) for name in OURS if name != "pid_file"),
        ("workers", " auto ", len(os.sched_getaffinity(0))),
        ("pid_file", "/run/x.pid", "/run/x.pid"),
        ("recv_bytes", "4096", 4096),
    ],
)
def test_a_setting_is_taken(name: str, text: str, value: Any) -> None:
    assert getattr(read_options({name: text}), name) == value


LISTEN: list[tuple[dict[str, str], list[tuple[str, int]]]] = [
    ({}, [("127.0.0.1", 9292)]),  # only this machine
    ({"host": "127.0.0.1", "port": "7"}, [("127.0.0.1", 7)]),
    ({"listen": "127.0.0.1:7"}, [("127.0.0.1", 7)]),
    ({"port": "7"}, [("127.0.0.1", 7)]),
    ({"listen": "[::1] 127.0.0.1"}, [("::1", 9292), ("127.0.0.1", 9292)]),
]


@pytest.mark.parametrize(("settings", "addresses"), LISTEN)
def test_the_addresses_in_the_ini_are_served(settings: dict[str, str], addresses: list[tuple[str, int]]) -> None:
    assert sorted(address[:2] for _, _, _, address in read_options(settings).listen) == sorted(addresses)


def test_defaults_are_for_an_image_service() -> None:
    options = read_options({})
    assert {name: getattr(options, name) for name in OURS} == OURS
    assert (options.connection_limit, options.inbuf_overflow, options.recv_bytes) == (1000, 65536, 65536)
    assert (options.ident, options.asyncore_use_poll, options.cleanup_interval) == ("pyrimage", True, 10)
    assert options.max_request_body_size > 2**62


def test_what_is_ours_is_unknown_to_waitress() -> None:
    """Else its next release has an option of that name, with a meaning of its own."""
    known: dict[str, Any] = Adjustments._param_map
    assert Options._param_map.keys() - known.keys() == OURS.keys()
    assert known.keys() - Options._param_map.keys() == {"send_bytes"}
