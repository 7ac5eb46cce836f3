"""``pyrimage-control``: start the servers in the background, stop them, and say how they are."""

import argparse
import contextlib
import os
import signal
import socket
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from .. import __version__
from ..errors import ConfigurationError, PyrimageError
from ..logs import log_file, make_formatter
from ..server.factory import server_factory
from ..server.options import Options, read_options
from ..server.pidfile import NotOurs, holder, remove_stale
from ..server.serving import place
from . import FAILED, INTERRUPTED, OK, replace_closed_streams
from .background import UMASK, Notifier, launch, wait_for
from .serve import SECTIONS, Configuration, server_options, with_hyphens

NOT_RUNNING = 3  # of status, as init scripts have it

RUN_DIRECTORIES = ("/run/pyrimage", "~/.pyrimage/run")  # the last is made if it is not there
MARGIN_SECONDS = 15.0  # that a server gets beyond its shutdown_timeout, before it is killed
ANSWER_SECONDS = 30.0
LAST_LINES = 10  # of a log

EPILOG = f"""\
start hands the server options on and waits until the server answers; if it does not, the end of its log is shown. stop
waits until the server has ended: its transfers get its shutdown_timeout, {MARGIN_SECONDS:.0f} s later it is killed.
restart is both. reload lets a server that has workers read its ini again (SIGHUP). The pid file, without --pid-file or
pid_file in the ini, is api.pid or registry.pid in the first of {", ".join(RUN_DIRECTORIES)} that is there and
yours to write to. Where no log file is set, a server's output goes to a file beside its pid file. Exit status: 0 done,
1 not done, 2 wrong command line, 3 not running (status).
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command for one server or for both; return the exit status."""
    replace_closed_streams()
    arguments = _parse(with_hyphens(sys.argv[1:] if argv is None else argv))
    codes = []
    for server in SECTIONS if arguments.server == "all" else [arguments.server]:
        try:
            codes.append(COMMANDS[arguments.command](Daemon(server, arguments)))
        except (PyrimageError, OSError, psutil.Error) as error:
            print(f"ERROR: {error}", file=sys.stderr)
            codes.append(FAILED)
        except KeyboardInterrupt:
            return INTERRUPTED
    return max(codes)


def _parse(argv: Sequence[str]) -> argparse.Namespace:
    words = argparse.ArgumentParser(add_help=False)
    words.add_argument("server", choices=(*SECTIONS, "all"))
    words.add_argument("command", choices=COMMANDS)
    parser = argparse.ArgumentParser(
        prog="pyrimage-control",
        description="Start the servers in the background, stop them, and say how they are. all: API and registry.",
        parents=[words, server_options()],
        epilog=EPILOG,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"pyrimage {__version__}")
    arguments = parser.parse_intermixed_args(argv)
    if arguments.server == "all" and (arguments.pid_file or arguments.port):
        parser.error("two servers cannot share a --pid-file or a --port: name one server")
    return arguments


class Daemon:
    """A server that runs, or will run, in the background; its pid file says which process it is.

    Raises ConfigurationError, if the pid file can be nowhere.
    """

    def __init__(self, server: str, arguments: argparse.Namespace) -> None:
        self.server, self.arguments, self.program = server, arguments, f"pyrimage-{server}"
        self.pid_file = arguments.pid_file or self._in_ini() or self._in_run_directory()
        self.output = self.pid_file.with_name(f"{self.pid_file.name.removesuffix('.pid')}.log")

    @cached_property
    def configuration(self) -> Configuration:
        """What the arguments name. Raises ConfigurationError."""
        return Configuration.read(self.server, self.arguments)

    def _in_ini(self) -> Path | None:
        try:
            text = self.configuration.context.local_conf.get("pid_file")
        except PyrimageError as error:  # a server is stopped without, and none is started
            if self.arguments.config and self.arguments.command not in STARTING:
                print(f"{error} The pid file is sought without it.", file=sys.stderr)
            return None
        return Path(text) if text else None

    def _in_run_directory(self) -> Path:
        """Find the pid file of a server that runs, or a place for it. Raises OSError if others' may run."""
        pid_files = [Path(each).expanduser() / f"{self.server}.pid" for each in RUN_DIRECTORIES]
        hidden = None
        for found in pid_files:
            try:
                if holder(found) is not None:
                    return found
            except OSError as error:  # a directory of others
                hidden = error
        if hidden is not None and self.arguments.command != "start":
            raise hidden
        if self.arguments.command not in STARTING:
            return pid_files[-1]
        with contextlib.suppress(OSError):
            pid_files[-1].parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for found in pid_files:
            with contextlib.suppress(OSError):
                # In one of another user's, root would write wherever that user's links point.
                if found.parent.stat().st_uid == os.geteuid() and os.access(found.parent, os.W_OK):
                    return found
        raise ConfigurationError(
            f"None of {', '.join(RUN_DIRECTORIES)} is yours to write to: make one, or use --pid-file."
        )

    def prepare(self) -> tuple[Configuration, Path]:
        """Return what a start takes: the configuration, and where the output goes. Raises ConfigurationError."""
        configuration = self.configuration
        if configuration.context.object is not server_factory:
            raise ConfigurationError(f"{configuration.ini}: only egg:pyrimage#server can be kept in the background.")
        named = log_file(self.server, configuration.settings, configuration.log_options)
        path = named if named and not self.arguments.log_config else self.output
        os.umask(UMASK)
        make_formatter(configuration.settings, configuration.log_options)
        try:
            read_options(configuration.context.local_conf)
            path.open("ab").close()
        except ValueError as error:
            raise ConfigurationError(f"{configuration.ini}: {error}") from error
        except OSError as error:
            raise ConfigurationError(f"The log file {path} cannot be opened: {error.strerror}.") from error
        return configuration, path

    def find(self) -> psutil.Process | None:
        """Return the process that holds the pid file, or None. Raises NotOurs if it is another program's."""
        pid = holder(self.pid_file)
        if pid is None:
            return None
        try:
            process = psutil.Process(pid)
            command = process.cmdline()
        except psutil.Error as error:
            raise NotOurs(f"{self.pid_file} is held by a process that cannot be seen from here: {error}") from error
        if not any(Path(each).name == self.program for each in command[:2]):  # after that of Python
            raise NotOurs(f"{self.pid_file} is held by another program, {process.name()} with pid {pid}")
        return process

    def patience(self, process: psutil.Process) -> float:
        """Return the seconds that a server may take to end: by its own command line, which this one need not repeat."""
        given, _ = server_options().parse_known_args(with_hyphens(process.cmdline()[2:]))
        text = given.shutdown_timeout or ""
        with contextlib.suppress(PyrimageError):
            text = Configuration.read(self.server, given).context.local_conf.get("shutdown_timeout", "")
        return (int(text) if text.isdecimal() else Options.shutdown_timeout) + MARGIN_SECONDS


def start(daemon: Daemon) -> int:
    """Start a server, and wait until it answers."""
    configuration, path = daemon.prepare()
    if daemon.find() is not None:
        print(f"{daemon.program} appears to already be running: {daemon.pid_file}")
        return FAILED
    if remove_stale(daemon.pid_file):
        print(f"Removing stale pid file {daemon.pid_file}")
    print(f"Starting {daemon.program} with {configuration.ini}", flush=True)
    if path == daemon.output:
        because = "--log-config decides what is logged" if daemon.arguments.log_config else "No log file is set"
        print(f"{because}: output goes to {path}", flush=True)
    with path.open("ab") as output, Notifier() as notifier:
        before = output.tell()
        pid = launch(_command(daemon, configuration.ini, path), output, {"NOTIFY_SOCKET": notifier.name})
        reason = notifier.wait(pid, daemon.program) or _unanswered(pid)
    if reason is None:
        return OK
    other = daemon.find()
    if other is not None and other.pid != pid:  # two starts at once
        print(f"{daemon.program} appears to already be running: {daemon.pid_file}")
        return FAILED
    print(f"ERROR: {daemon.program} {reason}. The end of {path}:", file=sys.stderr)
    with path.open("rb") as log:
        log.seek(before)
        lines = log.read().decode(errors="replace").splitlines()
    print(*(f"    {line}" for line in lines[-LAST_LINES:]), sep="\n", file=sys.stderr)
    return FAILED


def stop(daemon: Daemon) -> int:
    """Stop a server, and wait until it has ended."""
    process = daemon.find()
    if process is None:
        print(f"No {daemon.program} running")
        return OK
    with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):  # it has just ended by itself
        workers = process.children()
        handle = os.pidfd_open(process.pid)
        if daemon.find() != process:  # else the handle is of nobody else
            os.close(handle)
            return stop(daemon)
        patience = daemon.patience(process)
        print(f"Stopping {daemon.program} pid: {process.pid} signal: {signal.SIGTERM:d}", flush=True)
        signal.pidfd_send_signal(handle, signal.SIGTERM)
        if not wait_for([handle], patience, f"transfers to end, {patience:.0f} s at most"):
            print(f"Killing {daemon.program} pid: {process.pid} signal: {signal.SIGKILL:d}", flush=True)
            signal.pidfd_send_signal(handle, signal.SIGKILL)
            for worker in workers:
                with contextlib.suppress(psutil.NoSuchProcess):
                    worker.kill()
            wait_for([handle], MARGIN_SECONDS, "it to end")
            psutil.wait_procs(workers, MARGIN_SECONDS)
            remove_stale(daemon.pid_file)
        os.close(handle)
    return OK


def restart(daemon: Daemon) -> int:
    """Stop a server, and start it with a configuration that was looked at before."""
    daemon.prepare()
    return stop(daemon) or start(daemon)


def reload(daemon: Daemon) -> int:
    """Let a server read its ini again."""
    process = daemon.find()
    if process is None:
        print(f"No {daemon.program} running")
        return FAILED
    if not process.children():
        raise ConfigurationError(f"{daemon.program} has no workers (see [server:...]): use restart.")
    print(f"Reloading {daemon.program} pid: {process.pid} signal: {signal.SIGHUP:d}")
    process.send_signal(signal.SIGHUP)
    return OK


def status(daemon: Daemon) -> int:
    """Say how a server is."""
    process = daemon.find()
    if process is None:
        print(f"No {daemon.program} running")
        return NOT_RUNNING
    up = timedelta(seconds=int(time.time() - process.create_time()))
    addresses = " ".join(place(*each) for each in _listening(process)) or "an address that only its user may see"
    print(f"{daemon.program} runs: pid {process.pid}, up {up}, {addresses}, {_count(process.children())}")
    return OK


STARTING = ("start", "restart")
COMMANDS = {"start": start, "stop": stop, "restart": restart, "reload": reload, "status": status}


def _command(daemon: Daemon, ini: Path, log_path: Path) -> list[str]:
    """Return the server's command line: ours, with absolute paths."""
    program = Path(sys.argv[0]).resolve().with_name(daemon.program)
    given = {**vars(daemon.arguments), "pid_file": daemon.pid_file}
    if given["log_file"]:
        given["log_file"] = log_path
    options = []
    for name, value in given.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            options.append(option)
        elif value and name not in ("server", "command", "config"):
            options.append(f"{option}={value}")
    return [sys.executable, str(program), str(ini), *options]


def _count(workers: Sequence[psutil.Process]) -> str:
    return f"{len(workers) or 'no'} worker{'' if len(workers) == 1 else 's'}"


def _listening(process: psutil.Process) -> list[tuple[int, Any]]:
    """Return family and address of each place where a process listens."""
    with contextlib.suppress(psutil.AccessDenied):
        found = [
            (each.family, each.laddr)
            for each in process.net_connections(kind="all")
            if each.laddr and (each.status == psutil.CONN_LISTEN or each.family == socket.AF_UNIX)
        ]
        return list(dict.fromkeys(found))  # a connection to a unix socket has its address
    return []


def _unanswered(pid: int) -> str | None:
    """Ask a server everywhere where it listens; return None, or what is wrong."""
    for family, address in _listening(psutil.Process(pid)):
        try:
            with socket.socket(family) as client:
                client.settimeout(ANSWER_SECONDS)
                client.connect(address)
                client.sendall(b"GET /healthcheck HTTP/1.0\r\nHost: localhost\r\n\r\n")
                if b" 200 " not in client.recv(64):
                    return f"does not answer well on {place(family, address)}"
        except OSError as error:
            return f"does not answer on {place(family, address)}: {error}"
    return None
