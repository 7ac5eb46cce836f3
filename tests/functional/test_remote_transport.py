"""What an API server makes of registries that answer, do not, or say what no registry says: over real connections."""

import dataclasses
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import chain, repeat
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from transaction import TransactionManager

from catalogues import remote_catalogue, served
from factories import ADMIN, make_image
from faults import DEADLINE, wait_for
from origins import Asked, Origin, closed_port
from origins import serving as serving_origin
from pyrimage.catalogue.queries import ListQuery
from pyrimage.catalogue.records import Identity, Image
from pyrimage.catalogue.remote import transport
from pyrimage.catalogue.remote.catalogue import RemoteCatalogue
from pyrimage.errors import DatabaseAway, DatabaseRefused, ImageExists
from pyrimage.models import AnsweredRow
from pyrimage.readers import SigningKey
from registries import Registry
from servers.fault_proxy import FaultProxy
from servers.machine import installed, unavailable

Remote = Callable[..., RemoteCatalogue]

EVERYTHING = ListQuery(default_scope=False)
LIST = "/images?limit=25&sort_key=created_at&sort_dir=desc&is_public=none"
ID = b"x-openstack-request-id: req-1\r\n"
NO_IMAGES = b'{"images": []}'


def answer(body: bytes = NO_IMAGES, head: bytes = b"200 OK", *, more: bytes = ID, length: int | None = None) -> Any:
    """Make what a fake registry answers, and closes the connection without a word of that."""
    size = len(body) if length is None else length
    raw = b"HTTP/1.1 %b\r\n%bContent-Length: %d\r\n\r\n%b" % (head, more, size, body)
    return lambda asked: [raw]


def add(catalogue: RemoteCatalogue, **fields: Any) -> Image:
    image, manager = make_image(**fields), TransactionManager(explicit=True)
    with manager:
        catalogue.writes(manager, ADMIN).add(image, None)
    return image


@pytest.fixture(scope="module")
def shared_port(shared_registry: Registry) -> Iterator[int]:
    with served(shared_registry.installation.wsgi) as listening:
        yield listening


@pytest.fixture
def port(registry: Registry, shared_port: int) -> int:
    """That of a registry over HTTP."""
    return shared_port


@pytest.fixture
def proxy(port: int) -> Iterator[FaultProxy]:
    """What breaks connections to it."""
    with FaultProxy(port) as made:
        yield made


@pytest.fixture
def remote(registry: Registry) -> Iterator[Remote]:
    """Give a function that makes the catalogue of an API server which asks registries at these ports."""
    with ExitStack() as stack:
        settings = dataclasses.replace(registry.installation.settings, registry_client_timeout=1)
        yield lambda *ports, **more: stack.enter_context(remote_catalogue(settings, *ports, **more))


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What nobody answers is asked again for a moment only."""
    monkeypatch.setattr(transport, "PATIENCE", 0.1)
    monkeypatch.setattr(transport, "PATIENCE_IN_DOUBT", 0.2)


# -- which registry is asked


def test_registries_are_asked_in_turn(remote: Remote) -> None:
    with serving_origin() as first, serving_origin() as second:
        for each in (first, second):
            each.paths[LIST] = answer()
        catalogue = remote(first.port, second.port)
        for _ in range(6):
            assert catalogue.brief_page(EVERYTHING, ADMIN) == []
        assert [len(first.asked), len(second.asked)] == [3, 3]


def test_a_registry_that_failed_is_asked_after_the_others_for_a_while_and_then_again(
    remote: Remote, port: int, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    proxy.reset_down = 0
    catalogue = remote(proxy.port, port)
    for _ in range(8):
        assert catalogue.brief_page(EVERYTHING, ADMIN) == []
    assert proxy.accepted == 1
    (said,) = (record.getMessage() for record in caplog.records if record.levelno == logging.WARNING)
    assert said.startswith(f"The registry 127.0.0.1:{proxy.port} does not answer: ")
    proxy.heal()
    monkeypatch.setattr(transport, "DOWN_SECONDS", 0)
    for _ in range(2):
        assert catalogue.brief_page(EVERYTHING, ADMIN) == []
    assert proxy.accepted == 2


def test_one_request_finds_out_whether_a_registry_still_hangs_and_holds_up_no_other(
    remote: Remote, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving_origin() as silent:
        reached = threading.Event()

        def hang(asked: object) -> Iterator[bytes]:
            reached.set()
            silent.over.wait()
            yield b""

        silent.paths[LIST] = hang
        catalogue = remote(silent.port, port)
        catalogue.brief_page(EVERYTHING, ADMIN)
        reached.clear()
        later = SimpleNamespace(time=time.time, sleep=time.sleep, monotonic=lambda: time.monotonic() + 11)
        monkeypatch.setattr(transport, "time", later)
        catalogue.brief_page(EVERYTHING, ADMIN)  # the turn of the other
        with ThreadPoolExecutor() as pool:
            probing = pool.submit(catalogue.brief_page, EVERYTHING, ADMIN)
            wait_for(reached)
            for _ in range(4):
                assert catalogue.brief_page(EVERYTHING, ADMIN) == []
            assert not probing.done()
            assert probing.result() == []
        assert len(silent.asked) == 2


def test_a_registry_that_failed_is_asked_in_its_turn_as_soon_as_it_answers_with_whatever(
    remote: Remote, monkeypatch: pytest.MonkeyPatch
) -> None:
    with serving_origin() as back, serving_origin() as other:
        none = answer(b'{"error": {"message": "none"}}', b"404 Not Found", more=ID + b"Connection: close\r\n")
        other.paths["/images/f17"] = none
        catalogue = remote(back.port, other.port)
        back.paths["/images/f17"] = GARBAGE["nothing"]
        assert catalogue.find("f17", ADMIN) is None
        back.paths["/images/f17"] = none
        monkeypatch.setattr(transport, "DOWN_SECONDS", 0)
        for _ in range(2):
            catalogue.find("f17", ADMIN)
        monkeypatch.undo()
        for _ in range(4):
            catalogue.find("f17", ADMIN)
        assert len(back.asked) == 4


def test_a_registry_that_failed_is_asked_all_the_same_where_no_other_answers(remote: Remote, proxy: FaultProxy) -> None:
    catalogue = remote(proxy.port, closed_port())
    proxy.down()
    with pytest.raises(DatabaseAway):
        catalogue.brief_page(EVERYTHING, ADMIN)
    proxy.up()
    assert catalogue.brief_page(EVERYTHING, ADMIN) == []


def test_one_that_refuses_connections_and_one_that_is_silent_keep_nobody_from_the_third(
    remote: Remote, port: int, proxy: FaultProxy
) -> None:
    proxy.hang = True
    catalogue = remote(closed_port(), proxy.port, port)
    assert catalogue.brief_page(EVERYTHING, ADMIN) == []
    image = add(catalogue)
    assert catalogue.find(image.id, ADMIN) == image


def test_where_all_are_silent_or_refuse_the_catalogue_is_away(remote: Remote, proxy: FaultProxy) -> None:
    proxy.hang = True
    for ports in ([closed_port()], [closed_port(), proxy.port]):
        catalogue = remote(*ports)
        with pytest.raises(DatabaseAway, match=r"No registry answers."):
            catalogue.brief_page(EVERYTHING, ADMIN)
        with pytest.raises(DatabaseAway):
            add(catalogue)


# -- what no registry says

GARBAGE = {
    "nothing": lambda asked: [],
    "no HTTP": lambda asked: [b"220 mail.example ESMTP\r\n"],
    "an error page of a proxy": answer(b"<html>Bad Gateway</html>", b"502 Bad Gateway", more=b""),
    "a login page": answer(b"<html>Log in</html>"),
    "somebody else's JSON": answer(more=b""),
    "somebody else's answer without a body": answer(b"", b"204 No Content", more=b""),
    "somebody else's 404": answer(b'{"error": {"message": "none"}}', b"404 Not Found", more=b""),
    "a list": answer(b"[]"),
    "half of the JSON": answer(b'{"images": [', length=14),
    "JSON that ends early": answer(b'{"images": ['),
    "bytes": answer(b"\xff\xfe"),
    "a redirect": answer(b"", b"302 Found", more=ID + b"Location: http://127.0.0.1:1/\r\n"),
    "an error without a kind": answer(b'{"error": {"message": "x"}}', b"500 Internal Server Error"),
    "an error of a kind that is none": answer(
        b'{"error": {"message": "x"}}', b"409 Conflict", more=ID + b"X-Pyrimage-Error: SystemExit\r\n"
    ),
    "an error of a kind that is no class": answer(
        b'{"error": {"message": "x"}}', b"409 Conflict", more=ID + b"X-Pyrimage-Error: __name__\r\n"
    ),
    "an error that says more": answer(
        b'{"error": {"message": "x"}}', b"429 Too Many", more=ID + b"X-Pyrimage-Error: TooManyAttempts\r\n"
    ),
    "an error that is none": answer(
        b'{"error": {"message": "x"}}', b"201 Created", more=ID + b"X-Pyrimage-Error: Conflict\r\n"
    ),
}


@pytest.fixture
def babbling() -> Iterator[Origin]:
    with serving_origin() as made:
        yield made


@pytest.mark.parametrize("said", GARBAGE.values(), ids=GARBAGE)
def test_what_is_not_a_registrys_answer_is_as_good_as_none(
    remote: Remote, port: int, babbling: Origin, said: Any
) -> None:
    for path in (LIST, "/images", "/images/f17"):
        babbling.paths[path] = said
    catalogue = remote(babbling.port)
    with pytest.raises(DatabaseAway):
        catalogue.brief_page(EVERYTHING, ADMIN)
    with pytest.raises(DatabaseAway):
        catalogue.find("f17", ADMIN)
    with pytest.raises(DatabaseAway):
        add(catalogue, id="f17")
    beside = remote(babbling.port, port)
    assert [beside.find("f17", ADMIN), beside.brief_page(EVERYTHING, ADMIN)] == [None, []]


def test_an_answer_without_an_end_takes_no_more_memory_and_time_than_an_answer_may(
    remote: Remote, port: int, babbling: Origin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transport, "MAX_ANSWER", 2**20)
    head = b"HTTP/1.1 200 OK\r\n" + ID + b"\r\n"

    def trickle(asked: Asked) -> Iterator[bytes]:
        yield head
        while not babbling.over.wait(0.1):
            yield b" "

    beside = remote(babbling.port, port)
    for endless in (trickle, lambda asked: chain([head], repeat(b" " * 2**16))):
        babbling.paths["/images/f17"] = endless
        with pytest.raises(DatabaseAway):
            remote(babbling.port).find("f17", ADMIN)
        assert beside.find("f17", ADMIN) is None


def test_what_a_registry_refuses_is_raised_as_it_was_there(remote: Remote, port: int) -> None:
    catalogue = remote(port)
    add(catalogue, id="f17")
    with pytest.raises(ImageExists, match=r"The id f17 is taken."):
        add(catalogue, id="f17")


# -- changes whose answer is lost


def test_a_change_whose_answer_is_lost_is_made_once(remote: Remote, proxy: FaultProxy, registry: Registry) -> None:
    proxy.reset_down, proxy.count = 1, 1
    image = add(remote(proxy.port), name="f17")
    assert remote(proxy.port).find(image.id, ADMIN) == image
    assert proxy.accepted == 3
    assert registry.installation.rows(AnsweredRow) == 1


def test_what_one_registry_refuses_and_another_may_have_done_is_unknown(
    remote: Remote, port: int, babbling: Origin
) -> None:
    """The other's change may be the very reason for which this one refuses."""
    add(remote(port), id="f17")
    babbling.paths["/images"] = GARBAGE["nothing"]
    with pytest.raises(DatabaseAway, match="another may have done"):
        add(remote(babbling.port, port), id="f17")
    with pytest.raises(ImageExists):  # nothing was sent to the first
        add(remote(closed_port(), port), id="f17")


# -- connections


def test_connections_are_kept(remote: Remote, proxy: FaultProxy) -> None:
    catalogue = remote(proxy.port)
    for _ in range(3):
        add(catalogue)
        catalogue.brief_page(EVERYTHING, ADMIN)
    assert proxy.accepted == 1


def test_connections_that_were_closed_meanwhile_are_replaced_unnoticed(
    remote: Remote, proxy: FaultProxy, caplog: pytest.LogCaptureFixture
) -> None:
    catalogue = remote(proxy.port)
    catalogue.brief_page(EVERYTHING, ADMIN)
    proxy.reset()
    catalogue.brief_page(EVERYTHING, ADMIN)
    proxy.reset()
    add(catalogue)
    assert proxy.accepted == 3
    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_a_registry_whose_machine_is_gone_is_given_up_before_the_time_for_an_answer_is_over() -> None:
    """Nothing says that it is gone but that what is sent is not received; for an answer it would have an hour."""
    alone = [installed("unshare"), "-rn"]
    if subprocess.run([*alone, "true"], check=False, capture_output=True).returncode:
        unavailable("no network namespace of our own here")
    script = [sys.executable, "-W", "ignore", str(Path(__file__).with_name("vanishing_registry.py"))]
    said = subprocess.run([*alone, *script], check=True, capture_output=True, text=True, timeout=DEADLINE)
    assert said.stdout == "No registry answers.\n"


# -- signatures


def test_a_signature_that_no_registry_accepts_is_told(remote: Remote, port: int) -> None:
    """S7."""
    catalogue = remote(port, registry_secret=(SigningKey("", "another secret of theirs"),))
    with pytest.raises(DatabaseRefused, match=r"not accept this server's signature. X-Pyrimage-Signature"):
        catalogue.brief_page(EVERYTHING, ADMIN)


def test_a_clock_that_is_not_the_registrys_is_told(remote: Remote, port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """S7."""
    slow = SimpleNamespace(time=lambda: time.time() - 61, monotonic=time.monotonic, sleep=time.sleep)
    monkeypatch.setattr(transport, "time", slow)
    with pytest.raises(DatabaseRefused, match="X-Pyrimage-Timestamp is not within 60 seconds"):
        remote(port).brief_page(EVERYTHING, ADMIN)


@pytest.mark.parametrize(
    "project", ["projekt-\u00fc", "\u043f\u0440\u043e\u0435\u043a\u0442", "\U0001f600", "a b,c;d=e"], ids=ascii
)
def test_who_asks_is_asked_for_whatever_the_script_of_the_names(remote: Remote, port: int, project: str) -> None:
    caller = Identity(user=f"user-{project}", project=project, roles=frozenset({"member"}))
    catalogue, manager = remote(port), TransactionManager(explicit=True)
    image = make_image(owner=project)
    with manager:
        catalogue.writes(manager, caller).add(image, None)
    assert catalogue.find(image.id, caller) == image
    assert catalogue.find(image.id, dataclasses.replace(caller, project="another")) is None


@pytest.mark.parametrize("role", ["x,admin", "admin,", "admin ", "\u00a0admin"], ids=ascii)
def test_no_name_of_a_role_makes_an_administrator(remote: Remote, port: int, role: str) -> None:
    """S7."""
    catalogue = remote(port)
    image = add(catalogue, owner="tenant-x")
    assert catalogue.find(image.id, Identity("eve", "tenant-e", frozenset({role, "member"}))) is None
