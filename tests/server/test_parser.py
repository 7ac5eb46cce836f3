"""Reading of requests: names of headers, limits, and which bodies are left to the application. More: test_fuzz.py."""

from collections.abc import Iterator
from typing import Any

import pytest

from pyrimage.server.options import read_options
from pyrimage.server.parser import MAX_LINES, Parser
from servers.in_process_server import Running, echo, serving

OPTIONS = read_options({"max_request_header_size": "30000"})
THRESHOLD = OPTIONS.inbuf_overflow


def parsed(raw: bytes) -> Any:
    """Return the parser that was given ``raw``."""
    parser = Parser(OPTIONS)
    parser.received(raw)
    return parser


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(echo) as running:
        yield running


# Names


DROPPED = ["content_length", "transfer_encoding", "x_auth_token", "x_forwarded_for", "x-glance_x", "a-x-image-meta-b_c"]


@pytest.mark.parametrize("name", [*DROPPED, "x_image_meta_name", "x-image_meta-name", "x-image-meta_name"])
def test_every_other_header_with_an_underscore_stays_dropped(server: Running, name: str) -> None:
    """S50, also where a header of ours is there and names are rewritten."""
    seen = server.get("/", f"{name}: 7", "x-image-meta-min_ram: 1").json
    assert seen["HTTP_X_IMAGE_META_MIN_RAM"] == "1"
    assert "7" not in seen.values()
    assert "pyrimage.forwarded" not in seen


@pytest.mark.parametrize("second", ["disk_format", "DISK-Format"])
def test_one_of_our_headers_twice_is_refused_and_named(second: str) -> None:
    """S50."""
    parser = parsed(f"GET / HTTP/1.1\r\nx-image-meta-disk_format: a\r\nx-image-meta-{second}: a\r\n\r\n".encode())
    assert "x-image-meta-disk-format: send it once" in parser.error.body


@pytest.mark.parametrize("blank", [b" ", b"\t"])
def test_a_folded_line_of_ours_is_refused(blank: bytes) -> None:
    """S52."""
    parser = parsed(b"GET / HTTP/1.1\r\nx-image-meta-name: f\r\n" + blank + b"g\r\n\r\n")
    assert parser.error.body == "x-image-meta-name: send the value on one line"


# Limits


def test_a_request_line_of_8192_bytes_is_read() -> None:
    parser = parsed(b"GET /" + b"a" * 8178 + b" HTTP/1.1\r\n\r\n")
    assert (parser.error, len(parser.request_uri)) == (None, 8179)


@pytest.mark.parametrize("line", [b"a:\r\n", b"\t\r\n"])
def test_a_header_has_a_thousand_lines_at_most(line: bytes) -> None:
    """S40: folded ones count."""
    first, rest = b"HEAD /x HTTP/1.1\r\nb:\r\n", line * (MAX_LINES - 1)
    assert parsed(first + rest + b"\r\n").error is None
    refused = parsed(first + rest + line + b"\r\n")
    assert (refused.error.code, refused.error.body) == (431, "The header has more than 1000 lines")
    assert (refused.command, refused.request_uri, refused.completed) == ("HEAD", "/x", True)  # for answer and log


@pytest.mark.parametrize(
    ("lines", "said"), [(b"c\xe9 " + b"d" * 20000 + b": e", "c\\xe9 " + "d" * 57), (b"c: d\ne: f", "c: d\\ne: f")]
)
def test_a_refusal_quotes_only_the_beginning_of_the_line_at_fault(lines: bytes, said: str) -> None:
    parser = parsed(b"GET / HTTP/1.1\r\na: b\r\n" + lines + b"\r\nf: g\r\n\r\n")
    assert parser.error.body == f"Malformed header line '{said}'"


@pytest.mark.parametrize("line", ["Content-Length: " + "9" * 5000, "x: y"])
def test_what_waitress_would_not_answer_is_refused(line: str) -> None:
    target = "/" if "9" in line else "http://["
    assert parsed(f"GET {target} HTTP/1.1\r\n{line}\r\n\r\n".encode()).error.code == 400


def given(raw: bytes, size: int) -> tuple[Any, int]:
    """Return a parser that was given ``raw`` in pieces, and how many bytes it took until it was complete."""
    parser, taken = Parser(OPTIONS), 0
    for _ in range(0, len(raw), size):
        taken += parser.received(raw[taken : taken + size])
        if parser.completed:
            break
    return parser, taken


@pytest.mark.parametrize("size", [1, 2, 3, 5, 4096])
def test_a_long_header_is_read_in_whatever_pieces_it_comes(size: int) -> None:
    raw = b"PUT / HTTP/1.1\r\na: " + b"b" * 20000 + b"\r\nContent-Length: 3\r\n\r\nabcGET /" + b"x" * size
    parser, taken = given(raw, size)
    body, left = parser.get_body_stream().read(), parser.pipelined + raw[taken:]
    assert (parser.headers["A"], body, left) == ("b" * 20000, b"abc", b"GET /" + b"x" * size)
    parser.close()


def test_a_long_header_that_comes_in_pieces_must_end_too() -> None:
    parser, taken = given(b"GET / HTTP/1.1\r\na: " + b"b" * 40000, 7)
    assert (parser.error.code, taken) == (431, 30002)


# Bodies


@pytest.mark.parametrize(
    ("field", "is_streaming"),
    [
        (f"Content-Length: {THRESHOLD}", False),
        (f"Content-Length: {THRESHOLD + 1}", True),
        (f"Content-Length: {2**50}", True),
        ("Transfer-Encoding: chunked", True),
        ("Content-Length: 0", False),
    ],
)
def test_a_long_or_chunked_body_is_left_to_who_reads_it(field: str, is_streaming: bool) -> None:
    """And only for a short one is it waitress that answers an expectation."""
    parser = parsed(f"PUT / HTTP/1.1\r\n{field}\r\nExpect: 100-continue\r\n\r\n".encode())
    assert (parser.error, parser.streaming, parser.expects_continue) == (None, is_streaming, is_streaming)
    assert parser.expect_continue is not (is_streaming or field.endswith(" 0"))


def test_blank_lines_are_not_a_request() -> None:
    assert Parser(OPTIONS).received(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n") == 4
    assert Parser(OPTIONS).received(b"\r\n\r\n\r\n \r\n\r\nGET / HTTP/1.1\r\n\r\n") == 11
