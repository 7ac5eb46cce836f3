"""``pyrimage-api`` and ``pyrimage-registry``: where they find their ini, their options, logs, signals and errors."""

import configparser
import json
import os
import re
import secrets
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from factories import data_headers
from pyrimage import __version__
from pyrimage.server.pidfile import holder
from servers.controlled import END, Controlled, Said, begun_upload, refuses
from servers.processes import PROGRAMS, free_port, wait_until
from servers.pyrimage import READY_SECONDS, ROOT

pytestmark = pytest.mark.system

OPTIONS = (
    *("--debug", "--verbose", "--log-config", "--log-format", "--log-file", "--log-dir", "--log-date-format"),
    *("--pid-file", "--host", "--port", "--shutdown-timeout", "--help", "--version"),
)
DEFAULT_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  WARNING \[[a-z.]+\] .+")


class Programs(Controlled):
    """An installation whose servers run in the foreground; standard output and error are kept apart."""

    def __init__(self, directory: Path, **settings: Any) -> None:
        super().__init__(directory, **settings)
        self.log_file = directory / "server.log"  # standard error
        self.output = directory / "stdout"

    def serve(self, *options: str | Path, program: str = "pyrimage-api", **environment: str) -> None:
        """Run a program on the ini until it answers."""
        # A shell, for standard output to go elsewhere.
        line = f'exec "$@" > {self.output}'
        command = [str(PROGRAMS / program), str(self.ini), *map(str, options)]
        shell = str(shutil.which("bash"))
        self.start(shell, "-c", line, "bash", *command, **self.environment, **environment)

    def stdout(self) -> str:
        """Return what was printed on standard output."""
        return self.output.read_text(encoding="utf-8")

    def ended(self) -> int:
        """Wait until the server has ended; return its exit status."""
        assert self.process is not None
        return self.process.wait(READY_SECONDS)

    @property
    def pid(self) -> int:
        """The number of the server's process."""
        assert self.process is not None
        return self.process.pid

    def without_loggers(self) -> None:
        """Take ``[loggers]`` out of the ini."""
        ini = configparser.RawConfigParser()
        ini.read(self.ini, encoding="utf-8")
        ini.remove_section("loggers")
        with self.ini.open("w", encoding="utf-8") as file:
            ini.write(file)


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path, sample="development") as made:
        made.configure("logger_pyrimage", {"level": "INFO"})
        yield made
        made.stop()


@pytest.fixture
def with_workers(tmp_path: Path) -> Iterator[Programs]:
    with Programs(tmp_path) as made:
        yield made
        made.stop()


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


# Logging.


def test_without_loggers_warnings_go_to_standard_output_in_the_guides_format(place: Programs) -> None:
    place.without_loggers()
    place.configure("app:main", {"sqlalchemy.url": "postgresql+psycopg://127.0.0.1:1/x"})
    place.serve()
    place.request("GET", "/images")
    place.stop()
    assert "WARNING [pyrimage.app] The database cannot be reached." in place.stdout()
    assert "INFO" not in place.stdout()
    assert DEFAULT_LINE.fullmatch(place.stdout().splitlines()[0])
    assert place.log() == ""


def test_verbose_shows_info_and_no_more(place: Programs) -> None:
    place.configure("logger_root", {"level": "ERROR"})
    place.configure("logger_pyrimage", {"level": "ERROR"})
    place.serve("--verbose")
    place.stop()
    assert "INFO [pyrimage." in place.log()
    assert "DEBUG" not in place.log()


def test_one_precedence_for_everything_about_logging(place: Programs) -> None:
    keys = {"log_dir": str(place.directory / "logs"), "log_file": "key.log", "log_format": "KEY %%(message)s"}
    place.configure("app:main", {f"pyrimage.{name}": text for name, text in keys.items()})
    place.configure("formatter_generic", {"format": "INI %(message)s"})
    logs = place.directory / "logs"
    logs.mkdir()

    place.serve()
    place.stop()
    assert (logs / "key.log").read_text(encoding="utf-8").startswith("KEY ")
    assert (place.stdout(), place.log()) == ("", "")

    place.serve("--log-file", place.directory / "option.log", "--log-date-format", "%Y")
    place.stop()
    assert (place.directory / "option.log").read_text(encoding="utf-8").startswith("KEY ")
    assert (place.stdout(), place.log()) == ("", "")

    place.serve("--log-format", "OPTION %(message)s", "--log-dir", ".")
    place.stop()
    assert (place.directory / "key.log").read_text(encoding="utf-8").startswith("OPTION ")
    assert (place.stdout(), place.log()) == ("", "")

    place.serve(program="pserve")
    place.request("GET", "/images")
    place.stop()
    assert "INI Serving on" in place.log()
    assert re.search("^INI 127.0.0.1 GET /images 200 ", place.log(), re.MULTILINE)
    assert sorted(path.name for path in logs.iterdir()) == ["key.log"]


def test_log_config_alone_decides(place: Programs) -> None:
    config = place.directory / "logging.conf"
    text = ROOT.joinpath("development.ini").read_text(encoding="utf-8").replace("sys.stderr", "sys.stdout")
    config.write_text(
        text.replace("level = INFO", "level = WARNING").replace("%(asctime)s", "CONFIG"), encoding="utf-8"
    )
    place.configure("app:main", {"pyrimage.log_file": str(place.directory / "key.log")})
    place.serve("--log-config", "logging.conf", "--verbose", "--log-file", "option.log", "--log-format", "json")
    place.stop()
    lines = place.stdout().splitlines()
    assert lines
    assert all(line.startswith("CONFIG ") for line in lines)
    assert "DEBUG [pyrimage.scripts.serve]" in place.stdout()  # its own level
    assert "Serving on" not in place.stdout()  # likewise
    assert place.log() == ""
    assert not [*place.directory.glob("key.log"), *place.directory.glob("option.log")]


def test_log_dir_alone_names_the_file_after_the_program(place: Programs) -> None:
    place.serve("--log-dir", place.directory, "--port", str(place.port), program="pyrimage-registry")
    assert "Serving on" in (place.directory / "registry.log").read_text(encoding="utf-8")


def test_every_line_is_a_json_object_where_that_is_wanted(with_workers: Programs) -> None:
    place = with_workers
    place.configure("logger_pyrimage", {"level": "DEBUG"})
    place.serve("--log_format=json")
    image = place.request("POST", "/v1/images", b"bytes", data_headers(name="f17")).image["id"]
    asked = place.request("GET", f"/v1/images/{image}").headers["x-openstack-request-id"]
    place.sql("DROP TABLE image_properties")
    assert place.request("GET", f"/v1/images/{image}").status >= 500
    place.stop()
    lines = [json.loads(line) for line in (place.stdout() + place.log()).splitlines()]
    named = {"time", "level", "logger", "process", "message", "request_id", "image_id", "caller"}
    assert {*map(frozenset, lines)} == {frozenset(named), frozenset({*named, "exception"})}
    (access,) = (each for each in lines if each["request_id"] == asked and each["logger"] == "pyrimage.access")
    assert (access["image_id"], access["caller"], access["level"]) == (image, "admin", "INFO")
    assert access["time"].endswith("+00:00")
    (serving,) = (each for each in lines if each["message"].startswith("Serving on"))
    assert (serving["request_id"], serving["image_id"], serving["caller"]) == (None, None, None)
    assert any("Traceback" in each.get("exception", "") for each in lines)


def test_a_log_that_is_moved_is_opened_anew_by_every_process(with_workers: Programs) -> None:
    place = with_workers
    log = place.directory / "api.log"
    place.serve("--log-file", log)

    def lines(path: Path) -> list[str]:
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []

    wait_until(lambda: sum(" serves" in line for line in lines(log)) == 2, READY_SECONDS)
    workers = set(re.findall(r"worker (\d+) serves", log.read_text(encoding="utf-8")))
    log.rename(log.with_suffix(".1"))
    for pid in workers:  # the supervisor tells of their ends and of their successors
        os.kill(int(pid), signal.SIGKILL)
    wait_until(lambda: sum(" serves" in line for line in lines(log)) == 2, READY_SECONDS)
    for number in range(20):
        assert place.request("GET", f"/images/{number}").status == 404
    wait_until(lambda: sum("pyrimage.access" in line for line in lines(log)) == 20, READY_SECONDS)
    log.rename(log.with_suffix(".2"))
    for number in range(20):
        assert place.request("GET", f"/images/{number}").status == 404
    wait_until(lambda: sum("pyrimage.access" in line for line in lines(log)) == 20, READY_SECONDS)


def test_no_secret_is_told_at_debug_s44_s46(with_workers: Programs) -> None:
    """S44, S46: the settings at start, a database that is away, and whatever clients send."""
    place = with_workers
    hidden = {name: secrets.token_hex(8) for name in ("url", "query", "registry", "token", "basic", "location")}
    url = f"postgresql+psycopg://joe:{hidden['url']}%%21@127.0.0.1:1/x?password={hidden['query']}&application_name=seen"
    place.configure("app:main", {"sqlalchemy.url": url, "pyrimage.auto_migrate": "false"})
    place.serve("--debug", PYRIMAGE_REGISTRY_SECRET=hidden["registry"])
    headers = {
        **data_headers(name="f17"),
        "X-Auth-Token": hidden["token"],
        "Authorization": f"Basic {hidden['basic']}",
        "x-image-meta-location": f"http://joe:{hidden['location']}@example.org/x",
    }
    for path in ("/images", "/v1/images", "/images/a"):
        for method in ("GET", "POST", "PUT", "DELETE", "HEAD"):
            place.request(method, path, b"bytes", headers)
    place.stop()
    log = place.stdout() + place.log()
    assert "app: sqlalchemy.url = postgresql+psycopg://joe:***@127.0.0.1:1/x?password=***&application_name=seen" in log
    assert "app: pyrimage.registry_secret = ***" in log
    assert "server: workers = 2" in log
    assert "WARNING [pyrimage.app] - The database cannot be reached." in log
    assert [name for name, secret in hidden.items() if secret in log] == []
    assert {*re.findall(r"DEBUG \[([a-z]+)", log)} == {"pyrimage"}


def test_signatures_in_a_query_are_not_logged_s46(place: Programs) -> None:
    """S46."""
    place.serve("--debug")
    secret = secrets.token_hex(8)
    for name in ("Signature", "X-Amz-Signature", "temp_url_sig", "token", "X-Amz-Security-Token"):
        place.request("GET", f"/images?limit=1&{name}={secret}")
    place.request("GET", f"/nowhere?Signature={secret}")
    place.stop()
    assert "GET /images?limit=1&" in place.log()
    assert secret not in place.log()


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


# Errors.


@dataclass(frozen=True)
class Fault:
    """What is wrong, and what is said of it: exactly one line on standard error, with exit status 1."""

    said: str
    make: Callable[[Programs], Any] = lambda _: None
    options: tuple[str, ...] = ()


def configure(section: str, **settings: str) -> Callable[[Programs], None]:
    return lambda place: place.configure(section, settings)


def main_key(key: str, text: str) -> Callable[[Programs], None]:
    return lambda place: place.configure("app:main", {key: text})


def append(data: bytes) -> Callable[[Programs], Any]:
    return lambda place: place.ini.write_bytes(place.ini.read_bytes() + data)


def make_directory(place: Programs) -> None:
    place.ini.unlink()
    place.ini.mkdir()


FAULTS = {
    "missing": Fault("{ini} cannot be read: No such file or directory.", lambda place: place.ini.unlink()),
    "directory": Fault("{ini} cannot be read: Is a directory.", make_directory),
    "not utf-8": Fault("{ini}: 'utf-8' codec can't decode byte 0xff", append(b"# \xff\n")),
    "no section": Fault("{ini}: No section 'main'", lambda place: place.ini.write_text("[x]\n")),
    "unknown key": Fault("Unknown setting pyrimage.atuh; did you mean pyrimage.auth?", main_key("pyrimage.atuh", "x")),
    "percent": Fault("{ini}: sqlalchemy.url: a literal % is written %%", main_key("sqlalchemy.url", "sqlite:///%x")),
    "server setting": Fault(
        "unknown server setting 'wrkers', did you mean 'workers'?", configure("server:main", wrkers="1")
    ),
    "log dir": Fault(
        "The log file /nowhere/api.log cannot be opened: No such", main_key("pyrimage.log_dir", "/nowhere")
    ),
    "log file": Fault("pyrimage.log_file = x.log: use an absolute path", main_key("pyrimage.log_file", "x.log")),
    "log format": Fault("log_format = %(nothing)s: ", options=("--log-format", "%(nothing)s")),
    "log config": Fault("--log-config: {directory}/x is not a file.", options=("--log-config", "x")),
    "pid file": Fault("", options=("--pid-file", "/nowhere/x.pid")),
    "timeout": Fault(
        "server setting shutdown_timeout = soon: use a whole number", options=("--shutdown-timeout=soon",)
    ),
    "port": Fault("", options=("--port=70000",)),
    "database url": Fault("sqlalchemy.url", main_key("sqlalchemy.url", "no-url")),
    "schema": Fault("The database's schema is of revision None", main_key("pyrimage.auto_migrate", "false")),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_start_that_fails_says_why_in_one_line(place: Programs, fault: Fault) -> None:
    fault.make(place)
    said = place.run("pyrimage-api", place.ini, *fault.options)
    told = fault.said.format(ini=place.ini, directory=place.directory)
    assert (said.status, said.out) == (1, "")
    assert said.err.startswith(f"ERROR: {told}"), said.err
    assert len(said.err.splitlines()) == 1


def test_a_line_that_is_no_setting_is_found_and_not_shown_s44(place: Programs) -> None:
    """S44: it may be half a password."""
    for text in ("pyrimage.registry_secret hunter2-hunter2\n", "[app:main\n"):
        place.ini.write_text(f"[app:main]\n{text}sqlalchemy.url = hunter2\n", encoding="utf-8")
        said = place.run("pyrimage-api", place.ini)
        assert (said.status, said.out) == (1, "")
        assert said.err.startswith(f"ERROR: {place.ini}: ")
        assert len(said.err.splitlines()) == 1
        assert "hunter2" not in said.err


def test_a_busy_port_is_named(place: Programs) -> None:
    with closing(socket.create_server(("127.0.0.1", place.port))):
        said = place.run("pyrimage-api", place.ini, "--pid-file", "x.pid")
    assert said.status == 1
    assert said.err.endswith(f"cannot listen on http://127.0.0.1:{place.port}: Address already in use\n")
    assert not (place.directory / "x.pid").exists()


def test_wrong_options_are_a_wrong_command_line(place: Programs) -> None:
    said: list[Said] = [place.run("pyrimage-api", *options) for options in (["--nothing"], ["a", "b"])]
    assert [each.status for each in said] == [2, 2]
    assert all("pyrimage-api: error: unrecognized arguments" in each.err for each in said)


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
