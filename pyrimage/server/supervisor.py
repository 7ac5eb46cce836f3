"""Several processes that serve on the same listening sockets, and the one that starts, replaces and stops them.

Every worker loads the application for itself, so none shares an engine or a thread with another. Supervisor and workers
share a line: a worker's loop writes its pid to it again and again while it serves, so that one whose loop is stuck can
be replaced; and a line that breaks tells a worker that its supervisor died.

At SIGHUP the supervisor executes itself anew, in the same directory and with the same command, so that everything is
read again. Sockets, line and workers stay: the old ones are stopped when as many new ones serve as are wanted.
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
STEADY_SECONDS = 10.0  # a worker that lived so long is replaced at once
DELAY_SECONDS = 1.0  # before another is replaced, doubled each time up to
MOST_DELAY_SECONDS = 30.0


@dataclass
class Worker:
    """What the supervisor knows of a child. deadline: when it is killed; None: it was not told to end."""

    started: float = field(default_factory=time.monotonic)
    is_ready: bool = False
    is_old: bool = False  # of the configuration before the last SIGHUP
    deadline: float | None = None


class Supervisor:
    """Keeps ``options.workers`` processes serving, until it is stopped."""

    def __init__(self, options: Options, state: State | None, pid_file: PidFile | None) -> None:
        if threading.active_count() > 1:
            raise ValueError("workers cannot be forked where there are threads: pserve --reload needs workers = 0")
        held = [] if state is None else state.listening
        self.listening = bind(options, held)
        for place in held:
            if place not in self.listening:
                place.close()
        self._options, self._pid_file = options, pid_file
        self._line = socket.socketpair() if state is None else state.line
        for end in self._line:
            end.setblocking(False)
        self._patience = max(options.shutdown_timeout + END_SECONDS, 0 if state is None else state.patience)
        left = {} if state is None else state.workers
        self._workers = {pid: Worker(0, True, True, deadline) for pid, deadline in left.items()}
        self._has_served = state is not None  # by any worker at all
        self._delay, self._not_before = 0.0, 0.0  # of the next worker
        self._received: list[int] = []  # signals
        self._hung_up = self._stopping = False
        self._trial: tuple[subprocess.Popen[bytes], IO[bytes]] | None = None  # and what it prints
        self._exit_code = 0
        self._watchdog = Watchdog(options.worker_timeout)

    def run(self) -> socket.socket:
        """Supervise; return in each worker, with its end of the line. Raises SystemExit when all workers ended."""
        self._waking, self._waker = socket.socketpair()
        for end in (self._waking, self._waker):
            end.setblocking(False)
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        for number in SIGNALS:
            signal.signal(number, lambda number, _frame: self._received.append(number))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)  # blocked since this process began to start
        while True:
            self._heed_signals()
            self._bury()
            if self._stopping and not self._workers:
                log.info("supervisor %d ends: no worker is left", os.getpid())
                raise SystemExit(self._exit_code)
            self._go_on_with_hangup()
            self._kill_overdue()
            self._kill_stuck()
            while self._is_one_missing():
                if self._fork():
                    return self._line[1]
            self._wait()

    # What is wanted.

    @property
    def _current(self) -> list[Worker]:
        return [worker for worker in self._workers.values() if not worker.is_old and worker.deadline is None]

    @property
    def _missing(self) -> int:
        # The very first comes alone: if the application does not load, the reason need not be shown once for each core.
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
        ready, _, _ = select.select([self._waking, self._line[0]], [], [], seconds)
        if self._waking in ready:
            self._waking.recv(4096)
        said = self._line[0].recv(4096) if self._line[0] in ready else b""  # more than the system holds for us
        beating = {pid: self._workers[pid] for pid in read_beats(said) if pid in self._workers}
        for pid, worker in beating.items():
            if not worker.is_ready:
                self._note_ready(pid, worker)
        # Who is to end has a deadline already.
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
            self._end(old, signal.SIGUSR2, self._patience)

    # The ends of workers.

    def _bury(self) -> None:
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
            level = logging.WARNING if worker.is_ready else logging.ERROR  # the second: the others may be next
            log.log(level, "worker %d ended unasked: %s; another is started in %.0f s", pid, how, wait)

    def _postpone(self, now: float) -> None:
        if now >= self._not_before:  # else others that ended at the same time have done it
            self._delay = min(max(DELAY_SECONDS, 2 * self._delay), MOST_DELAY_SECONDS)
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

    def _heed_signals(self) -> None:
        while self._received:
            number = self._received.pop(0)
            if number == signal.SIGHUP:
                self._hung_up = True
            elif number == signal.SIGINT and self._stopping:
                self._end(list(self._workers), signal.SIGQUIT, END_SECONDS)
            elif number != signal.SIGCHLD and not self._stopping:
                log.info("supervisor %d stops its workers", os.getpid())
                self._stop()

    def _stop(self) -> None:
        self._stopping = True
        for listening in self.listening:  # whoever comes when no worker listens any more is refused, and need not wait
            listening.close()
        self._give_up_trial()
        serving = [pid for pid, worker in self._workers.items() if worker.deadline is None]
        self._end(serving, signal.SIGTERM, self._patience)

    def _give_up_trial(self) -> None:
        if self._trial is not None:
            process, output = self._trial
            self._trial = None
            process.kill()
            process.wait()
            output.close()

    def _go_on_with_hangup(self) -> None:
        if self._hung_up:
            self._give_up_trial()  # of what was changed once more; it may also hang
        if self._trial is not None:
            process, output = self._trial
            if process.poll() is not None:
                self._trial = None
                self._judge(process.returncode, output)
        elif self._hung_up and not self._stopping and all(worker.is_ready for worker in self._current):
            self._hung_up = False
            self._try()

    def _try(self) -> None:
        """Load the new configuration in a process of its own, beside the old one."""
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
            _tell_failure(error)
        else:
            self._trial = process, output

    def _judge(self, code: int, output: IO[bytes]) -> None:
        with output:
            output.seek(0)
            said = output.read().decode(errors="replace").strip()
        if code == 0:
            self._execute()
        else:
            reason = said.splitlines()[-1] if said else f"status {code}"
            _tell_failure(reason)

    def _execute(self) -> None:
        """Become a new supervisor, which finds what this one leaves to it. Signals wait until it can take them."""
        log.info("supervisor %d starts anew", os.getpid())
        workers = {pid: worker.deadline for pid, worker in self._workers.items()}
        state = State(self.listening, self._line, workers, self._patience, self._pid_file)
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        while self._received:  # what came meanwhile
            os.kill(os.getpid(), self._received.pop())
        for each in (*self.listening, *self._line):
            each.set_inheritable(True)
        if self._pid_file is not None:
            os.set_inheritable(self._pid_file.descriptor, True)
        command = _command()
        try:
            os.execve(command[0], command, {**os.environ, STATE: state.dump()})  # noqa: S606 - our own command
        except OSError as error:
            _tell_failure(error)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    # Processes.

    def _fork(self) -> bool:
        """Start a worker; return whether this process is it."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)  # else the child could take one with the parent's handlers
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
        """Keep nothing that is the supervisor's; leave Ctrl-C and SIGHUP, which a whole group may get, to it."""
        signal.set_wakeup_fd(-1)
        for number in (*SIGNALS, signal.SIGQUIT, signal.SIGUSR2):  # a script's "&" leaves SIGQUIT ignored
            signal.signal(number, signal.SIG_DFL)
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        for each in (self._waking, self._waker, self._line[0]):
            each.close()
        self._replace_lost_output()

    def _replace_lost_output(self) -> None:
        """Let standard output and error lead nowhere where who read them is gone: pserve prints, and would end."""
        poll = select.poll()
        for descriptor in (1, 2):
            poll.register(descriptor, 0)  # for what is always told: an error, the end, no such descriptor
        for descriptor, _ in poll.poll(0):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, descriptor)
            os.close(nowhere)


def _command() -> list[str]:
    return [sys.executable, *sys.orig_argv[1:]]


def _tell_failure(reason: object) -> None:
    log.error("the new configuration does not work, the old one stays in force: %s", reason)
