"""A real PgBouncer in front of a database: each transaction gets whichever session of PostgreSQL is free.

::

    with databases.fresh_database("postgresql", tmp_path) as url, pgbouncer.serving(url) as pooled:
        make_engine({"sqlalchemy.url": pooled, "pyrimage.database_prepared_statements": "false"})
"""

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import make_url

from servers.machine import installed, owned_directory
from servers.processes import free_port, run_as, spawned, wait_for_port

USER = "postgres"  # PgBouncer refuses to be root

INI = """
[databases]
* = host={host} port={port} user={user} {password}

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {listen}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
query_wait_timeout = 60
"""


@contextmanager
def serving(url: str, sessions: int = 4) -> Iterator[str]:
    """Run a PgBouncer with so many sessions at most; give the URL of the database through it."""
    program, server, port = installed("pgbouncer"), make_url(url), free_port()
    password = f"password={server.password}" if server.password else ""
    with owned_directory(USER) as directory:
        ini, log = directory / "pgbouncer.ini", directory / "pgbouncer.log"
        text = INI.format(
            host=server.host,
            port=server.port or 5432,
            user=server.username,
            password=password,
            listen=port,
            sessions=sessions,
        )
        ini.write_text(text, encoding="utf-8")
        with spawned(*run_as(USER), program, str(ini), log=log) as process:
            wait_for_port(process, port, log)
            yield server.set(host="127.0.0.1", port=port).render_as_string(hide_password=False)
