"""The body of a streamed request, read from the socket by the thread that answers it."""

import contextlib
import errno
import io
import re
import select
import socket
import time
from typing import TYPE_CHECKING, Any, NoReturn

from waitress.channel import ClientDisconnected, HTTPChannel
from waitress.parser import ParsingError
from waitress.utilities import BadRequest, Error, RequestEntityTooLarge

from .parser import Parser, RequestTimeout, split_fields

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
FRAMING = 16384  # bytes between two pieces of chunked data: sizes, extensions, blank lines, the trailer
LINE = 64  # bytes that are looked at for the end of the line before a chunk
MOST_TRAILERS = 100  # lines
CHUNK_LINE = re.compile(rb"(?:[0-9A-Fa-f]{1,16}+(?:;[^\r\n]*+)?)?\r\n")  # waitress judges what stands in an extension
BARE_LF = re.compile(rb"(?<!\r)\n")
MOST_MILLISECONDS = 2**31 - 1  # that poll() takes
WINDOW_SECONDS = 30.0  # of waiting, over which the client must keep the minimum rate


class ClientLeft(ConnectionError, ClientDisconnected):
    """The connection ended before the body did. Waitress logs the second kind with one line, not a traceback."""


class Body(io.RawIOBase):
    """A body with back-pressure: what the application does not ask for stays with the client.

    rest: what came behind the end of a chunked body, the start of the connection's next request.
    """

    def __init__(self, channel: HTTPChannel, request: Parser) -> None:
        self._channel, self._request = channel, request
        self._adj: Any = channel.adj
        self._ahead = memoryview(request.ahead)
        self._left: int = request.content_length
        self._receiver: Any = request.body_rcv if request.chunked else None  # ask for None: an empty one is false
        self._spare = memoryview(bytearray(FRAMING if request.chunked else 0))
        self._socket: socket.socket | None = None
        self.failure: Exception | None = None
        self._total = self._framing = 0
        self._waited, self._came = 0.0, 0  # in this window
        self.rest = b""

    @property
    def is_complete(self) -> bool:
        """Whether everything was read, the end of chunks and trailer too, and nothing was wrong with it.

        Waitress' receiver may call what is broken completed, and what follows is then no request.
        """
        if self.failure is not None:
            return False
        return not self._left if self._receiver is None else self._receiver.completed

    def readable(self) -> bool:
        """Say yes."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Fill ``buffer`` with what has come, wait if nothing has; 0 is the end.

        Raises as the package's docstring says, and after that again.
        """
        view = memoryview(buffer).cast("B")
        if self.failure is not None:
            raise self.failure
        if self._request.expects:
            self._request.expects = False
            self._ask_for_it()
        count = self._read_sized(view) if self._receiver is None else self._read_chunked(view)
        self._total += count
        if self._total >= self._adj.max_request_body_size:
            text = f"exceeds max_body of {self._adj.max_request_body_size}"
            raise self._failed(OSError(errno.EFBIG, text), RequestEntityTooLarge(text))
        return count

    def release(self) -> None:
        """Let go of the socket, once the request is answered."""
        if self._socket is not None:
            self._socket.close()

    def _ask_for_it(self) -> None:
        try:
            self._channel.write_soon(CONTINUE)  # behind earlier answers
        except ClientDisconnected as error:
            raise self._failed(ClientLeft("the client left")) from error

    def _read_sized(self, view: memoryview) -> int:
        count = self._fill(view[: self._left]) if self._left else 0
        self._left -= count
        return count

    def _read_chunked(self, view: memoryview) -> int:
        receiver = self._receiver
        while not receiver.completed:
            if receiver.chunk_remainder:
                count = self._fill(view[: receiver.chunk_remainder])
                receiver.chunk_remainder -= count
                receiver.validate_chunk_end = not receiver.chunk_remainder
                self._framing = 0
                return count
            self._read_framing(receiver)
        return 0

    def _read_framing(self, receiver: Any) -> None:
        """Let waitress read what stands between two pieces of data: a chunk's end, the line before one, or the trailer.

        Not more at a time: it is never given data, nor made to copy all that follows again and again. And some of it
        is read more strictly.
        """
        if not self._ahead:
            self._ahead = self._spare[: self._receive(self._spare)]
        if receiver.all_chunks_received:
            self._read_trailer(receiver)
        elif receiver.validate_chunk_end:
            self._pass_on(receiver, len(b"\r\n") - len(receiver.chunk_end))
        else:
            begun = receiver.control_line
            line = begun + self._pass_on(receiver, bytes(self._ahead[:LINE]).find(b"\n") + 1 or LINE)
            if line.endswith(b"\n") and not CHUNK_LINE.fullmatch(line):
                self._refuse("Chunk size: send 1 to 16 hexadecimal digits, and CR and LF behind them")

    def _read_trailer(self, receiver: Any) -> None:
        last = receiver.trailer[-1:]
        came = self._pass_on(receiver, FRAMING)
        if receiver.completed:
            if receiver.trailer.endswith(b"\r\n\r\n"):
                try:
                    split_fields(b"\r\n" + receiver.trailer)
                except ParsingError as error:
                    self._refuse(f"Trailer: {error}")
                if receiver.trailer.count(b"\r\n") > MOST_TRAILERS + 1:  # that of the blank line
                    self._refuse(f"Trailer: more than {MOST_TRAILERS} lines")
            self.rest = bytes(self._ahead)
        elif BARE_LF.search(last + came, len(last)):  # else we would wait for the end of what is one to its sender
            self._refuse("Trailer: end lines with CR and LF")

    def _pass_on(self, receiver: Any, most: int) -> bytes:
        """Give waitress ``most`` bytes, or what is there of them; return these."""
        came = bytes(self._ahead[:most])
        used = receiver.received(came)
        self._ahead = self._ahead[used:]
        self._framing += used
        if receiver.error:
            self._refuse(receiver.error.body)
        if self._framing > FRAMING and not receiver.completed:
            self._refuse("Chunk header or trailer is too long")
        return came

    def _refuse(self, text: str) -> NoReturn:
        raise self._failed(ValueError(text), BadRequest(text))

    def _fill(self, view: memoryview) -> int:
        """Fill ``view``, which is not empty, with what was read ahead, or from the socket.

        Of a chunked body the same call takes what follows ``view``, for most likely that is framing.
        """
        if self._ahead:
            count = min(len(self._ahead), len(view))
            view[:count], self._ahead = self._ahead[:count], self._ahead[count:]
        elif self._receiver is None:
            count = self._receive(view)
        else:
            came = self._receive(view, self._spare)
            count = min(came, len(view))
            self._ahead = self._spare[: came - count]
        return count

    def _receive(self, *views: memoryview) -> int:
        """Receive into the views, wait if nothing is there; return how much came."""
        connection = self._connection()
        try:
            while True:
                with contextlib.suppress(BlockingIOError):
                    count = connection.recvmsg_into(views)[0]
                    break
                self._wait(connection)
        except OSError as error:
            if self.failure is not None:  # we gave up
                raise
            raise self._failed(ClientLeft(str(error))) from error
        if not count:
            raise self._failed(ClientLeft("the client left"))
        self._came += count
        self._watch_rate()
        return count

    def _connection(self) -> socket.socket:
        """Return a descriptor of our own: the main loop may close the channel's, and a stranger get its number."""
        if self._socket is None:
            with self._channel.outbuf_lock:  # under which the loop says that it will close
                if not self._channel.connected:
                    raise self._failed(ClientLeft("the client left"))
                self._socket = self._channel.socket.dup()
            self._socket.setblocking(False)  # as the loop's, with which it shares that
        return self._socket

    def _wait(self, connection: socket.socket) -> None:
        """Wait for the client, within the limits.

        Only this time counts: with that which the application takes, a slow store would look like a slow client.
        """
        poll, began = select.poll(), time.monotonic()
        poll.register(connection, select.POLLIN)
        if not poll.poll(min(self._adj.upload_timeout * 1000, MOST_MILLISECONDS)):
            self._give_up(f"No byte of the body came for {self._adj.upload_timeout} s (upload_timeout)")
        self._waited += time.monotonic() - began

    def _watch_rate(self) -> None:
        """Give up on a client that did not keep the minimum rate, the bytes that ended a wait included."""
        if self._waited > WINDOW_SECONDS:
            rate, least = self._came / self._waited, self._adj.upload_min_rate
            if rate < least:
                self._give_up(f"The body came with {rate:.0f} bytes/s, less than {least} (upload_min_rate)")
            self._waited, self._came = 0.0, 0

    def _give_up(self, text: str) -> None:
        raise self._failed(TimeoutError(text), RequestTimeout(text))

    def _failed(self, failure: Exception, answer: Error | None = None) -> Exception:
        """Remember the end, and how the server answers it if the application does not."""
        self.failure = failure
        self._request.error = answer
        return failure
