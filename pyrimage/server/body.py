"""The body of a streamed request: the worker thread reads it from the socket while the application reads it."""

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
MAX_FRAMING = 16384  # bytes between two pieces of chunk data: size lines with their extensions, or the trailer
SIZE_LINE_BYTES = 64  # given to waitress at a time of the line before a chunk, which is mostly shorter
MAX_TRAILER_LINES = 100
CHUNK_LINE = re.compile(rb"(?:[0-9A-Fa-f]{1,16}+(?:;[^\r\n]*+)?)?\r\n")  # waitress checks the extension itself
BARE_LF = re.compile(rb"(?<!\r)\n")
MAX_POLL_MILLISECONDS = 2**31 - 1  # the largest number that poll() accepts
WINDOW_SECONDS = 30.0  # of waiting for the client, after which its rate is compared with upload_min_rate


class ClientLeft(ConnectionError, ClientDisconnected):
    """The connection ended before the body did. Waitress logs a ClientDisconnected in one line, without a traceback."""


class Body(io.RawIOBase):
    """The raw stream behind ``wsgi.input``. Bytes that the application does not ask for are not received.

    pipelined: bytes that came after the end of a chunked body: they begin the connection's next request.
    """

    def __init__(self, channel: HTTPChannel, request: Parser) -> None:
        self._channel, self._request = channel, request
        self._adj: Any = channel.adj
        self._buffered = memoryview(request.body_start)
        self._remaining: int = request.content_length
        self._receiver: Any = request.body_rcv if request.chunked else None  # an empty receiver is false
        self._framing_buffer = memoryview(bytearray(MAX_FRAMING if request.chunked else 0))
        self._socket: socket.socket | None = None
        self.failure: Exception | None = None
        self._total = self._framing = 0
        self._waited, self._came = 0.0, 0  # seconds and bytes since the rate was last checked
        self.pipelined = b""

    @property
    def is_complete(self) -> bool:
        """Whether the body was read to its end, with the last chunk and the trailer, and was well formed.

        Only then does a request follow. Waitress' receiver also says ``completed`` after some malformed chunks.
        """
        if self.failure is not None:
            return False
        return not self._remaining if self._receiver is None else self._receiver.completed

    def readable(self) -> bool:
        """Return True, as ``io`` asks of a stream that can be read."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """Read some bytes into ``buffer``, waiting for them if need be, and return how many; 0 is the end of the body.

        Raises ConnectionError, TimeoutError, ValueError or OSError (EFBIG), and the same again at each further call.
        """
        view = memoryview(buffer).cast("B")
        if self.failure is not None:
            raise self.failure
        if self._request.expects_continue:
            self._request.expects_continue = False
            self._send_continue()
        count = self._read_sized(view) if self._receiver is None else self._read_chunked(view)
        self._total += count
        if self._total >= self._adj.max_request_body_size:
            text = f"exceeds max_body of {self._adj.max_request_body_size}"
            raise self._failed(OSError(errno.EFBIG, text), RequestEntityTooLarge(text))
        return count

    def release(self) -> None:
        """Close our descriptor of the socket, when the request is answered."""
        if self._socket is not None:
            self._socket.close()

    def _send_continue(self) -> None:
        try:
            self._channel.write_soon(CONTINUE)  # queued after earlier answers
        except ClientDisconnected as error:
            raise self._failed(ClientLeft("the client left")) from error

    def _read_sized(self, view: memoryview) -> int:
        count = self._fill(view[: self._remaining]) if self._remaining else 0
        self._remaining -= count
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
        """Give waitress' receiver what stands between chunk data: the end of a chunk, a size line, or the trailer.

        It gets no more than that: data is read past it, and it would copy all that it is given with each piece. Line
        ends, sizes and trailers are checked more strictly than it does.
        """
        if not self._buffered:
            self._buffered = self._framing_buffer[: self._receive(self._framing_buffer)]
        if receiver.all_chunks_received:
            self._read_trailer(receiver)
        elif receiver.validate_chunk_end:
            self._pass_on(receiver, len(b"\r\n") - len(receiver.chunk_end))
        else:
            begun = receiver.control_line
            end = bytes(self._buffered[:SIZE_LINE_BYTES]).find(b"\n") + 1
            line = begun + self._pass_on(receiver, end or SIZE_LINE_BYTES)
            if line.endswith(b"\n") and not CHUNK_LINE.fullmatch(line):
                self._refuse("Chunk size: send 1 to 16 hexadecimal digits, and CR and LF behind them")

    def _read_trailer(self, receiver: Any) -> None:
        last = receiver.trailer[-1:]
        came = self._pass_on(receiver, MAX_FRAMING)
        if receiver.completed:
            if receiver.trailer.endswith(b"\r\n\r\n"):
                try:
                    split_fields(b"\r\n" + receiver.trailer)
                except ParsingError as error:
                    self._refuse(f"Trailer: {error}")
                if receiver.trailer.count(b"\r\n") > MAX_TRAILER_LINES + 1:  # that of the blank line
                    self._refuse(f"Trailer: more than {MAX_TRAILER_LINES} lines")
            self.pipelined = bytes(self._buffered)
        elif BARE_LF.search(last + came, len(last)):  # its sender may take it for the end, and we would wait for one
            self._refuse("Trailer: end lines with CR and LF")

    def _pass_on(self, receiver: Any, most: int) -> bytes:
        """Give waitress up to ``most`` of the buffered bytes; return those that it was given."""
        came = bytes(self._buffered[:most])
        used = receiver.received(came)
        self._buffered = self._buffered[used:]
        self._framing += used
        if receiver.error:
            self._refuse(receiver.error.body)
        if self._framing > MAX_FRAMING and not receiver.completed:
            self._refuse("Chunk header or trailer is too long")
        return came

    def _refuse(self, text: str) -> NoReturn:
        raise self._failed(ValueError(text), BadRequest(text))

    def _fill(self, view: memoryview) -> int:
        """Read some bytes into ``view``, which is not empty, from the buffer or else from the socket; return how many.

        For a chunked body the same system call also receives what follows the chunk, which saves one for its framing.
        """
        if self._buffered:
            count = min(len(self._buffered), len(view))
            view[:count], self._buffered = self._buffered[:count], self._buffered[count:]
        elif self._receiver is None:
            count = self._receive(view)
        else:
            came = self._receive(view, self._framing_buffer)
            count = min(came, len(view))
            self._buffered = self._framing_buffer[: came - count]
        return count

    def _receive(self, *views: memoryview) -> int:
        """Receive into the views, waiting until bytes come; return how many."""
        connection = self._connection()
        try:
            while True:
                with contextlib.suppress(BlockingIOError):
                    count = connection.recvmsg_into(views)[0]
                    break
                self._wait(connection)
        except OSError as error:
            if self.failure is not None:  # ours: the client was too slow
                raise
            raise self._failed(ClientLeft(str(error))) from error
        if not count:
            raise self._failed(ClientLeft("the client left"))
        self._came += count
        self._check_rate()
        return count

    def _connection(self) -> socket.socket:
        """Return a duplicate: the main loop may close the channel's descriptor, and a new connection get its number."""
        if self._socket is None:
            with self._channel.outbuf_lock:  # the main loop takes it to clear ``connected`` before it closes
                if not self._channel.connected:
                    raise self._failed(ClientLeft("the client left"))
                self._socket = self._channel.socket.dup()
            self._socket.setblocking(False)  # duplicates share this flag: the main loop's must not block
        return self._socket

    def _wait(self, connection: socket.socket) -> None:
        """Wait until the socket can be read, for ``upload_timeout`` seconds at most.

        Only this time counts for the rate. If the application's counted too, a slow disk would look like a slow client.
        """
        poll, began = select.poll(), time.monotonic()
        poll.register(connection, select.POLLIN)
        if not poll.poll(min(self._adj.upload_timeout * 1000, MAX_POLL_MILLISECONDS)):
            self._give_up(f"No byte of the body came for {self._adj.upload_timeout} s (upload_timeout)")
        self._waited += time.monotonic() - began

    def _check_rate(self) -> None:
        """Fail if the client was slower than ``upload_min_rate`` since the last check; called when bytes have come."""
        if self._waited > WINDOW_SECONDS:
            rate, least = self._came / self._waited, self._adj.upload_min_rate
            if rate < least:
                self._give_up(f"The body came with {rate:.0f} bytes/s, less than {least} (upload_min_rate)")
            self._waited, self._came = 0.0, 0

    def _give_up(self, text: str) -> None:
        raise self._failed(TimeoutError(text), RequestTimeout(text))

    def _failed(self, failure: Exception, answer: Error | None = None) -> Exception:
        """Note why the body ended, and the answer of the server if the application does not catch that error."""
        self.failure = failure
        self._request.error = answer
        return failure
