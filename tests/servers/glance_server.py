"""What runs in Glance's own environment, ``.venv-glance``: the API server of Glance 15, which asks a registry.

::

    python -m servers.glance_server DIRECTORY PORT REGISTRY_PORT

Glance 15 is the last on PyPI that has version 1 of the API. It is of 2017, for older Pythons: what these had in other
places is put there again before it is imported.
"""

import collections
import collections.abc
import inspect
import logging
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

INI = """
[DEFAULT]
registry_host = 127.0.0.1
registry_port = {registry_port}
enable_v1_api = true
debug = true
[glance_store]
stores = file, http
default_store = file
filesystem_store_datadir = {directory}/images
"""


def make_app(directory: Path, registry_port: int) -> Any:
    """Make Glance's application, without authentication, below ``/v1`` as its paste file does."""
    for name in ("Mapping", "MutableMapping", "Sequence", "Iterable", "Callable"):
        setattr(collections, name, getattr(collections.abc, name))
    vars(inspect)["getargspec"] = inspect.getfullargspec
    ini = directory / "glance-api.conf"
    ini.write_text(INI.format(directory=directory, registry_port=registry_port))
    (directory / "images").mkdir()
    options, store = import_module("oslo_config.cfg").CONF, import_module("glance_store")
    router, config = import_module("glance.api.v1.router"), import_module("glance.common.config")
    store.register_opts(options)
    config.parse_args(args=["--config-file", str(ini)], default_config_files=[])
    store.create_stores(options)
    store.verify_default_store()
    app, context = router.API(import_module("glance.common.wsgi").APIMapper()), "glance.api.middleware.context"
    paths = import_module("paste.urlmap").URLMap()
    paths["/v1"] = import_module(context).UnauthenticatedContextMiddleware(app)
    return paths


def main(directory: Path, port: int, registry_port: int) -> None:
    """Serve until the process ends; copies from URLs run in green threads of the same server."""
    import_module("eventlet").monkey_patch()
    app = make_app(directory, registry_port)
    logging.basicConfig(level=logging.INFO)
    listener = import_module("eventlet").listen(("127.0.0.1", port))
    import_module("eventlet.wsgi").server(listener, app)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
