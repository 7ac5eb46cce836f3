"""Reading of requests: ours by the parser alone, what is refused over real sockets."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from pyrimage.server.options import read_options
from pyrimage.server.parser import MAX_LINES, Parser
from servers.in_process_server import Running, echo, serving

A_REQUEST_ID = re.compile(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"


OPTIONS = read_options({})
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


def test_underscores_in_our_headers_arrive_as_hyphens(server: Running) -> None:
    seen = server.get("/", "x-image-meta-disk_format: raw", "X-Image-Meta-Property-a_b_c: d_e").json
    assert seen["HTTP_X_IMAGE_META_DISK_FORMAT"] == "raw"
    assert seen["HTTP_X_IMAGE_META_PROPERTY_A_B_C"] == "d_e"


DROPPED = ["content_length", "transfer_encoding", "x_auth_token", "x_forwarded_for", "x-glance_x", "a-x-image-meta-b_c"]


@pytest.mark.parametrize("name", [*DROPPED, "x_image_meta_name", "x-image_meta-name", "x-image-meta_name"])
def test_every_other_header_with_an_underscore_stays_dropped(server: Running, name: str) -> None:
    """S50, also where a header of ours is there and names are rewritten."""
    seen = server.get("/", f"{name}: 7", "x-image-meta-min_ram: 1").json
    assert seen["HTTP_X_IMAGE_META_MIN_RAM"] == "1"
    assert "7" not in seen.values()
    assert "pyrimage.forwarded" not in seen


@pytest.mark.parametrize("second", ["disk_format", "disk-format", "DISK_Format"])
def test_one_of_our_headers_twice_is_refused_and_named(server: Running, second: str) -> None:
    """S50."""
    answer = server.get("/", "x-image-meta-disk_format: raw", f"x-image-meta-{second}: raw")
    assert answer.status == 400
    assert "x-image-meta-disk-format: send it once" in answer.json["error"]["message"]


PUT, CHUNKED = "PUT / HTTP/1.1\r\nHost: x\r\n", "Transfer-Encoding: chunked\r\n"
REFUSED = {
    "bare LF between headers": (400, "GET / HTTP/1.1\r\nHost: x\nx-image-meta-a_b: 1\r\n\r\n"),
    "bare LF in the request line": (400, "GET /\n HTTP/1.1\r\nHost: x\r\n\r\n"),
    "blank before the colon": (400, PUT + "x-image-meta-a_b : 1\r\n\r\n"),
    "no colon": (400, PUT + "x-image-meta-a_b\r\n\r\n"),
    "NUL in a name": (400, PUT + "x-image-meta-a_\0: 1\r\n\r\n"),
    "name that is folded": (400, PUT + "x-image-meta-a_b\r\n : 1\r\n\r\n"),
    "unknown transfer encoding": (501, PUT + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"),
    "length of 5000 digits": (400, PUT + f"Content-Length: {'9' * 5000}\r\n\r\n"),
    "target that is no URL": (400, "GET http://[ HTTP/1.1\r\nHost: x\r\n\r\n"),
    "bad chunk extension": (400, PUT + CHUNKED + "\r\n1;a=\0\r\nx\r\n0\r\n\r\n"),
    "bad chunk size": (400, PUT + CHUNKED + "\r\n0x1\r\nx\r\n0\r\n\r\n"),
    "chunk without end": (400, PUT + CHUNKED + "\r\n1\r\nxx\r\n0\r\n\r\n"),
    "target with a fragment": (400, "GET http://a#b/images HTTP/1.1\r\nHost: x\r\n\r\n"),
    "request line of 8193 bytes": (414, f"GET /{'a' * 8179} HTTP/1.1\r\n\r\n"),
    "header of too many lines": (431, PUT + "a:\r\n" * MAX_LINES + "\r\n"),
    "header too large": (431, PUT + "a: b\r\n" * 2000 + "\r\n"),
}


@pytest.mark.parametrize(("status", "raw"), REFUSED.values(), ids=REFUSED)
def test_refused_in_our_shape_and_the_rest_never_read(status: int, raw: str) -> None:
    """S48 and S49: one answer, with a request id and an access line. What else is refused: test_smuggling.py."""
    with serving(echo, max_request_header_size=10000) as server:
        answer = server.exchange(raw.encode("latin-1") + SMUGGLED)
        line = server.wait_for_line()
    error = answer.json["error"]  # which fails if two answers came
    assert answer.status == error["code"] == status
    assert set(error) == {"code", "title", "message"}
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert A_REQUEST_ID.fullmatch(answer.headers["x-openstack-request-id"])
    assert f" {status} {len(answer.body)} " in line
    assert answer.headers["x-openstack-request-id"] in line
    assert server.lines() == []


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
    assert (refused.command, refused.request_uri, refused.completed) == (
        "HEAD",
        "/x",
        True,
    )  # for the answer and the log


def test_what_refuses_too_many_lines_names_no_setting(server: Running) -> None:
    answer = server.get("/", *["a:"] * MAX_LINES)
    assert (answer.status, answer.message) == (431, "The header has more than 1000 lines")


def test_a_refusal_quotes_only_the_beginning_of_the_line_at_fault() -> None:
    parser = parsed(b"GET / HTTP/1.1\r\na: b\r\nc\xe9 " + b"d" * 100000 + b": e\r\nf: g\r\n\r\n")
    assert parser.error.body == f"Malformed header line 'c\\xe9 {'d' * 57}'"
    parser = parsed(b"GET / HTTP/1.1\r\na: b\r\nc: d\ne: f\r\n\r\n")
    assert parser.error.body == "Malformed header line 'c: d\\ne: f'"


@pytest.mark.parametrize("size", [1, 2, 3, 5, 4096])
def test_a_long_header_is_read_in_whatever_pieces_it_comes(size: int) -> None:
    raw, parser, taken = (
        b"PUT / HTTP/1.1\r\na: " + b"b" * 20000 + b"\r\nContent-Length: 3\r\n\r\nabcGET /",
        Parser(OPTIONS),
        0,
    )
    while not parser.completed:
        taken += parser.received(raw[taken : taken + size])
    left = parser.pipelined + raw[taken:]
    assert (parser.headers["A"], parser.get_body_stream().read(), left) == ("b" * 20000, b"abc", b"GET /")
    parser.close()


def test_a_long_header_that_comes_in_pieces_must_end_too() -> None:
    parser: Any = Parser(read_options({"max_request_header_size": "9000"}))
    raw, taken = b"GET / HTTP/1.1\r\na: " + b"b" * 9000, 0
    while not parser.completed:
        taken += parser.received(raw[taken : taken + 7])
    assert (parser.error.code, taken) == (431, 9002)


def test_values_and_the_request_target_keep_their_underscores() -> None:
    """S50."""
    parser = parsed(b"GET /x-image-meta-a_b: HTTP/1.1\r\nx-image-meta-a_b: x-image-meta-c_d: e\r\nOther: f_g:\r\n\r\n")
    assert parser.request_uri == "/x-image-meta-a_b:"
    assert parser.headers == {"X_IMAGE_META_A_B": "x-image-meta-c_d: e", "OTHER": "f_g:"}


def test_a_folded_line_of_another_header_is_a_value_and_keeps_its_underscores() -> None:
    """S50."""
    parser = parsed(b"GET / HTTP/1.1\r\nx-image-meta-a: b\r\nx: f\r\n\tx-image-meta-e: g_h\r\n\r\n")
    assert (parser.error, parser.headers["X"]) == (None, "f\tx-image-meta-e: g_h")


@pytest.mark.parametrize("blank", [b" ", b"\t"])
def test_a_folded_line_of_ours_is_refused(blank: bytes) -> None:
    """S52."""
    parser = parsed(b"GET / HTTP/1.1\r\nx-image-meta-name: f\r\n" + blank + b"g\r\n\r\n")
    assert parser.error.body == "x-image-meta-name: send the value on one line"


def test_a_body_of_five_gibibytes_is_welcome() -> None:
    parser = parsed(f"PUT / HTTP/1.1\r\nContent-Length: {5 * 1024**3}\r\n\r\n".encode())
    assert (parser.error, parser.completed, parser.content_length) == (None, True, 5 * 1024**3)


@pytest.mark.parametrize(
    ("field", "is_streaming"),
    [
        (f"Content-Length: {THRESHOLD}", False),
        (f"Content-Length: {THRESHOLD + 1}", True),
        ("Transfer-Encoding: chunked", True),
        ("Content-Length: 0", False),
    ],
)
def test_a_long_or_chunked_body_is_left_to_who_reads_it(field: str, is_streaming: bool) -> None:
    assert parsed(f"PUT / HTTP/1.1\r\n{field}\r\n\r\n".encode()).streaming is is_streaming


def test_what_follows_a_body_of_known_length_is_kept_for_later() -> None:
    raw = f"PUT / HTTP/1.1\r\nContent-Length: {THRESHOLD + 1}\r\n\r\n".encode() + b"x" * THRESHOLD + b"yGET"
    parser = Parser(OPTIONS)
    assert parser.received(raw) == len(raw)
    assert (len(parser.body_start), parser.body_start[-1:], parser.pipelined) == (THRESHOLD + 1, b"y", b"GET")


def test_what_follows_a_request_is_kept_for_later_but_blank_lines_are_not_a_request() -> None:
    parser = parsed(b"GET / HTTP/1.1\r\n\r\nGET /next")
    assert (parser.completed, parser.pipelined) == (True, b"GET /next")
    assert Parser(OPTIONS).received(b"\r\n\r\nGET / HTTP/1.1\r\n\r\n") == 4
    assert Parser(OPTIONS).received(b"\r\n\r\n\r\n \r\n\r\nGET / HTTP/1.1\r\n\r\n") == 11


@pytest.mark.parametrize("field", ["Content-Length: 9999999", "Transfer-Encoding: chunked", "Content-Length: 9"])
@pytest.mark.parametrize("expects", [True, False])
def test_only_for_a_short_body_is_it_waitress_that_answers_an_expectation(field: str, expects: bool) -> None:
    expect = "Expect: 100-continue\r\n" if expects else ""
    parser = parsed(f"PUT / HTTP/1.1\r\n{field}\r\n{expect}\r\n".encode())
    assert (parser.expects_continue, parser.expect_continue) == (
        expects and parser.streaming,
        expects and not parser.streaming,
    )
