"""Reading requests: as waitress does, with our headers' names, and without the bodies that are streamed."""

import re
import time
from collections import Counter
from typing import Any

from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.utilities import Error

PREFIX = b"x-image-meta-"
OUR_NAMES = re.compile(rb"(?<=\r\n)x-image-meta-[^:\r\n]*(?=:)", re.IGNORECASE)  # a folded line begins with a blank
FOLDED = re.compile(rb"\r\n(x-image-meta-[^:\r\n]*):[^\r\n]*\r\n[ \t]", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n(?![ \t])", re.IGNORECASE)  # once, and alone
NOTED = re.compile(
    rb"\r\n(?:(x-image-meta-[^:\r\n]*|transfer-encoding|content-type)|forwarded|via|x-real-ip|x-forwarded-[^:\r\n]*):",
    re.IGNORECASE,
)


class RequestTimeout(Error):
    """The answer to a request that comes too slowly."""

    code = 408
    reason = "Request Timeout"


class Parser(HTTPRequestParser):
    """Read a request as waitress does, but keep the headers that begin with ``x-image-meta-``.

    A request whose body is long or chunked is complete with its header: ``streaming`` is True then, ``ahead`` what
    came of the body, and ``expects`` whether the client waits for "100 Continue" before it sends the rest.

    behind: what came after a complete request. It is read when that is answered, for a client could send any number of
    requests in advance.
    """

    completed: bool
    expect_continue: bool
    error: Error | None
    command = path = request_uri = "-"  # for the log, where the request is too broken to tell
    streaming = expects = forwarded = False
    ahead = behind = b""

    def __init__(self, adj: Adjustments) -> None:
        super().__init__(adj)
        self.began = time.monotonic()
        self.environ: dict[str, Any] = {}

    def received(self, data: bytes) -> int:
        """Take in ``data``, or if it holds a request's end all of it; return how much was taken.

        What is refused or has no body gets no "100 Continue": waitress would wait for the body.
        """
        if self.completed:
            return 0
        consumed: int = super().received(data)
        if not self.completed:
            if self.headers_finished and (self.chunked or self.content_length > self.adj.inbuf_overflow):
                rest = data[consumed:]
                self.ahead = rest if self.chunked else rest[: self.content_length]
                self.expects = self.expect_continue
                self.streaming = self.completed = True
                consumed += len(self.ahead)
            elif time.monotonic() - self.began > self.adj.channel_timeout:
                text = f"The request was not complete within {self.adj.channel_timeout} s (channel_timeout)"
                self.error = RequestTimeout(text)
                self.completed = True
        if self.completed:
            self.expect_continue = False
            if not self.empty:  # not just blank lines
                self.behind = data[consumed:]
                consumed = len(data)
        return consumed

    def parse_header(self, header_plus: bytes) -> None:
        """Write our headers' names with hyphens, for waitress drops the others; refuse what could be read in two ways.

        That is a name that comes twice, a value of ours that is folded over two lines (it would be stored without the
        line's end), and a body whose length is told in two ways, or in one that HTTP/1.0 does not know.
        """
        folded: list[bytes] = []
        if PREFIX in header_plus.lower():
            header_plus = OUR_NAMES.sub(lambda name: name[0].replace(b"_", b"-"), header_plus)
            folded = FOLDED.findall(header_plus)
        # Waitress joins fields of one name; of some, two readers of one request could each believe another one.
        noted = [name.lower().decode("latin-1") for name in NOTED.findall(header_plus)]
        self.forwarded = "" in noted
        single = list(filter(None, noted))
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # waitress would close the connection without an answer
            raise ParsingError("The request target or Content-Length is invalid") from error
        if len(set(single)) < len(single):  # told only now, when method and target are known
            doubled = ", ".join(name for name, count in Counter(single).items() if count > 1)
            raise ParsingError(f"{doubled}: send it once; a name with _ is the same as with -")
        if folded:
            raise ParsingError(f"{folded[0].decode('latin-1').lower()}: send the value on one line")
        if "transfer-encoding" in single and not (self.chunked and CHUNKED.search(header_plus)):
            raise ParsingError("Transfer-Encoding: only HTTP/1.1 has it, and only with the value chunked")
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding: send one of them")
        self.began = time.monotonic()
