"""The paste server factory ``egg:pyrimage#server``."""

import faulthandler
import os
import signal
import socket
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any
from wsgiref.types import WSGIApplication

from .options import Options, read_options
from .pidfile import hold, keep
from .serving import END_SECONDS, Serving, allow_descriptors, announce, bind
from .state import take_state, take_trial
from .supervisor import SIGNALS, Supervisor
from .watchdog import Lifeline

TELL_SECONDS = 0.5  # for what a process tells that does not end by itself


def server_factory(_global_conf: dict[str, str], /, **settings: Any) -> Callable[[WSGIApplication], None]:
    """Return a callable that serves an application until SIGTERM or Ctrl-C. ``settings``: see ``Options``.

    A ``paste.server_factory`` and not a ``paste.server_runner``: pserve calls it before it loads the application, so
    that a wrong setting is told, and the place is ours, before the application has touched its database. With workers
    this process stays here as their supervisor, and only they return: each loads an application of its own.
    """
    options = read_options(settings)
    held, state = take_trial(), take_state()
    if not options.workers and (held is not None or state is not None):
        raise ValueError("workers = 0 needs a restart: without a supervisor nobody could stop the old workers")
    allow_descriptors(options)
    if held is not None:
        return _try_out(options, held)
    if options.workers:  # until the supervisor can take them: a SIGHUP may come as soon as its pid file is there
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if state is None:
        pid_file = hold(options.pid_file)
    else:  # another one takes a restart: if it could not be had, there would be nobody to go on with the old one
        pid_file = state.pid_file and keep(state.pid_file)
    if not options.workers:
        sockets = bind(options)
        return lambda app: _serve(app, options, sockets, None)
    supervisor = Supervisor(options, state, pid_file)
    line = supervisor.run()
    return lambda app: _serve(app, options, supervisor.listening, line)


def _try_out(options: Options, held: list[socket.socket]) -> Callable[[WSGIApplication], None]:
    """Bind what is new and let it go again; the process ends when it has loaded the application."""
    for listening in {*held, *bind(options, held)}:
        listening.close()
    return lambda _app: None


def _serve(app: WSGIApplication, options: Options, sockets: list[socket.socket], line: socket.socket | None) -> None:
    """Serve until a signal comes, in the only process or, with a line to its supervisor, in a worker."""
    serving = Serving(app, options, sockets)
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        if signal.getsignal(number) is not signal.SIG_IGN:  # by nohup, or for a worker, which leaves some to others
            signal.signal(number, _stopping(serving, is_alone=line is None))
    if line is None:
        announce(sockets)
    else:
        Lifeline(line, serving).handle_write()
    serving.run()


def _stopping(serving: Serving, *, is_alone: bool) -> Callable[[int, FrameType | None], None]:
    """Return a handler of signals, all of which stop a server.

    A second Ctrl-C, or SIGQUIT, which is the supervisor's word for it, cuts the transfers. SIGUSR2 is its word for
    others having taken over.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        is_hurry = number == signal.SIGQUIT or (number == signal.SIGINT and serving.is_stopping)
        if is_alone and not (serving.is_hurried if is_hurry else serving.is_stopping):
            _end_within(END_SECONDS if is_hurry else serving.options.shutdown_timeout + END_SECONDS)
        if is_hurry:
            serving.hurry()
        if number == signal.SIGUSR2:
            serving.stop_at_leisure()
        serving.stop()

    return stop


def _end_within(seconds: float) -> None:
    """Let this process end, whatever its loop does, or others that come to their end after it: nobody is to kill it.

    A thread of the interpreter's own ends it with status 1, and tells on standard error what all the others did. Where
    nobody takes what it tells, the system ends the process.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.setitimer(signal.ITIMER_REAL, seconds + TELL_SECONDS)
    output = sys.__stderr__ or os.open(os.devnull, os.O_WRONLY)
    faulthandler.dump_traceback_later(seconds, exit=True, file=output)
