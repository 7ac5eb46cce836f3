"""The catalogue of the tests' installations: a database, or with PYRIMAGE_TEST_CATALOGUE=remote a registry over one."""

import logging
import os
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pyrimage.app import main
from servers.in_process_server import serving

KIND = os.environ.get("PYRIMAGE_TEST_CATALOGUE") or "sql"
SECRET = "a secret that nobody guesses"  # 16 characters and more

sql_catalogue_only = pytest.mark.skipif(KIND != "sql", reason="is about what one process does with its database")


class Registries:
    """Registries that serve in this process, by the directory of the installation that asks them."""

    running: ClassVar[dict[Path, ExitStack]] = {}

    @classmethod
    def serve(cls, directory: Path, settings: dict[str, str]) -> tuple[Any, dict[str, str]]:
        """Serve a registry with an installation's settings; return it, and what the installation has in its ini."""
        secret = {"pyrimage.registry_secret": settings.get("pyrimage.registry_secret", SECRET)}
        shared = {key: text for key, text in settings.items() if not key.startswith(("pyrimage.audit", "pyrimage.log"))}
        registry = main({}, **{**shared, **secret, "pyrimage.application": "registry"})
        stack = cls.running.setdefault(directory, ExitStack())
        running = stack.enter_context(serving(registry, logging.WARNING, upload_threads=1, relay_threads=1))
        host, port = running.serving.listeners[0].socket.getsockname()
        return registry, {**secret, "pyrimage.registry_host": f"{host}:{port}"}

    @classmethod
    def end(cls, below: Path) -> None:
        """End those of the directories below one."""
        for directory in [each for each in cls.running if each.is_relative_to(below)]:
            cls.running.pop(directory).close()
