"""``pyrimage-control``: start the servers in the background, stop them, and say how they are."""

import argparse
import contextlib
import signal
import socket
import sys
import time
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

from .. import __version__
from ..errors import ConfigurationError, PyrimageError
from ..server.pidfile import remove_stale
from ..server.serving import address_url
from . import FAILED, INTERRUPTED, OK, replace_closed_streams
from .background import Notifier, launch, say, wait_for
from .daemons import MARGIN_SECONDS, RUN_DIRECTORIES, Daemon, handles_of
from .serve import SECTIONS, server_options, with_hyphens

NOT_RUNNING = 3  # of status, as init scripts have it

ANSWER_SECONDS = 30.0
LAST_LINES = 10  # of a log

EPILOG = f"""\
start hands the server options on and waits until the server answers; if it does not, the end of its log is shown. stop
waits until the server has ended: its transfers get its shutdown_timeout, {MARGIN_SECONDS:.0f} s later it is killed.
restart is both. reload lets a server read its ini again (SIGHUP); what start has started can do so also where the ini
says workers = 0, for it has one worker then (--supervised). The pid file, without --pid-file or pid_file in the ini, is
api.pid or registry.pid in the first of {", ".join(RUN_DIRECTORIES)} that is there and yours to write to. Where no log
file is set, a server's output goes to a file beside its pid file. Exit status: 0 done, 1 not done, 2 wrong command
line, 3 not running (status).
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
    parser.set_defaults(supervised=True)  # else there is no reload
    arguments = parser.parse_intermixed_args(argv)
    if arguments.server == "all" and (arguments.pid_file or arguments.port):
        parser.error("two servers cannot share a --pid-file or a --port: name one server")
    return arguments


def start(daemon: Daemon) -> int:
    """Start a server, and wait until it answers."""
    if daemon.find() is not None:
        say(f"{daemon.program} appears to already be running: {daemon.pid_file}")
        return FAILED
    configuration, path = daemon.prepare()
    if remove_stale(daemon.pid_file):
        say(f"Removing stale pid file {daemon.pid_file}")
    mode = f" (pyrimage.auth = {configuration.settings.auth})" if daemon.server == "api" else ""
    say(f"Starting {daemon.program} with {configuration.ini}{mode}")
    if path == daemon.output:
        because = "--log-config decides what is logged" if daemon.arguments.log_config else "No log file is set"
        say(f"{because}: output goes to {path}")
    with path.open("ab") as output, Notifier() as notifier:
        before = output.tell()
        pid = launch(_command(daemon, configuration.ini, path), output, {"NOTIFY_SOCKET": notifier.name})
        reason = notifier.wait(pid, daemon.program) or _unanswered(pid)
    if reason is None:
        return OK
    other = daemon.find()
    if other is not None and other.pid != pid:  # two starts at once
        say(f"{daemon.program} appears to already be running: {daemon.pid_file}")
        return FAILED
    print(f"ERROR: {daemon.program} {reason}. The end of {path}:", file=sys.stderr)
    with path.open("rb") as log:
        log.seek(before)
        lines = log.read().decode(errors="replace").splitlines()
    lines = lines[-LAST_LINES:] or ["(nothing was written there: was it killed, or is the disk full?)"]
    print(*(f"    {line}" for line in lines), sep="\n", file=sys.stderr)
    return FAILED


def stop(daemon: Daemon) -> int:
    """Stop a server, and wait until it has ended."""
    with daemon.held() as found:
        if found is None:
            say(f"No {daemon.program} running")
            return OK
        process, handle = found
        with contextlib.suppress(psutil.NoSuchProcess, ProcessLookupError):  # it has just ended by itself
            patience = daemon.patience(process)
            with handles_of(process.children()) as workers:
                say(f"Stopping {daemon.program} pid: {process.pid} signal: {signal.SIGTERM:d}")
                signal.pidfd_send_signal(handle, signal.SIGTERM)
                if not wait_for([handle], patience, f"transfers to end, {patience:.0f} s at most"):
                    say(f"Killing {daemon.program} pid: {process.pid} signal: {signal.SIGKILL:d}")
                    for each in (handle, *workers):
                        with contextlib.suppress(ProcessLookupError):
                            signal.pidfd_send_signal(each, signal.SIGKILL)
                    for each in (handle, *workers):
                        wait_for([each], MARGIN_SECONDS, "it to end")
                    remove_stale(daemon.pid_file)
    return OK


def restart(daemon: Daemon) -> int:
    """Stop a server, and start it with a configuration that was looked at before."""
    daemon.prepare()
    return stop(daemon) or start(daemon)


def reload(daemon: Daemon) -> int:
    """Let a server read its ini again."""
    with daemon.held() as found:
        if found is None:
            say(f"No {daemon.program} running")
            return FAILED
        process, handle = found
        if "--supervised" not in process.cmdline() and not process.children():  # it was started by hand, and would end
            raise ConfigurationError(f"{daemon.program} has no workers (see [server:...]): use restart.")
        say(f"Reloading {daemon.program} pid: {process.pid} signal: {signal.SIGHUP:d}")
        signal.pidfd_send_signal(handle, signal.SIGHUP)
    return OK


def status(daemon: Daemon) -> int:
    """Say how a server is."""
    process = daemon.find()
    if process is None:
        say(f"No {daemon.program} running")
        return NOT_RUNNING
    up = timedelta(seconds=int(time.time() - process.create_time()))
    addresses = " ".join(address_url(*each) for each in _listening(process)) or "an address that only its user may see"
    say(f"{daemon.program} runs: pid {process.pid}, up {up}, {addresses}, {_count(process.children())}")
    return OK


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
                    return f"does not answer well on {address_url(family, address)}"
        except OSError as error:
            return f"does not answer on {address_url(family, address)}: {error}"
    return None
