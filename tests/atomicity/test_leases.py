"""The living renew their leases."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import event
from webtest import TestApp

from conftest import Installation
from factories import data_headers, meta
from faults import (
    DEAD,
    DEADLINE,
    Body,
    Gate,
    assert_no_heartbeat,
    clean,
    expire_claims,
    heartbeats,
    hinder,
    lease,
    send,
    wait_for,
)
from pyrimage.catalogue.records import utcnow
from pyrimage.catalogue.sql.claims import LEASE
from pyrimage.errors import DatabaseBusy
from pyrimage.uploads import claims
from servers.in_process_server import Answer, receive_all, request, serving
from servers.processes import wait_until


def test_leases_are_renewed_while_bytes_come(own_installation: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.01)
    renewed = threading.Event()

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("UPDATE claims SET lease"):
            renewed.set()

    def live_through_an_expired_lease() -> None:
        expire_claims(own_installation, DEAD)
        event.listen(own_installation.engine, "after_cursor_execute", note)
        wait_for(renewed)
        renewed.clear()
        wait_for(renewed)  # and the first of them is committed
        assert lease(own_installation) > utcnow() + LEASE / 2
        assert clean(own_installation) == []

    body = Body(b"bytes", meanwhile=live_through_an_expired_lease)
    assert send(own_installation, "POST", "/v1/images", body, name="f17").status_int == 201


def test_leases_are_renewed_while_a_store_is_slow(
    own_installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.01)

    def wait_for_a_renewal() -> None:
        before = lease(own_installation)
        deadline = utcnow() + timedelta(seconds=30)
        while lease(own_installation) == before:
            assert utcnow() < deadline

    hinder(own_installation).before["finish"] = wait_for_a_renewal
    assert send(own_installation, "POST", "/v1/images", Body(b"bytes"), name="f17").status_int == 201


def test_leases_are_renewed_while_the_loop_of_the_server_is_stuck(
    own_installation: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It waits for a disk, say, and the upload's client has long sent its bytes."""
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.01)
    gate = Gate()
    hinder(own_installation).before["finish"] = gate
    headers = [f"{name}: {value}" for name, value in data_headers(name="f17").items()]
    with serving(own_installation.wsgi, inbuf_overflow=0) as server:
        client = server.send(request("POST /v1/images", "Content-Length: 5", "Connection: close", *headers) + b"bytes")
        gate.wait_until_reached()
        stuck = Gate()
        server.serving.listeners[0].trigger.pull_trigger(stuck)  # called by the loop
        stuck.wait_until_reached()
        try:
            expire_claims(own_installation, DEAD)
            wait_until(lambda: lease(own_installation) > utcnow() + LEASE / 2, DEADLINE)
            assert clean(own_installation) == []
        finally:
            gate.open()
            stuck.open()
        assert Answer.parse(receive_all(client)).status == 201


def test_a_heartbeat_that_fails_does_not_end_the_next(
    own_installation: Installation, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(claims, "HEARTBEAT_SECONDS", 0.01)
    renewed = threading.Event()
    errors = [DatabaseBusy("The database is busy.")]

    def note(connection: Any, cursor: Any, statement: str, *rest: Any) -> None:
        if statement.startswith("UPDATE claims SET lease"):
            if errors:
                raise errors.pop()
            renewed.set()

    event.listen(own_installation.engine, "before_cursor_execute", note)
    body = Body(b"bytes", meanwhile=lambda: wait_for(renewed))
    assert send(own_installation, "POST", "/v1/images", body, name="f17").status_int == 201
    assert "leases of 1 uploads are not renewed" in caplog.text


def test_the_heartbeat_begins_with_the_first_upload_and_ends_with_the_last(
    own_installation: Installation, aside: ThreadPoolExecutor
) -> None:
    assert_no_heartbeat()
    gates = [Gate(), Gate()]
    uploads = []
    for gate in gates:
        uploads.append(aside.submit(send, own_installation, "POST", "/v1/images", Body(b"bytes", gate), name="f17"))
        gate.wait_until_reached()
        assert len(heartbeats()) == 1
    gates[0].open()
    assert uploads[0].result().status_int == 201
    assert len(heartbeats()) == 1
    gates[1].open()
    assert uploads[1].result().status_int == 201
    assert_no_heartbeat()


def test_the_heartbeat_ends_with_an_upload_that_fails(own_installation: Installation, committing_app: TestApp) -> None:
    committing_app.post("/v1/images", b"bytes", headers=data_headers(checksum="0" * 32), status=400)
    assert_no_heartbeat()


def test_metadata_alone_start_no_heartbeat(committing_app: TestApp, queued: str) -> None:
    committing_app.put(queued, headers=meta(name="f18"), status=200)
    assert_no_heartbeat()
