"""``pyrimage-api`` and ``pyrimage-registry`` as programs: their ini, options, signals, pid file, streams and log.

What they make of options and settings: tests/unit/scripts.
"""

import json
import os
import re
import secrets
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from factories import data_headers
from pyrimage.server.pidfile import holder
from servers.processes import PROGRAMS, free_port, wait_until
from servers.programs import Programs
from servers.pyrimage import READY_SECONDS

pytestmark = pytest.mark.system


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


def test_the_ini_that_was_found_is_served(place: Programs) -> None:
    place.start("pyrimage-api", **place.environment)
    assert place.request("GET", "/images").status == 200


# Options


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


def test_a_registry_listens_and_logs_where_it_is_told(place: Programs) -> None:
    options = "--host=127.0.0.1", f"--port={place.port}", "--log-dir", place.directory
    place.serve(*options, program="pyrimage-registry")
    assert place.request("GET", "/images").json == {"images": []}
    assert "Serving on" in (place.directory / "registry.log").read_text(encoding="utf-8")
    assert (place.stdout(), place.log()) == ("", "")


# The pid file


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


# Standard streams that nobody opened


ALL = "<&- >&- 2>&-"


def with_closed(closed: str, *command: str | Path) -> list[str]:
    """Return a command line that runs a command without some of its standard streams."""
    return [str(shutil.which("sh")), "-c", f'exec "$@" {closed}', "sh", *map(str, command)]


@pytest.mark.parametrize("closed", ["<&-", ALL])
def test_a_server_without_standard_streams_is_reloaded_and_stopped(with_workers: Programs, closed: str) -> None:
    place, log = with_workers, with_workers.directory / "x.log"
    place.start(*with_closed(closed, PROGRAMS / "pyrimage-api", place.ini, f"--log-file={log}"), **place.environment)
    place.hang_up()
    wait_until(lambda: "the new workers serve" in log.read_text(), READY_SECONDS, log.read_text)
    opened = [str(Path(f"/proc/{place.pid}/fd/{number}").readlink()) for number in range(3)]
    assert [each for each in opened if each.startswith("socket:") or str(place.directory / "var") in each] == []
    os.kill(place.pid, signal.SIGTERM)
    assert place.ended() == 0


def test_a_daemon_is_started_and_stopped_without_standard_streams(place: Programs) -> None:
    for command in ("start", "restart", "stop"):
        said = place.run(*with_closed(ALL, PROGRAMS / "pyrimage-control", "api", command, place.ini))
        assert said.status == 0, said
    assert not place.processes()


# The log


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


def test_no_secret_is_told_at_debug_s44_s46(with_workers: Programs) -> None:
    """S44, S46: the settings at start, a database that is away, and whatever clients send."""
    place = with_workers
    hidden = {
        name: secrets.token_hex(8) for name in ("url", "query", "registry", "token", "basic", "location", "signed")
    }
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
    for name in ("Signature", "X-Amz-Signature", "temp_url_sig", "token", "X-Amz-Security-Token"):
        for path in ("/images?limit=1&", "/nowhere?"):
            place.request("GET", f"{path}{name}={hidden['signed']}")
    place.stop()
    log = place.stdout() + place.log()
    assert "app: sqlalchemy.url = postgresql+psycopg://joe:***@127.0.0.1:1/x?password=***&application_name=seen" in log
    assert "app: pyrimage.registry_secret = ***" in log
    assert "server: workers = 2" in log
    assert "GET /images?limit=1&" in log
    assert "WARNING [pyrimage.app] - The database cannot be reached." in log
    assert [name for name, secret in hidden.items() if secret in log] == []
    assert {*re.findall(r"DEBUG \[([a-z]+)", log)} == {"pyrimage"}
