"""Where our server meets waitress: its settings, its internals that we lean on, and its reading of requests."""

import importlib
import importlib.metadata
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser
from waitress.server import BaseWSGIServer

from pyrimage.server import DEFAULTS, LISTEN, Channel, Parser, make_server, server_factory

# What we override, call or count on: signatures of functions, bases of classes, values of all else.
EXPECTED = {
    "buffers:FileBasedBuffer.close": "(self)",
    "buffers:ReadOnlyFileBasedBuffer": "ReadOnlyFileBasedBuffer(FileBasedBuffer)",
    "buffers:ReadOnlyFileBasedBuffer.__init__": "(self, file, block_size=32768)",
    "buffers:ReadOnlyFileBasedBuffer.get": "(self, numbytes=-1, skip=False)",
    "buffers:ReadOnlyFileBasedBuffer.prepare": "(self, size=None)",
    "buffers:ReadOnlyFileBasedBuffer.remain": "0",
    "channel:ClientDisconnected": "ClientDisconnected(Exception)",
    "channel:HTTPChannel.error_task_class": "ErrorTask(Task)",
    "channel:HTTPChannel.parser_class": "HTTPRequestParser(object)",
    "channel:HTTPChannel.task_class": "WSGITask(Task)",
    "parser:HTTPRequestParser.chunked": "False",
    "parser:HTTPRequestParser.completed": "False",
    "parser:HTTPRequestParser.error": "None",
    "parser:HTTPRequestParser.expect_continue": "False",
    "parser:HTTPRequestParser.parse_header": "(self, header_plus)",
    "parser:HTTPRequestParser.received": "(self, data)",
    "parser:ParsingError": "ParsingError(Exception)",
    "server:BaseWSGIServer.channel_class": "HTTPChannel(dispatcher)",
    "server:BaseWSGIServer.print_listen": "(self, format_str)",
    "server:BaseWSGIServer.run": "(self)",
    "server:MultiSocketServer.print_listen": "(self, format_str)",
    "server:MultiSocketServer.run": "(self)",
    "server:create_server": "(application, map=None, _start=True, _sock=None, _dispatcher=None, **kw)",
    "task:ErrorTask.execute": "(self)",
    "task:Task.content_length": "None",
    "task:Task.service": "(self)",
    "task:Task.status": "'200 OK'",
    "task:Task.write": "(self, data)",
    "task:Task.wrote_header": "False",
    "task:WSGITask.get_environment": "(self)",
    "utilities:BadRequest": "BadRequest(Error)",
    "utilities:Error.to_response": "(self, ident=None)",
}
# Names that are set where no attribute of a class shows them, and the code that has to use them.
USED = {
    "channel:HTTPChannel.service": [
        "self.requests[0]",
        "task.wrote_header",
        "self.parser_class(self.adj)",
        "err_request",
    ],
    "channel:HTTPChannel.received": ["self.request.expect_continue", "self.send_continue()", "self.request.completed"],
    "channel:HTTPChannel.write_soon": ["isinstance(data, ReadOnlyFileBasedBuffer)", "raise ClientDisconnected"],
    "channel:HTTPChannel._flush_exception": ["except OSError", "self.will_close = True"],
    "parser:HTTPRequestParser.received": ["self.parse_header(header_plus)", "except ParsingError as e"],
    "parser:HTTPRequestParser.parse_header": ["self.command =", "self.request_uri =", "self.path", 'if b"_" in key'],
    "server:BaseWSGIServer.handle_accept": ["self.channel_class(self, conn, addr, self.adj, map=self._map)"],
    "task:ErrorTask.execute": ["self.request.error", "e.to_response(ident)"],
    "task:WSGITask.execute": ["self.get_environment()", "app_iter.prepare(cl)", "self.channel.write_soon(app_iter)"],
    "task:WSGITask.get_environment": ['"wsgi.file_wrapper"', "dict(request.headers)", "self.environ = environ"],
}


def internal(place: str) -> Any:
    """Find ``module:name.name`` in waitress; None if it is gone, too."""
    module, _, names = place.partition(":")
    found: Any = importlib.import_module(f"waitress.{module}")
    for name in names.split("."):
        found = getattr(found, name, None)
    return found


def described(thing: Any) -> str:
    if inspect.isclass(thing):
        return f"{thing.__name__}({', '.join(base.__name__ for base in thing.__bases__)})"
    return str(inspect.signature(thing)) if inspect.isfunction(thing) else repr(thing)


def changes() -> Iterator[str]:
    """Say what is not as our server needs it."""
    for place, expected in EXPECTED.items():
        if (now := described(internal(place))) != expected:
            yield f"{place} is {now}, was {expected}"
    for place, texts in USED.items():
        source = inspect.getsource(internal(place)) if internal(place) else ""
        yield from (f"{place} has no {text!r} any more" for text in texts if text not in source)


def test_waitress_has_the_internals_that_our_server_leans_on() -> None:
    if found := list(changes()):
        pytest.fail("waitress changed, so read the overrides in pyrimage/server.py again:\n" + "\n".join(found))


def test_waitress_is_a_version_that_our_server_was_written_for() -> None:
    version = importlib.metadata.version("waitress")
    numbers = [int(number) for number in re.findall(r"\d+", version)[:3]]
    assert [3, 0, 2] <= numbers < [3, 1], f"waitress {version}: pyrimage/server.py leans on 3.0.2 and its kind"


# Reading


def parsed(raw: bytes, parser_class: type[HTTPRequestParser] = Parser) -> Any:
    """Feed ``raw`` to a parser as a channel does, and return the parser."""
    parser = parser_class(Adjustments(**DEFAULTS))
    while raw and not parser.completed:
        raw = raw[parser.received(raw) :]
    return parser


def understood(parser: Any) -> dict[str, Any]:
    """Return what a parser made of a request, but for what only ours notes."""
    notes = {"adj", "error", "body_rcv", "began", "environ", "expect_continue"}
    meaning = {name: value for name, value in vars(parser).items() if name not in notes}
    error = parser.error and (type(parser.error), parser.error.body)
    body = parser.get_body_stream().read()
    parser.close()
    return {**meaning, "error": error, "body": body}


STARTS = ["GET / HTTP/1.1", "PUT /a_b HTTP/1.0", "get /", "POST //x?y_z HTTP/1.1", "PUT http://a/b HTTP/1.1"]
NAMES = ["Content-Length", "Transfer-Encoding", "Expect", "Connection", "Host", "content_length", "x_image_meta_a"]
TEXTS = ["chunked", "\x0bchunked", "5", "+5", "0x5", "100-continue", "close", "a\r\n x-image-meta-b_c: d", "a\nb"]
HEADER = st.tuples(
    st.sampled_from([*NAMES, "x-image-met-a_b", "X-Image-Meta"]) | st.text("aZ-_:\x0b é", max_size=5),
    st.sampled_from(TEXTS) | st.text("aZ0_: ,\t\r\n\x00\xff", max_size=6),
)
OUR_NAME = st.text("aZ-_.", max_size=6).map("X-Image-Meta-{}".format)


def hyphenated(name: str) -> str:
    return name.lower().replace("_", "-")


@given(st.sampled_from(STARTS), st.lists(HEADER, max_size=5), st.lists(OUR_NAME, max_size=3, unique_by=hyphenated))
def test_a_request_is_understood_as_by_waitress(start: str, headers: list[tuple[str, str]], ours: list[str]) -> None:
    """S48 and S50: nothing is refused less or read differently; ours is what waitress reads with hyphens."""

    def raw(our_names: list[str]) -> bytes:
        lines = [f"{name}: {value}" for name, value in [*headers, *((name, "v_w: x") for name in our_names)]]
        return "\r\n".join([start, *lines, "", "3\r\nabc\r\n0\r\n\r\n"]).encode("latin-1")

    stock = parsed(raw([hyphenated(name) for name in ours]), HTTPRequestParser)
    assert understood(parsed(raw(ours))) == understood(stock)


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
    parser = Parser(Adjustments(**DEFAULTS))
    parser.received(f"PUT / HTTP/1.1\r\nContent-Length: {5 * 1024**3}\r\n\r\n".encode())
    assert (parser.error, parser.completed, parser.content_length) == (None, False, 5 * 1024**3)


# Settings

WRONG = {
    "unknown server setting 'treads', did you mean 'threads'?": {"treads": "4"},
    "unknown server setting '_start'": {"_start": "no"},
    "channel_request_lookahead must be 0": {"channel_request_lookahead": "1"},
    "host or port may not be set if listen is set": {"listen": "localhost:1", "port": "1"},
}


def not_called(*_: Any) -> list[bytes]:
    raise NotImplementedError


def close_all(server: Any) -> None:
    server.task_dispatcher.shutdown(timeout=10)
    for place in list((server._map if hasattr(server, "_map") else server.map).values()):
        place.close()


@pytest.mark.parametrize(("text", "settings"), WRONG.items(), ids=WRONG)
def test_a_wrong_setting_is_told_before_the_application_is_loaded(text: str, settings: dict[str, str]) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        server_factory({}, **settings)


@pytest.mark.parametrize("listen", [{"listen": "127.0.0.1:0 127.0.0.1:0"}, {"unix_socket": "socket"}])
def test_every_listener_gets_our_classes(
    listen: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    server = make_server(not_called, **listen)
    places = (server.map if "listen" in listen else server._map).values()
    classes = {place.channel_class for place in places if isinstance(place, BaseWSGIServer)}
    close_all(server)
    assert classes == {Channel}


def test_without_a_place_in_the_ini_only_this_machine_is_served(monkeypatch: pytest.MonkeyPatch) -> None:
    host, _, port = LISTEN.partition(":")
    assert (host, port) == ("127.0.0.1", "9292")
    monkeypatch.setattr("pyrimage.server.LISTEN", f"{host}:0")  # the port may be taken by a server of the user's
    server = make_server(not_called)
    close_all(server)
    assert server.effective_host == host


def test_the_factory_runs_a_server_with_our_defaults_and_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Any] = []
    monkeypatch.setattr(BaseWSGIServer, "run", lambda server: ran.append(server))
    server_factory({}, listen="127.0.0.1:0", recv_bytes="4096", connection_limit="7")(not_called)
    (server,) = ran
    close_all(server)
    adj = server.adj
    assert (adj.recv_bytes, adj.connection_limit, adj.ident, adj.asyncore_use_poll) == (4096, 7, "pyrimage", True)
