"""pyrimage as a service: systemd's units and fragments, read by systemd's own programs, and started by their words."""

import configparser
import os
import re
import shlex
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyrimage.server.options import read_options
from pyrimage.server.serving import DESCRIPTORS, OTHER_DESCRIPTORS
from servers.machine import installed
from servers.processes import PROGRAMS, RUN_SECONDS, free_port, run, spawn
from servers.pyrimage import READY_SECONDS, ROOT, Server

pytestmark = pytest.mark.system

UNITS = ("pyrimage-api.service", "pyrimage-registry.service", "pyrimage-scrub.service", "pyrimage-scrub.timer")
SERVERS = {"pyrimage-api.service": "server:main", "pyrimage-registry.service": "server:registry"}
INI = "/etc/pyrimage/pyrimage.ini"
READY = b"READY=1"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The files of the service, as an operator gets them."""
    directory = tmp_path_factory.mktemp("service")
    done = run("pyrimage-manage", "sample-config", "service", directory, cwd=directory)
    assert done.returncode == 0, done.stderr
    return directory


def systemd(program: str, *arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    """Run one of systemd's programs, if it is there."""
    return subprocess.run(
        [installed(program), *arguments], capture_output=True, text=True, timeout=RUN_SECONDS, check=False
    )


def options(tree: Path, unit: str) -> dict[str, str]:
    """Return what a unit sets; the last word counts."""
    lines = (tree / "etc/systemd/system" / unit).read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if re.match("[A-Z][A-Za-z]+=", line))


def sandbox(tree: Path, unit: str) -> list[str]:
    """Return the lines of a unit that say what its processes may do."""
    text = (tree / "etc/systemd/system" / unit).read_text(encoding="utf-8")
    found = re.search("^ProtectSystem=.*?(?=\n\n|\n*\\Z)", text, re.DOTALL | re.MULTILINE)
    assert found, text
    return [line for line in found[0].splitlines() if not line.startswith("#")]


# What systemd says of the files


@pytest.mark.parametrize("unit", UNITS)
def test_units_pass_systemd_analyze_verify(tree: Path, unit: str) -> None:
    done = systemd("systemd-analyze", "verify", "--man=no", tree / "etc/systemd/system" / unit)
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


@pytest.mark.parametrize("unit", [unit for unit in UNITS if unit.endswith(".service")])
def test_systemd_analyze_security_calls_the_units_ok(tree: Path, unit: str) -> None:
    done = systemd(
        "systemd-analyze", "security", "--offline=true", "--threshold=15", tree / "etc/systemd/system" / unit
    )
    assert done.returncode == 0, done.stdout + done.stderr  # the threshold is ten times the exposure


@pytest.fixture
def root(tree: Path, tmp_path: Path) -> Path:
    """The root of a file system whose user and directories the fragments have made."""
    if os.geteuid():
        pytest.skip("only root can give a directory to another user")
    for name in ("sysusers.d", "tmpfiles.d"):
        shutil.copytree(tree / "etc" / name, tmp_path / "etc" / name)
    for program, arguments in (("systemd-sysusers", ()), ("systemd-tmpfiles", ("--create",))):
        done = systemd(program, f"--root={tmp_path}", *arguments)
        assert done.returncode == 0, done.stderr
    return tmp_path


def entry(root: Path, file: str) -> list[str]:
    lines = (root / "etc" / file).read_text(encoding="utf-8").splitlines()
    (found,) = (line.split(":") for line in lines if line.startswith("pyrimage:"))
    return found


def test_sysusers_makes_a_user_who_cannot_log_in(root: Path) -> None:
    _, _, uid, gid, _, home, shell = entry(root, "passwd")
    assert int(uid) < 1000  # a user of the system
    assert gid == entry(root, "group")[2]
    assert home == "/var/lib/pyrimage"
    assert shell.endswith("/nologin")


@pytest.mark.parametrize(
    ("path", "mode", "owner"),
    [
        ("/etc/pyrimage", 0o750, "root"),
        ("/run/pyrimage", 0o755, "pyrimage"),
        ("/var/lib/pyrimage", 0o750, "pyrimage"),
        ("/var/log/pyrimage", 0o750, "pyrimage"),
    ],
)
def test_tmpfiles_makes_the_directories(root: Path, path: str, mode: int, owner: str) -> None:
    made = Path(f"{root}{path}").stat()
    uid, gid = map(int, entry(root, "passwd")[2:4])
    assert stat.S_IMODE(made.st_mode) == mode
    assert (made.st_uid, made.st_gid) == (0 if owner == "root" else uid, gid)


# What must agree with other files


@pytest.mark.parametrize("unit", SERVERS)
def test_unit_and_tmpfiles_agree_on_the_directories(tree: Path, unit: str) -> None:
    lines = (tree / "etc/tmpfiles.d/pyrimage.conf").read_text(encoding="utf-8").splitlines()
    modes = {line.split()[1]: line.split()[2] for line in lines if line.startswith("d ")}
    told = options(tree, unit)
    for kind, parent in (("State", "/var/lib"), ("Logs", "/var/log"), ("Runtime", "/run")):
        assert modes[f"{parent}/{told[f'{kind}Directory']}"] == told.get(f"{kind}DirectoryMode", "0755")


@pytest.mark.parametrize(("unit", "section"), SERVERS.items())
def test_unit_fits_the_server_settings_of_the_sample(tree: Path, unit: str, section: str) -> None:
    ini = configparser.RawConfigParser()
    ini.read(ROOT / "production.ini", encoding="utf-8")
    del ini[section]["use"]
    settings, told = read_options(dict(ini[section])), options(tree, unit)
    assert int(told["TimeoutStopSec"]) == settings.shutdown_timeout + 15
    threads = settings.upload_threads + settings.relay_threads
    needed = DESCRIPTORS * settings.connection_limit + OTHER_DESCRIPTORS + threads
    assert int(told["LimitNOFILE"]) >= needed


def test_all_units_let_their_processes_do_the_same(tree: Path) -> None:
    api, registry, scrub = (sandbox(tree, unit) for unit in UNITS if unit.endswith(".service"))
    assert len(api) > 20
    assert api == registry == scrub


def test_scrub_command_of_the_unit_runs(tree: Path, tmp_path: Path) -> None:
    server = Server(tmp_path, sample="production")
    run("pyrimage-manage", "db", "upgrade", cwd=tmp_path)
    with server:  # the first start marks the directory
        pass
    program, *arguments = shlex.split(
        options(tree, "pyrimage-scrub.service")["ExecStart"].replace(INI, str(server.ini))
    )
    done = run(program, *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "0 cleaned up, 0 failed.\n")


# Readiness


@pytest.fixture(params=SERVERS)
def unit(request: pytest.FixtureRequest) -> str:
    """Each server's unit in turn."""
    name: str = request.param
    return name


@pytest.fixture
def server(tmp_path: Path, unit: str) -> Server:
    """An installation whose API and registry are about to be started by their units' commands."""
    server = Server(tmp_path, sample="production", server={"workers": "2"})
    server.configure("server:registry", {"listen": f"127.0.0.1:{free_port()}"})
    if unit == "pyrimage-registry.service":
        server.port = int(configured(server, "server:registry", "listen").rpartition(":")[2])
    return server


def configured(server: Server, section: str, key: str) -> str:
    ini = configparser.RawConfigParser()
    ini.read(server.ini, encoding="utf-8")
    return ini[section][key]


@contextmanager
def notified(place: str | Path) -> Iterator[socket.socket]:
    """Listen for what a service tells systemd."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(place))
        listening.settimeout(READY_SECONDS)
        yield listening


def start(server: Server, command: str, notify: str) -> None:
    """Run a unit's command as systemd would; return at once."""
    words = shlex.split(command.replace(INI, str(server.ini)))
    assert Path(words[0]).parent == PROGRAMS.resolve()
    server.process = spawn(*words, log=server.log_file, environment={"NOTIFY_SOCKET": notify})


def test_service_is_ready_when_it_answers_and_is_reloaded_and_stopped_by_its_main_process(
    tree: Path, unit: str, server: Server, tmp_path: Path
) -> None:
    told = options(tree, unit)
    assert told["KillMode"] == "mixed"
    run("pyrimage-manage", "db", "upgrade", cwd=tmp_path)
    name, is_abstract = str(tmp_path / "notify"), unit == "pyrimage-registry.service"
    with notified(f"\0{name}" if is_abstract else name) as systemd:
        start(server, told["ExecStart"], f"@{name}" if is_abstract else name)
        try:
            assert systemd.recv(1024) == READY
            assert server.workers(), server.log()  # not only the supervisor, who would let clients wait
            assert server.request("GET", "/healthcheck").status == 200

            count = int(configured(server, SERVERS[unit], "workers"))
            before = server.wait_for_workers(count)
            subprocess.run(shlex.split(told["ExecReload"].replace("$MAINPID", str(server.pid))), check=True)
            workers = server.wait_for_workers(count, other_than=before)
            assert server.request("GET", "/healthcheck").status == 200

            os.kill(server.pid, signal.SIGTERM)
            assert server.process is not None
            assert server.process.wait(READY_SECONDS) == 0
            assert not [worker for worker in workers if Path(f"/proc/{worker}").exists()]
        finally:
            server.stop()


def test_service_that_does_not_start_is_never_ready(tree: Path, unit: str, server: Server, tmp_path: Path) -> None:
    with notified(tmp_path / "notify") as systemd:
        start(server, options(tree, unit)["ExecStart"], str(tmp_path / "notify"))
        assert server.process is not None
        assert server.process.wait(READY_SECONDS) == 1
        assert "db upgrade" in server.log()  # the schema is behind
        systemd.settimeout(0)
        with pytest.raises(BlockingIOError):
            systemd.recv(1024)
