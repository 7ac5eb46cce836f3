"""The servers that are measured, the programs that are timed, and what several rounds come to."""

import configparser
import os
import shutil
import subprocess
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple, Self

from factories import data_headers
from servers.processes import free_port, run, spawn, wait_until
from servers.pyrimage import Answer, Server

READY_SECONDS = 60

NGINX = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
# A worker without a master, which could outlive it. Debian's places for logs and temporary files are root's.
NGINX_CONFIG = """
daemon off;
master_process off;
pid {here}/nginx.pid;
error_log {here}/error.log;
events {{}}
http {{
    access_log {here}/access.log;
    client_body_temp_path {here}/body;
    proxy_temp_path {here}/proxy;
    fastcgi_temp_path {here}/fastcgi;
    uwsgi_temp_path {here}/uwsgi;
    scgi_temp_path {here}/scgi;
    sendfile on;
    server {{
        listen 127.0.0.1:{port};
        root {root};
    }}
}}
"""


class Figure(NamedTuple):
    """A line of the table for README.md."""

    what: str
    aim: str
    value: str


class Installation(Server):
    """production.ini below a directory of its own, with the bare view beside the application; runs in a ``with``.

    main, server: what ``[app:main]`` and ``[server:main]`` have instead. stock: waitress as it was released, with as
    many threads.
    """

    def __init__(
        self,
        directory: Path,
        *,
        stock: bool = False,
        main: Mapping[str, str] | None = None,
        server: Mapping[str, str] | None = None,
    ) -> None:
        directory.mkdir()
        super().__init__(directory, sample="production", main=main, server=server)
        ini = configparser.RawConfigParser()
        ini.read(self.ini, encoding="utf-8")
        if stock:
            kept = {name: ini["server:main"][name] for name in ("listen", "threads")}
            ini["server:main"] = {"use": "egg:waitress#main", **kept, "max_request_body_size": str(2**50)}
        ini["composite:benchmark"] = {"paste.composite_factory": "bare:both"}
        with self.ini.open("w", encoding="utf-8") as file:
            ini.write(file)

    def __enter__(self) -> Self:
        self.prepare()
        try:
            self.start("pserve", "-n", "benchmark", str(self.ini), PYTHONPATH=str(Path(__file__).parent))
            self.settle()
        except BaseException:
            with suppress(ProcessLookupError):  # it may be the server that ended
                self.stop()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def prepare(self) -> None:
        """Make the tables."""
        make_tables(self)

    def processes(self) -> list[int]:
        """Return the server's process, and the workers' that it has started."""
        return processes_of(self)

    def cpu_seconds(self) -> float:
        """Return what all threads of all processes have used."""
        return cpu_seconds(self.processes())

    def settle(self) -> None:
        """Wait until no process is busy: the first worker answers while others are loading still."""
        used = -1.0
        while used != (used := self.cpu_seconds()):
            time.sleep(0.5)

    def peaks(self) -> list[int]:
        """Return the MiB of memory that each process had at its worst moment."""
        lines = [line for pid in self.processes() for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
        return [int(line.split()[1]) // 1024 for line in lines if line.startswith("VmHWM:")]

    def call(self, method: str, path: str, expected: int, body: Any = None, **fields: Any) -> Answer:
        """Make a request with the headers of an image's ``fields``; end the benchmark if the answer is another."""
        answer = self.request(method, path, body, data_headers(**fields) if fields else None)
        if answer.status != expected:
            raise SystemExit(f"{method} {path}: {answer.status} {answer.body[:1000]!r}")
        return answer


def make_tables(server: Server) -> None:
    """Bring a server's database up to date."""
    made = run("pyrimage-manage", "-c", server.ini, "db", "upgrade", cwd=server.directory)
    if made.returncode:
        raise SystemExit(made.stderr)


def processes_of(server: Server) -> list[int]:
    """Return a server's process, and the workers' that it has started."""
    children = Path(f"/proc/{server.pid}/task").glob("*/children")
    return [server.pid, *(int(pid) for file in children for pid in file.read_text().split())]


def cpu_seconds(processes: Iterable[int]) -> float:
    """Return what all threads of some processes have used; one that has just ended counts for nothing."""
    ticks = 0
    for pid in processes:
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


@contextmanager
def nginx(directory: Path, root: Path) -> Iterator[str | None]:
    """Serve the files below ``root`` with nginx until the block ends. Gives its URL, or None without nginx."""
    if NGINX is None:
        yield None
        return
    directory.mkdir()
    port, config, log = free_port(), directory / "nginx.conf", directory / "output"
    config.write_text(NGINX_CONFIG.format(here=directory, port=port, root=root))
    process = spawn(NGINX, "-c", str(config), log=log)
    url = f"http://127.0.0.1:{port}"

    def answers() -> bool:
        if process.poll() is not None:
            raise SystemExit(f"nginx ended:\n{log.read_text()}")
        with suppress(subprocess.CalledProcessError):
            subprocess.run(["curl", "-s", "-o", "/dev/null", url], check=True)
            return True
        return False

    try:
        wait_until(answers, READY_SECONDS)
        yield url
    finally:
        process.terminate()
        process.wait()


def timed(command: Sequence[str], copies: int) -> tuple[float, list[str]]:
    """Run a program so many times at once; return the seconds until the last one ended, and what each printed."""
    running: list[subprocess.Popen[str]] = []
    began = time.perf_counter()
    try:
        running.extend(subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(copies))
        output = [process.communicate()[0] for process in running]
        seconds = time.perf_counter() - began
    finally:
        for process in running:
            process.kill()
            process.wait()
    if any(process.returncode for process in running):
        raise SystemExit(f"{command} ended with {[process.returncode for process in running]}")
    return seconds, output


def spread(values: Sequence[float], form: str = ".2f") -> str:
    """Return the median, and how far the rounds lie apart."""
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def row(name: str, *columns: str) -> str:
    """Lay out a line of a table."""
    return f"{name:32}" + "".join(f"{column:>25}" for column in columns)
