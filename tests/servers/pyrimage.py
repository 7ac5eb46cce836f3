"""A real pyrimage: the installed commands in processes of their own, over real sockets.

::

    with Server(tmp_path, main={"pyrimage.require_formats": "true"}) as server:
        server.request("GET", "/images").json

A server can be killed and started again: what its directory holds is all that stays.
"""

import configparser
import contextlib
import email.parser
import http.client
import json
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any, NamedTuple, Protocol, Self

from factories import files_below
from servers.processes import PROGRAMS, free_port, spawn, wait_until

ROOT = Path(__file__).parents[2]

READY_SECONDS = 300
ANSWER_SECONDS = 300

Body = bytes | IO[bytes] | Iterator[bytes] | None


class Answer(NamedTuple):
    """A response, read to its end."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    @classmethod
    def parse(cls, head: bytes, body: bytes) -> Self:
        """Make an answer of status line and headers, of which there may be any number."""
        first, _, lines = head.decode("latin-1").partition("\r\n")
        headers: Any = email.parser.Parser(_class=http.client.HTTPMessage).parsestr(lines)
        return cls(int(first.split()[1]), headers, body)

    @property
    def status_int(self) -> int:
        """The status, by the name that ``factories.error_of`` knows."""
        return self.status

    @property
    def json(self) -> dict[str, Any]:
        """The body's JSON."""
        value: dict[str, Any] = json.loads(self.body)
        return value

    @property
    def image(self) -> dict[str, Any]:
        """The image that a POST or PUT answers with."""
        value: dict[str, Any] = self.json["image"]
        return value


class Reachable(Protocol):
    """What clients can send requests to: a server, or a proxy in front of some."""

    def client(self) -> http.client.HTTPConnection:
        """Return a client that keeps its connection."""

    def request(self, method: str, path: str, body: Body = None, headers: Mapping[str, str] | None = None) -> Answer:
        """Send a request."""


class Server:
    """One installation below ``directory``, and the process that serves it.

    sample: the shipped ini to begin with. main, server: what ``[app:main]`` and ``[server:main]`` have instead.
    """

    def __init__(
        self,
        directory: Path,
        *,
        sample: str = "development",
        main: Mapping[str, str] | None = None,
        server: Mapping[str, str] | None = None,
    ) -> None:
        self.directory, self.port = directory, free_port()
        self.ini, self.log_file = directory / "pyrimage.ini", directory / "server.log"
        self.datadir, self.database = directory / "var/images", directory / "var/pyrimage.sqlite"
        self.process: subprocess.Popen[bytes] | None = None
        (directory / "tmp").mkdir(exist_ok=True)
        shutil.copyfile(ROOT / f"{sample}.ini", self.ini)
        self.configure("app:main", main or {})
        self.configure("server:main", {"listen": f"127.0.0.1:{self.port}", **(server or {})})

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()
        print(self.log()[-5000:])  # pytest shows it if the test failed

    @property
    def url(self) -> str:
        """The URL of ``/``, without its slash."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def pid(self) -> int:
        """The number of the server's process."""
        if self.process is None:
            raise RuntimeError("the server does not run")
        return self.process.pid

    def configure(self, section: str, settings: Mapping[str, str]) -> None:
        """Write settings into the ini, for the next start or ``hang_up``."""
        ini = configparser.RawConfigParser()
        ini.read(self.ini, encoding="utf-8")
        if not ini.has_section(section):
            ini.add_section(section)
        if settings.get("use") == "egg:waitress#main":
            ini[section].clear()  # it knows nothing of our server's settings
        if "file" not in re.split(", *", settings.get("pyrimage.stores", "file")):
            ini.remove_option(section, "pyrimage.filesystem_store_datadir")  # only a file store knows it
        ini[section].update(settings)
        with self.ini.open("w", encoding="utf-8") as file:
            ini.write(file)

    def workers(self) -> set[int]:
        """Return the numbers of the workers that serve, those that are about to end too."""
        listed = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii").split()
        return set(map(int, re.findall(r"worker (\d+) serves", self.log()))).intersection(map(int, listed))

    def wait_for_workers(self, count: int, other_than: Collection[int] = ()) -> set[int]:
        """Wait until so many workers serve, and nobody of the others; return their numbers."""
        wait_until(
            lambda: len(self.workers()) == count and self.workers().isdisjoint(other_than), READY_SECONDS, self.log
        )
        return self.workers()

    def hang_up(self) -> None:
        """Let the supervisor read the ini again."""
        os.kill(self.pid, signal.SIGHUP)

    def start(self, *command: str, **environment: str) -> None:
        """Run ``pserve``, or another command, until it answers."""
        command = command or ("pserve", str(self.ini))
        self.process = spawn(str(PROGRAMS / command[0]), *command[1:], log=self.log_file, environment=environment)
        wait_until(self._answers, READY_SECONDS, self.log)

    def stop(self) -> None:
        """End the server as an operator would."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End the server as a power cut would, but for what the kernel holds."""
        self._end(signal.SIGKILL)

    def log(self) -> str:
        """Return everything that was logged, before restarts too."""
        return self.log_file.read_text(encoding="utf-8")

    def access_lines(self) -> list[list[str]]:
        """Return the fields of the access lines, from the peer on. A line may come a moment after its answer."""
        lines = (line for line in self.log().splitlines() if "[pyrimage.access]" in line)
        return [line.partition("[pyrimage.access]")[2].split()[1:] for line in lines]

    def memory(self, field: str = "VmRSS") -> int:
        """Return bytes of memory: ``VmRSS`` now, ``VmHWM`` at the worst moment."""
        status = Path(f"/proc/{self.pid}/status").read_text(encoding="ascii")
        (line,) = (line for line in status.splitlines() if line.startswith(f"{field}:"))
        return int(line.split()[1]) * 1024

    def request(
        self, method: str, path: str, body: Body = None, headers: Mapping[str, str] | None = None, **options: Any
    ) -> Answer:
        """Send a request; ``options`` go to ``http.client``."""
        with contextlib.closing(self.client()) as connection:
            connection.request(method, path, body, headers or {}, **options)
            response = connection.getresponse()
            return Answer(response.status, response.headers, response.read())

    def client(self) -> http.client.HTTPConnection:
        """Return a client that keeps its connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_SECONDS)

    def connect(self, sent: bytes = b"") -> socket.socket:
        """Open a connection and send bytes as they are."""
        client = socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_SECONDS)
        client.sendall(sent)
        return client

    def exchange(self, raw: bytes) -> bytes:
        """Send ``raw`` as it is, and return all that comes until the connection closes."""
        received = bytearray()
        with self.connect(raw) as client:
            while piece := client.recv(1 << 20):
                received += piece
        return bytes(received)

    def ask(self, start: bytes, *lines: bytes, body: bytes = b"") -> Answer:
        """Send a request of a start line and header lines as they are."""
        raw = b"\r\n".join([start + b" HTTP/1.1", b"Host: localhost", b"Connection: close", *lines, b"", body])
        head, _, rest = self.exchange(raw).partition(b"\r\n\r\n")
        return Answer.parse(head, rest)

    def sql(self, statement: str, *values: object) -> list[tuple[Any, ...]]:
        """Run one statement on the server's SQLite database, from the outside."""
        with contextlib.closing(sqlite3.connect(self.database, timeout=30)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def files(self) -> list[str]:
        """Return every file of the store, staged ones too."""
        return files_below(self.datadir)

    def _answers(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            raise AssertionError(f"the server ended\n{self.log()}")
        try:
            return self.request("GET", "/healthcheck").status == 200
        except OSError:
            return False

    def _end(self, number: signal.Signals) -> None:
        process, self.process = self.process, None
        if process is None:
            return
        try:
            with contextlib.suppress(ProcessLookupError):  # it ended by itself
                os.killpg(process.pid, number)
            process.wait(READY_SECONDS)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait(READY_SECONDS)
