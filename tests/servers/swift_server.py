"""What runs in Swift's own environment, ``.venv-swift``.

::

    python -m servers.swift_server rings DIRECTORY account=PORT container=PORT object=PORT
    python -m servers.swift_server serve KIND INI
"""

import importlib
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from swift.common import constraints, utils
from swift.common.ring import RingBuilder

MODULES = {"account": "account", "container": "container", "object": "obj", "proxy": "proxy"}


class Cache:
    """What the proxy asks of memcached, within its one process."""

    def __init__(self) -> None:
        self._values: dict[str, tuple[Any, float]] = {}

    def get(self, key: str, raise_on_error: bool = False) -> Any:
        value, end = self._values.get(key, (None, 0))
        return value if not end or end > time.monotonic() else None

    def set(self, key: str, value: Any, **options: Any) -> None:
        seconds = options.get("time", 0)
        self._values[key] = value, seconds and time.monotonic() + seconds

    def delete(self, key: str, server_key: str | None = None) -> None:
        self._values.pop(key, None)


def cache_filter(global_conf: dict[str, str], **local_conf: str) -> Callable[[WSGIApplication], WSGIApplication]:
    """Put a cache where ``egg:swift#cache`` puts a client of memcached (a ``paste.filter_factory``)."""
    cache = Cache()

    def with_cache(app: WSGIApplication) -> WSGIApplication:
        def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Any:
            return app({**environ, "swift.cache": cache}, start_response)

        return answer

    return with_cache


def build_rings(directory: Path, ports: dict[str, int]) -> None:
    """Write where each kind of server is: one replica on three devices, in 16 partitions."""
    for kind, port in ports.items():
        ring = RingBuilder(part_power=4, replicas=1, min_part_hours=0)
        for device in ("d0", "d1", "d2"):
            (directory / "devices" / device).mkdir(parents=True, exist_ok=True)
            ring.add_dev({"region": 1, "zone": 1, "ip": "127.0.0.1", "port": port, "device": device, "weight": 1})
        ring.rebalance()
        ring.get_ring().save(str(directory / f"{kind}.ring.gz"))


def serve(kind: str, ini: Path) -> None:
    """Run one of Swift's servers in the foreground."""
    utils.set_swift_dir(str(ini.parent))
    constraints.reload_constraints()  # it read those of /etc/swift when it was imported
    sys.argv[1:] = [str(ini), "-v"]  # it logs to standard output
    sys.exit(importlib.import_module(f"swift.{MODULES[kind]}.server").main())


if __name__ == "__main__":
    match sys.argv[1:]:
        case "rings", directory, *pairs:
            build_rings(Path(directory), {kind: int(port) for kind, port in (pair.split("=") for pair in pairs)})
        case "serve", kind, ini:
            serve(kind, Path(ini))
        case _:
            sys.exit(__doc__)
