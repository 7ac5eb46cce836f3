"""``pyrimage-api`` and ``pyrimage-registry``: where their ini is, their options, signals, pid file and streams."""

import os
import re
import shutil
import signal
from pathlib import Path

import pytest

from pyrimage import __version__
from pyrimage.server.pidfile import holder
from servers.controlled import END, begun_upload, refuses
from servers.processes import PROGRAMS, free_port, wait_until
from servers.programs import Programs
from servers.pyrimage import READY_SECONDS

pytestmark = pytest.mark.system

OPTIONS = (
    *("--debug", "--verbose", "--log-config", "--log-format", "--log-file", "--log-dir", "--log-date-format"),
    *("--pid-file", "--host", "--port", "--shutdown-timeout", "--supervised", "--help", "--version"),
)


# Where the ini is.


@pytest.mark.parametrize("program", ["pyrimage-api", "pyrimage-registry"])
def test_the_first_ini_of_the_search_path_is_taken(place: Programs, program: str) -> None:
    etc = place.directory / "etc"
    (etc / "pyrimage").mkdir(parents=True)
    (cwd := place.directory / "cwd").mkdir()
    (place.directory / ".pyrimage").mkdir()
    instead = 'mount --bind "$0" /etc && exec "$@"'  # our own directory, for this program alone
    unshare: list[str | Path] = [str(shutil.which("unshare")), "--map-root-user", "--mount", "sh", "-c", instead, etc]
    if place.run(*unshare, "true").status:
        pytest.skip("the system does not let this user have an /etc of its own")
    found = {
        cwd: cwd,
        place.directory / ".pyrimage": place.directory / ".pyrimage",
        place.directory: place.directory,
        etc / "pyrimage": Path("/etc/pyrimage"),
        etc: Path("/etc"),
    }
    for real in found:
        (real / "pyrimage.ini").write_text("[nothing]\n", encoding="utf-8")
    for real, named in found.items():
        said = place.run(*unshare, PROGRAMS / program, cwd=cwd)
        assert said.err.startswith(f"ERROR: {named}/pyrimage.ini: No section ")
        (real / "pyrimage.ini").unlink()
    nothing = f"ERROR: Unable to locate any configuration file. Cannot load application {program}\n"
    assert place.run(*unshare, PROGRAMS / program, cwd=cwd) == (1, "", nothing)


def test_the_ini_that_was_found_is_served(place: Programs) -> None:
    place.start("pyrimage-api", **place.environment)
    assert place.request("GET", "/images").status == 200


# Stopping.


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_transfer_ends_before_the_program_does(place: Programs, number: signal.Signals) -> None:
    place.serve()
    with begun_upload(place) as upload:
        os.killpg(place.pid, number)
        wait_until(lambda: refuses(place.port), READY_SECONDS, place.log)
        upload.send(END)
        assert upload.getresponse().status == 201
    assert place.ended() == 0


def test_a_transfer_that_takes_longer_than_shutdown_timeout_is_cut_and_leaves_nothing(with_workers: Programs) -> None:
    place = with_workers
    place.serve("--shutdown-timeout", "1")
    with begun_upload(place) as upload:
        os.kill(place.pid, signal.SIGTERM)
        with pytest.raises(ConnectionError):
            upload.getresponse()
    assert place.ended() == 0
    assert (place.sql("SELECT * FROM claims"), place.sql("SELECT * FROM images"), place.files()) == ([], [], [])


# Options.


@pytest.mark.parametrize("program", ["pyrimage-api", "pyrimage-registry", "pyrimage-control"])
def test_help_names_every_option(place: Programs, program: str) -> None:
    said = place.run(program, "--help", environment={"COLUMNS": "300"})
    assert (said.status, said.err) == (0, "")
    assert [each for each in OPTIONS if each not in said.out] == []


@pytest.mark.parametrize("program", ["pyrimage-api", "pyrimage-registry", "pyrimage-control"])
def test_version(place: Programs, program: str) -> None:
    assert place.run(program, "--version") == (0, f"pyrimage {__version__}\n", "")


def test_the_guides_spellings_host_and_port(place: Programs) -> None:
    port = place.port
    place.configure("server:main", {"listen": f"127.0.0.1:{free_port()} 127.0.0.3:{free_port()}"})
    (place.directory / "logs").mkdir()
    options = "--log_file=x.log --log_dir logs --log_date_format %Y --log_format", "%(asctime)s %(message)s"
    more = f"--pid_file=x.pid --shutdown_timeout=5 --port {port}"
    place.serve(*options[0].split(), options[1], *more.split())
    log = (place.directory / "logs/x.log").read_text(encoding="utf-8")
    for host in ("127.0.0.1", "127.0.0.3"):  # the port of each is another, the host is not
        assert re.search(rf"^\d{{4}} Serving on http://{host}:{port}$", log, re.MULTILINE)
    assert holder(place.directory / "x.pid") == place.pid


def test_a_registry_listens_where_it_is_told(place: Programs) -> None:
    place.serve("--host=127.0.0.1", f"--port={place.port}", program="pyrimage-registry")
    assert place.request("GET", "/images").json == {"images": []}


# The pid file.


def test_the_pid_file_is_held_through_sighup_and_removed_at_the_end(with_workers: Programs) -> None:
    place = with_workers
    pid_file = place.directory / "x.pid"
    place.serve("--pid-file", "x.pid")

    def is_refused() -> bool:
        said = place.run("pyrimage-api", place.ini, f"--port={free_port()}", f"--pid-file={pid_file}")
        held = f"the pid file {pid_file} is held by process {place.pid}: it runs already"
        return said.status == 1 and held in said.err and len(said.err.splitlines()) == 1

    assert pid_file.read_text(encoding="ascii") == f"{place.pid}\n"
    assert holder(pid_file) == place.pid
    assert is_refused()
    inode = pid_file.stat().st_ino
    place.hang_up()
    wait_until(lambda: "the new workers serve" in place.log(), READY_SECONDS, place.log)
    assert (holder(pid_file), pid_file.stat().st_ino) == (place.pid, inode)
    assert is_refused()
    os.kill(place.pid, signal.SIGTERM)
    assert place.ended() == 0
    assert not pid_file.exists()


# Standard streams that nobody opened.


CLOSED = ("<&-", ">&-", "2>&-", "<&- >&- 2>&-")


def with_closed(closed: str, *command: str | Path) -> list[str]:
    """Return a command line that runs a command without some of its standard streams."""
    return [str(shutil.which("sh")), "-c", f'exec "$@" {closed}', "sh", *map(str, command)]


@pytest.mark.parametrize("closed", CLOSED)
def test_a_server_without_standard_streams_is_reloaded_and_stopped(with_workers: Programs, closed: str) -> None:
    place, log = with_workers, with_workers.directory / "x.log"
    place.start(*with_closed(closed, PROGRAMS / "pyrimage-api", place.ini, f"--log-file={log}"), **place.environment)
    place.hang_up()
    wait_until(lambda: "the new workers serve" in log.read_text(), READY_SECONDS, log.read_text)
    opened = [str(Path(f"/proc/{place.pid}/fd/{number}").readlink()) for number in range(3)]
    assert [each for each in opened if each.startswith("socket:") or str(place.directory / "var") in each] == []
    os.kill(place.pid, signal.SIGTERM)
    assert place.ended() == 0


@pytest.mark.parametrize("closed", CLOSED)
def test_a_daemon_is_started_and_stopped_without_standard_streams(place: Programs, closed: str) -> None:
    for command in ("start", "restart", "stop"):
        said = place.run(*with_closed(closed, PROGRAMS / "pyrimage-control", "api", command, place.ini))
        assert said.status == 0, said
    assert not place.processes()
