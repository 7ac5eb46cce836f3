"""The sdist and the wheel: built, installed into an environment of their own, and used away from the checkout."""

import http.client
import os
import re
import socket
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from servers.processes import RUN_SECONDS, free_port

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
PINS = str(ROOT / "requirements/constraints.txt")

SAMPLES = ["development", "production"]

READY_SECONDS = 60


def run(*command: str | Path, cwd: Path) -> str:
    """Run a command to its end and give what it printed; the test fails if the command does."""
    done = subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def environment(**more: str) -> dict[str, str]:
    """Take the test's environment, without what would let a program see the checkout."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYRIMAGE"))}
    return {**inherited, "PIP_CONSTRAINT": PINS, "PIP_BUILD_CONSTRAINT": PINS, **more}


def accepts(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


@contextmanager
def running(*command: str | Path, port: int, cwd: Path, **variables: str) -> Iterator[None]:
    """Run a server until the block ends; the block starts when the port accepts connections."""
    log = cwd / "server.log"
    with log.open("w") as output:
        server = subprocess.Popen(
            command, cwd=cwd, env=environment(**variables), stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not accepts(port):
            assert server.poll() is None, f"{command} ended early\n{log.read_text()}"
            assert time.monotonic() < deadline, f"{command} does not answer\n{log.read_text()}"
            time.sleep(0.05)
        yield
    finally:
        server.terminate()
        server.wait(timeout=RUN_SECONDS)


def get(port: int, path: str) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=RUN_SECONDS)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist of the checkout, and the wheel built from that sdist."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def programs(distributions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment in which nothing but the wheel was asked for."""
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", folder, cwd=folder)
    run(folder / "bin/pip", "install", *distributions.glob("*.whl"), cwd=folder)
    return folder / "bin"


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def config(programs: Path, port: int, tmp_path: Path) -> Path:
    """production.ini as the wheel prints it, but for the port."""
    sample = run(programs / "pyrimage-manage", "sample-config", "production", cwd=tmp_path)
    path = tmp_path / "x.ini"
    path.write_text(re.sub(r"\b9292\b", str(port), sample))
    return path


def test_sdist_carries_the_sample_configurations_as_files_not_as_links(distributions: Path) -> None:
    (path,) = distributions.glob("*.tar.gz")
    with tarfile.open(path) as sdist:
        members = {member.name.partition("/")[2]: member for member in sdist}
    for name in SAMPLES:
        member = members[f"pyrimage/scripts/{name}.ini"]
        assert member.isreg()
        assert member.size == members[f"{name}.ini"].size > 0


def test_wheel_carries_every_file_of_the_package(distributions: Path) -> None:
    (path,) = distributions.glob("*.whl")
    with zipfile.ZipFile(path) as wheel:
        carried = {name: wheel.read(name) for name in wheel.namelist() if name.startswith("pyrimage/")}
    files = [path for path in ROOT.glob("pyrimage/**/*") if path.is_file() and "__pycache__" not in path.parts]
    assert carried == {str(path.relative_to(ROOT)): path.read_bytes() for path in files}


@pytest.mark.parametrize("name", SAMPLES)
def test_sample_config_prints_the_file_of_the_checkout(programs: Path, name: str, tmp_path: Path) -> None:
    assert run(programs / "pyrimage-manage", "sample-config", name, cwd=tmp_path) == (ROOT / f"{name}.ini").read_text()


def test_files_of_the_service_are_those_of_the_checkout_for_the_installed_programs(
    programs: Path, tmp_path: Path
) -> None:
    tree = ROOT / "pyrimage/scripts/service"
    files = [path for path in tree.rglob("*") if path.is_file()]
    shown = run(programs / "pyrimage-manage", "sample-config", "service", tmp_path, cwd=tmp_path).splitlines()
    assert sorted(shown) == sorted(str(tmp_path / path.relative_to(tree)) for path in files)
    for path in files:
        expected = path.read_text().replace("/opt/pyrimage/bin", str(programs))
        assert (tmp_path / path.relative_to(tree)).read_text() == expected


def test_manage_migrates_a_new_database_and_pserve_answers(programs: Path, config: Path, port: int) -> None:
    run(programs / "pyrimage-manage", "-c", config, "db", "upgrade", cwd=config.parent)
    with running(programs / "pserve", config, port=port, cwd=config.parent):
        assert get(port, "/healthcheck") == (200, b"OK")


def test_alembic_migrates_a_new_database_and_waitress_serve_answers(programs: Path, config: Path, port: int) -> None:
    run(programs / "alembic", "-c", config, "upgrade", "head", cwd=config.parent)
    run(programs / "pyrimage-manage", "-c", config, "db", "check", cwd=config.parent)
    command = f"{programs}/waitress-serve", f"--listen=127.0.0.1:{port}", "--call", "pyrimage.app:from_config"
    with running(*command, port=port, cwd=config.parent, PYRIMAGE_CONFIG=str(config)):
        assert get(port, "/healthcheck") == (200, b"OK")
