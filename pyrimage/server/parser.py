"""Reading requests: as waitress does, with our headers' names, and without the bodies that are streamed."""

import re
import time
from collections import Counter
from typing import Any

from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.utilities import Error, RequestHeaderFieldsTooLarge

LONGEST_REQUEST_LINE = 8192  # bytes, as in nginx: the main loop decodes its target, and caches may keep it
MOST_LINES = 1000  # of a header; a thousand properties are ten times what most clients can read in an answer
SHOWN_BYTES = 60  # of a line that is refused
LONG = 1024  # bytes of a header from which on it is gathered before it is looked at

# What waitress understands, and of targets only those that HTTP has. Waitress' own patterns try every way to divide
# blanks, or a host's digits, before they refuse a line. In these repetitions are possessive (++ and *+), so that time
# grows with the length alone; and a request line that passes, waitress' pattern matches at its first try.
REQUEST_LINE = re.compile(
    rb"(?:OPTIONS \*|[!#$%&'*+\-.^_`|~0-9A-Z]++ (?:/|[Hh][Tt][Tt][Pp][Ss]?://)[^\x00-\x20\x7f#]*+)"
    rb"(?: HTTP/[0-9]\.[0-9])?"
)
FIELDS = re.compile(rb"(?:\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]++:[\t\x20-\x7e\x80-\xff]*+(?=\r\n))*+")
FOLD = re.compile(rb"\r\n(?=[ \t])")

PREFIX = b"x-image-meta-"
OUR_NAMES = re.compile(rb"(?<=\r\n)x-image-meta-[^:\r\n]*(?=:)", re.IGNORECASE)  # a folded line begins with a blank
FOLDED = re.compile(rb"\r\n(x-image-meta-[^:\r\n]*):[^\r\n]*\r\n[ \t]", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding:[ \t]*chunked[ \t]*\r\n(?![ \t])", re.IGNORECASE)  # once, and alone
NOTED = re.compile(
    rb"\r\n(?:(x-image-meta-[^:\r\n]*|transfer-encoding|content-type)|forwarded|via|x-real-ip|x-forwarded-[^:\r\n]*):",
    re.IGNORECASE,
)


class LineTooLong(Error):
    """The answer to a request line that is longer than anybody needs; no setting changes that."""

    code = 414
    reason = "URI Too Long"


class TooManyLines(RequestHeaderFieldsTooLarge):
    """The answer to a header of more lines than anybody needs; no setting changes that."""


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
    ahead = behind = _tail = b""
    _gathered_bytes = 0

    def __init__(self, adj: Adjustments) -> None:
        super().__init__(adj)
        self.began = time.monotonic()
        self.environ: dict[str, Any] = {}
        self._gathered: list[bytes] = []

    def received(self, data: bytes) -> int:
        """Take in ``data``, or if it holds a request's end all of it; return how much was taken.

        What is refused or has no body gets no "100 Continue": waitress would wait for the body.
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
                self.ahead = rest if self.chunked else rest[: self.content_length]
                self.expects = self.expect_continue
                self.streaming = self.completed = True
                consumed += len(self.ahead)
            else:
                self._watch_time()
        if self.completed:
            self.expect_continue = False
            if self.empty:  # just blank lines, and the more of them at once, the better
                consumed = len(data) - len(data[consumed:].lstrip())
            else:
                self.behind = data[consumed:]
                consumed = len(data)
        return consumed - earlier

    def _is_header_over(self, data: bytes) -> bool:
        """Gather a long header, for waitress would look through all of it with every piece that comes."""
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
        """Refuse what waitress would take too long to read, or what could be read in two ways.

        The second is a name that comes twice, a value of ours that is folded over two lines (it would be stored without
        the line's end), and a body whose length is told in two ways, or in one that HTTP/1.0 does not know.
        """
        first, line_end, rest = header_plus.partition(b"\r\n")
        if len(first) > LONGEST_REQUEST_LINE:
            self.error = LineTooLong(f"The request line has more than {LONGEST_REQUEST_LINE} bytes")
            return
        if not REQUEST_LINE.fullmatch(first.rstrip(b" ")):
            raise ParsingError(
                "The request line must be a method in capitals, a target and HTTP/1.1; the target begins with / or "
                "http:// (or is * behind OPTIONS) and holds no control characters and no #"
            )
        try:
            if rest.count(line_end) > MOST_LINES + 1:  # that of the blank line
                super().parse_header(first + line_end)
                self.error = TooManyLines(f"The header has more than {MOST_LINES} lines")
            else:
                self._parse_fields(first, line_end + rest)
        except ValueError as error:  # waitress would close the connection without an answer
            raise ParsingError("The request target or Content-Length is invalid") from error
        self.began = time.monotonic()

    def _parse_fields(self, first: bytes, lines: bytes) -> None:
        """Read the fields, with hyphens in our names, and let waitress read the rest and act on them."""
        folded: list[bytes] = []
        if PREFIX in lines.lower():
            lines = OUR_NAMES.sub(lambda name: name[0].replace(b"_", b"-"), lines)
            folded = FOLDED.findall(lines)
        # Waitress joins fields of one name; of some, two readers of one request could each believe another one.
        noted = [name.lower().decode("latin-1") for name in NOTED.findall(lines)]
        self.forwarded = "" in noted
        single = list(filter(None, noted))
        for line in split_fields(lines):
            name, _, value = line.partition(":")
            if "_" not in name:  # as waitress: one with hyphens could have been taken out by a server before us
                key, value = name.upper().replace("-", "_"), value.strip(" \t")
                self.headers[key] = f"{self.headers[key]}, {value}" if key in self.headers else value
        connection = self.headers.get("CONNECTION", "")
        if "," in connection and "close" in map(str.strip, connection.lower().split(",")):
            self.headers["CONNECTION"] = "close"  # waitress understands it only where it stands alone
        super().parse_header(first + b"\r\n")
        if len(set(single)) < len(single):  # told only now, when method and target are known
            doubled = ", ".join(name for name, count in Counter(single).items() if count > 1)
            raise ParsingError(f"{doubled}: send it once; a name with _ is the same as with -")
        if folded:
            raise ParsingError(f"{folded[0].decode('latin-1').lower()}: send the value on one line")
        if "transfer-encoding" in single and not (self.chunked and CHUNKED.search(lines)):
            raise ParsingError("Transfer-Encoding: only HTTP/1.1 has it, and only with the value chunked")
        if self.chunked and "CONTENT_LENGTH" in self.headers:
            raise ParsingError("Content-Length and Transfer-Encoding: send one of them")


def split_fields(lines: bytes) -> list[str]:
    """Return header fields, each on one line.

    lines: each behind a line's end, or folded behind several; a line's end or two follow the last. Raises ParsingError
    naming the first that is no field.
    """
    fields = FOLD.sub(b"", lines)
    found = FIELDS.match(fields)
    stop = found.end() if found else 0
    if fields[stop:] not in (b"\r\n\r\n", b"\r\n"):
        line = fields[stop:].removeprefix(b"\r\n").partition(b"\r\n")[0]
        raise ParsingError(f"Malformed header line {line[:SHOWN_BYTES].decode('latin-1')!a}")
    return fields[:stop].decode("latin-1").split("\r\n")[1:]
