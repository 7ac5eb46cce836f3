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
from .serving import END_SECONDS, Serving, announce, bind, raise_descriptor_limit
from .state import take_state, take_trial
from .supervisor import SIGNALS, Supervisor
from .watchdog import Heartbeat

TRACEBACK_SECONDS = 0.5  # for the tracebacks of a process that does not end by itself


def server_factory(_global_conf: dict[str, str], /, **settings: Any) -> Callable[[WSGIApplication], None]:
    """Return a callable that serves an application until SIGTERM or Ctrl-C. ``settings``: see ``Options``.

    pserve calls a ``paste.server_factory`` before it loads the application, and a ``paste.server_runner`` only after
    that. So a wrong setting or an address in use is reported before the application has touched its database. With
    workers this process stays in the call as their supervisor, and only they return: each loads its own application.
    """
    options = read_options(settings)
    inherited, state = take_trial(), take_state()
    if not options.workers and (inherited is not None or state is not None):
        raise ValueError("workers = 0 needs a restart: without a supervisor nobody could stop the old workers")
    raise_descriptor_limit(options)
    if inherited is not None:
        return _try_out(options, inherited)
    if options.workers:  # until the supervisor has its handlers: a SIGHUP may come as soon as the pid file is there
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    if state is None:
        pid_file = hold(options.pid_file)
    else:  # the path may be another one now, which takes a restart: were it in use, nobody could go back to the old one
        pid_file = state.pid_file and keep(state.pid_file)
    if not options.workers:
        sockets = bind(options)
        return lambda app: _serve(app, options, sockets, None)
    supervisor = Supervisor(options, state, pid_file)
    pipe = supervisor.run()
    return lambda app: _serve(app, options, supervisor.listening, pipe)


def _try_out(options: Options, inherited: list[socket.socket]) -> Callable[[WSGIApplication], None]:
    """Check that new addresses can be bound; the trial ends when pserve has loaded the application."""
    for listening in {*inherited, *bind(options, inherited)}:
        listening.close()
    return lambda _app: None


def _serve(app: WSGIApplication, options: Options, sockets: list[socket.socket], pipe: socket.socket | None) -> None:
    """Serve until a signal comes, in the only process or, with a pipe to its supervisor, in a worker."""
    serving = Serving(app, options, sockets)
    for number in (signal.SIGTERM, signal.SIGQUIT, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2):
        if signal.getsignal(number) is not signal.SIG_IGN:  # by nohup, or in a worker, whose supervisor handles some
            signal.signal(number, _stopping(serving, is_alone=pipe is None))
    if pipe is None:
        announce(sockets)
    else:
        Heartbeat(pipe, serving).handle_write()
    serving.run()


def _stopping(serving: Serving, *, is_alone: bool) -> Callable[[int, FrameType | None], None]:
    """Return the handler of all signals that stop a server.

    A second Ctrl-C cuts the transfers that still run; the supervisor passes it on as SIGQUIT. The supervisor sends
    SIGUSR2 to the workers that new ones have replaced.
    """

    def stop(number: int, _frame: FrameType | None) -> None:
        is_hurry = number == signal.SIGQUIT or (number == signal.SIGINT and serving.is_stopping)
        if is_alone and not (serving.cuts_transfers if is_hurry else serving.is_stopping):
            _end_within(END_SECONDS if is_hurry else serving.options.shutdown_timeout + END_SECONDS)
        if is_hurry:
            serving.cut_transfers()
        if number == signal.SIGUSR2:
            serving.stop_after_handover()
        serving.stop()

    return stop


def _end_within(seconds: float) -> None:
    """Make sure that this process ends, also if its main loop or a thread hangs: it has no supervisor to kill it.

    A watchdog thread of the interpreter ends it with status 1, after it has written the tracebacks of all threads to
    standard error. If that blocks too, SIGALRM ends the process.
    """
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGALRM])
    signal.setitimer(signal.ITIMER_REAL, seconds + TRACEBACK_SECONDS)
    output = sys.__stderr__ or os.open(os.devnull, os.O_WRONLY)
    faulthandler.dump_traceback_later(seconds, exit=True, file=output)
