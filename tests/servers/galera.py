"""A Galera cluster of three nodes of MariaDB, of a test's own.

::

    with galera.cluster() as nodes:
        nodes[0].add_database("pyrimage")
        make_engine({"sqlalchemy.url": nodes[0].url_of("pyrimage")})
        nodes[1].kill()
        nodes[1].start()
"""

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sqlalchemy import NullPool, create_engine, text
from sqlalchemy.exc import OperationalError

from servers.databases import CREATE
from servers.machine import installed, owned_directory, unavailable
from servers.processes import RUN_SECONDS, clean_environment, free_port, run_as, spawn, wait_until

USER = "mysql"
PROVIDER = Path("/usr/lib/galera/libgalera_smm.so")

OPTIONS = {
    "bind-address": "127.0.0.1",
    "skip-name-resolve": "ON",
    "binlog-format": "ROW",
    "innodb-autoinc-lock-mode": "2",
    # A node that is killed gets what it forgot from the others.
    "innodb-flush-log-at-trx-commit": "0",
    "innodb-buffer-pool-size": "32M",
    "innodb-log-file-size": "16M",
    "wsrep-on": "ON",
    "wsrep-provider": str(PROVIDER),
    "wsrep-sst-method": "rsync",
}

INSTALL = ("--auth-root-authentication-method=normal", "--skip-test-db")

PROVIDER_OPTIONS = {
    "gcache.size": "32M",
    # Nodes take a silent one for dead after three seconds and not after five. After less, those of a busy machine could
    # give each other up while another one is really gone, and none would go on.
    "evs.keepalive_period": "PT0.5S",
    "evs.inactive_check_period": "PT0.5S",
    "evs.suspect_timeout": "PT3S",
    "evs.inactive_timeout": "PT9S",
}


class Node:
    """One node, its data below a directory."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.port, self.log = directory, free_port(), directory.with_suffix(".log")
        self.group_port, self._transfer_port, self._state_port = free_port(), free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self.peers = ""

    def url_of(self, database: str) -> str:
        """Return the URL of a database on this node."""
        return f"mysql+pymysql://root@127.0.0.1:{self.port}/{database}?charset=utf8mb4"

    def make(self) -> None:
        """Make an empty database."""
        self._run("mariadb-install-db", "--no-defaults", f"--datadir={self.directory}", *INSTALL)

    def start(self, *options: str) -> None:
        """Start the node, and wait until it has what the others have; ``--wsrep-new-cluster`` for the first one."""
        if (self.directory / "grastate.dat").exists():
            options = (*options, f"--wsrep-start-position={self._position()}")
        self._process = spawn(*run_as(USER), *self._command(), *options, log=self.log)
        wait_until(self._is_synced, RUN_SECONDS, self._explain)

    def add_database(self, name: str) -> None:
        """Make an empty database on all nodes."""
        self.execute(CREATE["mariadb"].format(name))

    def kill(self) -> None:
        """Kill the node; the others may take a moment to notice."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGKILL)
            process.wait(RUN_SECONDS)

    def isolate(self) -> None:
        """Let nothing go between the node and the others, which may take a moment to notice."""
        self.execute("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=1'")

    def rejoin(self) -> None:
        """End that, and wait until the node has what the others have."""
        self.execute("SET GLOBAL wsrep_provider_options = 'gmcast.isolate=0'")
        wait_until(self._is_synced, RUN_SECONDS, self._explain)

    def execute(self, statement: str) -> list[tuple[object, ...]]:
        """Run one statement, as the administrator; also where the node is outside its cluster, and answers nobody."""
        url = f"{self.url_of('')}&init_command=SET SESSION wsrep_dirty_reads = ON"
        engine = create_engine(url, poolclass=NullPool)
        with engine.begin() as connection:
            result = connection.execute(text(statement))
            return [tuple(row) for row in result] if result.returns_rows else []

    def status(self, name: str) -> str:
        """Return one of the node's status variables."""
        return str(self.execute(f"SHOW STATUS LIKE '{name}'")[0][1])

    def _command(self) -> list[str]:
        provider = PROVIDER_OPTIONS | {
            "gmcast.listen_addr": f"tcp://127.0.0.1:{self.group_port}",
            "ist.recv_addr": f"127.0.0.1:{self._transfer_port}",
        }
        options = OPTIONS | {
            "datadir": str(self.directory),
            "socket": str(self.directory.with_suffix(".sock")),
            "pid-file": str(self.directory.with_suffix(".pid")),
            "port": str(self.port),
            "wsrep-cluster-address": f"gcomm://{self.peers}",
            "wsrep-node-name": self.directory.name,
            "wsrep-node-address": f"127.0.0.1:{self.group_port}",
            "wsrep-sst-receive-address": f"127.0.0.1:{self._state_port}",
            "wsrep-provider-options": ";".join(f"{name}={value}" for name, value in provider.items()),
        }
        return [installed("mariadbd"), "--no-defaults", *(f"--{name}={value}" for name, value in options.items())]

    def _position(self) -> str:
        """Return what the node has, so that the others need to send only what came since."""
        said = self._run(*self._command(), "--wsrep-recover")
        return str(re.findall(r"Recovered position: (\S+)", said)[-1])

    def _run(self, program: str, *arguments: str) -> str:
        place = self.directory.parent
        done = subprocess.run(
            [*run_as(USER), installed(program), *arguments],
            cwd=place,
            env=clean_environment(place, {}),
            capture_output=True,
            text=True,
            timeout=RUN_SECONDS,
            check=False,
        )
        if done.returncode:
            raise AssertionError(done.stdout + done.stderr)
        return done.stderr

    def _is_synced(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            raise AssertionError(self._explain())
        try:
            return self.status("wsrep_local_state_comment") == "Synced" and self.status("wsrep_ready") == "ON"
        except OperationalError:
            return False

    def _explain(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")[-5000:]


@contextmanager
def cluster() -> Iterator[list[Node]]:
    """Run three nodes."""
    if not PROVIDER.exists():
        unavailable(f"no {PROVIDER}, which .ci/services.sh installs")
    with owned_directory(USER) as directory, ExitStack() as stack:
        nodes = [Node(directory / f"node{number}") for number in range(3)]
        for node in nodes:
            stack.callback(node.kill)
            node.peers = ",".join(f"127.0.0.1:{each.group_port}" for each in nodes)
        nodes[0].make()
        for node in nodes[1:]:  # which takes seconds each
            subprocess.run(["cp", "-a", nodes[0].directory, node.directory], check=True)
        nodes[0].start("--wsrep-new-cluster")
        for node in nodes[1:]:
            node.start()
        yield nodes
