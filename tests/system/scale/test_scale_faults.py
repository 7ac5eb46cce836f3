"""Faults between an API server and its registries: nothing is lost, nothing is done twice, and nothing stays behind.

The API runs in this process, over registries that it reaches through proxies which know HTTP. A trigger of the database
writes down each change of an image, so that one that was made twice shows. The faults come from a seed that is printed;
PYRIMAGE_TEST_SEED sets it.
"""

import random
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from webtest import TestApp

from aftermath import rows
from amounts import amount
from factories import data_headers, files_below, meta
from pyrimage.app import main
from pyrimage.catalogue.remote import transport
from pyrimage.errors import ConfigurationError
from pyrimage.models import make_engine, migrations
from pyrimage.uploads.scrub import scrub
from registries import SECRET
from servers.http_faults import Fault, Held, HttpFaults, Lost, Replaced, Twice, spell
from servers.in_process_server import serving

pytestmark = [pytest.mark.system, pytest.mark.long]

IMAGES = amount(100, 1000)
THREADS = 16
LONG_AGO = datetime(2001, 1, 1)  # noqa: DTZ001 - as rows have it

HTML = spell("502 Bad Gateway", "text/html", b"<html><h1>502 Bad Gateway</h1></html>")
FAULTS: list[Fault] = [
    *(Lost(before=True), Lost(), Lost(body=20), Twice(), Twice(at_once=True)),
    Replaced(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"),
    *(Replaced(HTML), Replaced(HTML, forwards=True), Replaced(b"\x16\x03 no HTTP\r\n", forwards=True)),
    *(Replaced(spell("200 OK", "application/json", text), forwards=True) for text in (b"{", b"[]", b"{}")),
    *(Replaced(spell("200 OK", "application/json", text)) for text in (b"", b"{}")),
]
SHARE = 0.25  # of requests, with which a fault begins
LENGTHS = (
    1,
    1,
    1,
    1,
    2,
    3,
    40,
)  # of requests of a kind that it meets; the last is longer than patience

# What is written down of each change that moves updated_at: nothing else does that.
TRIGGER = [
    "CREATE TABLE written (id text, status text, min_ram integer)",
    """CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        IF TG_OP = 'INSERT' OR NEW.updated_at <> OLD.updated_at THEN
            INSERT INTO written VALUES (NEW.id, NEW.status, NEW.min_ram);
        END IF;
        RETURN NEW;
    END $$""",
    "CREATE TRIGGER note AFTER INSERT OR UPDATE ON images FOR EACH ROW EXECUTE FUNCTION note()",
]


class Weather:
    """What becomes of the requests to all registries. met: how often each fault was met."""

    def __init__(self, seed: str) -> None:
        self.is_fair = True
        self.met: Counter[str] = Counter()
        self._chance, self._lock = random.Random(seed), threading.Lock()
        self._running: dict[str, tuple[Fault, int]] = {}

    def fault_of(self, request: str) -> Fault | None:
        """Say what shall become of a request; those of a kind are alike but for the ids in their paths."""
        kind = "/".join(request.split("/")[:2]) if "/claims/" not in request else request
        with self._lock:
            if self.is_fair:
                return None
            fault, left = self._running.pop(kind, (None, 0))
            if fault is None and self._chance.random() < SHARE:
                fault, left = self._chance.choice(FAULTS), self._chance.choice(LENGTHS)
                if self._chance.random() < 0.1:
                    fault, left = Held(), 1
            if fault is not None:
                self.met[str(fault)[:60]] += 1
                if left > 1:
                    self._running[kind] = (fault, left - 1)
            return fault


class Storm(HttpFaults):
    """The proxy before one of the registries."""

    def __init__(self, url: str, weather: Weather) -> None:
        super().__init__(url)
        self._weather = weather

    def fault_of(self, request: str) -> Fault | None:
        return self._weather.fault_of(request)


@dataclass
class Told:
    """What a client was told of one image. done: acknowledged; open: nobody knows. wrong: no answer of these."""

    name: str
    data: bytes
    image_id: str | None = None
    done: set[str] = field(default_factory=set)
    open: set[str] = field(default_factory=set)
    wrong: list[str] = field(default_factory=list)

    def note(self, what: str, answer: Any) -> bool:
        """Take note of an answer; say whether it was success."""
        if answer.status_int in (200, 201, 204):
            self.done.add(what)
            return True
        if answer.status_int == 503 and answer.headers.get("Retry-After"):
            self.open.add(what)
        elif not (self.open and answer.status_int in (404, 409)):  # which is right where something is open
            self.wrong.append(f"{what} {self.image_id}: {answer.status} {answer.text[:300]}")
        return False


def live(app: TestApp, number: int, seed: str) -> Told:
    """Upload an image, change it, share it and mostly delete it."""
    chance = random.Random(f"{seed} {number}")
    told = Told(f"image {number}", chance.randbytes(chance.randrange(1, 200_000)))
    if chance.random() < 0.5:
        chosen = {"id": f"{uuid.uuid4()}"} if chance.random() < 0.5 else {}
        made = app.post("/v1/images", told.data, data_headers(name=told.name, **chosen), status="*")
        told.image_id = chosen.get("id")
        if told.note("upload", made):
            told.image_id = made.json["image"]["id"]
    else:
        reserved = app.post("/v1/images", headers=meta(name=told.name), status="*")
        if told.note("reserve", reserved):
            told.image_id = reserved.json["image"]["id"]
            told.note("upload", app.put(f"/v1/images/{told.image_id}", told.data, data_headers(), status="*"))
    if told.image_id is None:
        return told
    path = f"/v1/images/{told.image_id}"
    told.note("change", app.put(path, headers=meta(min_ram=number + 1), status="*"))
    told.note("share", app.put(f"{path}/members/tenant-b", headers={"Content-Length": "0"}, status="*"))
    if chance.random() < 0.7:
        told.note("delete", app.delete(path, status="*"))
    return told


@pytest.fixture
def noted_url(url: str) -> str:
    """A database whose changes are written down."""
    engine = make_engine({"sqlalchemy.url": url})
    migrations.upgrade(engine)
    engine.dispose()
    for statement in TRIGGER:
        rows(url, statement)
    return url


@pytest.fixture
def weather(seed: str) -> Weather:
    return Weather(seed)


@pytest.fixture
def api(tmp_path: Path, noted_url: str, weather: Weather, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """An API over two registries, which it reaches through the weather."""
    for patience in ("PATIENCE", "PATIENCE_IN_DOUBT"):
        monkeypatch.setattr(transport, patience, 1.0)  # for faults to outlast it sooner
    with ExitStack() as stack:
        ports = [stack.enter_context(registry(tmp_path, noted_url)) for _ in range(2)]
        storms = [stack.enter_context(Storm(f"http://127.0.0.1:{port}", weather)) for port in ports]
        yield make_api(tmp_path, [storm.port for storm in storms])


def settings(directory: Path, secret: str = SECRET) -> dict[str, str]:
    """Return what an API server and its registries have in common."""
    return {
        "pyrimage.auth": "none",
        "pyrimage.registry_secret": secret,
        "pyrimage.filesystem_store_datadir": str(directory / "images"),
    }


@contextmanager
def registry(directory: Path, url: str, secret: str = SECRET) -> Iterator[int]:
    """Serve a registry; give its port."""
    database = {"pyrimage.application": "registry", "pyrimage.auto_migrate": "true", "sqlalchemy.url": url}
    made: Any = main({}, **settings(directory, secret), **database)
    with serving(made, threads=THREADS) as running:
        yield running.serving.listeners[0].socket.getsockname()[1]
    made._app.registry["pyrimage.catalogue"].close()


def make_api(directory: Path, ports: list[int]) -> Any:
    """Make the application of an API server that asks the registries of this machine at some ports."""
    hosts = ", ".join(f"127.0.0.1:{port}" for port in ports)
    client = {"pyrimage.registry_host": hosts, "pyrimage.registry_client_timeout": "1"}
    return main({}, **settings(directory), **client)


def contradictions(app: TestApp, url: str, told: Told) -> list[str]:
    """Compare an image with what its client was told."""
    found = rows(url, "SELECT id, status, min_ram FROM images WHERE name = :name", name=told.name)
    if len(found) > 1:
        return [f"{told.name} is there {len(found)} times"]
    if not found:
        return [f"{told.name} is lost"] if told.done else []
    ((image_id, status, min_ram),) = found
    wrong = []
    if "delete" in told.done | told.open:
        expected = {"deleted"} | ({"active", "queued"} if "delete" in told.open else set())
    else:
        expected = {"active"} if "upload" in told.done else {"active", "queued"}
    if status not in expected:
        wrong.append(f"{told.name} is {status}: {told.done} done, {told.open} open")
    if "change" in told.done and not min_ram:
        wrong.append(f"{told.name} has lost its change")
    if status == "active" and app.get(f"/v1/images/{image_id}").body != told.data:
        wrong.append(f"{told.name} has other bytes")
    if "share" in told.done and not rows(url, "SELECT 1 FROM image_members WHERE image_id = :id", id=image_id):
        wrong.append(f"{told.name} has lost its member")
    return wrong


def test_faults_lose_nothing_and_do_nothing_twice(
    tmp_path: Path, api: Any, noted_url: str, weather: Weather, seed: str
) -> None:
    url, app = noted_url, TestApp(api, extra_environ={"REMOTE_ADDR": "127.0.0.1"})
    weather.is_fair = False
    with ThreadPoolExecutor(THREADS) as threads:
        lives = list(threads.map(lambda number: live(app, number, seed), range(IMAGES)))
    weather.is_fair = True
    done, left_open = (Counter(what for told in lives for what in getattr(told, name)) for name in ("done", "open"))
    print(f"done: {dict(done)}, open: {dict(left_open)}; faults: {dict(weather.met)}")
    assert [wrong for told in lives for wrong in told.wrong] == []
    assert [wrong for told in lives for wrong in contradictions(app, url, told)] == []
    twice = "SELECT id, status, min_ram, count(*) FROM written GROUP BY id, status, min_ram HAVING count(*) > 1"
    assert rows(url, twice) == []

    rows(url, "UPDATE claims SET lease = :lease", lease=LONG_AGO)
    registry = api._app.registry
    claims = registry["pyrimage.catalogue"].claims
    cleaned = list(scrub(registry["pyrimage.stores"], claims, timedelta(seconds=60), dry_run=False))
    print(f"{len(cleaned)} left behind, and found by scrub")
    assert [error for _, error in cleaned if error] == []
    located = sorted(key for (key,) in rows(url, "SELECT key FROM image_locations"))
    assert sorted(Path(name).name for name in files_below(tmp_path / "images")) == located
    assert rows(url, "SELECT * FROM claims") == []
    assert [wrong for told in lives for wrong in contradictions(app, url, told)] == []


def test_a_registry_that_does_not_accept_our_signature_is_passed_over(tmp_path: Path, url: str) -> None:
    with registry(tmp_path, url, "quite another secret") as strange, registry(tmp_path, url) as right:
        app = TestApp(make_api(tmp_path, [strange, right]), extra_environ={"REMOTE_ADDR": "127.0.0.1"})
        made = app.post("/v1/images", b"bytes", data_headers(name="f17"), status=201).json["image"]
        for _ in range(4):
            assert app.get(f"/v1/images/{made['id']}", status=200).body == b"bytes"
        with pytest.raises(ConfigurationError, match="signature"):
            make_api(tmp_path, [strange])
