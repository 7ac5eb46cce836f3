"""Answers: calling the application, the server's own error answers, and the access log."""

import functools
import io
import json
import logging
import time
import uuid
from typing import Any

from waitress import task
from waitress.channel import ClientDisconnected
from waitress.utilities import BadRequest, Error, RequestEntityTooLarge, RequestHeaderFieldsTooLarge

from .body import Body
from .forwarding import MalformedForwarding
from .logtext import LINE, SHORT, shown
from .parser import Parser
from .relays import wrap_file

access_log = logging.getLogger("pyrimage.access")

UNKNOWN = "-"
BUFFER_BYTES = 65536  # between the application and a streamed body; reads of more bytes bypass it
SETTING_AT_FAULT: dict[type[Error], str] = {
    RequestEntityTooLarge: "max_request_body_size",
    RequestHeaderFieldsTooLarge: "max_request_header_size",
}


def shorten(record: logging.LogRecord) -> bool:
    """Shorten and mask waitress' own log lines, which quote paths and headers as they came."""
    message = record.getMessage()
    short = shown(message, LINE)
    if short != message:
        record.msg, record.args = short, ()
    return True


logging.getLogger("waitress").addFilter(shorten)


class LoggedTask(task.Task):
    """Write one line to the access log when the answer is sent, or was cut short."""

    body_bytes = 0
    file_prepared = False  # then the main loop writes the line, when it closes the file

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
        caller = str(request.environ.get("pyrimage.identity") or UNKNOWN)
        fields = self.log_fields(caller)
        access_log.info(
            "%s %s %s %s %s %dms %s %s",
            shown(request.environ.get("REMOTE_ADDR", self.channel.addr[0])),  # the client's, behind a trusted proxy
            shown(request.command),
            shown(request.request_uri),
            self.status[:3],
            f"{sent}/{'?' if self.content_length is None else self.content_length}" if cut else sent,
            (time.monotonic() - request.began) * 1000,
            fields["request_id"] or UNKNOWN,
            shown(caller, SHORT),
            extra={"request_fields": fields},
        )

    def log_fields(self, caller: str = UNKNOWN) -> dict[str, str | None]:
        """Return what formatters show apart from the text of a line about this request."""
        return {
            "request_id": self.request.environ.get("pyrimage.request_id"),
            "image_id": shown(image_id) if (image_id := self.request.environ.get("pyrimage.image_id")) else None,
            "caller": None if caller == UNKNOWN else caller[:SHORT],
        }


class Task(LoggedTask, task.WSGITask):
    """Call the application, with our additions to its environ."""

    body: Body | None = None  # of a streamed request

    def service(self) -> None:
        """Answer, also where the application lets an error of the body through, or a forwarding header is malformed.

        Waitress would answer these in another shape.
        """
        try:
            super().service()
        except _Refused:
            ErrorTask(self.channel, self.request).service()
            self.close_on_finish = True
        finally:
            if self.environ is not None:  # they refer back to the environ: only the cyclic collector would free it all
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
        """Return waitress' environ with our keys, our file wrapper and the streamed body."""
        environ: dict[str, Any] = super().get_environment()
        request = self.request
        request.environ = environ
        environ["wsgi.file_wrapper"] = functools.partial(wrap_file, self)
        environ["wsgi.multiprocess"] = self.channel.adj.workers > 0
        if request.streaming:
            self.body = Body(self.channel, request)
            environ["wsgi.input"] = io.BufferedReader(self.body, BUFFER_BYTES)
        if request.chunked:
            environ["pyrimage.chunked"] = True
            environ.pop("CONTENT_LENGTH", None)
        if request.forwarded:
            environ["pyrimage.forwarded"] = True
        return environ

    def build_response_header(self) -> bytes:
        """Announce that the connection ends, if the body was not read to its end or the server stops.

        After a body that was not read nobody can tell its rest from the next request.
        """
        if self.body is not None and not self.body.is_complete:
            self.channel.lingers = True
            self.set_close_on_finish()
        elif not self.channel.server.accepting:
            self.set_close_on_finish()
        header: bytes = super().build_response_header()
        return header

    def finish(self) -> None:
        """Give bytes of the next request back to the channel, before the main loop receives more."""
        super().finish()
        if not self.close_on_finish:
            self.channel.received((self.body.pipelined if self.body is not None else b"") + self.request.pipelined)


class _Refused(Exception):
    """The server has to answer: the body failed, or a forwarding header is malformed; ``request.error`` says how."""


class ErrorTask(LoggedTask, task.ErrorTask):
    """Answer a request that the server refuses, or whose application failed, in the JSON shape of pyrimage's errors."""

    def execute(self) -> None:
        """Answer with the error of the request."""
        self.error: Error = self.request.error
        self.request: Parser = self.channel.requests[0]  # for a failed application waitress gives an empty request
        self.request.error = self  # super() calls its to_response()
        self.channel.lingers = True  # the client may still be sending a body
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
