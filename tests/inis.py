"""The ini of a program that a test runs in its own process, and what the program told."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest

from pyrimage.scripts.serve import Configuration, server_options, with_hyphens

APP = """\
use = egg:pyrimage
pyrimage.auth = none
pyrimage.filesystem_store_datadir = %(here)s/images
pyrimage.auto_migrate = true
"""
URL = "sqlalchemy.url = sqlite:///%(here)s/pyrimage.sqlite\n"
SERVER = "use = egg:pyrimage#server\n"
LATE = ("--shutdown-timeout", "x")  # a fault that is found when all settings have been read and shown

# For tests in which the application is loaded, when the place is taken already.
loading = pytest.mark.filterwarnings(
    "ignore:unclosed <socket:ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)


class Told(NamedTuple):
    """What a program said, and how it ended."""

    status: int
    output: str
    errors: str

    @property
    def error(self) -> str:
        """The reason why it did not start, which is one line."""
        if self.status != 1 or not self.errors.startswith("ERROR: ") or self.errors.count("\n") != 1:
            raise AssertionError(f"not the one line of an error: {self}")
        return self.errors.removeprefix("ERROR: ").removesuffix("\n")


Run = Callable[..., Told]


def write(path: Path, app: str = APP + URL, server: str = "", more: str = "") -> Path:
    path.write_text(f"{more}\n[app:main]\n{app}\n[server:main]\n{SERVER}{server}\n", encoding="utf-8")
    return path


def read(ini: Path, *argv: str, server: str = "api") -> Configuration:
    return Configuration.read(server, server_options().parse_args(with_hyphens([str(ini), *argv])))
