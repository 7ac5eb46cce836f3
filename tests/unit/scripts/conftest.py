"""What tests of programs share: an ini that works, and a program that is run with it."""

from collections.abc import Callable
from pathlib import Path

import pytest

from inis import Told, write
from pyrimage.scripts.serve import main


@pytest.fixture
def ini(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An ini that works, in the directory where programs are started."""
    monkeypatch.chdir(tmp_path)
    return write(tmp_path / "pyrimage.ini")


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Told]:
    """A function that runs pyrimage-api, or another program, in this process."""

    def run_now(*argv: object, server: str = "api") -> Told:
        status = main(server, [str(each) for each in argv])
        return Told(status, *capsys.readouterr())

    return run_now
