"""A start of ``pyrimage-api`` that fails: why, in one line."""

import socket
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from servers.controlled import Said
from servers.programs import Programs

pytestmark = pytest.mark.system


@dataclass(frozen=True)
class Fault:
    """What is wrong, and what is said of it: exactly one line on standard error, with exit status 1."""

    said: str
    make: Callable[[Programs], Any] = lambda _: None
    options: tuple[str, ...] = ()


def configure(section: str, **settings: str) -> Callable[[Programs], None]:
    return lambda place: place.configure(section, settings)


def main_key(key: str, text: str) -> Callable[[Programs], None]:
    return lambda place: place.configure("app:main", {key: text})


def append(data: bytes) -> Callable[[Programs], Any]:
    return lambda place: place.ini.write_bytes(place.ini.read_bytes() + data)


def make_directory(place: Programs) -> None:
    place.ini.unlink()
    place.ini.mkdir()


FAULTS = {
    "missing": Fault("{ini} cannot be read: No such file or directory.", lambda place: place.ini.unlink()),
    "directory": Fault("{ini} cannot be read: Is a directory.", make_directory),
    "not utf-8": Fault("{ini}: 'utf-8' codec can't decode byte 0xff", append(b"# \xff\n")),
    "no section": Fault("{ini}: No section 'main'", lambda place: place.ini.write_text("[x]\n")),
    "unknown key": Fault("Unknown setting pyrimage.atuh; did you mean pyrimage.auth?", main_key("pyrimage.atuh", "x")),
    "percent": Fault("{ini}: sqlalchemy.url: a literal % is written %%", main_key("sqlalchemy.url", "sqlite:///%x")),
    "server setting": Fault(
        "unknown server setting 'wrkers', did you mean 'workers'?", configure("server:main", wrkers="1")
    ),
    "log dir": Fault(
        "The log file /nowhere/api.log cannot be opened: No such", main_key("pyrimage.log_dir", "/nowhere")
    ),
    "log file": Fault("pyrimage.log_file = x.log: use an absolute path", main_key("pyrimage.log_file", "x.log")),
    "log format": Fault("log_format = %(nothing)s: ", options=("--log-format", "%(nothing)s")),
    "log config": Fault("--log-config: {directory}/x is not a file.", options=("--log-config", "x")),
    "pid file": Fault("", options=("--pid-file", "/nowhere/x.pid")),
    "timeout": Fault(
        "server setting shutdown_timeout = soon: use a whole number", options=("--shutdown-timeout=soon",)
    ),
    "port": Fault("", options=("--port=70000",)),
    "database url": Fault("sqlalchemy.url", main_key("sqlalchemy.url", "no-url")),
    "schema": Fault("The database's schema is of revision None", main_key("pyrimage.auto_migrate", "false")),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_start_that_fails_says_why_in_one_line(place: Programs, fault: Fault) -> None:
    fault.make(place)
    said = place.run("pyrimage-api", place.ini, *fault.options)
    told = fault.said.format(ini=place.ini, directory=place.directory)
    assert (said.status, said.out) == (1, "")
    assert said.err.startswith(f"ERROR: {told}"), said.err
    assert len(said.err.splitlines()) == 1


def test_a_line_that_is_no_setting_is_found_and_not_shown_s44(place: Programs) -> None:
    """S44: it may be half a password."""
    for text in ("pyrimage.registry_secret hunter2-hunter2\n", "[app:main\n"):
        place.ini.write_text(f"[app:main]\n{text}sqlalchemy.url = hunter2\n", encoding="utf-8")
        said = place.run("pyrimage-api", place.ini)
        assert (said.status, said.out) == (1, "")
        assert said.err.startswith(f"ERROR: {place.ini}: ")
        assert len(said.err.splitlines()) == 1
        assert "hunter2" not in said.err


def test_a_busy_port_is_named(place: Programs) -> None:
    with closing(socket.create_server(("127.0.0.1", place.port))):
        said = place.run("pyrimage-api", place.ini, "--pid-file", "x.pid")
    assert said.status == 1
    assert said.err.endswith(f"cannot listen on http://127.0.0.1:{place.port}: Address already in use\n")
    assert not (place.directory / "x.pid").exists()


def test_wrong_options_are_a_wrong_command_line(place: Programs) -> None:
    said: list[Said] = [place.run("pyrimage-api", *options) for options in (["--nothing"], ["a", "b"])]
    assert [each.status for each in said] == [2, 2]
    assert all("pyrimage-api: error: unrecognized arguments" in each.err for each in said)
