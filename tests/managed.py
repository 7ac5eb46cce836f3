"""``pyrimage-manage``, run in the test's process."""

import configparser
import contextlib
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pyramid.paster import get_appsettings

from conftest import Installation
from factories import files_below
from inis import Told
from pyrimage.app import main as make_app
from pyrimage.scripts.manage import main
from servers.pyrimage import ROOT


class Manage:
    """The command, run in this process; its directory has a production.ini, and no database yet."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory, self._capsys = directory, capsys
        self.ini = Path(shutil.copyfile(ROOT / "production.ini", directory / "pyrimage.ini"))
        self.datadir, self.database = directory / "var/images", directory / "var/pyrimage.sqlite"

    def __call__(self, *arguments: str | Path, status: int = 0) -> Told:
        """Run it in the directory, with ``./pyrimage.ini``; it must end with ``status``."""
        ended: Any
        try:
            ended = main([str(each) for each in arguments])
        except SystemExit as left:  # by argparse
            ended = left.code
        said = Told(ended, *self._capsys.readouterr())
        assert said.status == status, said
        return said

    def refused(self, *arguments: str | Path) -> str:
        """Run it, and return its last words, without the name of the program."""
        *_, last = self(*arguments, status=1).errors.splitlines()
        assert last.startswith("pyrimage-manage: ")
        return last.removeprefix("pyrimage-manage: ")

    def configure(self, key: str, value: str | None) -> None:
        """Set a key of the ini; None removes it."""
        ini = configparser.RawConfigParser()
        ini.read(self.ini, encoding="utf-8")
        if value is None:
            del ini["app:main"][key]
        else:
            ini["app:main"][key] = value
        with self.ini.open("w", encoding="utf-8") as file:
            ini.write(file)

    @contextlib.contextmanager
    def serving(self) -> Iterator[Installation]:
        """Start the application of the ini."""
        made = Installation(make_app({}, **get_appsettings(str(self.ini), name="main")), self.datadir)
        yield made
        made.engine.dispose()

    def sql(self, statement: str, *values: object) -> list[Any]:
        with contextlib.closing(sqlite3.connect(self.database)) as connection, connection:
            return connection.execute(statement, values).fetchall()

    def stored(self) -> set[str]:
        """Return the images that files are there of, staged ones too."""
        return {Path(name).name.partition(".")[0] for name in files_below(self.datadir)}
