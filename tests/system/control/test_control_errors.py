"""What goes wrong with ``pyrimage-control``: it is told, and leaves the server that runs, or nothing."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from pyrimage.scripts.control import main
from servers.controlled import Controlled, Said, leaves_nothing
from servers.processes import PROGRAMS, wait_until
from servers.pyrimage import READY_SECONDS

pytestmark = pytest.mark.system


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ("scrubber start", "argument server: invalid choice: 'scrubber'"),
        ("api begin", "argument command: invalid choice: 'begin'"),
        ("api", "the following arguments are required: command"),
        ("", "the following arguments are required: server, command"),
        ("api start --nothing", "unrecognized arguments: --nothing"),
        ("all start --port=1", "name one server"),
        ("all start --pid-file=x", "name one server"),
    ],
)
def test_words_that_are_unknown(words: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words.split())
    out, err = capsys.readouterr()
    assert (ended.value.code, out) == (2, "")
    assert told in err
    assert err.startswith("usage: pyrimage-control ")


def failed_start(place: Controlled, *options: str | Path) -> Said:
    said = place.try_control("api", "start", place.ini, *options)
    assert said.status == 1
    assert leaves_nothing(place)
    return said


def test_a_start_without_a_place_to_log_or_a_configuration(alone: Controlled) -> None:
    log = alone.directory / "nowhere/api.log"
    nowhere = f"ERROR: The log file {log} cannot be opened: No such file or directory.\n"
    assert failed_start(alone, "--log-dir=nowhere") == (1, "", nowhere)
    alone.configure("app:main", {"pyrimage.atuh": "none"})
    unknown = "ERROR: Unknown setting pyrimage.atuh; did you mean pyrimage.auth?\n"
    assert failed_start(alone) == (1, "", unknown)
    alone.ini.unlink()
    missing = f"ERROR: {alone.ini} cannot be read: No such file or directory.\n"
    assert failed_start(alone) == (1, "", missing)
    nowhere = "ERROR: Unable to locate any configuration file. Cannot load application pyrimage-api\n"
    assert alone.try_control("api", "start") == (1, "", nowhere)


def test_restart_and_reload_with_a_broken_ini_leave_the_server_as_it_is(place: Controlled) -> None:
    place.control("api", "start", place.ini)
    pid, workers = place.pid, place.wait_for_workers(2)
    place.configure("app:main", {"pyrimage.atuh": "none"})
    fault = "Unknown setting pyrimage.atuh; did you mean pyrimage.auth?"
    assert place.try_control("api", "restart", place.ini) == (1, "", f"ERROR: {fault}\n")
    place.control("api", "reload")
    told = f"the new configuration does not work, the old one stays in force: ERROR: {fault}"
    wait_until(lambda: told in place.log(), READY_SECONDS, place.log)
    assert (place.pid, place.workers()) == (pid, workers)
    assert place.request("GET", "/images").status == 200


def test_a_configuration_that_cannot_be_read_leaves_open_which_server_is_meant(alone: Controlled) -> None:
    alone.control("api", "start", alone.ini)
    for command in ("stop", "reload"):
        said = alone.try_control("api", command, "typo.ini")
        assert (said.status, said.out) == (1, "")
        assert said.err == (
            f"ERROR: {alone.directory}/typo.ini cannot be read: No such file or directory. "
            "It may name a pid file: give that as --pid-file.\n"
        )
    (alone.directory / "typo.ini").write_text("what?\n")
    assert alone.try_control("api", "status", "typo.ini").status == 1
    assert alone.control("api", "reload", "typo.ini", "--pid-file", alone.pid_file())[0].startswith("Reloading")
    alone.ini.unlink()
    (alone.directory / "typo.ini").unlink()
    assert alone.control("api", "stop")[0].startswith("Stopping")


@pytest.mark.parametrize("output", ["> /dev/full", "| true"])
def test_a_server_is_stopped_though_nobody_can_be_told(alone: Controlled, output: str) -> None:
    alone.control("api", "start", alone.ini)
    command = f'set -o pipefail; "$0" api stop {output}'
    said = alone.run(str(shutil.which("bash")), "-c", command, PROGRAMS / "pyrimage-control")
    assert (said.status, said.err) == (0, "")
    assert not alone.processes()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can write where it should not")
def test_root_starts_nothing_on_the_data_of_others(alone: Controlled) -> None:
    data = alone.directory / "var/images"
    data.mkdir(parents=True)
    os.chown(data, 65534, 65534)
    for command in ("start", "restart"):
        said = alone.try_control("api", command, alone.ini)
        assert (said.status, said.out) == (1, "")
        assert said.err == f"ERROR: {data} belongs to nobody, and this is root: use runuser -u nobody -- ...\n"


def test_a_reload_that_the_system_or_the_pid_file_cannot_follow_leaves_a_server(place: Controlled) -> None:
    place.control("api", "start", place.ini)
    workers = place.wait_for_workers(2)
    place.configure("server:main", {"upload_threads": "1000000000"})
    place.control("api", "reload")
    told = "the new configuration does not work, the old one stays in force: ERROR: the system allows"
    wait_until(lambda: told in place.log(), READY_SECONDS, place.log)
    assert place.workers() == workers

    place.configure("server:main", {"upload_threads": "2", "pid_file": "/nowhere/x.pid"})
    os.kill(place.pid, signal.SIGHUP)  # pyrimage-control would look for the file in the ini
    wait_until(lambda: "the new workers serve" in place.log(), READY_SECONDS, place.log)
    assert place.request("GET", "/images").status == 200


def test_only_our_server_is_kept_in_the_background(alone: Controlled) -> None:
    alone.configure("server:main", {"use": "egg:waitress#main"})
    assert failed_start(alone).err == f"ERROR: {alone.ini}: only egg:pyrimage#server can be kept in the background.\n"


def test_reload_needs_a_server_and_does_not_end_one_that_was_started_by_hand_without_workers(alone: Controlled) -> None:
    assert alone.try_control("api", "reload") == (1, "No pyrimage-api running\n", "")
    alone.pid_file().parent.mkdir(parents=True)
    alone.start("pyrimage-api", str(alone.ini), f"--pid-file={alone.pid_file()}")
    said = alone.try_control("api", "reload")
    assert (said.status, said.out) == (1, "")
    assert said.err == "ERROR: pyrimage-api has no workers (see [server:...]): use restart.\n"
    assert alone.request("GET", "/images").status == 200
    alone.stop()


def test_a_start_that_fails_in_the_application_shows_the_end_of_the_log(place: Controlled) -> None:
    place.configure("app:main", {"pyrimage.auto_migrate": "false"})
    place.run_directory.mkdir(parents=True)
    place.log_file.write_text("of yesterday\n", encoding="utf-8")
    said = failed_start(place)
    assert f"ERROR: pyrimage-api ended before it answered. The end of {place.log_file}:\n" in said.err
    assert "\n    ERROR: The database's schema is of revision None" in said.err
    assert "of yesterday" not in said.err

    place.configure("app:main", {"sqlalchemy.url": "nothing://joe:hunter2@127.0.0.1/x"})
    place.configure("server:main", {"workers": "0"})
    said = failed_start(place, "--log-file=x.log")
    assert f"ended before it answered. The end of {place.directory}/x.log:\n" in said.err
    assert "Can't load plugin: sqlalchemy.dialects:nothing" in said.err
    assert "hunter2" not in said.err
