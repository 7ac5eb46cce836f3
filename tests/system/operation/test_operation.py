"""The operator's chapter: a first start, what was tried before it, and what comes after an upgrade."""

import configparser
import os
import re
import shlex
import signal
from pathlib import Path

import pytest
from pyramid.paster import get_appsettings

from servers.operated import ALL, Place, fill, printed, section, seen, upload
from servers.processes import run, wait_until
from servers.pyrimage import READY_SECONDS, ROOT, Server

pytestmark = pytest.mark.system


# First start.


def test_the_sample_in_its_place_names_no_directory_of_its_own_and_serves_a_first_image(place: Place) -> None:
    place.configure()
    settings = get_appsettings(str(place.ini), name="main")
    assert "%(here)s" not in place.ini.read_text(encoding="utf-8")
    assert settings["pyrimage.filesystem_store_datadir"] == f"{place.lib}/images"
    assert settings["sqlalchemy.url"] == f"sqlite:///{place.lib}/pyrimage.sqlite"
    modes = [path.stat().st_mode & 0o777 for path in (place.ini, place.etc, place.lib, place.directory / "log")]
    assert modes == [0o640, 0o750, 0o750, 0o750]

    place.shell(printed("First start", "db upgrade"))
    assert (place.lib / "pyrimage.sqlite").is_file()
    with place.server() as server:
        session = printed("First start", "curl").replace("127.0.0.1:9292", f"127.0.0.1:{server.port}")
        assert "the same bytes\n" in place.shell(session)
        (image,) = server.request("GET", ALL).json["images"]
        find = f"id={shlex.quote(image['id'])}\n{printed('Where the bytes lie', 'find')}"
        found = Path(place.shell(find).removesuffix("\n"))
        assert image["location"] == found.as_uri()
        assert found.read_bytes() == (place.directory / "disk.raw").read_bytes()
        assert sorted(path.name for path in place.lib.iterdir() if path.is_dir()) == ["images"]
    assert not (place.etc / "var").exists()


def test_the_daemon_that_is_started_without_systemd_serves_and_logs_to_the_directory(place: Place) -> None:
    place.configure()
    place.shell(printed("First start", "db upgrade"))
    server = place.server()
    pid_file = shlex.quote(str(place.directory / "run/api.pid"))
    start = printed("First start", "pyrimage-control").rstrip()
    stop = f"/opt/pyrimage/bin/pyrimage-control api stop /etc/pyrimage/pyrimage.ini --pid-file {pid_file}"
    try:
        said = place.shell(f"{start} --pid-file {pid_file}")
        assert f"Starting pyrimage-api with {place.ini} (pyrimage.auth = none)\n" in said
        assert server.request("GET", "/healthcheck").status == 200
        log = place.directory / "log/api.log"
        wait_until(lambda: "GET /healthcheck" in log.read_text(encoding="utf-8"), READY_SECONDS)
    finally:
        place.shell(stop)
    assert not (place.directory / "run/api.pid").exists()


# From development.ini to production.ini.


def settings_of(sample: str) -> set[tuple[str, str, str]]:
    """Return every setting of a sample that is not a comment."""
    ini = configparser.RawConfigParser()
    ini.read(ROOT / f"{sample}.ini", encoding="utf-8")
    return {(name, key, text) for name in ini.sections() for key, text in ini[name].items()}


def test_the_table_names_every_setting_in_which_the_two_samples_differ() -> None:
    differ = {key for _, key, _ in settings_of("development") ^ settings_of("production")}
    named = re.findall(r"^\| `(\S+)` \|", section("From development.ini to production.ini"), re.MULTILINE)
    assert sorted(named) == sorted(differ)


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_what_development_ini_made_is_whole_under_production_ini(end: str, place: Place) -> None:
    (checkout := place.directory / "checkout").mkdir()
    with Server(checkout) as tried:
        images = fill(tried)
        before = seen(tried, images)
        (tried.stop if end == "stop" else tried.kill)()
    assert (checkout / "var/pyrimage.sqlite-wal").exists() == (end == "kill")
    place.configure()
    said = place.shell(printed("From development.ini to production.ini", "cp -a"), cwd=checkout)
    assert said.endswith("\n3 images are whole, 0 are not.\n")
    with place.server() as server:
        assert seen(server, images) == before
        assert server.request("GET", upload(server, b"and more")).body == b"and more"
        assert server.request("DELETE", images[0]).status == 200


# Upgrades.


@pytest.mark.parametrize("auto_migrate", ["true", "false"])
def test_a_running_server_outlives_a_newer_schema_but_not_its_restart(auto_migrate: str, tmp_path: Path) -> None:
    main = {"pyrimage.auto_migrate": auto_migrate}
    server = Server(tmp_path, sample="production", main=main, server={"workers": "2"})
    assert run("pyrimage-manage", "-c", server.ini, "db", "upgrade", cwd=tmp_path).returncode == 0
    with server:
        first = min(server.wait_for_workers(2))
        server.sql("UPDATE alembic_version SET version_num = '9999'")
        image = upload(server, b"bytes")
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: "ended unasked: status 1" in server.log(), READY_SECONDS, server.log)
        assert server.request("GET", image).body == b"bytes"
        server.hang_up()
        wait_until(lambda: "the old one stays in force" in server.log(), READY_SECONDS, server.log)
        assert server.request("GET", image).body == b"bytes"
        assert first not in server.workers()
        assert len(server.workers()) == 1
        server.stop()
        with pytest.raises(AssertionError, match="which this pyrimage does not know: it is newer"):
            server.start()


def test_current_prints_the_two_revisions_that_the_page_compares(place: Place, on_sqlite: Server) -> None:
    lines = place.shell(printed("Upgrades", "db current")).splitlines()
    (has, wants) = (re.fullmatch(r"(current|wanted): +(\S+)", line) for line in lines)
    assert has is not None
    assert wants is not None
    assert has[2] == wants[2]
    assert printed("Upgrades", "db upgrade") == printed("First start", "db upgrade")
