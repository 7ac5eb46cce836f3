"""The registry's keys, which are changed without a gap, and what they keep from the threads of a server."""

import json
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from webtest import TestApp

from factories import ADMIN, error_of
from pyrimage.identity.signed import KEY_ID, MAX_SIGNED_BODY, SIGNATURE, TIMESTAMP
from pyrimage.settings import PREFIX
from pyrimage.stores import load_settings
from registries import Registry, signed
from servers.in_process_server import CHUNKED, CONTINUE, Answer, Running, request, serving

if TYPE_CHECKING:
    from conftest import Installation

Install = Callable[..., "Installation"]

INI = {f"{PREFIX}auth": "none", f"{PREFIX}filesystem_store_datadir": "/srv/images"}
OLD, NEW = "the secret of yesterday", "the secret of tomorrow"
STEPS = {  # how the documentation changes a secret
    "without ids": OLD,
    "both, the old signs": f"old:{OLD}, new:{NEW}",
    "both, the new signs": f"new:{NEW}, old:{OLD}",
    "changed": f"new:{NEW}",
}
BOTH = {"both, the old signs", "both, the new signs"}
ACCEPTED = {  # by a registry at the one step, from servers at these
    "without ids": {"without ids"},
    "both, the old signs": {"without ids", *BOTH, "changed"},
    "both, the new signs": {*BOTH, "changed"},
    "changed": {"both, the new signs", "changed"},
}


def signed_at(step: str) -> dict[str, str]:
    """Sign a request as a server with the settings of this step does."""
    [key, *_] = load_settings({**INI, f"{PREFIX}registry_secret": STEPS[step]}).registry_secret or ()
    return signed(ADMIN, "GET", "/images", secret=key.secret, key=key.id)


@pytest.mark.parametrize("step", STEPS)
def test_a_secret_is_changed_step_by_step_while_all_are_served(step: str, install_with: Install) -> None:
    app = TestApp(install_with(application="registry", registry_secret=STEPS[step]).wsgi)
    answers = {each: app.get("/images", headers=signed_at(each), status=[200, 401]) for each in STEPS}
    assert {each for each, answer in answers.items() if answer.status_int == 200} == ACCEPTED[step]


def test_without_an_id_the_first_key_is_meant(install_with: Install) -> None:
    app = TestApp(install_with(application="registry", registry_secret=STEPS["both, the new signs"]).wsgi)
    for key in (None, ""):
        app.get("/images", headers=signed(ADMIN, "GET", "/images", secret=NEW, key=key), status=200)
        app.get("/images", headers=signed(ADMIN, "GET", "/images", secret=OLD, key=key), status=401)


def test_a_key_is_that_of_its_id_alone(install_with: Install) -> None:
    app = TestApp(install_with(application="registry", registry_secret=STEPS["both, the new signs"]).wsgi)
    right = signed(ADMIN, "GET", "/images", secret=OLD, key="old")
    app.get("/images", headers=right, status=200)
    for other in ("new", "", "OLD", "other"):
        app.get("/images", headers={**right, KEY_ID: other}, status=401)
    unknown = signed(ADMIN, "GET", "/images", secret=OLD, key="other")
    assert error_of(app.get("/images", headers=unknown, status=401)) == (
        f"{KEY_ID} names no key of pyrimage.registry_secret here."
    )


# Over a server's sockets

UPLOADS = 2  # threads


def ask(server: Running, body: bytes, *framing: str) -> Answer:
    """Record an image whose body is streamed, signed."""
    headers = signed(ADMIN, "POST", "/images", body, chunked=CHUNKED in framing)
    lines = (f"{name}: {value}" for name, value in headers.items())
    data = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if CHUNKED in framing else body
    return server.exchange(request("POST /images", "Connection: close", *framing, *lines) + data)


@pytest.mark.parametrize(
    ("framing", "begun"),
    [
        ((CHUNKED,), b"5\r\nbyte"),
        ((CHUNKED, "Expect: 100-continue"), b""),
        ((f"Content-Length: {MAX_SIGNED_BODY}",), b"byte"),
    ],
)
@pytest.mark.parametrize("signature", [{}, {TIMESTAMP: str(int(time.time())), SIGNATURE: "0" * 64}])
def test_bodies_that_nobody_signed_are_not_waited_for(
    signature: dict[str, str], framing: tuple[str, ...], begun: bytes, registry: Registry
) -> None:
    """S38: strangers could hold every thread that takes bodies."""
    strange = request("POST /images", *framing, *(f"{name}: {value}" for name, value in signature.items())) + begun
    with serving(registry.installation.wsgi, upload_threads=UPLOADS) as server:
        clients = [server.send(strange) for _ in range(4 * UPLOADS)]
        for client in clients:
            answer = client.recv(65536)
            assert answer.startswith(b"HTTP/1.1 401 ")
            assert CONTINUE not in answer
        large = json.dumps({"image": {}, "ignored": "x" * 70_000}).encode()
        assert [ask(server, large, *more).status for more in ((CHUNKED,), ())] == [200, 200]


@pytest.mark.parametrize("framing", [(CHUNKED,), ()])
def test_another_body_than_the_signed_one_is_refused_when_it_is_there(
    framing: tuple[str, ...], registry: Registry
) -> None:
    headers = signed(ADMIN, "POST", "/images", b'{"image": {"min_ram": 0}}', chunked=CHUNKED in framing)
    body = b'{"image": {"min_ram": 5}}'
    data = b"19\r\n%b\r\n0\r\n\r\n" % body if framing else body
    with serving(registry.installation.wsgi) as server:
        lines = (f"{name}: {value}" for name, value in headers.items())
        answer = server.exchange(request("POST /images", "Connection: close", *framing, *lines) + data)
    assert (answer.status, answer.message) == (401, "Content-Digest is not that of the body, or missing.")


def test_a_signed_body_that_breaks_off_is_answered_as_any_other(registry: Registry) -> None:
    headers = signed(ADMIN, "POST", "/images", b"{}", chunked=True)
    with serving(registry.installation.wsgi) as server:
        lines = (f"{name}: {value}" for name, value in headers.items())
        answer = server.exchange(request("POST /images", CHUNKED, *lines) + b"no chunk\r\n")
    assert answer.status == 400
    assert answer.headers["x-pyrimage-error"] == "Invalid"
