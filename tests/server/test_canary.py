"""Where our server meets waitress: the internals that it leans on. How both read requests: test_fuzz.py."""

import importlib
import importlib.metadata
import inspect
import re
from collections.abc import Iterator
from typing import Any

import pytest

# What we override, call or count on: signatures of functions, bases of classes, values of all else.
EXPECTED = {
    "adjustments:Adjustments.__init__": "(self, **kw)",
    "adjustments:Adjustments.channel_request_lookahead": "0",
    "adjustments:Adjustments.channel_timeout": "120",
    "adjustments:Adjustments.inbuf_overflow": "524288",
    "adjustments:_int_marker": "_int_marker(int)",
    "adjustments:_str_marker": "_str_marker(str)",
    "buffers:FileBasedBuffer.close": "(self)",
    "buffers:FileBasedBuffer.skip": "(self, numbytes, allow_prune=0)",
    "buffers:ReadOnlyFileBasedBuffer": "ReadOnlyFileBasedBuffer(FileBasedBuffer)",
    "buffers:ReadOnlyFileBasedBuffer.__init__": "(self, file, block_size=32768)",
    "buffers:ReadOnlyFileBasedBuffer.get": "(self, numbytes=-1, skip=False)",
    "buffers:ReadOnlyFileBasedBuffer.prepare": "(self, size=None)",
    "buffers:ReadOnlyFileBasedBuffer.remain": "0",
    "channel:ClientDisconnected": "ClientDisconnected(Exception)",
    "channel:HTTPChannel": "HTTPChannel(dispatcher)",
    "channel:HTTPChannel._flush_outbufs_below_high_watermark": "(self)",
    "channel:HTTPChannel._flush_some": "(self, do_close=True)",
    "channel:HTTPChannel.error_task_class": "ErrorTask(Task)",
    "channel:HTTPChannel.handle_close": "(self)",
    "channel:HTTPChannel.handle_read": "(self)",
    "channel:HTTPChannel.handle_write": "(self)",
    "channel:HTTPChannel.last_activity": "0",
    "channel:HTTPChannel.parser_class": "HTTPRequestParser(object)",
    "channel:HTTPChannel.readable": "(self)",
    "channel:HTTPChannel.received": "(self, data)",
    "channel:HTTPChannel.request": "None",
    "channel:HTTPChannel.task_class": "WSGITask(Task)",
    "channel:HTTPChannel.total_outbufs_len": "0",
    "channel:HTTPChannel.will_close": "False",
    "channel:HTTPChannel.writable": "(self)",
    "channel:HTTPChannel.write_soon": "(self, data)",
    "parser:HTTPRequestParser.body_rcv": "None",
    "parser:HTTPRequestParser.chunked": "False",
    "parser:HTTPRequestParser.completed": "False",
    "parser:HTTPRequestParser.content_length": "0",
    "parser:HTTPRequestParser.error": "None",
    "parser:HTTPRequestParser.expect_continue": "False",
    "parser:HTTPRequestParser.header_plus": "b''",
    "parser:HTTPRequestParser.headers_finished": "False",
    "parser:HTTPRequestParser.parse_header": "(self, header_plus)",
    "parser:HTTPRequestParser.received": "(self, data)",
    "parser:ParsingError": "ParsingError(Exception)",
    "receiver:ChunkedReceiver.all_chunks_received": "False",
    "receiver:ChunkedReceiver.chunk_end": "b''",
    "receiver:ChunkedReceiver.chunk_remainder": "0",
    "receiver:ChunkedReceiver.completed": "False",
    "receiver:ChunkedReceiver.control_line": "b''",
    "receiver:ChunkedReceiver.error": "None",
    "receiver:ChunkedReceiver.received": "(self, s)",
    "receiver:ChunkedReceiver.trailer": "b''",
    "receiver:ChunkedReceiver.validate_chunk_end": "False",
    "server:BaseWSGIServer.channel_class": "HTTPChannel(dispatcher)",
    "server:BaseWSGIServer.handle_accept": "(self)",
    "server:BaseWSGIServer.maintenance": "(self, now)",
    "trigger:trigger.pull_trigger": "(self, thunk=None)",
    "parser:HTTPRequestParser.empty": "False",
    "server:TcpWSGIServer": "TcpWSGIServer(BaseWSGIServer)",
    "server:TcpWSGIServer.__init__": (
        "(self, application, map=None, _start=True, _sock=None, dispatcher=None, adj=None, sockinfo=None, "
        "bind_socket=True, **kw)"
    ),
    "server:UnixWSGIServer": "UnixWSGIServer(BaseWSGIServer)",
    "server:UnixWSGIServer.__init__": (
        "(self, application, map=None, _start=True, _sock=None, dispatcher=None, adj=None, sockinfo=None, **kw)"
    ),
    "task:ErrorTask.execute": "(self)",
    "task:Task.build_response_header": "(self)",
    "task:Task.close_on_finish": "False",
    "task:Task.content_length": "None",
    "task:Task.finish": "(self)",
    "task:Task.service": "(self)",
    "task:Task.set_close_on_finish": "(self) -> None",
    "task:Task.status": "'200 OK'",
    "task:Task.write": "(self, data)",
    "task:Task.wrote_header": "False",
    "task:ThreadedTaskDispatcher.add_task": "(self, task)",
    "task:ThreadedTaskDispatcher.set_thread_count": "(self, count)",
    "task:ThreadedTaskDispatcher.shutdown": "(self, cancel_pending=True, timeout=5)",
    "task:WSGITask.execute": "(self)",
    "task:WSGITask.get_environment": "(self)",
    "trigger:trigger._physical_pull": "(self)",
    "utilities:BadRequest": "BadRequest(Error)",
    "utilities:Error.to_response": "(self, ident=None)",
    "utilities:RequestEntityTooLarge": "RequestEntityTooLarge(BadRequest)",
    "utilities:RequestHeaderFieldsTooLarge": "RequestHeaderFieldsTooLarge(BadRequest)",
    "wasyncore:close_all": "(map=None, ignore_all=False)",
    "wasyncore:dispatcher": "dispatcher(object)",
    "wasyncore:dispatcher.__init__": "(self, sock=None, map=None)",
    "wasyncore:dispatcher.accepting": "False",
    "wasyncore:dispatcher.close": "(self)",
    "wasyncore:dispatcher.connected": "False",
    "wasyncore:dispatcher.recv": "(self, buffer_size)",
    "wasyncore:dispatcher.send": "(self, data, do_close=True)",
    "wasyncore:loop": "(timeout=30.0, use_poll=False, map=None, count=None)",
}
# Names that are set where no attribute of a class shows them, and the code that has to use them.
USED = {
    "adjustments:Adjustments.__init__": ["self._param_map", "self.listen", "_str_marker", "_int_marker"],
    "channel:HTTPChannel.__init__": ["self.outbuf_lock = threading.Condition()", "self.requests = []"],
    "channel:HTTPChannel._flush_exception": ["except OSError", "self.will_close = True"],
    "channel:HTTPChannel._flush_some": ["outbuf.get(self.sendbuf_len)", "self.send(chunk, do_close", "outbuf.skip("],
    "channel:HTTPChannel.handle_close": [
        "with self.outbuf_lock",
        "self.connected = False",
        "wasyncore.dispatcher.close",
    ],
    "channel:HTTPChannel.readable": ["len(self.requests) > self.adj.channel_request_lookahead"],
    "channel:HTTPChannel.received": [
        "self.request.expect_continue",
        "self.send_continue()",
        "self.request.completed",
        "self.server.add_task(self)",
        "if self.will_close or self.close_when_flushed",
    ],
    "channel:HTTPChannel.service": [
        "self.requests[0]",
        "request.error",
        "task.wrote_header",
        "self.parser_class(self.adj)",
        "err_request",
        "except ClientDisconnected",
        "self.requests.pop(0)",
    ],
    "channel:HTTPChannel.write_soon": ["isinstance(data, ReadOnlyFileBasedBuffer)", "raise ClientDisconnected"],
    "parser:HTTPRequestParser.close": ["body_rcv.getbuf().close()"],
    "parser:HTTPRequestParser.parse_header": [
        "headers = self.headers",
        "crack_first_line(first_line)",
        'headers.get("CONTENT_LENGTH", "0")',
        "self.command =",
        "self.request_uri =",
        "self.path",
        'if b"_" in key',
        'headers.pop("TRANSFER_ENCODING"',
        "ChunkedReceiver(buf)",
    ],
    "parser:HTTPRequestParser.received": [
        "self.parse_header(header_plus)",
        "except ParsingError as e",
        "self.headers_finished = True",
        "self.header_plus = s",
    ],
    "receiver:ChunkedReceiver.received": [
        "s = self.control_line + s",
        "self.trailer = trailer[:pos]",
        "rm = self.chunk_remainder",
        "elif self.validate_chunk_end",
        "self.validate_chunk_end = True",
        "if self.completed:",
    ],
    "proxy_headers:clear_untrusted_headers": ["environ, untrusted_headers, log_warning=False, logger=logger"],
    "proxy_headers:parse_proxy_headers": [
        "environ, trusted_proxy_count, trusted_proxy_headers, logger=logger",
        "raise MalformedProxyHeader(",
        "strip_brackets(addr.strip())",
    ],
    "proxy_headers:proxy_headers_middleware": [
        'trusted_proxy == "*" or remote_peer == trusted_proxy',
        "if clear_untrusted:",
    ],
    "server:BaseWSGIServer.__init__": [
        "if adj.trusted_proxy or adj.clear_untrusted_proxy_headers",
        "self.application = application",
        "self.trigger = trigger.trigger(map)",
        "self.asyncore.dispatcher.__init__(self, _sock",
    ],
    "server:BaseWSGIServer.accept_connections": ["self.accepting = True"],
    "server:BaseWSGIServer.handle_accept": ["self.channel_class(self, conn, addr, self.adj, map=self._map)"],
    "server:BaseWSGIServer.maintenance": ["not channel.requests", "channel.will_close = True"],
    "task:ErrorTask.execute": ["self.request.error", "e.to_response(ident)", "self.set_close_on_finish()"],
    "task:Task.build_response_header": [
        'connection = self.request.headers.get("CONNECTION", "").lower()',
        'if connection == "keep-alive"',
        'if connection == "close"',
        "self.set_close_on_finish()",
    ],
    "task:Task.service": ["self.execute()", "self.finish()", "except OSError", "log_socket_errors"],
    "task:ThreadedTaskDispatcher.handler_thread": ["task.service()"],
    "task:ThreadedTaskDispatcher.shutdown": ["task.cancel()"],
    "task:WSGITask.execute": ["self.get_environment()", "app_iter.prepare(cl)", "self.channel.write_soon(app_iter)"],
    "task:WSGITask.get_environment": ['"wsgi.file_wrapper"', "dict(request.headers)", "self.environ = environ"],
    "wasyncore:dispatcher.__init__": ["self.set_socket(sock, map)"],
    "wasyncore:dispatcher.close": ["self.connected = False", "self.accepting = False", "self.del_channel()"],
    "wasyncore:dispatcher.recv": ["self.handle_close()"],
    "wasyncore:dispatcher.send": ["self.socket.send(data)", "self.handle_close()"],
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
        pytest.fail("waitress changed, so read the overrides in pyrimage/server/ again:\n" + "\n".join(found))


def test_waitress_is_a_version_that_our_server_was_written_for() -> None:
    version = importlib.metadata.version("waitress")
    numbers = [int(number) for number in re.findall(r"\d+", version)[:3]]
    assert [3, 0, 2] <= numbers < [3, 1], f"waitress {version}: pyrimage/server/ leans on 3.0.2 and its kind"
