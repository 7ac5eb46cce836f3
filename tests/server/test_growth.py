"""S40: no request keeps the loop for long: twice the length takes at most some more than twice the time."""

import contextlib
import threading
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from growth import check_growth
from pyrimage.server.body import MAX_FRAMING, Body
from pyrimage.server.options import read_options
from pyrimage.server.parser import Parser

OPTIONS = read_options({})
LARGEST = OPTIONS.max_request_header_size - 8  # and what stands around it

GET, END = b"GET / HTTP/1.1\r\n", b"\r\n\r\n"
VERSION = b" HTTP/1.1\r\nHost: x" + END
Text = tuple[bytes, bytes, bytes]  # what stands before, what is repeated, and what stands behind


def field(start: bytes, unit: bytes, stop: bytes = b"") -> Text:
    return GET + start, unit, stop + END


HEADS: dict[str, Text] = {
    "blanks before a value": field(b"a:", b" ", b"x"),
    "blanks and tabs before a value": field(b"a:", b" \t", b"x"),
    "blanks before a control character": field(b"a:", b" ", b"\0"),
    "blanks in a value": field(b"a:x", b" ", b"x"),
    "blanks in a broken value": field(b"a:x", b" ", b"\0"),
    "blanks behind a value": field(b"a:x", b" "),
    "words": field(b"a:", b" x"),
    "words before a control character": field(b"a:", b" x", b"\0"),
    "a long name": field(b"", b"a"),
    "a long name and a blank": field(b"", b"a", b" :x"),
    "a long name of ours": field(b"x-image-meta-", b"_", b":x"),
    "a long name of ours without a colon": field(b"x-image-meta-", b"_"),
    "names of ours without a colon": field(b"", b"x-image-meta-"),
    "colons": field(b"", b":"),
    "lines": (GET, b"a:b\r\n", b"\r\n"),
    "lines of ours": (GET, b"x-image-meta-a:b\r\n", b"\r\n"),
    "long lines of one name": (GET, b"a:" + b"b" * 250 + b"\r\n", b"\r\n"),
    "folded lines": field(b"a:", b"\r\n ", b"x"),
    "long folded lines": field(b"a:", b"\r\n" + b" " * 1000, b"\r\nb:c"),
    "folded lines of ours": field(b"x-image-meta-a:", b"\r\n " + b"\t" * 300, b"x"),
    "folds of a coding": field(b"transfer-encoding:", b"\r\n " + b" " * 300, b"chunked"),
    "blanks before a coding": field(b"transfer-encoding:", b" ", b"chunked"),
    "commas of a coding": field(b"transfer-encoding:", b",", b"chunked"),
    "tokens of a connection": field(b"connection:", b"close,"),
    "blank lines": (b"", b"\r\n", GET + b"\r\n"),
    "blanks before the request": (b"", b" ", GET + b"\r\n"),
    "bare carriage returns": field(b"a:", b"\r"),
    "bare line feeds": field(b"a:", b"\n"),
    "digits of a length": field(b"content-length:", b"9"),
    # the request line
    "a path": (b"GET /", b"a", VERSION),
    "a path of slashes": (b"GET ", b"/", VERSION),
    "an encoded path": (b"GET /", b"%2f", VERSION),
    "a host of digits": (b"GET http://", b"1", VERSION),
    "a host of digits, broken": (b"GET http://", b"1", b" x" + END),
    "a port": (b"GET http://127.0.0.1:", b"1", VERSION),
    "names of users": (b"GET http://", b"a@", VERSION),
    "an address": (b"GET http://[", b"1:", b"]" + VERSION),
    "an address of a future version": (b"GET http://[v1", b".", VERSION),
    "schemes": (b"GET ", b"http://", VERSION),
    "a scheme": (b"GET ", b"a", b"://x" + VERSION),
    "question marks": (b"GET /", b"?", VERSION),
    "bytes beyond ASCII": (b"GET //", b"\xff", VERSION),
    "a method": (b"", b"G", b" /" + VERSION),
    "blanks behind the target": (b"GET /", b" ", END),
    "blanks and a version": (b"GET /", b" ", VERSION),
}
FRAMINGS: dict[str, Text] = {
    "names of extensions": (b"1", b";a", b"\r\nx\r\n0\r\n\r\n"),
    "an extension's value": (b"1;a=", b"b", b"\r\nx\r\n0\r\n\r\n"),
    "a quoted value": (b'1;a="', b'\\"', b'"\r\nx\r\n0\r\n\r\n'),
    "quoted values and a fault": (b"1", b';a="b"', b"\0\r\nx\r\n0\r\n\r\n"),
    "names of extensions and a fault": (b"1", b";a", b"\0\r\nx\r\n0\r\n\r\n"),
    "digits without an end": (b"", b"0", b""),
    "blanks in a trailer": (b"0\r\na:", b" ", b"x" + END),
    "folds of a trailer": (b"0\r\na:", b"\r\n ", b"x" + END),
    "a trailer without a colon": (b"0\r\n", b"a", END),
    "a trailer without an end": (b"0\r\n", b"a:b\r\n", b""),
}
CHUNKS: dict[str, Text] = {
    "small chunks": (b"", b"1\r\nx\r\n", b"0\r\n\r\n"),
    "small chunks with extensions": (b"", b"1;a=b\r\nx\r\n", b"0\r\n\r\n"),
    "one chunk": (b"%x\r\n" % LARGEST, b"x", b""),
}


def check(read: Callable[[bytes], None], text: Text, largest: int) -> None:
    head, unit, tail = text
    check_growth(read, lambda length: head + unit * ((length - len(head) - len(tail)) // len(unit)) + tail, largest)


def read_head(raw: bytes) -> None:
    """Take in all, as a channel does: one parser for each request."""
    while raw:
        parser = Parser(OPTIONS)
        taken = parser.received(raw)
        raw = raw[taken:]
        parser.close()


def read_chunks(raw: bytes) -> None:
    """Read a body that came with its header."""
    parser = Parser(OPTIONS)
    parser.received(GET.replace(b"GET", b"PUT") + b"Transfer-Encoding: chunked" + END + raw)
    body = Body(SimpleNamespace(adj=OPTIONS, outbuf_lock=threading.Lock(), connected=False), parser)
    with contextlib.suppress(ValueError, ConnectionError):
        while body.read(65536):
            pass
    parser.close()


@pytest.mark.parametrize("text", HEADS.values(), ids=HEADS)
def test_a_head_is_read_in_time_that_grows_with_its_length(text: Text) -> None:
    check(read_head, text, LARGEST)


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_a_header_that_comes_in_pieces_is_read_in_time_that_grows_with_its_length(size: int) -> None:
    def read_pieces(raw: bytes) -> None:
        parser = Parser(OPTIONS)
        for start in range(0, len(raw), size):
            parser.received(raw[start : start + size])

    check(read_pieces, field(b"a:", b"x"), LARGEST)


@pytest.mark.parametrize("text", FRAMINGS.values(), ids=FRAMINGS)
def test_the_framing_of_chunks_is_read_in_time_that_grows_with_its_length(text: Text) -> None:
    check(read_chunks, text, MAX_FRAMING)


@pytest.mark.parametrize("text", CHUNKS.values(), ids=CHUNKS)
def test_chunks_are_read_in_time_that_grows_with_their_number(text: Text) -> None:
    check(read_chunks, text, LARGEST)
