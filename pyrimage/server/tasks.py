"""Answering requests: what the application is told, what the server answers itself, and the access line of each."""

import contextlib
import functools
import io
import json
import logging
import os
import time
import uuid
from typing import IO, Any

from waitress import task
from waitress.buffers import ReadOnlyFileBasedBuffer
from waitress.channel import ClientDisconnected
from waitress.utilities import BadRequest, Error, RequestEntityTooLarge, RequestHeaderFieldsTooLarge

from .body import Body
from .forwarding import MalformedForwarding
from .logtext import LINE, SHORT, shown
from .parser import Parser

access_log = logging.getLogger("pyrimage.access")

NOBODY = "-"
BUFFER = 65536  # bytes; bigger reads of a streamed body go past it, straight into the reader's buffer
PASS = 4 * 2**20  # bytes of one file that a pass of the main loop sends before it looks at the other connections
SETTING_AT_FAULT: dict[type[Error], str] = {
    RequestEntityTooLarge: "max_request_body_size",
    RequestHeaderFieldsTooLarge: "max_request_header_size",
}


def shorten(record: logging.LogRecord) -> bool:
    """Let waitress' own lines, which quote paths and headers as they came, show a request as ours do."""
    message = record.getMessage()
    short = shown(message, LINE)
    if short != message:
        record.msg, record.args = short, ()
    return True


logging.getLogger("waitress").addFilter(shorten)


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
        self.channel.is_answered = False
        try:
            super().service()
        except Exception as error:
            if self.wrote_header or isinstance(error, ClientDisconnected):  # else an ErrorTask answers, and logs
                self.end(cut=True)
            raise
        finally:
            self.channel.is_answered = True
        self.end(cut=not self.wrote_header)

    def build_response_header(self) -> bytes:
        """Let a connection that ends not be announced as kept, which waitress would do for HTTP/1.0."""
        if self.close_on_finish:
            self.request.headers["CONNECTION"] = "close"
        header: bytes = super().build_response_header()
        return header

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
        caller = str(request.environ.get("pyrimage.identity") or NOBODY)
        fields = {
            "request_id": request.environ.get("pyrimage.request_id"),
            "image_id": request.environ.get("pyrimage.image_id"),
            "caller": None if caller == NOBODY else caller[:SHORT],
        }
        access_log.info(
            "%s %s %s %s %s %dms %s %s",
            shown(request.environ.get("REMOTE_ADDR", self.channel.addr[0])),  # the client's, behind a trusted proxy
            shown(request.command),
            shown(request.request_uri),
            self.status[:3],
            f"{sent}/{'?' if self.content_length is None else self.content_length}" if cut else sent,
            (time.monotonic() - request.began) * 1000,
            fields["request_id"] or NOBODY,
            shown(caller, SHORT),
            extra={"request_fields": fields},  # for formatters that show them apart
        )


class Task(LoggedTask, task.WSGITask):
    """Call the application, and tell it what waitress hides."""

    body: Body | None = None  # of a streamed request

    def service(self) -> None:
        """Answer; what was wrong with a body is answered here if the application let it through.

        So is what a trusted proxy says that cannot be understood: waitress would answer in a shape of its own.
        """
        try:
            super().service()
        except _Refused:
            ErrorTask(self.channel, self.request).service()
            self.close_on_finish = True
        finally:
            if self.environ is not None:  # these refer to this task and to its request, which refers to the environ
                self.environ.pop("wsgi.file_wrapper", None)
                self.environ.pop("wsgi.input", None)
            if self.body is not None:
                self.body.release()

    def execute(self) -> None:
        """Call the application."""
        try:
            super().execute()
        except MalformedForwarding as error:
            self.request.error = BadRequest(str(error))
            raise _Refused from error
        except (OSError, ValueError) as error:
            refused = self.body is not None and error is self.body.failure and self.request.error is not None
            if not refused or self.wrote_header:
                raise
            raise _Refused from error

    def get_environment(self) -> dict[str, Any]:
        """Return waitress' environ with our keys, our file wrapper and the body that is still to come."""
        environ: dict[str, Any] = super().get_environment()
        request = self.request
        request.environ = environ
        environ["wsgi.file_wrapper"] = functools.partial(Download, self)
        environ["wsgi.multiprocess"] = self.channel.adj.workers > 0
        if request.streaming:
            self.body = Body(self.channel, request)
            environ["wsgi.input"] = io.BufferedReader(self.body, BUFFER)
        if request.chunked:
            environ["pyrimage.chunked"] = True
            environ.pop("CONTENT_LENGTH", None)
        if request.forwarded:
            environ["pyrimage.forwarded"] = True
        return environ

    def build_response_header(self) -> bytes:
        """Announce that the connection ends, if the body was not read to its end or the server stops.

        Nobody could know whether the body or the next request follows.
        """
        if self.body is not None and not self.body.is_complete:
            self.channel.lingers = True
            self.set_close_on_finish()
        elif not self.channel.server.accepting:
            self.set_close_on_finish()
        header: bytes = super().build_response_header()
        return header

    def finish(self) -> None:
        """Give what came behind the request back to the channel, before the loop may read on."""
        super().finish()
        if not self.close_on_finish:
            self.channel.received((self.body.rest if self.body is not None else b"") + self.request.behind)


class _Refused(Exception):
    """A streamed body was refused while the application read it, or what a proxy said before that."""


class ErrorTask(LoggedTask, task.ErrorTask):
    """Answer what the server refuses, and for an application that failed, in the application's shape of errors."""

    def execute(self) -> None:
        """Answer the request that is at fault."""
        self.error: Error = self.request.error
        self.request: Parser = self.channel.requests[0]  # for a failed application waitress made up an empty one
        self.request.error = self  # super() asks it for the response
        self.channel.lingers = True  # what is refused may be followed by more
        super().execute()
        self.request.error = self.error

    def to_response(self, _ident: str) -> tuple[str, list[tuple[str, str]], bytes]:
        """Return status, headers and body, as ``waitress.utilities.Error`` does."""
        code, title, message = self.error.code, self.error.reason, self.error.body
        if type(self.error) in SETTING_AT_FAULT:
            message = f"{message} (setting {SETTING_AT_FAULT[type(self.error)]} of the server)"
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
    """The ``wsgi.file_wrapper``: a file that the main loop sends while the worker thread is free again.

    With a descriptor it goes from the file to the socket within the kernel, see ``send_to``.
    """

    promised = 0
    descriptor: int | None = None
    offset = 0  # in the file, of what is sent next
    pass_left = PASS

    def __init__(self, answer: Task, file: IO[bytes], block_size: int = 32768) -> None:
        super().__init__(file, block_size)
        self.answer = answer

    def prepare(self, size: int | None = None) -> int:
        """Return how many bytes will be sent. EOFError if the file has fewer: waitress would correct the length."""
        ready: int = super().prepare(size)
        if hasattr(self, "seek"):
            if size and ready < size:
                raise EOFError(f"the file has {ready} bytes of {size}")
            with contextlib.suppress(OSError, AttributeError):  # a file in memory, or like one
                self.descriptor, self.offset = self.file.fileno(), self.file.tell()
        self.promised, self.answer.file_prepared = ready, ready > 0
        return ready

    def get(self, numbytes: int = -1, skip: bool = False) -> Any:
        """Return itself, for the channel to send; without a descriptor the next bytes.

        Raises OSError where the file ends early, which breaks the connection: waitress would ask for ever.
        """
        if self.descriptor is not None:
            return self
        data: bytes = super().get(numbytes, skip)
        if not data and self.remain:
            raise self._ended()
        return data

    def send_to(self, receiver: int) -> int:
        """Send to a socket's descriptor; return how many bytes went, 0 where the loop shall look at the others first.

        Raises OSError if the connection is over, or the file ends early.
        """
        if self.pass_left <= 0:
            self.pass_left = PASS
            return 0
        try:
            sent = os.sendfile(receiver, self.descriptor or 0, self.offset, min(self.remain, self.pass_left))
        except BlockingIOError:
            self.pass_left = PASS
            return 0
        if not sent:
            raise self._ended()
        self.pass_left -= sent
        return sent

    def skip(self, numbytes: int, allow_prune: int = 0) -> None:
        """Go on behind what was sent."""
        if self.descriptor is None:
            super().skip(numbytes, allow_prune)
        else:
            self.offset += numbytes
            self.remain -= numbytes

    def close(self) -> None:
        """Close the file, and log the answer that it was."""
        promised, self.promised = self.promised, 0  # waitress may close twice
        sent = promised - self.remain
        super().close()
        if promised and self.answer.wrote_header:
            self.answer.log_access(sent, cut=sent < promised)

    def _ended(self) -> OSError:
        return OSError(f"the file ended {self.remain} bytes early")
