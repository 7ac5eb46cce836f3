"""Programs that tests start: each below a directory of its own, and none outlives the tests."""

import fcntl
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = Path(sys.executable).parent
RUN_SECONDS = 300

# The kernel kills the program when the thread that started it ends: start programs from the main thread.
# Neither Ctrl-C nor a hangup is ignored, as they would be where the tests run in the background of a script.
OWNED = ("setpriv", "--pdeathsig", "KILL", "env", "--default-signal=INT,HUP")


def run_as(user: str) -> tuple[str, ...]:
    """Return what comes before a command that refuses to be root, where we are."""
    change = ("setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups")
    return () if os.getuid() else (*change, *OWNED[:3])  # again, for a process that changes its user is owned no more


def spawn(*command: str, log: Path, environment: Mapping[str, str] | None = None) -> "subprocess.Popen[bytes]":
    """Start a program in the log's directory, in a process group of its own that does not outlive the tests."""
    with log.open("ab") as output:
        return subprocess.Popen(
            [*OWNED, *command],
            cwd=log.parent,
            env=clean_environment(log.parent, environment or {}),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )


@contextmanager
def spawned(
    *command: str, log: Path, environment: Mapping[str, str] | None = None, stop: signal.Signals = signal.SIGTERM
) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a program until the block ends."""
    process = spawn(*command, log=log, environment=environment)
    try:
        yield process
    finally:
        process.send_signal(stop)
        process.wait(RUN_SECONDS)


def run(
    command: str, *arguments: str | Path, cwd: Path, stdin: str = "", environment: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run an installed command to its end."""
    return subprocess.run(
        [*OWNED, PROGRAMS / command, *arguments],
        cwd=cwd,
        env=clean_environment(cwd, environment or {}),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


def clean_environment(directory: Path, more: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what could change a program's mind; temporary files go below ``directory``."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PYRIMAGE"))}
    temporary = directory / "tmp"
    return {
        **inherited,
        "TMPDIR": str(temporary if temporary.is_dir() else directory),
        "PYTHONWARNINGS": "ignore:pkg_resources is deprecated as an API:UserWarning",
        **more,
    }


def free_port() -> int:
    """Find a port that no test of this machine is given as long as this process lives, whether a server runs or not.

    It is below those that the kernel gives to clients, which could take it while a server restarts.
    """
    places = Path(tempfile.gettempdir(), f"pyrimage-test-ports-{os.getuid()}")
    places.mkdir(mode=0o700, exist_ok=True)
    for port in random.sample(range(20000, 32000), 100):
        lock = os.open(places / str(port), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            socket.create_server(("127.0.0.1", port)).close()
        except OSError:
            os.close(lock)
        else:
            return port  # the lock is held to the end
    raise AssertionError("no free port")


def wait_until(condition: Callable[[], object], seconds: float, explain: Callable[[], str] = str) -> None:
    """Wait for a condition to be true; fail with what ``explain`` says where it takes too long."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"not within {seconds} s: {explain()}")
        time.sleep(0.01)


def wait_for_port(process: "subprocess.Popen[bytes]", port: int, log: Path) -> None:
    """Wait until a program accepts connections; fail with its log where it ends or takes too long."""

    def explain() -> str:
        return log.read_text(encoding="utf-8", errors="replace")[-5000:]

    def accepts() -> bool:
        if process.poll() is not None:
            raise AssertionError(f"{log} ended\n{explain()}")
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_until(accepts, RUN_SECONDS, explain)


def children(pid: int) -> list[int]:
    """Return the processes that one has started and that run: a supervisor's workers."""
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    return [child for child in map(int, listed) if is_alive(child)]


def is_alive(pid: int) -> bool:
    """Say whether a process runs; one that ended may wait for somebody to take note of that."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
