"""What the application is told, what the server answers itself, files, and the access line of each answer."""

import gc
import logging
import re
import weakref
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest

from servers.in_process_server import (
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


def access_lines(app: WSGIApplication, target: str = "/", **settings: Any) -> list[str]:
    """Return the access lines of one request."""
    with serving(app, **settings) as server:
        server.get(target)
    return server.lines()


@pytest.fixture(scope="module")
def server() -> Iterator[Running]:
    with serving(echo) as running:
        yield running


def test_a_chunked_body_is_marked_and_has_no_length(server: Running) -> None:
    header = request("PUT /", "Connection: close", "Transfer-Encoding: chunked")
    seen = server.exchange(header + b"3\r\nabc\r\n0\r\n\r\n").json
    assert (seen["body"], seen["pyrimage.chunked"]) == ("abc", True)
    assert "CONTENT_LENGTH" not in seen


def test_a_body_of_known_length_is_not_marked(server: Running) -> None:
    seen = server.exchange(request("PUT /", "Connection: close", "Content-Length: 3") + b"abc").json
    assert (seen["body"], seen["CONTENT_LENGTH"]) == ("abc", "3")
    assert "pyrimage.chunked" not in seen


@pytest.mark.parametrize("name", ["Forwarded", "Via", "X-Real-IP", "X-Forwarded-For", "X-Forwarded-Other"])
def test_a_forwarding_header_is_noted(server: Running, name: str) -> None:
    assert server.get("/", f"{name}: 192.0.2.1").json["pyrimage.forwarded"] is True


def test_other_headers_are_not_taken_for_forwarding(server: Running) -> None:
    assert "pyrimage.forwarded" not in server.get("/", "Viable: 1", "Not-Forwarded: 1", "X-Real-IPs: 1").json


@pytest.mark.parametrize("accept", ["text/plain", "text/plain, */*", "text/html", "text/plain;q=0.5, application/json"])
def test_a_refusal_is_plain_text_for_who_wants_only_that(server: Running, accept: str) -> None:
    answer = server.get("/", f"Accept: {accept}", "Content-Length: x")
    expected = "text/plain; charset=UTF-8" if accept == "text/plain" else "application/json"
    assert answer.headers["content-type"] == expected
    assert b"Content-Length is invalid" in answer.body


def test_a_refused_head_has_the_length_but_no_body(server: Running) -> None:
    twice = ("x-image-meta-name: a", "x-image-meta-name: b")
    head, get = server.get("/", *twice, method="HEAD"), server.get("/", *twice)
    assert (head.status, head.body) == (400, b"")
    assert head.headers["content-length"] == str(len(get.body))


def test_a_failed_application_is_a_500_with_its_request_id_and_no_traceback() -> None:
    with serving(fail, expose_tracebacks=True) as server:
        answer = server.get("/", "Accept: text/plain")
        line = server.wait_for_line()
    assert (answer.status, b"secret" in answer.body) == (500, False)
    assert answer.headers["content-type"].startswith("text/plain")
    assert answer.headers["x-openstack-request-id"] == "req-of-the-application"
    assert re.fullmatch(rf"127.0.0.1 GET / 500 {len(answer.body)} \d+ms req-of-the-application -", line)
    assert server.lines() == []


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


def test_the_access_line_says_who_asked_for_what_and_got_how_much() -> None:
    with serving(echo) as server:
        answer = server.get("/images?limit=2", "X-User: alice", "Authorization: Basic c2VjcmV0")
    (line,) = server.lines()
    length = len(answer.body)
    assert re.fullmatch(rf"127.0.0.1 GET /images\?limit=2 200 {length} \d+ms req-of-the-application alice", line)


def identified(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    environ["pyrimage.image_id"] = environ["PATH_INFO"].removeprefix("/images/")
    return echo(environ, start_response)


def attached(caplog: pytest.LogCaptureFixture) -> dict[str, str | None]:
    """Return what the only access line brings beside its text."""
    (fields,) = [vars(record)["request_fields"] for record in caplog.records if record.name == "pyrimage.access"]
    known: dict[str, str | None] = fields
    return known


KNOWN = {
    "by the application": (identified, ("X-User: alice",), ("req-of-the-application", "f17", "alice")),
    "nothing but the request": (echo, (), ("req-of-the-application", None, None)),
    "nothing": (stream(b"x"), (), (None, None, None)),
    "an application that failed": (fail, (), ("req-of-the-application", None, None)),
}


@pytest.mark.parametrize(("app", "headers", "known"), KNOWN.values(), ids=KNOWN)
def test_an_access_line_brings_what_is_known_of_its_request(
    app: WSGIApplication, headers: tuple[str, ...], known: tuple[str | None, ...], caplog: pytest.LogCaptureFixture
) -> None:
    """It is written when its request is over, maybe in another thread."""
    with serving(app) as server:
        server.get("/images/f17", *headers)
    assert attached(caplog) == dict(zip(("request_id", "image_id", "caller"), known, strict=True))


def test_a_refusal_of_the_server_itself_has_a_request_id_too(caplog: pytest.LogCaptureFixture) -> None:
    with serving(echo) as server:
        answer = server.get("/", "Content-Length: x")
    request_id = answer.headers["x-openstack-request-id"]
    assert attached(caplog) == {"request_id": request_id, "image_id": None, "caller": None}


def test_hostile_characters_cannot_forge_an_access_line() -> None:
    with serving(echo) as server:
        server.get("//\x85[2J\\n", "X-User: eve\x85")
    (line,) = server.lines()
    assert line.split(" ")[2] == r"//\x85[2J\\n"
    assert line.endswith(r" eve\x85")


COUNTED = {
    "5": [stream(b"abc", b"de"), stream(b"abc", b"de", length=5), stream(b"abcdefg", length=5)],
    "3/5": [stream(b"abc", length=5), stream(b"abc", OSError(), length=5)],
    "3/?": [stream(b"abc", OSError())],
}


@pytest.mark.parametrize(("count", "app"), [(count, app) for count, apps in COUNTED.items() for app in apps])
def test_the_access_line_counts_the_body_and_says_if_it_was_cut_short(count: str, app: WSGIApplication) -> None:
    (line,) = access_lines(app)
    assert line.split(" ")[3:5] == ["200", count]


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
        start_response("204 No Content", [])
        return []

    assert (access_lines(app, level=logging.WARNING), asked) == ([], [])
    assert (len(access_lines(app)), asked) == (1, [True])


@pytest.mark.parametrize(("workers", "several"), [(0, False), (2, True)])
def test_the_application_is_told_whether_others_serve_beside_it(workers: int, several: bool) -> None:
    told: list[bool] = []

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        told.append(environ["wsgi.multiprocess"])
        return echo(environ, start_response)

    with serving(app, workers=workers) as server:
        server.get()
    assert told == [several]


@pytest.fixture
def no_collector() -> Iterator[None]:
    """No search for what only refers to itself."""
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("no_collector")
@pytest.mark.parametrize("as_file", [True, False])
def test_what_a_request_took_is_free_when_it_is_answered(tmp_path: Path, as_file: bool) -> None:
    """And not some requests later, when Python looks for what nobody can reach."""
    tasks: list[weakref.ref[Any]] = []
    answer = download(sparse(tmp_path / "image", MIB), MIB) if as_file else echo

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        tasks.append(weakref.ref(environ["wsgi.file_wrapper"].args[0]))
        return answer(environ, start_response)

    with serving(app) as server:
        assert server.get().status == 200
        wait_until(lambda: tasks[0]() is None, SECONDS)
