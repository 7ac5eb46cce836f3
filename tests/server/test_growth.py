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


def filled(head: bytes, unit: bytes, tail: bytes = b"") -> Callable[[int], bytes]:
    """Return a maker of texts that repeat ``unit``."""

    def make(length: int) -> bytes:
        return head + unit * ((length - len(head) - len(tail)) // len(unit)) + tail

    return make


GET, END = b"GET / HTTP/1.1\r\n", b"\r\n\r\n"
VERSION = b" HTTP/1.1\r\nHost: x" + END
HEADERS = {
    "blanks before a value": filled(GET + b"a:", b" ", b"x" + END),
    "tabs before a value": filled(GET + b"a:", b"\t", b"x" + END),
    "blanks and tabs before a value": filled(GET + b"a:", b" \t", b"x" + END),
    "blanks before a control character": filled(GET + b"a:", b" ", b"\0" + END),
    "blanks in a value": filled(GET + b"a:x", b" ", b"x" + END),
    "blanks in a broken value": filled(GET + b"a:x", b" ", b"\0" + END),
    "blanks behind a value": filled(GET + b"a:x", b" ", END),
    "no value but blanks": filled(GET + b"a:", b" ", END),
    "words": filled(GET + b"a:", b" x", END),
    "words before a control character": filled(GET + b"a:", b" x", b"\0" + END),
    "long words before a control character": filled(GET + b"a:", b"xxxxxxxxx   ", b"\0" + END),
    "a long name": filled(GET, b"a", END),
    "a long name with a value": filled(GET, b"a", b":x" + END),
    "a long name and a blank": filled(GET, b"a", b" :x" + END),
    "a long name of ours": filled(GET + b"x-image-meta-", b"_", b":x" + END),
    "a long name of ours without a colon": filled(GET + b"x-image-meta-", b"_", END),
    "names of ours without a colon": filled(GET, b"x-image-meta-", END),
    "colons": filled(GET, b":", END),
    "lines": filled(GET, b"a:b\r\n", b"\r\n"),
    "lines of ours": filled(GET, b"x-image-meta-a:b\r\n", b"\r\n"),
    "a thousand lines of one name": lambda length: filled(GET, b"a:" + b"b" * (length // 1000 - 8) + b"\r\n", b"\r\n")(
        length
    ),
    "a thousand folded lines": lambda length: filled(GET + b"a:b\r\n", b" " * (length // 1000 - 8) + b"\r\n", b"\r\n")(
        length
    ),
    "folded lines": filled(GET + b"a:", b"\r\n ", b"x" + END),
    "folded lines of tabs": filled(GET + b"a:", b"\r\n\t\t\t\t\t\t\t", b"x" + END),
    "long folded lines": filled(GET + b"a:", b"\r\n" + b" " * 1000, b"\r\nb:c" + END),
    "folded lines of ours": filled(GET + b"x-image-meta-a:", b"\r\n " + b"\t" * 300, b"x" + END),
    "folds of an encoding": filled(GET + b"transfer-encoding:", b"\r\n " + b" " * 300, b"chunked" + END),
    "blanks before an encoding": filled(GET + b"transfer-encoding:", b" ", b"chunked" + END),
    "an encoding's commas": filled(GET + b"transfer-encoding:", b",", b"chunked" + END),
    "tokens of a connection": filled(GET + b"connection:", b"close,", END),
    "blank lines": filled(b"", b"\r\n", GET + b"\r\n"),
    "blanks before the request": filled(b"", b" ", GET + b"\r\n"),
    "bare carriage returns": filled(GET + b"a:", b"\r", END),
    "bare line feeds": filled(GET + b"a:", b"\n", END),
    "digits of a length": filled(GET + b"content-length:", b"9", END),
}
TARGETS = {
    "a path": filled(b"GET /", b"a", VERSION),
    "a path of slashes": filled(b"GET ", b"/", VERSION),
    "a path of percent signs": filled(b"GET /", b"%", VERSION),
    "an encoded path": filled(b"GET /", b"%2f", VERSION),
    "a host of digits and a blank": filled(b"GET a://", b"1", b" x" + END),
    "a host of digits": filled(b"GET http://", b"1", VERSION),
    "a host of digits, broken": filled(b"GET http://", b"1", b" x" + END),
    "a host of dots": filled(b"GET h://", b"a.", b" x" + END),
    "a port": filled(b"GET http://127.0.0.1:", b"1", VERSION),
    "a port, broken": filled(b"GET http://127.0.0.1:", b"1", b" x" + END),
    "names of users": filled(b"GET http://", b"a@", VERSION),
    "names of users, broken": filled(b"GET http://", b"a@", b" x" + END),
    "an address": filled(b"GET http://[", b"1:", b"]" + VERSION),
    "an address of a future version": filled(b"GET http://[v", b"1", b".]" + VERSION),
    "an address of a future version, broken": filled(b"GET http://[v1", b".", VERSION),
    "brackets": filled(b"GET http://", b"[", VERSION),
    "schemes": filled(b"GET ", b"http://", VERSION),
    "a scheme": filled(b"GET ", b"a", b"://x" + VERSION),
    "question marks": filled(b"GET /", b"?", VERSION),
    "hashes": filled(b"GET /", b"#", VERSION),
    "bytes beyond ASCII": filled(b"GET //", b"\xff", VERSION),
    "a method": filled(b"", b"G", b" /" + VERSION),
    "a small method": filled(b"", b"g", b" /" + VERSION),
    "blanks behind the target": filled(b"GET /", b" ", END),
    "tabs behind the version": filled(b"GET / HTTP/1.1", b"\t", END),
    "blanks and a version": filled(b"GET /", b" ", VERSION),
}
HEADS = {**HEADERS, **TARGETS}


def read(raw: bytes) -> None:
    """Take in all, as a channel does: one parser for each request."""
    while raw:
        parser = Parser(OPTIONS)
        taken = parser.received(raw)
        raw = raw[taken:]
        parser.close()


@pytest.mark.parametrize("make", HEADS.values(), ids=HEADS)
def test_a_head_is_read_in_time_that_grows_with_its_length(make: Callable[[int], bytes]) -> None:
    check_growth(read, make, LARGEST)


@pytest.mark.parametrize("size", [1, 100, 5000])
def test_a_header_that_comes_in_pieces_is_read_in_time_that_grows_with_its_length(size: int) -> None:
    def read_pieces(raw: bytes) -> None:
        parser = Parser(OPTIONS)
        for start in range(0, len(raw), size):
            parser.received(raw[start : start + size])

    check_growth(read_pieces, filled(GET + b"a:", b"x", END), LARGEST)


FRAMINGS = {
    "names of extensions": filled(b"1", b";a", b"\r\nx\r\n0\r\n\r\n"),
    "an extension's name": filled(b"1;", b"a", b"\r\nx\r\n0\r\n\r\n"),
    "an extension's value": filled(b"1;a=", b"b", b"\r\nx\r\n0\r\n\r\n"),
    "a quoted value": filled(b'1;a="', b'\\"', b'"\r\nx\r\n0\r\n\r\n'),
    "a quoted value that does not end": filled(b'1;a="', b"b", b"\r\nx\r\n0\r\n\r\n"),
    "quoted values and a fault": filled(b"1", b';a="b"', b"\0\r\nx\r\n0\r\n\r\n"),
    "names of extensions and a fault": filled(b"1", b";a", b"\0\r\nx\r\n0\r\n\r\n"),
    "digits": filled(b"", b"0", b"\r\n\r\n"),
    "digits without an end": filled(b"", b"0"),
    "a trailer": filled(b"0\r\na:", b"b ", END),
    "blanks in a trailer": filled(b"0\r\na:", b" ", b"x" + END),
    "folds of a trailer": filled(b"0\r\na:", b"\r\n ", b"x" + END),
    "a trailer without a colon": filled(b"0\r\n", b"a", END),
    "a trailer without an end": filled(b"0\r\n", b"a:b\r\n"),
}
CHUNKS = {
    "small chunks": filled(b"", b"1\r\nx\r\n", b"0\r\n\r\n"),
    "small chunks with extensions": filled(b"", b"1;a=b\r\nx\r\n", b"0\r\n\r\n"),
    "one chunk": lambda length: b"%x\r\n%b\r\n0\r\n\r\n" % (length, b"x" * length),
}


def read_chunks(raw: bytes) -> None:
    """Read a body that came with its header."""
    parser = Parser(OPTIONS)
    parser.received(GET.replace(b"GET", b"PUT") + b"Transfer-Encoding: chunked" + END + raw)
    body = Body(SimpleNamespace(adj=OPTIONS, outbuf_lock=threading.Lock(), connected=False), parser)
    with contextlib.suppress(ValueError, ConnectionError):
        while body.read(65536):
            pass
    parser.close()


@pytest.mark.parametrize("make", FRAMINGS.values(), ids=FRAMINGS)
def test_the_framing_of_chunks_is_read_in_time_that_grows_with_its_length(make: Callable[[int], bytes]) -> None:
    check_growth(read_chunks, make, MAX_FRAMING)


@pytest.mark.parametrize("make", CHUNKS.values(), ids=CHUNKS)
def test_chunks_are_read_in_time_that_grows_with_their_number(make: Callable[[int], bytes]) -> None:
    check_growth(read_chunks, make, LARGEST)
