"""A PostgreSQL primary and its synchronous standby, of a test's own.

::

    with postgresql.pair() as (primary, standby):
        make_engine({"sqlalchemy.url": postgresql.url_of(primary, standby)})
        primary.kill()
        standby.promote()
        primary.follow(standby)
"""

import contextlib
import re
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import URL, NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

from servers.machine import ROOT, owned_directory, unavailable
from servers.processes import RUN_SECONDS, clean_environment, free_port, run_as, spawn, wait_for_port, wait_until

USER, DATABASE = "postgres", "pyrimage"

# What a crash of the process leaves is in the kernel's memory: nothing has to wait for the disk.
OPTIONS = {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "fsync": "off", "shared_buffers": "16MB"}


def program(name: str) -> str:
    """Find a program of the newest PostgreSQL; Debian has them in no PATH."""
    found = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda path: int(path.parts[-3]))
    return str(found[-1]) if found else unavailable(f"no {name}, which .ci/services.sh installs")


class Cluster:
    """One cluster of databases below a directory, and the server that runs on it."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port, self.log = directory, free_port(), directory.with_suffix(".log")
        self._process: subprocess.Popen[bytes] | None = None

    def make(self) -> None:
        """Make an empty cluster and start it."""
        self._run("initdb", "--auth=trust", "--no-sync", "--locale=C.UTF-8", f"--pgdata={self.directory}")
        self.start()

    def follow(self, primary: "Cluster") -> None:
        """Copy a primary, start as its standby, and let each of its commits wait for this one."""
        shutil.rmtree(self.directory, ignore_errors=True)
        source = ("--host=127.0.0.1", f"--port={primary.port}", f"--username={USER}", "--checkpoint=fast")
        self._run("pg_basebackup", *source, "--write-recovery-conf", "--no-sync", f"--pgdata={self.directory}")
        self.start()
        primary.execute("ALTER SYSTEM SET synchronous_standby_names = '*'")
        primary.execute("SELECT pg_reload_conf()")
        synchronous = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync' AND state = 'streaming'"
        wait_until(lambda: primary.execute(synchronous) == [(1,)], RUN_SECONDS, self.log.read_text)

    def start(self) -> None:
        """Start the server."""
        options = [f"--{name}={value}" for name, value in {**OPTIONS, "port": self.port}.items()]
        self._process = spawn(*run_as(USER), program("postgres"), "-D", str(self.directory), *options, log=self.log)
        wait_for_port(self._process, self.port, self.log)
        wait_until(self._answers, RUN_SECONDS, self.log.read_text)

    def kill(self) -> None:
        """Kill the server, and wait until nothing of it is left: it is fenced."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait(RUN_SECONDS)
            wait_until(lambda: not self._has_processes(), RUN_SECONDS)

    def promote(self) -> None:
        """Make a standby the primary, which waits for no standby."""
        self.execute("SELECT pg_promote()")

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run one statement, as the administrator."""
        url = URL.create("postgresql+psycopg", USER, host="127.0.0.1", port=self.port, database="postgres")
        engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            result = connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []

    def _run(self, name: str, *arguments: str) -> None:
        command, place = [*run_as(USER), program(name), *arguments], self.directory.parent
        environment = clean_environment(place, {})
        with self.log.open("ab") as log:
            subprocess.run(command, cwd=place, env=environment, stdout=log, stderr=log, timeout=RUN_SECONDS, check=True)

    def _answers(self) -> bool:
        try:
            return self.execute("SELECT 1") == [(1,)]
        except OperationalError:  # it is starting up
            return False

    def _has_processes(self) -> bool:
        """Say whether a session is left that did not notice yet that its server is dead."""
        for each in Path("/proc").glob("[0-9]*/cwd"):
            with contextlib.suppress(OSError):
                if each.readlink() == self.directory:
                    return True
        return False


def url_of(*clusters: Cluster) -> str:
    """Return the URL of the database on whichever of the clusters takes changes, as ``docs/databases.md`` has it."""
    page = (ROOT / "docs/databases.md").read_text(encoding="utf-8")
    url: str = re.findall(r"^sqlalchemy\.url = (\S+&target_session_attrs=\S+)$", page, re.MULTILINE)[0]
    for host, cluster in zip(re.findall(r"host=([\d.]+:\d+)", url), clusters, strict=True):
        url = url.replace(host, f"127.0.0.1:{cluster.port}")
    return url.replace("pyrimage:secret@", f"{USER}@")


@contextmanager
def pair() -> Iterator[tuple[Cluster, Cluster]]:
    """Run a primary with an empty database, and its standby."""
    with owned_directory(USER) as directory, ExitStack() as stack:
        primary, standby = (Cluster(directory / name) for name in ("one", "two"))
        for each in (primary, standby):
            stack.callback(each.kill)
        primary.make()
        primary.execute(f"CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8'")
        standby.follow(primary)
        yield primary, standby
