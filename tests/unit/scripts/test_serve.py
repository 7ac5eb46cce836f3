"""The command lines of pyrimage-api and pyrimage-registry, and what is told of wrong ones. As processes: system/."""

import contextlib
import faulthandler
import http.client
import os
import resource
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from inis import APP, SERVER, URL, Run, loading, read, write
from logged import LOGGERS, logs_below
from pyrimage import __version__
from pyrimage.logs import LogOptions
from pyrimage.scripts import serve
from pyrimage.scripts.serve import main, with_hyphens
from pyrimage.server.options import read_options
from pyrimage.settings import store_directories
from servers.in_process_server import SECONDS
from servers.processes import free_port, wait_until

pytestmark = pytest.mark.usefixtures("loggers_of_its_own")

# The command line


def test_underscores_of_an_option_are_hyphens_and_those_of_a_value_stay() -> None:
    typed = ["--log_date_format=%Y_%m", "a_b.ini", "--log_file", "x_y"]
    assert with_hyphens(typed) == ["--log-date-format=%Y_%m", "a_b.ini", "--log-file", "x_y"]


OPTIONS = {
    "--log-config": "log.conf",
    "--log-format": "%(message)s",
    "--log-file": "a_b.log",
    "--log-dir": "log",
    "--log-date-format": "%H_%M",
    "--pid-file": "api.pid",
    "--host": "127.0.0.2",
    "--port": "7",
    "--shutdown-timeout": "8",
}


@pytest.mark.parametrize("spell", [lambda name: name, lambda name: f"--{name[2:].replace('-', '_')}"])
def test_all_options_are_taken_in_both_spellings(spell: Callable[[str], str], ini: Path) -> None:
    typed = [word for name, value in OPTIONS.items() for word in (spell(name), value)]
    found = read(ini, *typed, "--debug", "--verbose")
    assert found.log_options == LogOptions(
        log_config=ini.with_name("log.conf"),
        log_format="%(message)s",
        log_file="a_b.log",
        log_dir=ini.with_name("log"),
        log_date_format="%H_%M",
        verbose=True,
        debug=True,
    )
    assert found.context.local_conf == {
        "listen": "127.0.0.2:7",
        "shutdown_timeout": "8",
        "pid_file": str(ini.with_name("api.pid")),
    }


def test_without_options_the_ini_is_in_force(ini: Path) -> None:
    write(ini, server="listen = 127.0.0.1:7\nshutdown_timeout = 9\npid_file = /run/x.pid")
    found = read(ini)
    assert found.log_options == LogOptions()
    expected = {"listen": "127.0.0.1:7", "shutdown_timeout": "9", "pid_file": "/run/x.pid"}
    assert found.context.local_conf == expected
    assert read(ini, "--shutdown-timeout", "0", "--pid-file", "/x").context.local_conf == {
        **expected,
        "shutdown_timeout": "0",
        "pid_file": "/x",
    }


@pytest.mark.parametrize(
    "argv",
    [["--log-f", "x"], ["--deb"], ["--unknown"], ["a.ini", "b.ini"], ["--port"], ["-d"], ["--debug=yes"]],
    ids=" ".join,
)
def test_a_wrong_command_line_is_status_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main("api", argv)
    assert caught.value.code == 2
    assert "usage: pyrimage-api" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_a_program_tells_what_it_is(
    option: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["pyrimage-registry", option])
    with pytest.raises(SystemExit) as caught:
        serve.registry()
    assert caught.value.code == 0
    said = " ".join(capsys.readouterr().out.split())
    if option == "--version":
        assert said == f"pyrimage {__version__}"
    else:
        assert said.startswith("usage: pyrimage-registry ")
        for word in (*OPTIONS, "--debug", "--verbose", "%(asctime)s %(levelname)8s", "%Y-%m-%d %H:%M:%S"):
            assert word in said


# Which ini


def test_without_any_ini_the_guides_words_are_printed(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    words = "Unable to locate any configuration file. Cannot load application pyrimage-registry"
    assert run(server="registry") == (1, "", f"ERROR: {words}\n")


def test_a_relative_path_is_that_from_where_the_program_was_started(ini: Path) -> None:
    assert read(Path("pyrimage.ini")).ini == ini


def test_each_server_has_sections_of_its_own(ini: Path, tmp_path: Path) -> None:
    registry = f"[app:registry]\nuse = main\npyrimage.application = registry\n[server:registry]\n{SERVER}port = 9191"
    write(ini, more=registry, server="port = 9292")
    found = [read(ini, server=server) for server in ("api", "registry")]
    assert [each.settings.application for each in found] == ["api", "registry"]
    assert [each.context.local_conf for each in found] == [{"port": "9292"}, {"port": "9191"}]
    assert [store_directories(each.settings) for each in found] == [[tmp_path / "images"]] * len(found)


# Where to listen

LOCAL, OTHER, SIX = "127.0.0.1", "127.0.0.2", "::1"
PLACES = {
    "nothing": ("", (), [(LOCAL, 9292)]),
    "port": ("", ("--port", "7"), [(LOCAL, 7)]),
    "host": ("", ("--host", OTHER), [(OTHER, 9292)]),
    "port for both": (f"host = {OTHER}\nport = 8", ("--port", "7"), [(OTHER, 7)]),
    "host for a port": ("port = 8", ("--host", OTHER), [(OTHER, 8)]),
    "port for a place without": (f"listen = {OTHER}", ("--port", "7"), [(OTHER, 7)]),
    "host for a place without": (f"listen = {LOCAL}", ("--host", OTHER), [(OTHER, 9292)]),
    "host for two": (f"listen = {LOCAL}:8 {LOCAL}:9", ("--host", OTHER), [(OTHER, 8), (OTHER, 9)]),
    "two become one": (f"listen = {LOCAL}:8 {LOCAL}:9", ("--port", "7"), [(LOCAL, 7)]),
    "port for a socket": ("unix_socket = x.sock\nunix_socket_perms = 660", ("--port", "7"), [(LOCAL, 7)]),
    "port for IPv6 without": ("listen = [::1]", ("--port", "7"), [(SIX, 7)]),
    "port for an IPv6 host alone": ("host = ::1", ("--port", "7"), [(SIX, 7)]),
    "port for an IPv6 host in brackets": ("host = [::1]\nport = 8", ("--port", "7"), [(SIX, 7)]),
    "host for IPv6": ("listen = [::1]:8", ("--host", OTHER), [(OTHER, 8)]),
    "IPv6 host": (f"listen = {LOCAL}:8", ("--host", SIX), [(SIX, 8)]),
    "IPv6 host in brackets and port": (f"listen = {LOCAL}:8", ("--host", "[::1]", "--port", "7"), [(SIX, 7)]),
}


@pytest.mark.parametrize(("server", "argv", "places"), PLACES.values(), ids=PLACES)
def test_host_and_port_replace_their_half_of_every_place(
    server: str, argv: tuple[str, ...], places: list[tuple[str, int]], ini: Path
) -> None:
    options = read_options(read(write(ini, server=server), *argv).context.local_conf)
    assert not options.unix_socket
    assert [address[:2] for _, _, _, address in options.listen] == places


def test_a_socket_of_the_ini_is_kept_where_no_address_is_given(ini: Path) -> None:
    write(ini, server="unix_socket = x.sock")
    assert read(ini, "--shutdown-timeout", "7").context.local_conf == {"unix_socket": "x.sock", "shutdown_timeout": "7"}


SUPERVISED = {
    "none in the ini": ("", ("--supervised",), 1),
    "0 in the ini": ("workers = 0", ("--supervised",), 1),
    "000 in the ini": ("workers = 000", ("--supervised",), 1),
    "some in the ini": ("workers = 3", ("--supervised",), 3),
    "0, and nobody asks": ("workers = 0", (), 0),
}


@pytest.mark.parametrize(("server", "argv", "workers"), SUPERVISED.values(), ids=SUPERVISED)
def test_a_supervised_server_has_a_worker(server: str, argv: tuple[str, ...], workers: int, ini: Path) -> None:
    assert read_options(read(write(ini, server=server), *argv).context.local_conf).workers == workers


def test_a_number_of_workers_that_is_none_is_told_of_a_supervised_server_too(ini: Path) -> None:
    with pytest.raises(ValueError, match="server setting workers = -0: use"):
        read_options(read(write(ini, server="workers = -0"), "--supervised").context.local_conf)


# Wrong values, and places that are taken


@pytest.mark.parametrize(
    ("argv", "says"),
    [
        (("--port", "65536"), "--port 65536: use a number below 65536."),
        (("--shutdown-timeout", "-1"), "shutdown_timeout = -1: use a whole number"),
        (("--log-file", "/no/such/x.log"), "/no/such/x.log cannot be opened: No such file or directory."),
        (("--log-format", "%(asctime"), "log_format = %(asctime: "),
        (("--pid-file", "/no/such/x.pid"), "/no/such/x.pid"),
        (("--pid-file", "pyrimage.ini"), "pyrimage.ini is not a pid file"),
    ],
    ids=str,
)
def test_a_wrong_value_of_an_option_is_told(argv: tuple[str, ...], says: str, ini: Path, run: Run) -> None:
    before = ini.read_bytes()
    assert says in run(ini, *argv).error
    assert ini.read_bytes() == before


def test_a_place_that_is_taken_is_told(ini: Path, run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"http://127.0.0.1:{port}: Address already in use" in run(ini, "--port", port).error


# What is told while the application is loaded, when the place is taken already

UNEXPECTED = {
    "a part that is not there": f"{URL}pyramid.includes = nothere",
    "a setting that SQLAlchemy does not know": f"{URL}sqlalchemy.nope = 1",
    "a driver that is not there": "sqlalchemy.url = nothere://",
    "no database": "",
    "a setting without its prefix": f"{URL}image_size_cap = 3",
}


@loading
@pytest.mark.parametrize("lines", UNEXPECTED.values(), ids=UNEXPECTED)
def test_whatever_keeps_the_application_from_loading_is_one_line(lines: str, ini: Path, run: Run) -> None:
    assert run(write(ini, APP + lines), "--port", free_port()).error


@loading
def test_whatever_keeps_it_from_loading_is_shown_whole_by_debug(ini: Path, run: Run) -> None:
    said = run(write(ini, f"{APP}{URL}sqlalchemy.nope = 1"), "--port", free_port(), "--debug")
    assert "nope" in said.error
    assert "Traceback (most recent call last)" in said.output


@loading
def test_ctrl_c_before_the_server_serves_ends_it(ini: Path, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    module = ini.with_name("interrupted_by_a_test.py")
    module.write_text("def app(conf, **settings):\n    raise KeyboardInterrupt\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(ini.parent))
    write(ini, APP.replace("egg:pyrimage", "call:interrupted_by_a_test:app") + URL)
    assert run(ini, "--port", free_port()) == (130, "", "")


# Serving


@pytest.fixture
def as_a_process() -> Iterator[None]:
    """Undo what a server does to its process."""
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    numbers = (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGALRM)
    handlers = {number: signal.getsignal(number) for number in numbers}
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)  # it was to end the process, should that not do so by itself
    faulthandler.cancel_dump_traceback_later()
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    for number, handler in handlers.items():
        signal.signal(number, handler)


def is_served(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=SECONDS)
    with contextlib.suppress(ConnectionError), contextlib.closing(connection):
        connection.request("GET", "/healthcheck")
        return connection.getresponse().status == 200
    return False


@pytest.mark.usefixtures("as_a_process")
@pytest.mark.parametrize("server", ["api", "registry"])
def test_a_server_serves_until_it_is_stopped(server: str, ini: Path, run: Run) -> None:
    registry = f"[app:registry]\nuse = main\npyrimage.application = registry\n[server:registry]\n{SERVER}"
    write(ini, more=registry + LOGGERS)
    port, found = free_port(), []

    def stop() -> None:
        with contextlib.suppress(AssertionError):
            wait_until(lambda: is_served(port), SECONDS)
            found.append(port)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=stop)
    signal.signal(signal.SIGTERM, lambda *_: None)  # until the server has its own
    thread.start()
    said = run(ini, "--port", port, "--log-dir", ini.parent, "--verbose", server=server)
    thread.join()
    assert (said, found) == ((0, "", ""), [port])
    lines = logs_below(ini.parent)[f"{server}.log"]
    assert any(line.endswith(f"[waitress] Serving on http://127.0.0.1:{port}") for line in lines)
    assert not [line for line in lines if "pyrimage.auth" in line]
