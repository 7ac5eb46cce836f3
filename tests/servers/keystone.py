"""A real Keystone, with the users of ``keystone_accounts``.

::

    with keystone.serving(tmp_path) as identity:
        log_in(identity.url, ALICE).get_token()
"""

import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from servers.keystone_accounts import KEYSTONE_HOST, SWIFT_HOST
from servers.machine import TESTS, environment
from servers.processes import free_port, spawned, wait_for_port


@dataclass(frozen=True)
class Identity:
    """Where a Keystone is.

    url: of its version 3. object_store_port: where its catalogue says that Swift is, for a Swift to listen there.
    directory: its configuration and its log are there, ``keystone.log``.
    """

    url: str
    object_store_port: int
    directory: Path


@contextmanager
def serving(directory: Path, port: int | None = None) -> Iterator[Identity]:
    """Run a Keystone below a directory, from a copy of the one that ``make`` prepared; tokens of one are all's."""
    found = environment("keystone")
    log, port, object_store_port = directory / "keystone.log", port or free_port(), free_port()
    shutil.copytree(found / "prepared", directory, dirs_exist_ok=True)
    with closing(sqlite3.connect(directory / "keystone.db")) as database, database:
        for host, its_port in {KEYSTONE_HOST: port, SWIFT_HOST: object_store_port}.items():
            address = f"127.0.0.1:{its_port}"
            database.execute("UPDATE endpoint SET url = replace(url, ?, ?)", (host, address))
    command = (str(found / "bin/python"), "-m", "servers.keystone_server", "serve", str(directory), str(port))
    with spawned(*command, log=log, environment={"PYTHONPATH": str(TESTS)}) as process:
        wait_for_port(process, port, log)
        yield Identity(f"http://127.0.0.1:{port}/v3", object_store_port, directory)
