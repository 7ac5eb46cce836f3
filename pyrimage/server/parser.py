"""The request parser: waitress', with underscores in our header names, stricter, and without streamed bodies."""

import re
import time
from collections import Counter
from typing import Any

from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.utilities import Error, RequestHeaderFieldsTooLarge

MAX_REQUEST_LINE = 8192  # bytes, as in nginx: the main loop decodes its target, and caches may keep it
MAX_LINES = 1000  # of a header; most clients accept only a hundred in an answer
SHOWN_BYTES = 60  # of a refused line, in the answer
LONG = 1024  # bytes of a header above which its further pieces are joined only at its end

# What waitress accepts, but of request targets only the forms of RFC 9112. Waitress' own patterns backtrack for minutes
# over long runs of blanks or digits. These do not (++ and *+ are possessive), and a request line that they accept is
# matched by waitress' pattern without backtracking.
REQUEST_LINE = re.compile(
    rb"(?:OPTIONS \*|[!#$%&'*+\-.^_`|~0-9A-Z]++ (?:/|[Hh][Tt][Tt][Pp][Ss]?://)[^\x00-\x20\x7f#]*+)"
    rb"(?: HTTP/[0-9]\.[0-9])?"
)
FIELDS = re.compile(rb"(?:\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+(?=\r\n))*+")
FOLD = re.compile(rb"\r\n(?=[ \t])")

PREFIX = b"x-image-meta-"
OUR_NAMES = re.compile(rb"(?<=\r\n)x-image-meta-[^:\r\n]*(?=:)", re.IGNORECASE)  # not in a folded line
FOLDED = re.compile(rb"\r\n(x-image-meta-[^:\r\n]*):[^\r\n]*\r\n[ \t]", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n(?![ \t])", re.IGNORECASE)  # alone on its line
NOTED = re.compile(
    rb"\r\n(?:(x-image-meta-[^:\r\n]*|transfer-encoding|content-type)|forwarded|via|x-real-ip|x-forwarded-[^:\r\n]*):",
    re.IGNORECASE,
)


class LineTooLong(Error):
    """The answer to a request line of more than MAX_REQUEST_LINE bytes, which no setting changes."""

    code = 414
    reason = "URI Too Long"


class TooManyLines(RequestHeaderFieldsTooLarge):
    """The answer to a header of more than MAX_LINES lines, which no setting changes."""


class RequestTimeout(Error):
    """The answer to a request that comes too slowly."""

    code = 408
    reason = "Request Timeout"


class Parser(HTTPRequestParser):
    """Read a request as waitress does, but keep headers with underscores that begin with ``x-image-meta-``.

    A request with a long or chunked body is complete when its header is. Then ``streaming`` is True, ``body_start``
    holds the bytes of the body that came with the header, and ``expects_continue`` tells whether the client waits for
    "100 Continue" before it sends the rest.

    pipelined: bytes that came after a complete request. They are parsed only when it is answered, for a client can send
    any number of requests in advance.
    """

    completed: bool
    expect_continue: bool
    error: Error | None
    command = path = request_uri = "-"  # for the access log, where the request line is malformed
    streaming = expects_continue = forwarded = False
    body_start = pipelined = _tail = b""
    _gathered_bytes = 0

    def __init__(self, adj: Adjustments) -> None:
        super().__init__(adj)
        self.began = time.monotonic()
        self.environ: dict[str, Any] = {}
        self._gathered: list[bytes] = []

    def received(self, data: bytes) -> int:
        """Take bytes of the request; return how many were taken: all where the request ends, the rest as ``pipelined``.

        A request that is refused or has no body gets no "100 Continue": waitress would send it, and wait for the body.
        """
        if self.completed:
            return 0
        earlier = 0
        if len(self.header_plus) >= LONG and not self.headers_finished:
            if not self._is_header_over(data):
                self._watch_time()
                return len(data)
            earlier, data = self._gathered_bytes - len(data), b"".join(self._gathered)
        consumed: int = super().received(data)
        if not self.completed:
            if self.headers_finished and (self.chunked or self.content_length > self.adj.inbuf_overflow):
                rest = data[consumed:]
                self.body_start = rest if self.chunked else rest[: self.content_length]
                self.expects_continue = self.expect_continue
                self.streaming = self.completed = True
                consumed += len(self.body_start)
            else:
                self._watch_time()
        if self.completed:
            self.expect_continue = False
            if self.empty:  # blank lines alone: take all of them at once, for each call costs time
                consumed = len(data) - len(data[consumed:].lstrip())
            else:
                self.pipelined = data[consumed:]
                consumed = len(data)
        return consumed - earlier

    def _is_header_over(self, data: bytes) -> bool:
        """Collect a piece of a long header: waitress would search all of it each time. Tell if it is complete."""
        if not self._gathered:
            self._tail = self.header_plus
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        seen = self._tail[-3:] + data
        self._tail = seen[-3:]
        is_too_long = len(self.header_plus) + self._gathered_bytes >= self.adj.max_request_header_size
        return b"\r\n\r\n" in seen or is_too_long

    def _watch_time(self) -> None:
        if time.monotonic() - self.began > self.adj.channel_timeout:
            text = f"The request was not complete within {self.adj.channel_timeout} s (channel_timeout)"
            self.error = RequestTimeout(text)
            self.completed = True

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the header. Refuse what would take waitress long, and what two servers could understand differently.

        The second are: a field that may come once and comes twice, an ``x-image-meta-`` value that is folded over
        several lines, both Content-Length and Transfer-Encoding, and Transfer-Encoding in HTTP/1.0.
        """
        first, line_end, rest = header_plus.partition(b"\r\n")
        if len(first) > MAX_REQUEST_LINE:
            self.error = LineTooLong(f"The request line has more than {MAX_REQUEST_LINE} bytes")
            return
        if not REQUEST_LINE.fullmatch(first.rstrip(b" ")):
            raise ParsingError(
                "The request line must be a method in capitals, a target and HTTP/1.1; the target begins with / or "
                "http:// (or is * behind OPTIONS) and holds no control characters and no #"
            )
        try:
            if rest.count(line_end) > MAX_LINES + 1:  # that of the blank line
                super().parse_header(first + line_end)
                self.error = TooManyLines(f"The header has more than {MAX_LINES} lines")
            else:
                self._parse_fields(first, line_end + rest)
        except ValueError as error:  # waitress would close the connection without an answer
            raise ParsingError("The request target or Content-Length is invalid") from error
        self.began = time.monotonic()

    def _parse_fields(self, first: bytes, lines: bytes) -> None:
        """Parse the fields, with hyphens for underscores in our names; waitress parses the rest and acts on them."""
        folded: list[bytes] = []
        if PREFIX in lines.lower():
            lines = OUR_NAMES.sub(lambda name: name[0].replace(b"_", b"-"), lines)
            folded = FOLDED.findall(lines)
        # Waitress joins fields of the same name. Of these fields another server might take the first one, or the last.
        noted = [name.lower().decode("latin-1") for name in NOTED.findall(lines)]
        self.forwarded = "" in noted
        single = list(filter(None, noted))
        for line in split_fields(lines):
            name, _, value = line.partition(":")
            if "_" not in name:  # as waitress: a proxy may have removed the field that has hyphens there
                key, value = name.upper().replace("-", "_"), value.strip(" \t")
                self.headers[key] = f"{self.headers[key]}, {value}" if key in self.headers else value
        connection = self.headers.get("CONNECTION", "")
        if "," in connection and "close" in map(str.strip, connection.lower().split(",")):
            self.headers["CONNECTION"] = "close"  # waitress knows it only without other tokens
        super().parse_header(first + b"\r\n")
        if len(set(single)) < len(single):  # only now, so that method and target are known to the access log
            doubled = ", ".join(name for name, count in Counter(single).items() if count > 1)
            raise ParsingError(f"{doubled}: send it once; a name with _ is the same as with -")
        if folded:
            raise ParsingError(f"{folded[0].decode('latin-1').lower()}: send the value on one line")
        if "transfer-encoding" in single and not (self.chunked and CHUNKED.search(lines)):
            raise ParsingError("Transfer-Encoding: only HTTP/1.1 has it, and only with the value chunked")
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding: send one of them")


def split_fields(lines: bytes) -> list[str]:
    """Split a header into its fields, unfolded.

    lines: every line follows a CR LF, and one or two of these end it all. Raises ParsingError naming the first line
    that is no field.
    """
    fields = FOLD.sub(b"", lines)
    found = FIELDS.match(fields)
    stop = found.end() if found else 0
    if fields[stop:] not in (b"\r\n\r\n", b"\r\n"):
        line = fields[stop:].removeprefix(b"\r\n").partition(b"\r\n")[0]
        raise ParsingError(f"Malformed header line {line[:SHOWN_BYTES].decode('latin-1')!a}")
    return fields[:stop].decode("latin-1").split("\r\n")[1:]
