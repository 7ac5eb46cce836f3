"""An API server of Glance, which asks a registry.

::

    with glance.serving(tmp_path, registry.port) as port:
        ...
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from servers.machine import TESTS, environment
from servers.processes import free_port, spawned, wait_for_port


@contextmanager
def serving(directory: Path, registry_port: int) -> Iterator[int]:
    """Run Glance below a directory, with its images in ``images`` there; give its port."""
    port, log = free_port(), directory / "glance.log"
    directory.mkdir(parents=True, exist_ok=True)
    python = str(environment("glance") / "bin/python")
    command = (python, "-m", "servers.glance_server", str(directory), str(port), str(registry_port))
    with spawned(*command, log=log, environment={"PYTHONPATH": str(TESTS)}) as process:
        wait_for_port(process, port, log)
        yield port
