"""``pyrimage-control ... reload`` with an ini as it is shipped."""

import os
import signal
from pathlib import Path

import pytest

from servers.controlled import Controlled, leaves_nothing
from servers.processes import wait_until
from servers.pyrimage import READY_SECONDS

pytestmark = pytest.mark.system


def upload(place: Controlled) -> int:
    """Send more than the new cap allows; return the status."""
    return place.request("POST", "/v1/images", b"xx", {"Content-Type": "application/octet-stream"}).status


def test_both_servers_read_their_ini_again_though_it_says_nothing_of_workers(tmp_path: Path) -> None:
    with Controlled(tmp_path, sample="development") as place:
        place.control("all", "start", place.ini)
        pid = place.pid
        place.configure("app:main", {"pyrimage.image_size_cap": "1"})
        assert place.control("all", "reload")[0] == f"Reloading pyrimage-api pid: {pid} signal: 1"
        logs = (place.log_file, place.log_file.with_name("registry.log"))
        wait_until(lambda: all("the new workers serve" in log.read_text() for log in logs), READY_SECONDS, place.log)
        wait_until(lambda: upload(place) == 413, READY_SECONDS, place.log)  # the old ones may answer a little longer
        assert place.pid == pid
        place.control("all", "stop")
        assert leaves_nothing(place)


def test_a_server_whose_only_worker_has_just_died_can_be_given_a_mended_ini(alone: Controlled) -> None:
    alone.control("api", "start", alone.ini)
    whole = alone.ini.read_text()
    alone.configure("app:main", {"pyrimage.nonsense": "1"})
    (worker,) = alone.wait_for_workers(1)
    os.kill(worker, signal.SIGKILL)
    wait_until(lambda: "another is started in 2 s" in alone.log(), READY_SECONDS, alone.log)
    alone.ini.write_text(whole)
    alone.control("api", "reload")
    wait_until(lambda: "supervisor" in alone.log() and "starts anew" in alone.log(), READY_SECONDS, alone.log)
    alone.wait_for_workers(1)
    assert alone.request("GET", "/images").status == 200
