"""What the application is told, what the server answers itself, and the access line of each answer."""

import gc
import io
import logging
import re
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from servers.in_process_server import (
    CHUNKED,
    MIB,
    SECONDS,
    Running,
    download,
    echo,
    receive_all,
    request,
    said_of_the_connection,
    serving,
    sparse,
    upload,
)
from servers.processes import wait_until


def fail(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    environ["pyrimage.request_id"] = "req-of-the-application"
    raise RuntimeError("the secret of the traceback")


def stream(*pieces: bytes | Exception, length: int | None = None) -> WSGIApplication:
    """Return an application that sends ``pieces``, and raises those that are exceptions."""

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [] if length is None else [("Content-Length", str(length))])
        for piece in pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    return app


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(echo) as running:
        yield running


# What the application is told


def test_a_chunked_body_is_marked_and_has_no_length(server: Running) -> None:
    seen = server.exchange(request("PUT /", "Connection: close", CHUNKED) + b"3\r\nabc\r\n0\r\n\r\n").json
    assert (seen["body"], seen["pyrimage.chunked"], "CONTENT_LENGTH" in seen) == ("abc", True, False)
    seen = server.exchange(request("PUT /", "Connection: close", "Content-Length: 3") + b"abc").json
    assert (seen["body"], "pyrimage.chunked" in seen, seen["CONTENT_LENGTH"]) == ("abc", False, "3")


@pytest.mark.parametrize("name", ["Forwarded", "Via", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Other"])
def test_a_forwarding_header_is_noted(server: Running, name: str) -> None:
    assert server.get("/", f"{name}: 192.0.2.1").json["pyrimage.forwarded"] is True
    assert "pyrimage.forwarded" not in server.get("/", "Viable: 1", "Not-Forwarded: 1", "X-Real-IPs: 1").json


@pytest.mark.parametrize(("workers", "several"), [(0, False), (2, True)])
def test_the_application_is_told_whether_others_serve_beside_it(workers: int, several: bool) -> None:
    with serving(echo, workers=workers) as server:
        assert server.get().json["wsgi.multiprocess"] is several


# What the server answers

REFUSED = {
    "malformed": (400, "a header line", ("x",)),
    "a request line of 8193 bytes": (414, "8192", ()),
    "too many lines": (431, "The header has more than 1000 lines", ["a:"] * 1000),
    "too large": (431, "max_request_header_size", ["a: " + "b" * 30000]),
    "body too large": (413, "max_request_body_size", ["Content-Length: 10000"]),
    "unknown coding": (501, "", ["Transfer-Encoding: gzip"]),
}


@pytest.mark.parametrize(("status", "text", "fields"), REFUSED.values(), ids=REFUSED)
def test_what_is_refused_has_the_shape_of_our_errors(status: int, text: str, fields: Iterable[str]) -> None:
    """S48 and S49: one answer, with a request id and an access line. What else is refused: test_smuggling.py."""
    with serving(echo, max_request_header_size=20000, max_request_body_size=10000) as server:
        answer = server.get("/" + "a" * 8179 * (status == 414), *fields)
    (line,) = server.lines()
    error = answer.json["error"]
    assert answer.status == error["code"] == status
    assert (set(error), text.split(" ")[-1] in answer.message) == ({"code", "title", "message"}, True)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert re.fullmatch(r"req-[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", answer.headers["x-openstack-request-id"])
    assert f" {status} {len(answer.body)} " in line
    assert answer.headers["x-openstack-request-id"] in line


@pytest.mark.parametrize("accept", ["text/plain", "text/plain, */*", "text/html", "text/plain;q=0.5, application/json"])
def test_a_refusal_is_plain_text_for_who_wants_only_that(server: Running, accept: str) -> None:
    answer = server.get("/", f"Accept: {accept}", "Content-Length: x")
    expected = "text/plain; charset=UTF-8" if accept == "text/plain" else "application/json"
    assert answer.headers["content-type"] == expected
    assert b"Content-Length is invalid" in answer.body


def test_a_refused_head_has_the_length_but_no_body(server: Running) -> None:
    head, get = (server.get("/", "Content-Length: x", method=method) for method in ("HEAD", "GET"))
    assert (head.status, head.body) == (400, b"")
    assert head.headers["content-length"] == str(len(get.body))


def test_a_failed_application_is_a_500_with_its_request_id_and_no_traceback() -> None:
    with serving(fail, expose_tracebacks=True) as server:
        answer = server.get("/", "Accept: text/plain")
    (line,) = server.lines()
    assert (answer.status, b"secret" in answer.body) == (500, False)
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-openstack-request-id"] == "req-of-the-application"
    assert re.fullmatch(rf"127.0.0.1 GET / 500 {len(answer.body)} \d+ms req-of-the-application -", line)


LAST = {
    "unread body": (b" 200 ", f"Content-Length: {MIB}"),
    "refused header": (b" 400 ", "Content-Length: x"),
    "refused by a setting": (b" 413 ", f"Content-Length: {2 * MIB}"),
}


@pytest.mark.parametrize(("status", "field"), LAST.values(), ids=LAST)
def test_an_older_client_is_told_only_that_its_connection_ends(status: bytes, field: str) -> None:
    """It waits for the end of a connection that it believes to be kept."""
    with serving(stream(b"abc", length=3), max_request_body_size=2 * MIB) as server:
        raw = request("PUT /", "Connection: keep-alive", field).replace(b"HTTP/1.1", b"HTTP/1.0")
        answer = receive_all(server.send(raw))
    assert status in answer.partition(b"\r\n")[0]
    assert said_of_the_connection(answer) == [b"close"]


# The access line


def identified(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    environ["pyrimage.image_id"] = environ["PATH_INFO"].removeprefix("/images/")
    return echo(environ, start_response)


KNOWN = {
    "by the application": (identified, ("X-User: alice",), ("req-of-the-application", "f17", "alice")),
    "nothing but the request": (echo, (), ("req-of-the-application", None, None)),
    "nothing": (stream(b"x", length=1), (), (None, None, None)),
    "an application that failed": (fail, (), ("req-of-the-application", None, None)),
}


@pytest.mark.parametrize(("app", "headers", "known"), KNOWN.values(), ids=KNOWN)
def test_the_access_line_says_who_asked_for_what_and_got_how_much(
    app: WSGIApplication, headers: tuple[str, ...], known: tuple[str | None, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """And brings what is known of the request beside its text, for it may be written in another thread."""
    with serving(app) as server:
        answer = server.get("/images/f17?limit=2", "Authorization: Basic c2VjcmV0", *headers)
    (record,) = [record for record in caplog.records if record.name == "pyrimage.access"]
    request_id, _, caller = (value or "-" for value in known)
    said = rf"127.0.0.1 GET /images/f17\?limit=2 {answer.status} {len(answer.body)} \d+ms {request_id} {caller}"
    assert re.fullmatch(said, record.getMessage())
    assert vars(record)["request_fields"] == dict(zip(("request_id", "image_id", "caller"), known, strict=True))


COUNTED = {
    "5": [stream(b"abc", b"de"), stream(b"abc", b"de", length=5), stream(b"abcdefg", length=5)],
    "3/5": [stream(b"abc", length=5), stream(b"abc", OSError(), length=5)],
    "3/?": [stream(b"abc", OSError())],
}


@pytest.mark.parametrize(("count", "app"), [(count, app) for count, apps in COUNTED.items() for app in apps])
def test_the_access_line_counts_the_body_and_says_if_it_was_cut_short(count: str, app: WSGIApplication) -> None:
    with serving(app) as server:
        server.get()
    (line,) = server.lines()
    assert line.split(" ")[3:5] == ["200", count]


def test_a_head_is_not_cut_short() -> None:
    with serving(stream(length=5)) as server:
        server.get(method="HEAD")
    assert server.lines()[0].split(" ")[3:5] == ["200", "0"]


@pytest.mark.parametrize("as_file", [True, False])
def test_a_client_that_leaves_is_logged_with_what_it_got(tmp_path: Path, as_file: bool) -> None:
    app = download(sparse(tmp_path / "image", 64 * MIB), 64 * MIB) if as_file else stream(*[b"x" * MIB] * 64)
    with serving(app) as server:
        client = server.send(request("GET /", "Connection: close"))
        for _ in range(32):
            client.recv(MIB)
        client.close()  # waitress may close the file twice now
        line = server.wait_for_line()
    assert re.search(rf" 200 \d+/{64 * MIB if as_file else '[?]'} ", line)
    assert server.lines() == []


def test_nothing_is_done_for_a_log_that_nobody_reads() -> None:
    asked: list[bool] = []

    class Identity:
        def __str__(self) -> str:
            asked.append(True)
            return "alice"

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        environ["pyrimage.identity"] = Identity()
        return stream(b"x")(environ, start_response)

    for level, times in ((logging.WARNING, 0), (logging.INFO, 1)):
        with serving(app, level=level) as server:
            server.get()
        assert (len(server.lines()), len(asked)) == (times, times)


@pytest.fixture
def no_collector() -> Iterator[None]:
    """No search for what only refers to itself."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("kind", ["file", "relay", "upload", "neither"])
def test_what_a_request_took_is_free_when_it_is_answered(tmp_path: Path, kind: str) -> None:
    """And not some requests later, when Python looks for what nobody can reach."""
    taken: list[weakref.ref[Any]] = []
    answer = download(sparse(tmp_path / "image", MIB), MIB) if kind == "file" else echo

    def relay(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        file: Iterable[bytes] = environ["wsgi.file_wrapper"](io.BytesIO(bytes(MIB)))
        return file

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        task, body = environ["wsgi.file_wrapper"].args[0], environ["wsgi.input"]
        taken.append(weakref.ref(body.raw if kind == "upload" else task))
        return (relay if kind == "relay" else answer)(environ, start_response)

    with serving(app) as server:
        raw = upload(b"abc", 3 * (kind == "upload"), "/", "Connection: close")
        assert server.exchange(raw).status == 200
        wait_until(lambda: taken[0]() is None, SECONDS)
