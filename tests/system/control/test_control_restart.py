"""``pyrimage-control`` restarts a server that is at work.

The calls come from a seed that is printed; PYRIMAGE_TEST_SEED sets it.
"""

import hashlib
import http.client
import json
import os
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from factories import data_headers, md5
from servers.controlled import Controlled, refuses
from servers.processes import OWNED, PROGRAMS, wait_until
from servers.pyrimage import ANSWER_SECONDS, READY_SECONDS
from traffic import MIB, Journal, is_alive, leftovers, traffic

pytestmark = pytest.mark.system

CLIENTS = 4
DATA = os.urandom(MIB) * 48  # more than the kernel's buffers hold


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Controlled]:
    with Controlled(tmp_path) as made:
        made.control("api", "start", made.ini)
        made.wait_for_workers(2)
        yield made


def journal() -> Journal:
    seed = os.environ.get("PYRIMAGE_TEST_SEED") or uuid.uuid4().hex
    print("PYRIMAGE_TEST_SEED =", seed)
    return Journal(seed, largest=MIB)


def wait_for_calls(told: Journal, count: int, place: Controlled) -> None:
    goal = told.calls.total() + count
    wait_until(lambda: told.calls.total() > goal, READY_SECONDS, place.log)


def test_restart_cuts_no_transfer_that_ends_in_time(place: Controlled) -> None:
    old, told = place.pid, journal()
    image = place.request("POST", "/v1/images", DATA, data_headers()).image
    command = [*OWNED, str(PROGRAMS / "pyrimage-control"), "api", "restart", str(place.ini)]
    download = http.client.HTTPConnection("127.0.0.1", place.port, timeout=ANSWER_SECONDS)
    upload = http.client.HTTPConnection("127.0.0.1", place.port, timeout=ANSWER_SECONDS)
    with closing(download), closing(upload), traffic([place], told, clients=CLIENTS):
        wait_for_calls(told, 50, place)
        upload.putrequest("POST", "/v1/images")
        for name, value in {**data_headers(), "Content-Length": str(len(DATA))}.items():
            upload.putheader(name, value)
        upload.endheaders(DATA[:MIB])
        download.request("GET", f"/v1/images/{image['id']}")
        response = download.getresponse()
        hashed = hashlib.md5(response.read(MIB))
        with subprocess.Popen(
            command, env=place.clean_environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as restarting:
            wait_until(lambda: refuses(place.port), READY_SECONDS, place.log)
            upload.send(DATA[MIB:])
            answer = upload.getresponse()
            assert answer.status == 201
            uploaded = json.loads(answer.read())["image"]["id"]
            while piece := response.read(MIB):
                hashed.update(piece)
            assert hashed.hexdigest() == md5(DATA)
            out, _ = restarting.communicate(timeout=READY_SECONDS)
        assert restarting.returncode == 0
        assert out.splitlines()[:2] == [
            f"Stopping pyrimage-api pid: {old} signal: 15",
            f"Starting pyrimage-api with {place.ini}",
        ]
        wait_for_calls(told, 50, place)
    assert place.pid != old
    assert not is_alive(old)
    assert told.wrong == []
    assert set(told.cut) <= {"refused"}
    assert place.request("GET", f"/v1/images/{uploaded}").body == DATA
    assert leftovers(place, f"sqlite:///{place.database}") == []
