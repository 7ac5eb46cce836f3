"""Bodies that are broken or too big, and faults of the application that reads them: each is answered as its own."""

import contextlib
import errno
import os
import resource
from collections.abc import Iterable, Iterator
from pathlib import Path
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest

from servers.in_process_server import CHUNKED, Reader, answers, receive_all, request, serving, upload

BROKEN = {
    "Invalid chunk size": b"3\r\nabc\r\nx\r\n",
    "Invalid chunk extension": b"3\r\nabc\r\n3;\0\r\n",
    "Chunk not properly terminated": b"3\r\nabc\r\n3\r\nabcdef",
}
TOO_LONG = {
    "extension": b"3;a=" + b"b" * 20480,
    "size": b"0" * 20480,
    "blank lines": b"\r\n" * 10240,
    "trailer": b"0\r\n" + b"A: b\r\n" * 3500,
    "trailer of one line": b"0\r\nA: " + b"b" * 20480,
}


@pytest.mark.parametrize(("text", "raw"), BROKEN.items(), ids=BROKEN)
def test_what_came_before_a_broken_chunk_is_read_first(text: str, raw: bytes, tmp_path: Path) -> None:
    """S48."""
    reader = Reader()
    with serving(reader, unix_socket=str(tmp_path / "socket")) as server:
        reader.may_read.set()
        client = server.drip(request("PUT /", CHUNKED) + raw)
        got, error = reader.outcome()
        answer = answers(receive_all(client))[0]
    assert got.startswith(b"abc")
    assert (type(error), str(error)) == (ValueError, text)
    assert (answer.status, answer.headers["connection"]) == (204, "close")


@pytest.mark.parametrize("raw", [*TOO_LONG.values(), b"3\r\nabc\r\n" + b"\r\n" * 20480], ids=[*TOO_LONG, "behind data"])
def test_framing_without_an_end_is_refused_early(raw: bytes) -> None:
    """S40: 20 KiB of it, or twice that behind data, whatever would follow."""
    reader = Reader(lets_through=True)
    with serving(reader) as server:
        client = server.send(request("PUT /", CHUNKED) + raw)
        _, error = reader.outcome()
        (answer,) = answers(receive_all(client))
    assert str(error) == "Chunk header or trailer is too long"
    assert (answer.status, answer.message) == (400, str(error))


@pytest.mark.parametrize("chunk", [1, 7, 1000])
@pytest.mark.parametrize("size", [99, 100, 2000])
def test_a_chunked_body_of_the_maximum_or_more_is_refused(size: int, chunk: int) -> None:
    """S34."""
    reader = Reader(lets_through=True)
    reader.may_read.set()
    with serving(reader, max_request_body_size=100) as server:
        answer = server.exchange(upload(b"x" * size, chunk, "/", "Connection: close"))
    got, error = reader.outcome()
    if size < 100:
        assert (answer.status, len(got), error) == (204, size, None)
    else:
        assert isinstance(error, OSError)
        assert (error.errno, answer.status, len(got) <= 100) == (errno.EFBIG, 413, True)
        assert "max_request_body_size" in answer.message


@pytest.mark.parametrize(("status", "raw"), [(400, b"x\r\n"), (413, b"64\r\n" + b"x" * 100)])
def test_an_error_that_the_application_lets_through_is_answered_in_our_shape(status: int, raw: bytes) -> None:
    reader = Reader(lets_through=True)
    reader.may_read.set()
    with serving(reader, max_request_body_size=100) as server:
        answer = server.exchange(request("PUT /", CHUNKED) + raw)
    (line,) = server.lines()
    assert answer.json["error"]["code"] == answer.status == status
    assert f" PUT / {status} {len(answer.body)} " in line
    assert answer.headers["x-openstack-request-id"] in line


def test_an_error_after_the_answer_began_breaks_the_connection() -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", "100")])
        yield b"abc"
        environ["wsgi.input"].read()

    with serving(app) as server:
        answer = server.exchange(request("PUT /", CHUNKED) + b"x\r\n")
    assert (answer.status, answer.body, len(server.lines())) == (200, b"abc", 1)


def test_a_fault_of_the_application_over_a_streamed_body_is_its_own() -> None:
    """Not the client's, though it has the type that broken chunks have."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        raise ValueError("it failed")

    with serving(app) as server:
        assert server.exchange(request("PUT /", CHUNKED)).status == 500


@pytest.mark.parametrize("fault", [OSError(errno.ENOSPC, "no space is left"), ValueError("it failed")])
def test_a_fault_of_the_application_behind_an_error_of_the_body_is_its_own(fault: Exception) -> None:
    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with contextlib.suppress(ValueError):
            environ["wsgi.input"].read()
        raise fault

    with serving(app) as server:
        assert server.exchange(request("PUT /", CHUNKED) + b"x\r\n").status == 500


@contextlib.contextmanager
def no_descriptor_left() -> Iterator[None]:
    """Let this process open no file more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))
    with contextlib.ExitStack() as undo:
        undo.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        with contextlib.suppress(OSError):
            while True:
                undo.callback(os.close, os.dup(0))
        yield


def test_a_server_that_may_open_no_file_does_not_say_that_the_client_left() -> None:
    errors: list[OSError] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with no_descriptor_left(), pytest.raises(OSError, match="Too many open files") as caught:
            environ["wsgi.input"].read()
        errors.append(caught.value)
        raise caught.value

    with serving(app) as server:
        answer = server.exchange(request("PUT /", "Content-Length: 2147483648"))
    assert (answer.status, answer.json["error"]["code"]) == (500, 500)
    assert [(error.errno, isinstance(error, ConnectionError)) for error in errors] == [(errno.EMFILE, False)]
