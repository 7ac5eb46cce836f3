"""The paste server ``egg:pyrimage#server``: waitress, taught what image traffic needs.

Waitress drops every header whose name has an underscore, hides that a body came chunked or through a proxy, and
answers its own refusals in a shape of its own. Each override here mends one such habit around a call of ``super()``.

What the application finds in its environ: ``pyrimage.chunked`` True for a chunked body (there is no CONTENT_LENGTH
then), ``pyrimage.forwarded`` True if any forwarding header came, also one that waitress removes. What it may leave
there for the access line: ``pyrimage.request_id``, and ``pyrimage.identity``, whose str() says who asked.
"""

import difflib
import functools
import json
import logging
import re
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from typing import IO, Any
from wsgiref.types import WSGIApplication

from waitress import task
from waitress.adjustments import Adjustments
from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.server import BaseWSGIServer, create_server
from waitress.utilities import Error

access_log = logging.getLogger("pyrimage.access")

DEFAULTS = {
    "ident": "pyrimage",
    "asyncore_use_poll": True,  # select() breaks at the first file descriptor above 1023
    "recv_bytes": 262144,  # waitress' own 8 KiB make an upload twice as slow
    # Images have no largest size. Waitress refuses bodies of this length *or more*, hence no round number.
    "max_request_body_size": sys.maxsize,
}
LISTEN = "127.0.0.1:9292"  # where the ini names no place; waitress would serve every network on 8080
PLACES = {"listen", "host", "port", "sockets", "unix_socket"}
SETTING_AT_FAULT = {413: "max_request_body_size", 431: "max_request_header_size"}
SHOWN = 1024  # characters of a request target or a name in the access line

PREFIX = b"x-image-meta-"
OUR_NAMES = re.compile(rb"(?<=\r\n)x-image-meta-[^:\r\n]*(?=:)", re.IGNORECASE)  # a folded line begins with a blank
FOLDED = re.compile(rb"\r\n(x-image-meta-[^:\r\n]*):[^\r\n]*\r\n[ \t]", re.IGNORECASE)
FORWARDING = re.compile(r"(?:FORWARDED|VIA|X_REAL_IP|X_FORWARDED_.*)\Z")


class Parser(HTTPRequestParser):
    """Read a request as waitress does, but keep the headers that begin with ``x-image-meta-``."""

    command = path = request_uri = "-"  # for the log, where the request is too broken to tell

    def received(self, data: bytes) -> int:
        """Take in ``data``. What is refused or has no body gets no "100 Continue": waitress would wait for the body."""
        consumed: int = super().received(data)
        if self.completed:
            self.expect_continue = False
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        """Write our headers' names with hyphens, for waitress drops the others; refuse a name that comes twice.

        Refuse a value that is folded over two lines as well: it would be stored without the line's end.
        """
        self.began = time.monotonic()
        self.environ: dict[str, Any] = {}
        doubled: list[str] = []
        folded: list[bytes] = []
        if PREFIX in header_plus.lower():
            header_plus = OUR_NAMES.sub(lambda name: name[0].replace(b"_", b"-"), header_plus)
            counts = Counter(name.lower().decode("latin-1") for name in OUR_NAMES.findall(header_plus))
            doubled = [name for name, count in counts.items() if count > 1]
            folded = FOLDED.findall(header_plus)
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # waitress would close the connection without an answer
            raise ParsingError("The request target or Content-Length is invalid") from error
        if doubled:  # told only now, when method and target are known
            raise ParsingError(f"{', '.join(doubled)}: send it once; a name with _ is the same as with -")
        if folded:
            raise ParsingError(f"{folded[0].decode('latin-1').lower()}: send the value on one line")


class LoggedTask(task.Task):
    """Write one access line when the answer is complete, or as complete as it gets."""

    body_bytes = 0
    file_prepared = False  # then the line is written when the file is closed, which is in the main loop

    def write(self, data: bytes) -> None:
        """Send ``data`` and count it."""
        super().write(data)
        self.body_bytes += len(data)

    def service(self) -> None:
        """Answer, then log the answer."""
        try:
            super().service()
        except Exception as error:
            if self.wrote_header or isinstance(error, ClientDisconnected):  # else an ErrorTask answers, and logs
                self.end(cut=True)
            raise
        self.end(cut=not self.wrote_header)

    def end(self, cut: bool) -> None:
        """Log the answer, unless a file does that."""
        if self.file_prepared and self.wrote_header:
            return
        promised = self.content_length if self.has_body else 0
        sent = self.body_bytes if promised is None else min(self.body_bytes, promised)
        self.log_access(sent, cut or (promised is not None and sent < promised and self.request.command != "HEAD"))

    def log_access(self, sent: int, cut: bool) -> None:
        """Write peer, method, target, status, bytes of body, milliseconds, request id and who.

        The bytes of an answer that was cut short are shown as ``sent/promised``; milliseconds count from the end of
        the request's header. Header values are never logged.
        """
        if not access_log.isEnabledFor(logging.INFO):
            return
        request = self.request
        access_log.info(
            "%s %s %s %s %s %dms %s %s",
            self.channel.addr[0],
            shown(request.command),
            shown(request.request_uri),
            self.status[:3],
            f"{sent}/{'?' if self.content_length is None else self.content_length}" if cut else sent,
            (time.monotonic() - request.began) * 1000,
            request.environ.get("pyrimage.request_id", "-"),
            shown(str(request.environ.get("pyrimage.identity", "-"))),
        )


class Task(LoggedTask, task.WSGITask):
    """Call the application, and tell it what waitress hides."""

    def get_environment(self) -> dict[str, Any]:
        """Return waitress' environ with our keys and our file wrapper."""
        environ: dict[str, Any] = super().get_environment()
        request = self.request
        request.environ = environ
        environ["wsgi.file_wrapper"] = functools.partial(Download, self)
        if request.chunked:
            environ["pyrimage.chunked"] = True
            environ.pop("CONTENT_LENGTH", None)  # waitress counted it
        if any(map(FORWARDING.match, request.headers)):
            environ["pyrimage.forwarded"] = True
        return environ


class ErrorTask(LoggedTask, task.ErrorTask):
    """Answer what the server refuses, and for an application that failed, in the application's shape of errors."""

    def execute(self) -> None:
        """Answer the request that is at fault."""
        self.error: Error = self.request.error
        self.request: Parser = self.channel.requests[0]  # for a failed application waitress made up an empty one
        self.request.error = self  # super() asks it for the response
        super().execute()

    def to_response(self, _ident: str) -> tuple[str, list[tuple[str, str]], bytes]:
        """Return status, headers and body, as ``waitress.utilities.Error`` does."""
        code, title, message = self.error.code, self.error.reason, self.error.body
        if code in SETTING_AT_FAULT:
            message = f"{message} (setting {SETTING_AT_FAULT[code]} of the server)"
        elif code == 500:
            message = "The server failed to answer"  # waitress' text may hold a traceback
        accept = self.request.headers.get("ACCEPT", "").lower()
        if "text/plain" in accept and "json" not in accept and "*/*" not in accept:
            content_type, text = "text/plain; charset=UTF-8", f"{code} {title}\n\n{message}\n"
        else:
            fields = {"code": code, "title": title, "message": message}
            content_type, text = "application/json", json.dumps({"error": fields})
        body = text.encode()
        headers = [
            ("Content-Type", content_type),
            ("Content-Length", str(len(body))),
            ("X-Content-Type-Options", "nosniff"),
            ("x-openstack-request-id", self.request.environ.setdefault("pyrimage.request_id", f"req-{uuid.uuid4()}")),
        ]
        return f"{code} {title}", headers, b"" if self.request.command == "HEAD" else body


class Download(ReadOnlyFileBasedBuffer):
    """The ``wsgi.file_wrapper``: a file that is sent by the main loop when the worker thread is free again."""

    promised = 0

    def __init__(self, answer: Task, file: IO[bytes], block_size: int = 32768) -> None:
        super().__init__(file, block_size)
        self.answer = answer

    def prepare(self, size: int | None = None) -> int:
        """Return how many bytes will be sent. EOFError if the file has fewer: waitress would correct the length."""
        ready: int = super().prepare(size)
        if size and ready < size and hasattr(self, "seek"):
            raise EOFError(f"the file has {ready} bytes of {size}")
        self.promised, self.answer.file_prepared = ready, ready > 0
        return ready

    def get(self, numbytes: int = -1, skip: bool = False) -> bytes:
        """Read on. OSError where the file ends early, which breaks the connection: waitress would ask for ever."""
        data: bytes = super().get(numbytes, skip)
        if not data and self.remain:
            raise OSError(f"the file ended {self.remain} bytes early")
        return data

    def close(self) -> None:
        """Close the file, and log the answer that it was."""
        promised, self.promised = self.promised, 0  # waitress may close twice
        sent = promised - self.remain
        super().close()
        if promised and self.answer.wrote_header:
            self.answer.log_access(sent, cut=sent < promised)


class Channel(HTTPChannel):
    """A connection that uses the classes above."""

    parser_class = Parser
    task_class = Task
    error_task_class = ErrorTask


def shown(text: str) -> str:
    """Return ``text`` as ASCII without control characters, so that it can forge no log line, and not too long."""
    short = text if len(text) <= SHOWN else text[:SHOWN] + "..."
    return short.encode("unicode_escape").decode("ascii")


def check_settings(settings: dict[str, Any]) -> None:
    """Raise ValueError for a setting that is unknown, malformed, or contradicts another."""
    for name in settings:
        if name not in Adjustments._param_map:
            near = difflib.get_close_matches(name, Adjustments._param_map, n=1)
            raise ValueError(f"unknown server setting {name!r}" + "".join(f", did you mean {n!r}?" for n in near))
    if Adjustments(**settings).channel_request_lookahead > 0:
        raise ValueError("channel_request_lookahead must be 0: no request is read while another one runs")


def make_server(app: WSGIApplication, **settings: Any) -> Any:
    """Return a waitress server for ``app`` that listens; its ``run()`` serves until SystemExit or KeyboardInterrupt."""
    if not PLACES & settings.keys():
        settings["listen"] = LISTEN
    sockets: dict[int, Any] = {}
    server = create_server(app, map=sockets, **(DEFAULTS | settings))
    for listener in sockets.values():
        if isinstance(listener, BaseWSGIServer):
            listener.channel_class = Channel
    return server


def server_factory(_global_conf: dict[str, str], /, **settings: Any) -> Callable[[WSGIApplication], None]:
    """Return a callable that serves an application. ``settings`` are waitress' own; see its documentation.

    A ``paste.server_factory`` and not a ``paste.server_runner``: pserve calls it before it loads the application, so
    that a wrong setting is told before the application has touched its database.
    """
    check_settings(settings)

    def serve(app: WSGIApplication) -> None:
        server = make_server(app, **settings)
        server.print_listen("Serving on http://{}:{}")
        server.run()

    return serve
