"""The supervisor: it forks worker processes that serve on the same listening sockets, replaces and stops them.

Every worker loads the application for itself, so they share no database connection and no thread. A socket pair, here
called the pipe, connects the supervisor with all workers. The main loop of a worker writes the worker's pid to it as a
heartbeat, so that a worker that hangs is found and replaced. A worker that finds the pipe closed knows that its
supervisor died.

At SIGHUP the supervisor first loads the new configuration in a trial process. If that works it executes itself again,
in the same directory and with the same command. Sockets, pipe and workers stay; the old workers are stopped when all
new ones serve.
"""

import json
import logging
import math
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from typing import IO

from .options import Options
from .pidfile import PidFile
from .serving import END_SECONDS, announce, bind
from .state import STATE, TRIAL, State
from .watchdog import LISTEN_SECONDS, Watchdog, read_beats

log = logging.getLogger(__package__)

SIGNALS = (signal.SIGCHLD, signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
STEADY_SECONDS = 10.0  # a worker that ended after so long is replaced at once
# Before any other worker is replaced; doubled each time.
DELAY_SECONDS, MAX_DELAY_SECONDS = 1.0, 30.0


@dataclass
class Worker:
    """What the supervisor knows of a worker. deadline: when it is killed; None: it was not told to end."""

    started: float = field(default_factory=time.monotonic)
    is_ready: bool = False
    is_old: bool = False  # it has the configuration from before the last SIGHUP
    deadline: float | None = None


class Supervisor:
    """Keeps ``options.workers`` processes serving, until it is stopped."""

    def __init__(self, options: Options, state: State | None, pid_file: PidFile | None) -> None:
        if threading.active_count() > 1:
            raise ValueError("workers cannot be forked where there are threads: pserve --reload needs workers = 0")
        inherited = [] if state is None else state.listening
        self.listening = bind(options, inherited)
        for listening in inherited:
            if listening not in self.listening:
                listening.close()
        self._options, self._pid_file = options, pid_file
        self._pipe = socket.socketpair() if state is None else state.pipe
        for end in self._pipe:
            end.setblocking(False)
        self._grace_seconds = max(options.shutdown_timeout + END_SECONDS, 0 if state is None else state.grace_seconds)
        left = {} if state is None else state.workers
        self._workers = {pid: Worker(0, True, True, deadline) for pid, deadline in left.items()}
        self._has_served = state is not None  # whether any worker did
        self._delay, self._not_before = 0.0, 0.0  # seconds, and time, before which no worker is started
        self._received: list[int] = []  # signals
        self._reload_requested = self._stopping = False
        self._trial: tuple[subprocess.Popen[bytes], IO[bytes]] | None = None  # and what it prints
        self._exit_code = 0
        self._watchdog = Watchdog(options.worker_timeout)

    def run(self) -> socket.socket:
        """Supervise; return in each worker, with its end of the pipe. Raises SystemExit when all workers ended."""
        self._waking, self._waker = socket.socketpair()
        for end in (self._waking, self._waker):
            end.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda number, _frame: self._received.append(number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked by the server factory
        while True:
            self._handle_signals()
            self._reap()
            if self._stopping and not self._workers:
                log.info("supervisor %d ends: no worker is left", os.getpid())
                raise SystemExit(self._exit_code)
            self._continue_reload()
            self._kill_overdue()
            self._kill_stuck()
            while self._is_one_missing():
                if self._fork():
                    return self._pipe[1]
            self._wait()

    # Which workers are missing.

    @property
    def _current(self) -> list[Worker]:
        return [worker for worker in self._workers.values() if not worker.is_old and worker.deadline is None]

    @property
    def _missing(self) -> int:
        # At first one alone: if the application does not load, the reason is logged once and not by every worker.
        wanted = self._options.workers if self._has_served else 1
        return 0 if self._stopping else wanted - len(self._current)

    def _is_one_missing(self) -> bool:
        return self._missing > 0 and time.monotonic() >= self._not_before

    def _wait(self) -> None:
        moments = [worker.deadline for worker in self._workers.values() if worker.deadline is not None]
        if self._missing > 0:
            moments.append(self._not_before)
        if self._watchdog.is_watching():
            moments.append(time.monotonic() + LISTEN_SECONDS)
        seconds = None if min(moments, default=math.inf) == math.inf else max(min(moments) - time.monotonic(), 0)
        ready, _, _ = select.select([self._waking, self._pipe[0]], [], [], seconds)
        if self._waking in ready:
            self._waking.recv(4096)
        said = self._pipe[0].recv(4096) if self._pipe[0] in ready else b""  # all that can wait there
        beating = {pid: self._workers[pid] for pid in read_beats(said) if pid in self._workers}
        for pid, worker in beating.items():
            if not worker.is_ready:
                self._note_ready(pid, worker)
        # Workers that were told to end are not watched: their deadline is enough.
        watched = [pid for pid, worker in beating.items() if worker.deadline is None]
        self._watchdog.note_beats(watched, time.monotonic())

    def _note_ready(self, pid: int, worker: Worker) -> None:
        worker.is_ready = True
        log.info("worker %d serves", pid)
        if not self._has_served:
            self._has_served = True
            announce(self.listening)
        old = [pid for pid, worker in self._workers.items() if worker.is_old and worker.deadline is None]
        if old and not self._missing and all(worker.is_ready for worker in self._current):
            announce(self.listening)
            log.info("the new workers serve; the old ones end: %s", old)
            self._end(old, signal.SIGUSR2, self._grace_seconds)

    # The ends of workers.

    def _reap(self) -> None:
        """Take note of workers that ended."""
        for pid in list(self._workers):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                self._watchdog.forget(pid)
                self._note_end(pid, self._workers.pop(pid), os.waitstatus_to_exitcode(status))

    def _note_end(self, pid: int, worker: Worker, code: int) -> None:
        how = f"status {code}" if code >= 0 else f"signal {-code}"
        if worker.deadline is not None or worker.is_old or self._stopping:
            log.info("worker %d ended: %s", pid, how)
        elif not self._has_served:
            log.error("worker %d ended before it served (%s): nothing is started", pid, how)
            self._exit_code = 1
            self._stop()
        else:
            now = time.monotonic()
            if now - worker.started >= STEADY_SECONDS:
                self._delay = 0.0
            else:
                self._postpone(now)
            wait = max(self._not_before - now, 0)
            # One that never served is an error: it may be the configuration, and the other workers be next.
            level = logging.WARNING if worker.is_ready else logging.ERROR
            log.log(level, "worker %d ended unasked: %s; another is started in %.0f s", pid, how, wait)

    def _postpone(self, now: float) -> None:
        if now >= self._not_before:  # otherwise another worker that ended at the same time has done it
            self._delay = min(max(DELAY_SECONDS, 2 * self._delay), MAX_DELAY_SECONDS)
            self._not_before = now + self._delay

    def _end(self, ending: list[int], number: signal.Signals, seconds: float) -> None:
        for pid in ending:
            os.kill(pid, number)
            self._watchdog.forget(pid)
            deadline = self._workers[pid].deadline
            self._workers[pid].deadline = min(math.inf if deadline is None else deadline, time.monotonic() + seconds)

    def _kill_overdue(self) -> None:
        for pid, worker in self._workers.items():
            if worker.deadline is not None and worker.deadline <= time.monotonic():
                log.warning("worker %d is killed: it did not end", pid)
                os.kill(pid, signal.SIGKILL)
                worker.deadline = math.inf

    def _kill_stuck(self) -> None:
        for pid, silence in self._watchdog.stuck().items():
            log.error(
                "worker %d is killed: its loop did not answer for %.0f s (worker_timeout), and waited for no disk; "
                "look at what it logged last, and whether the machine had no CPU or memory left for it",
                pid,
                silence,
            )
            os.kill(pid, signal.SIGKILL)
            self._watchdog.forget(pid)

    # Signals.

    def _handle_signals(self) -> None:
        while self._received:
            number = self._received.pop(0)
            if number == signal.SIGHUP:
                self._reload_requested = True
            elif number == signal.SIGINT and self._stopping:
                self._end(list(self._workers), signal.SIGQUIT, END_SECONDS)
            elif number != signal.SIGCHLD and not self._stopping:
                log.info("supervisor %d stops its workers", os.getpid())
                self._stop()

    def _stop(self) -> None:
        self._stopping = True
        for listening in self.listening:  # so that new clients are refused when the workers have closed theirs
            listening.close()
        self._cancel_trial()
        serving = [pid for pid, worker in self._workers.items() if worker.deadline is None]
        self._end(serving, signal.SIGTERM, self._grace_seconds)

    def _cancel_trial(self) -> None:
        if self._trial is not None:
            process, output = self._trial
            self._trial = None
            process.kill()
            process.wait()
            output.close()

    def _continue_reload(self) -> None:
        if self._reload_requested:
            self._cancel_trial()  # it tries an older configuration, and may hang
        if self._trial is not None:
            process, output = self._trial
            if process.poll() is not None:
                self._trial = None
                self._finish_trial(process.returncode, output)
        elif self._reload_requested and not self._stopping and all(worker.is_ready for worker in self._current):
            self._reload_requested = False
            self._start_trial()

    def _start_trial(self) -> None:
        """Start a process that loads the new configuration, and then ends."""
        log.info("SIGHUP: the configuration is read again, first for trial")
        descriptors = [listening.fileno() for listening in self.listening]
        try:
            output = tempfile.TemporaryFile()  # noqa: SIM115 - read when the trial is over
            process = subprocess.Popen(  # noqa: S603 - our own command
                _command(),
                env={**os.environ, TRIAL: json.dumps(descriptors)},
                pass_fds=descriptors,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        except OSError as error:
            _log_failure(error)
        else:
            self._trial = process, output

    def _finish_trial(self, code: int, output: IO[bytes]) -> None:
        with output:
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
        if code == 0:
            self._execute()
        else:
            reason = said.splitlines()[-1] if said else f"status {code}"
            _log_failure(reason)

    def _execute(self) -> None:
        """Execute the command again, and pass the state on. Signals stay blocked until the handlers are set."""
        log.info("supervisor %d starts anew", os.getpid())
        workers = {pid: worker.deadline for pid, worker in self._workers.items()}
        state = State(self.listening, self._pipe, workers, self._grace_seconds, self._pid_file)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        while self._received:  # to be delivered after exec
            os.kill(os.getpid(), self._received.pop())
        for each in (*self.listening, *self._pipe):
            each.set_inheritable(True)
        if self._pid_file is not None:
            os.set_inheritable(self._pid_file.descriptor, True)
        command = _command()
        try:
            os.execve(command[0], command, {**os.environ, STATE: state.dump()})  # noqa: S606 - our own command
        except OSError as error:
            _log_failure(error)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    # Processes.

    def _fork(self) -> bool:
        """Start a worker; return whether this process is it."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # while the child has its parent's handlers
        try:
            pid = os.fork()
        except OSError as error:
            log.error("no worker can be started: %s", error)
            self._postpone(time.monotonic())
            pid = -1
        if pid == 0:
            self._become_worker()
        elif pid > 0:
            self._workers[pid] = Worker()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return pid == 0

    def _become_worker(self) -> None:
        """Undo what is the supervisor's; ignore Ctrl-C and SIGHUP, which a terminal sends to the process group."""
        signal.set_wakeup_fd(-1)
        for number in (*SIGNALS, signal.SIGQUIT, signal.SIGUSR2):  # a shell script's "&" leaves SIGQUIT ignored
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for each in (self._waking, self._waker, self._pipe[0]):
            each.close()
        self._replace_lost_output()

    def _replace_lost_output(self) -> None:
        """Replace standard output and error by /dev/null where their reader is gone: pserve prints, and would fail."""
        poll = select.poll()
        for descriptor in (1, 2):
            poll.register(descriptor, 0)  # for POLLERR, POLLHUP and POLLNVAL, which are always reported
        for descriptor, _ in poll.poll(0):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def _command() -> list[str]:
    return [sys.executable, *sys.orig_argv[1:]]


def _log_failure(reason: object) -> None:
    log.error("the new configuration does not work, the old one stays in force: %s", reason)
