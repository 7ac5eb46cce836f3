"""A TCP proxy that breaks connections, or makes them slow, in front of a server on this machine.

::

    with FaultProxy(port) as proxy:
        proxy.reset_up, proxy.count = 1000, 1  # of the next connection, the server gets 1000 bytes
        client.connect(("127.0.0.1", proxy.port))
        proxy.heal()

In front of a server that others use too, it stands for the death of that server: ``down`` and ``up``.
"""

import asyncio
import fcntl
import socket
import struct
import termios
import threading
from collections.abc import Coroutine
from types import TracebackType
from typing import Any, Self

from servers.processes import free_port

SECONDS = 20  # nothing waits longer
PIECE = 65536
RESET = struct.pack("ii", 1, 0)  # for SO_LINGER: close() resets the connection


class FaultProxy:
    """A proxy in a thread of its own; what it does to connections can be set at any time.

    delay: seconds before each piece, either way. rate: bytes a second, 0 for all that go. hang: pass nothing on.
    reset_up, reset_down: reset both sides after so many bytes to the server, to the client; 0 as soon as accepted,
    None never. count: of how many connections, the next ones; None for all. accepted: connections so far. delivered:
    bytes that clients have been sent so far.

    ``reset_up``, ``reset_down`` and ``count`` are looked at when a connection opens.
    """

    def __init__(self, target: int) -> None:
        self.port, self.accepted, self.delivered = free_port(), 0, 0
        self._target, self._tasks = target, set[asyncio.Task[None]]()
        self.heal()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.up()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def heal(self) -> None:
        """Pass everything on at once, as at first."""
        self.delay, self.rate, self.hang = 0.0, 0.0, False
        self.reset_up: int | None = None
        self.reset_down: int | None = None
        self.count: int | None = None

    def up(self) -> None:
        """Accept connections again, at the same port."""
        self._run(self._listen())

    @property
    def is_up(self) -> bool:
        """Whether it accepts connections."""
        return self._listener.fileno() >= 0

    def down(self) -> None:
        """Refuse connections, and reset the open ones."""
        self._run(self._refuse())

    def reset(self) -> None:
        """Reset the open connections."""
        self._run(self._reset())

    def close(self) -> None:
        """End it."""
        self.down()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(SECONDS)
        self._loop.close()

    def _run(self, step: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(step, self._loop).result(SECONDS)

    async def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._listener.setblocking(False)
        self._loop.add_reader(self._listener, self._accept)

    async def _refuse(self) -> None:
        if self._listener.fileno() >= 0:
            self._loop.remove_reader(self._listener)
            self._listener.close()
        await self._reset()

    async def _reset(self) -> None:
        await asyncio.sleep(0)  # a task that is cancelled before it began would leave its client open
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self) -> None:
        try:
            client, _ = self._listener.accept()
        except OSError:
            return  # it has hung up already
        client.setblocking(False)
        self.accepted += 1
        task = self._loop.create_task(self._serve(client, *self._limits()))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _limits(self) -> tuple[int | None, int | None]:
        """Return after how many bytes up and down the connection that opens is reset."""
        if self.count is None:
            return self.reset_up, self.reset_down
        if self.count == 0:
            return None, None
        self.count -= 1
        return self.reset_up, self.reset_down

    async def _serve(self, client: socket.socket, up: int | None, down: int | None) -> None:
        server, is_whole = socket.socket(), False
        server.setblocking(False)
        try:
            if 0 not in (up, down):
                await self._loop.sock_connect(server, ("127.0.0.1", self._target))
                async with asyncio.TaskGroup() as both:
                    both.create_task(self._pass_on(client, server, up, is_answer=False))
                    both.create_task(self._pass_on(server, client, down, is_answer=True))
                is_whole = True
        except* OSError:
            pass  # one side has broken the connection, and now the other learns of it
        finally:
            for each in (client, server):
                if not is_whole:
                    each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                each.close()

    async def _pass_on(self, source: socket.socket, sink: socket.socket, limit: int | None, *, is_answer: bool) -> None:
        """Pass bytes on until their end; raises ConnectionAbortedError after ``limit`` of them."""
        left = limit
        while data := await self._receive(source, PIECE if left is None else min(PIECE, left)):
            await self._loop.sock_sendall(sink, data)
            if is_answer:
                self.delivered += len(data)
            if left is not None:
                left -= len(data)
                if not left:
                    await _received(sink)
                    raise ConnectionAbortedError
        sink.shutdown(socket.SHUT_WR)

    async def _receive(self, source: socket.socket, size: int) -> bytes:
        data = await self._loop.sock_recv(source, size)
        while self.hang:
            await asyncio.sleep(0.01)
        await asyncio.sleep(self.delay + (len(data) / self.rate if self.rate else 0))
        return data


async def _received(sink: socket.socket) -> None:
    """Wait until the other side has all that was sent: a reset throws away what it has not."""
    while any(fcntl.ioctl(sink, termios.TIOCOUTQ, bytes(4))):
        await asyncio.sleep(0.001)
