"""What may stand in [server:main], and what stands there if nothing does."""

import os
import re
from typing import Any

import pytest
from waitress.adjustments import Adjustments

from pyrimage.server.factory import server_factory
from pyrimage.server.options import Options, read_options

OURS = {
    "workers",
    "connections_per_client",
    "upload_threads",
    "upload_timeout",
    "upload_min_rate",
    "shutdown_timeout",
    "pid_file",
    "worker_timeout",
}
WRONG = {
    "unknown server setting 'treads', did you mean 'threads'?": {"treads": "4"},
    "unknown server setting 'upload_time', did you mean 'upload_timeout'?": {"upload_time": "4"},
    "unknown server setting '_start'": {"_start": "no"},
    "server setting upload_timeout = 10000000000: use": {"upload_timeout": "10000000000"},
    "unknown server setting 'send_bytes'": {"send_bytes": "18000"},
    "channel_request_lookahead must be 0": {"channel_request_lookahead": "1"},
    "host or port may not be set if listen is set": {"listen": "localhost:1", "port": "1"},
    "server setting port = x: use a whole number from 0 to 65535": {"port": "x"},
    "server setting port = 65536: use": {"port": "65536"},
    "server setting listen = 127.0.0.1:7 127.0.0.1:65544: use": {"listen": "127.0.0.1:7 127.0.0.1:65544"},
    "server setting listen = [::1]:65544: use": {"listen": "[::1]:65544"},
    "server setting listen = nosuch.invalid:7: Invalid host/port": {"listen": "nosuch.invalid:7", "threads": "7"},
    "server setting listen = : use host:port": {"listen": ""},
    "server setting connection_limit = 0: use": {"connection_limit": "0"},
    "server setting connections_per_client = -1: use": {"connections_per_client": "-1"},
    "server setting pid_file = api.pid: use an absolute path": {"pid_file": "api.pid"},
    "server setting threads = 0: use a whole number from 1": {"threads": "0"},
    "server setting workers = -1: use a whole number from 0": {"workers": "-1"},
    "server setting workers = many: use": {"workers": "many"},
    "server setting upload_threads = 0: use a whole number from 1": {"upload_threads": "0"},
    "server setting upload_timeout = 0: use a whole number from 1": {"upload_timeout": "0"},
    "server setting upload_min_rate = 1.5: use a whole number from 0": {"upload_min_rate": "1.5"},
    "server setting worker_timeout = -1: use a whole number from 0": {"worker_timeout": "-1"},
    "server setting shutdown_timeout = \u0665: use": {"shutdown_timeout": "\u0665"},
}


@pytest.mark.parametrize(("text", "settings"), WRONG.items(), ids=WRONG)
def test_a_wrong_setting_is_told_before_the_application_is_loaded(text: str, settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        server_factory({}, **settings)


@pytest.mark.parametrize("name", sorted(OURS - {"workers", "pid_file"}))
def test_a_whole_number_is_taken(name: str) -> None:
    assert getattr(read_options({name: " 7 "}), name) == 7


@pytest.mark.parametrize(("text", "number"), [("0", 0), ("3", 3), (" auto ", len(os.sched_getaffinity(0)))])
def test_workers_are_counted_or_one_for_each_core(text: str, number: int) -> None:
    assert read_options({"workers": text}).workers == number


@pytest.mark.parametrize(("settings", "path"), [({}, None), ({"pid_file": "/run/x.pid"}, "/run/x.pid")])
def test_a_pid_file_is_a_path_or_none(settings: dict[str, str], path: str | None) -> None:
    assert read_options(settings).pid_file == path


def test_without_a_place_in_the_ini_only_this_machine_is_served() -> None:
    assert [address for _, _, _, address in read_options({}).listen] == [("127.0.0.1", 9292)]


@pytest.mark.parametrize("settings", [{"host": "127.0.0.1", "port": "7"}, {"listen": "127.0.0.1:7"}, {"port": "7"}])
def test_a_place_in_the_ini_is_the_one_served(settings: dict[str, str]) -> None:
    assert [address for _, _, _, address in read_options(settings).listen] == [("127.0.0.1", 7)]


def test_a_port_may_be_left_out() -> None:
    assert {address[:2] for _, _, _, address in read_options({"listen": "[::1] 127.0.0.1"}).listen} == {
        ("::1", 9292),
        ("127.0.0.1", 9292),
    }


def test_waitress_own_options_are_there_with_our_defaults() -> None:
    options = read_options({"recv_bytes": "4096", "connection_limit": "7"})
    assert (options.recv_bytes, options.connection_limit, options.ident) == (4096, 7, "pyrimage")
    assert (options.asyncore_use_poll, options.max_request_body_size > 2**62) == (True, True)


def test_what_is_ours_is_unknown_to_waitress() -> None:
    """Else its next release has an option of that name, with a meaning of its own."""
    known: dict[str, Any] = Adjustments._param_map
    assert Options._param_map.keys() - known.keys() == OURS
    assert known.keys() - Options._param_map.keys() == {"send_bytes"}
