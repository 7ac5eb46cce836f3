"""Any bytes: they are understood as waitress understands them, or refused, and never read too far or for ever."""

import contextlib
import re
import socket
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from waitress.parser import HTTPRequestParser

from pyrimage.server.body import Body
from pyrimage.server.channel import Channel
from pyrimage.server.options import Options, read_options
from pyrimage.server.parser import PREFIX, Parser
from pyrimage.server.serving import Serving

BUFFERED = read_options({"max_request_body_size": "5000", "max_request_header_size": "2000"})
STREAMED = read_options({"inbuf_overflow": "0", "max_request_body_size": "5000", "max_request_header_size": "2000"})

# What a request may be made of: lines that mean something, and such as only look like it.
STARTS = ["GET / HTTP/1.1", "PUT /a_b HTTP/1.0", "get /", "POST //x?y_z HTTP/1.1", "PUT http://a/b HTTP/1.1", "PUT /"]
ODD_STARTS = [
    "OPTIONS * HTTP/1.1",
    "GET * HTTP/1.1",
    "GET a+b://c/d HTTP/1.1",
    "GET /a\tb HTTP/1.1",
    "GET /  HTTP/1.1  ",
]
NAMES = ["Content-Length", "Transfer-Encoding", "Expect", "Connection", "Host", "content_length", "x_image_meta_a"]
TEXTS = ["chunked", "\x0bchunked", "5", "20", "+5", "0x5", "100-continue", "close", "a\r\n x-image-meta-b_c: d", "a\nb"]
BLANKS = ["  \t a \t  b  ", "\r\n  \r\n\t\t5", " \r\n ", "a, close", "keep-alive,close ,b"]
HEADER = st.tuples(
    st.sampled_from([*NAMES, "x-image-met-a_b", "X-Image-Meta"]) | st.text("aZ-_:\x0b é", max_size=5),
    st.sampled_from(TEXTS) | st.sampled_from(BLANKS) | st.text("aZ0_: ,\t\r\n\x00\xff", max_size=6),
)
OUR_NAME = st.text("aZ-_.", max_size=6).map("X-Image-Meta-{}".format)
DATA = [b"3\r\nabc\r\n", b"a\r\n0123456789\r\n", b"3;a=b\r\nabc\r\n", b"\r\n"]
PIECES = [*DATA, b"0\r\n\r\n", b"0\r\nA: b\r\n\r\n", b"GET / HTTP/1.1\r\n\r\n"]
BROKEN = [
    b"3\r\nabcd\r\n",
    b"0x3\r\n",
    b"3;\0\r\n",
    b"3\n",
    b"-1\r\n",
    b"3\r\nab",
    b"\r",
    b"x" * 40,
    b"3;a=" + b"b" * 900,
    b"3\n\r\nabc\r\n",
    b"0" * 16 + b"3\r\nabc\r\n",
    b"0\r\n\n",
    b"0\r\nA\r\n\r\n",
]
BODY = st.lists(
    st.sampled_from(DATA) | st.sampled_from(PIECES) | st.sampled_from(PIECES + BROKEN) | st.binary(max_size=8),
    max_size=8,
).map(b"".join)


@contextlib.contextmanager
def holding(server: Serving, rest: bytes, options: Options) -> Iterator[Channel]:
    """Give a channel from whose client ``rest`` will come, and then the end."""
    (listener,) = server.listeners
    ours, client = socket.socketpair()
    channel = Channel(listener, ours, ("", 0), options, map=server.channels)
    with client:
        client.sendall(rest)
        client.shutdown(socket.SHUT_WR)
        yield channel
    channel.lingers = False
    channel.handle_close()


def fed(parser: Any, raw: bytes, splits: list[int]) -> tuple[Any, bytes]:
    """Give a parser the pieces of ``raw``, as a channel does; return it with what it did not take."""
    cuts = sorted({split % (len(raw) + 1) for split in splits} | {len(raw)})
    start = 0
    for cut in cuts:
        while start < cut and not parser.completed:
            taken = parser.received(raw[start:cut])
            assert 0 < taken <= cut - start
            start += taken
    return parser, getattr(parser, "pipelined", b"") + raw[start:]


class Read:
    """What came out of a body: bytes, or why not, and what followed it on the connection."""

    def __init__(self, server: Serving, parser: Parser, rest: bytes, sizes: list[int]) -> None:
        self.content, self.error = b"", ""
        with holding(server, rest, parser.adj) as channel:
            body = Body(channel, parser)
            try:
                for size in sizes + [4096] * 10000:
                    buffer = bytearray(size)
                    count = body.readinto(buffer)
                    assert count <= size
                    assert bytes(buffer[count:]) == bytes(size - count)
                    if not count:
                        break
                    self.content += buffer[:count]
                else:
                    pytest.fail("it does not end")
            except (OSError, ValueError) as error:
                self.error = str(error)
                with pytest.raises(type(error)):
                    body.readinto(bytearray(1))
            assert body.is_complete is not bool(self.error)
            left = channel.socket.recv(100000) if body.is_complete else b""
            self.rest = body.pipelined + left
            body.release()


SPLITS = st.lists(st.integers(0, 3000), max_size=4)
SIZES = st.lists(st.integers(1, 50), max_size=6)


def hyphenated(name: str) -> str:
    return name.lower().replace("_", "-")


NOTES = {
    "adj",
    "error",
    "body_rcv",
    "began",
    "environ",
    "expect_continue",
    "expects_continue",
    "streaming",
    "body_start",
    "pipelined",
}
GATHERED = {"header_plus", "_gathered", "_gathered_bytes", "_tail"}  # the text
NOT_COMPARED = NOTES | GATHERED | {"forwarded", "connection_close"}  # of the last, the headers tell
WHILE_READING = {"completed", "body_bytes_received", "headers"}  # waitress goes on to change these
AS_WAITRESS = ("Malformed header line", "The request line must be")  # refuses them too, in other words
REFUSED_BY_US = ("send it once", "only HTTP/1.1 has it", "send one of them", "send the value on one line")
FRAMING_REFUSED_BY_US = ("Chunk size: ", "Trailer: ")


def is_target(start: bytes) -> bool:
    """Tell whether the request line has a target that is one in HTTP."""
    words = start.split(b" ")
    if words[:2] == [b"OPTIONS", b"*"]:
        return True
    target = words[1].lower() if len(words) > 1 else b""
    return target.startswith((b"/", b"http://", b"https://")) and not any(byte < 33 or byte == 127 for byte in target)


def note_close(stock: Any) -> None:
    """Note that a connection ends, which waitress overlooks where it is told something else, too."""
    if "close" in re.split("[ \t]*,[ \t]*", stock.headers.get("CONNECTION", "").lower()):
        stock.headers["CONNECTION"] = "close"


def understood(parser: Any, but: Iterable[str] = ()) -> dict[str, Any]:
    """Return what a parser made of a request, but for what only ours notes."""
    return {name: value for name, value in vars(parser).items() if name not in NOT_COMPARED.union(but)}


def fault(parser: Any) -> str:
    return f"{parser.error.code} {parser.error.body}" if parser.error else ""


def has_reason_to_refuse(raw: bytes) -> bool:
    """Tell whether S48 or a header of ours can be why waitress 3.0.2 takes what we do not."""
    head = raw.lower().partition(b"\r\n\r\n")[0]
    twice = any(head.count(b"\r\n" + name) > 1 for name in (b"transfer-encoding:", b"content-type:", PREFIX))
    encoded = b"\r\ntransfer-encoding:" in head
    alone = b"\r\ncontent-length:" not in head and b"chunked" in head and b" http/1.1" in head
    return twice or (encoded and not alone) or (PREFIX in head and b"\r\n " in head)


def has_reason_to_refuse_framing(raw: bytes) -> bool:
    """Tell whether S48 can be why waitress takes framing that we do not."""
    body = raw.partition(b"\r\n\r\n")[2]
    return re.search(rb"(?<!\r)\n|\r(?!\n)|[0-9A-Fa-f]{17}", body) is not None or b"0\r\n" in body


def alike(text: bytes) -> bytes:
    """Make texts equal that differ in how our headers are spelt, for a body may hold what looks like one."""
    return text.lower().replace(b"_", b"-")


def compare(server: Serving, ours: bytes, stocks: bytes, options: Options, splits: list[int], sizes: list[int]) -> None:
    """Let both read a request, and find no difference but the intended ones.

    What comes out was sent, in order; the rest is a request only behind a body that ended well.
    """
    stock, stock_rest = fed(HTTPRequestParser(options), stocks, splits)
    parser, rest = fed(Parser(options), ours, splits)
    note_close(stock)
    if any(text in fault(parser) for text in AS_WAITRESS):
        assert fault(stock).startswith("400 ") or not is_target(ours.partition(b"\r\n")[0])
    elif any(text in fault(parser) for text in REFUSED_BY_US):
        assert has_reason_to_refuse(ours)
    elif parser.streaming:
        assert understood(parser, WHILE_READING) == understood(stock, WHILE_READING)
        if parser.chunked:  # waitress makes one up
            stock.headers.pop("CONTENT_LENGTH", None)
        assert parser.headers == stock.headers
        read = Read(server, parser, rest, sizes)
        assert ours.endswith(read.rest if parser.chunked or read.error else read.content + read.rest)
        assert not read.error or not read.rest
        body = alike(stock.get_body_stream().read())
        if any(text in read.error for text in FRAMING_REFUSED_BY_US):
            assert has_reason_to_refuse_framing(ours)
        elif stock.error:
            assert f"400 {read.error}" == fault(stock)
        elif stock.completed:
            assert (alike(read.content), read.error, alike(read.rest)) == (body, "", alike(stock_rest))
        else:
            assert (alike(read.content), read.error) == (body, "the client left")
    else:
        assert (understood(parser), fault(parser)) == (understood(stock), fault(stock))
        assert alike(rest) == alike(stock_rest)
        assert alike(parser.get_body_stream().read()) == alike(stock.get_body_stream().read())
    parser.close()
    stock.close()


@settings(max_examples=250)
@given(
    st.sampled_from(STARTS[:2]) | st.sampled_from(STARTS) | st.sampled_from(ODD_STARTS),
    st.lists(HEADER, max_size=4),
    st.lists(OUR_NAME, max_size=3, unique_by=hyphenated),
    st.sampled_from(["", "Transfer-Encoding: chunked\r\n", "Content-Length: 20\r\n", "content-length: 7\r\n"]),
    BODY | st.binary(max_size=40),
    st.sampled_from([BUFFERED, STREAMED]),
    SPLITS,
    SIZES,
)
def test_a_request_is_understood_as_by_waitress(
    stopped_loop: Serving,
    start: str,
    headers: list[tuple[str, str]],
    ours: list[str],
    framing: str,
    body: bytes,
    options: Options,
    splits: list[int],
    sizes: list[int],
) -> None:
    """S40, S48 and S50: nothing is refused less or read differently; ours is what waitress reads with hyphens."""

    def raw(our_names: list[str]) -> bytes:
        lines = [f"{name}: {value}" for name, value in [*headers, *((name, "v_w: x") for name in our_names)]]
        return "\r\n".join([start, f"{framing}A: b", *lines, "", ""]).encode("latin-1") + body

    compare(stopped_loop, raw(ours), raw([hyphenated(name) for name in ours]), options, splits, sizes)


@settings(max_examples=150)
@given(BODY, st.sampled_from([b"", b"PUT / HTTP/1.1\r\n\r\n"]), SPLITS, SIZES)
def test_chunks_are_decoded_or_refused_as_by_waitress(
    stopped_loop: Serving, body: bytes, behind: bytes, splits: list[int], sizes: list[int]
) -> None:
    """S48."""
    raw = b"PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + body + behind
    compare(stopped_loop, raw, raw, STREAMED, splits, sizes)


@settings(max_examples=100)
@given(st.binary(max_size=300), SPLITS, SIZES)
def test_random_bytes_are_no_worse(stopped_loop: Serving, raw: bytes, splits: list[int], sizes: list[int]) -> None:
    """S40."""
    compare(stopped_loop, raw, raw, STREAMED, splits, sizes)
