"""What ``pyrimage-api`` and ``pyrimage-registry`` log: where, in which format, from which level on, and no secret."""

import json
import os
import re
import secrets
import signal
from pathlib import Path

import pytest

from factories import data_headers
from servers.processes import wait_until
from servers.programs import Programs
from servers.pyrimage import READY_SECONDS, ROOT

pytestmark = pytest.mark.system

DEFAULT_LINE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  WARNING \[[a-z.]+\] .+")


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
