"""What tests need of the machine, beside Python: programs, other people's clients, file systems of their own."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).parents[2]
TESTS = ROOT / "tests"
CLIENTS = Path(os.environ.get("PYRIMAGE_TEST_CLIENTS") or ROOT / ".venv-clients")
MEMORY, ROOM = Path("/dev/shm"), 2 << 30  # bytes


def unavailable(what: str) -> NoReturn:
    """Skip the test, or fail it where the environment sets CI."""
    if os.environ.get("CI"):
        pytest.fail(what)
    pytest.skip(what)


def installed(name: str) -> str:
    """Find a program of the machine; not every PATH has the directory of some."""
    found = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin")
    return found or unavailable(f"no {name}, which .ci/services.sh installs")


def client(name: str) -> str:
    """Find a program of the environment that has other people's clients."""
    program = CLIENTS / "bin" / name
    return str(program) if program.is_file() else unavailable(f"no {program}; make test-system installs it")


def environment(name: str) -> Path:
    """Find the virtual environment of a server that comes from PyPI: ``swift``, ``keystone`` and others."""
    found = ROOT / f".venv-{name}"
    return found if (found / "bin/python").exists() else unavailable(f"no {found}; make test-system installs it")


def keeps_attributes(directory: Path) -> bool:
    """Return whether files there can have extended attributes, in which Swift keeps what it knows of an object."""
    with tempfile.NamedTemporaryFile(dir=directory) as file:
        try:
            os.setxattr(file.fileno(), "user.swift.metadata", bytes(2000))
        except OSError:
            return False
    return True


@contextmanager
def memory_directory() -> Iterator[Path]:
    """Make a directory in memory if a server can keep its data there, else a usual one; it ends with the block."""
    is_fit = MEMORY.is_mount() and shutil.disk_usage(MEMORY).free > ROOM and keeps_attributes(MEMORY)
    with tempfile.TemporaryDirectory(prefix="pyrimage-test-", dir=MEMORY if is_fit else None) as name:
        yield Path(name)


@contextmanager
def owned_directory(user: str) -> Iterator[Path]:
    """Make a directory as above for a server that refuses to be root; ``processes.run_as`` runs it."""
    with memory_directory() as directory:
        if not os.getuid():
            shutil.chown(directory, user, user)
        yield directory


def mount(source: str | Path, place: Path, *options: str) -> None:
    done = subprocess.run(["mount", *options, source, place], capture_output=True, text=True)
    if done.returncode:
        unavailable(f"nothing can be mounted: {done.stderr}")


def make_ext4(path: Path, size: int, *options: str) -> Path:
    """Make a file with a file system of ``size`` bytes; it takes no more room than is used."""
    with path.open("wb") as file:
        file.truncate(size)
    done = subprocess.run([installed("mkfs.ext4"), "-q", *options, path], capture_output=True, text=True)
    if done.returncode:
        unavailable(f"no ext4: {done.stderr}")
    return path


@contextmanager
def mounted(source: str | Path, place: Path, *options: str) -> Iterator[Path]:
    """Mount a file system on a new directory until the block ends."""
    place.mkdir()
    mount(source, place, *options)
    try:
        yield place
    finally:
        if place.is_mount():
            subprocess.run(["umount", "--lazy", place], check=True)
