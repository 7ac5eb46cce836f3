"""The servers that run in the background, and which process is which."""

import argparse
import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

import psutil

from ..errors import ConfigurationError
from ..logs import log_file, make_formatter
from ..server.factory import server_factory
from ..server.options import Options, read_options
from ..server.pidfile import NotOurs, holder
from ..settings import find_config, store_directories
from .background import UMASK
from .serve import Configuration, server_context, server_options, with_hyphens

RUN_DIRECTORIES = ("/run/pyrimage", "~/.pyrimage/run")  # the last is made if it is not there
MARGIN_SECONDS = 15.0  # that a server gets beyond its shutdown_timeout, before it is killed


class Daemon:
    """A server that runs, or will run, in the background; its pid file says which process it is.

    Raises ConfigurationError, if the pid file can be nowhere.
    """

    def __init__(self, server: str, arguments: argparse.Namespace) -> None:
        self.server, self.arguments, self.program = server, arguments, f"pyrimage-{server}"
        self.pid_file = arguments.pid_file or self._in_ini() or self._in_run_directory()
        self.output = self.pid_file.with_name(f"{self.pid_file.name.removesuffix('.pid')}.log")

    @property
    def _starts(self) -> bool:
        return self.arguments.command in ("start", "restart")

    def _in_ini(self) -> Path | None:
        try:
            ini = self.arguments.config or find_config()
        except ConfigurationError:  # which whoever starts a server is told
            return None
        try:
            text = server_context(self.server, ini).local_conf.get("pid_file")
        except ConfigurationError as error:
            if self._starts:
                raise
            raise ConfigurationError(f"{error} It may name a pid file: give that as --pid-file.") from error
        return Path(text) if text else None

    def _in_run_directory(self) -> Path:
        """Find the pid file of a server that runs, or a place for it. Raises OSError if others' may run."""
        pid_files = []
        for each in RUN_DIRECTORIES:
            with contextlib.suppress(RuntimeError):  # a user without a home
                pid_files.append(Path(each).expanduser() / f"{self.server}.pid")
        hidden = None
        for found in pid_files:
            try:
                if holder(found) is not None:
                    return found
            except OSError as error:  # a directory of others
                hidden = error
        if hidden is not None and self.arguments.command != "start":
            raise hidden
        if not self._starts:
            return pid_files[-1]
        with contextlib.suppress(OSError):
            pid_files[-1].parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        for found in pid_files:
            with contextlib.suppress(OSError):
                if found.parent.stat().st_uid == os.geteuid() and os.access(found.parent, os.W_OK):
                    return found
        raise ConfigurationError(
            f"None of {', '.join(RUN_DIRECTORIES)} is yours to write to: make one, or use --pid-file."
        )

    def prepare(self) -> tuple[Configuration, Path]:
        """Return what a start takes: the configuration, and where the output goes. Raises ConfigurationError."""
        configuration = Configuration.read(self.server, self.arguments)
        if configuration.context.object is not server_factory:
            raise ConfigurationError(f"{configuration.ini}: only egg:pyrimage#server can be kept in the background.")
        for each in (self.pid_file.parent, *store_directories(configuration.settings)):
            _refuse_root(each)
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
            told = " ".join(Path(each).name for each in command[:2])
            raise NotOurs(f"{self.pid_file} is held by another program, {told} with pid {pid}")
        return process

    @contextlib.contextmanager
    def held(self) -> Iterator[tuple[psutil.Process, int] | None]:
        """Give the process that holds the pid file, and a handle that stays its own if its number is given again."""
        with contextlib.ExitStack() as opened:
            found = None
            while found is None and (process := self.find()) is not None:
                for handle in opened.enter_context(handles_of([process])):
                    if holder(self.pid_file) == process.pid:  # still, so the handle is of no other process
                        found = process, handle
            yield found

    def patience(self, process: psutil.Process) -> float:
        """Return the seconds that a server may take to end: by its own command line, which this one need not repeat."""
        given, _ = server_options().parse_known_args(with_hyphens(process.cmdline()[2:]))
        text = given.shutdown_timeout
        with contextlib.suppress(ConfigurationError):
            text = text or server_context(self.server, given.config or find_config()).local_conf.get("shutdown_timeout")
        return (int(text) if text and text.isdecimal() else Options.shutdown_timeout) + MARGIN_SECONDS


@contextlib.contextmanager
def handles_of(processes: Iterable[psutil.Process]) -> Iterator[list[int]]:
    """Give handles (pidfd) of those processes that are alive: a number may be another's by the time it is used."""
    with contextlib.ExitStack() as opened:
        handles = []
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                handle = os.pidfd_open(process.pid)
                opened.callback(os.close, handle)
                if process.is_running():
                    handles.append(handle)
        yield handles


def _refuse_root(directory: Path) -> None:
    """Raise ConfigurationError for root in another user's directory.

    That user's server could not use what root's writes there, and its links would lead root wherever they point.
    """
    with contextlib.suppress(FileNotFoundError):
        if os.geteuid() == 0 != directory.stat().st_uid:
            owner = str(directory.stat().st_uid)
            with contextlib.suppress(KeyError):
                owner = directory.owner()
            raise ConfigurationError(f"{directory} belongs to {owner}, and this is root: use runuser -u {owner} -- ...")
