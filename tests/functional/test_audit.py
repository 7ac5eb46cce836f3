"""The audit log: a line for each request that writes, downloads or is refused, and none for others."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.orm import Session

from conftest import Installation, ini_settings, install
from default_catalogue import sql_catalogue_only
from factories import ADMIN, ALICE, BOB, CHUNKED, NOBODY, READER, data_headers, image_row, insert_rows, upload
from faults import at_commit
from pyrimage.app import main
from pyrimage.catalogue.records import Identity
from pyrimage.environ import CHALLENGE, IDENTITY, UNAUTHENTICATED
from pyrimage.errors import ConfigurationError, DatabaseBusy, TooManyAttempts, Unauthenticated
from pyrimage.logs import JsonFormatter
from pyrimage.server.logtext import SHORT, SHOWN
from registries import registry_of

Install = Callable[..., Installation]
Lines = list[dict[str, Any]]

DATA = {"Content-Type": "application/octet-stream"}
NAMED = {"x-image-meta-id": "new", "x-image-meta-name": "f18"}

# What is asked while there is f17, public, of tenant-a, with bytes, and q17 without; and the line's action and outcome.
CASES: list[tuple[Identity, str, str, dict[str, Any], tuple[str | None, str, str, int]]] = [
    (ALICE, "POST", "/v1/images", {"headers": NAMED}, ("new", "create", "done", 201)),
    (ALICE, "POST", "/images", {"headers": NAMED | DATA, "body": b"b"}, ("new", "upload", "done", 201)),
    (ALICE, "POST", "/v1/images", {"headers": {"x-image-meta-id": "f17"}}, ("f17", "create", "failed", 409)),
    (ALICE, "POST", "/v1/images", {"headers": {"x-image-meta-x": "y"}}, (None, "create", "failed", 400)),
    (READER, "POST", "/v1/images", {"headers": DATA, "body": b"b"}, (None, "upload", "refused", 403)),
    (NOBODY, "POST", "/v1/images", {"headers": DATA, "body": b"b"}, (None, "upload", "refused", 401)),
    (ALICE, "PUT", "/v1/images/q17", {"headers": DATA, "body": b"b"}, ("q17", "upload", "done", 200)),
    (ALICE, "PUT", "/v1/images/q17", {"headers": DATA, "environ": CHUNKED}, ("q17", "upload", "done", 200)),
    (ALICE, "PUT", "/v1/images/f17", {"headers": DATA, "body": b"b"}, ("f17", "upload", "failed", 409)),
    (ALICE, "PUT", "/images/f17", {"headers": {"x-image-meta-name": "f19"}}, ("f17", "change", "done", 200)),
    (BOB, "PUT", "/images/f17", {}, ("f17", "change", "refused", 403)),
    (BOB, "PUT", "/images/q17", {}, ("q17", "change", "failed", 404)),
    (ALICE, "PUT", "/v1/images/f17/members", {"body": b'{"memberships": []}'}, ("f17", "share", "done", 204)),
    (ALICE, "PUT", "/v1/images/f17/members/x", {}, ("f17", "share", "done", 204)),
    (BOB, "PUT", "/v1/images/f17/members/x", {}, ("f17", "share", "failed", 404)),
    (ALICE, "DELETE", "/v1/images/f17/members/other", {}, ("f17", "unshare", "done", 204)),
    (ALICE, "DELETE", "/v1/images/f17", {}, ("f17", "delete", "done", 200)),
    (BOB, "DELETE", "/v1/images/f17", {}, ("f17", "delete", "refused", 403)),
    (BOB, "GET", "/v1/images/f17", {}, ("f17", "download", "begun", 200)),
    (NOBODY, "GET", "/images/f17/file/x", {"headers": {"Range": "bytes=1-2"}}, ("f17", "download", "begun", 206)),
    (BOB, "GET", "/shared-images/tenant-a", {}, (None, "read", "refused", 403)),
    (ALICE, "POST", "/v1/nothing", {}, (None, "other", "failed", 404)),
    (ALICE, "DELETE", "/v1/images/", {}, (None, "other", "failed", 404)),
]
NO_LINE: list[tuple[str, str, dict[str, str]]] = [
    *(("HEAD", path, {}) for path in ("/v1/images/f17", "/images", "/v1/images/f17/file/x", "/v1/images/none")),
    *(("GET", path, {}) for path in ("/v1/images", "/images/detail", "/v1/images/f17/members", "/", "/healthcheck")),
    *(("GET", path, {}) for path in ("/v1/images/none", "/v1/images/q17", "/v1", "/nothing")),
    ("GET", "/v1/images/f17", {"If-None-Match": "*"}),
    ("GET", "/v1/images/f17", {"Range": "bytes=9-"}),
    ("PATCH", "/v1/images/f17", {}),
    ("OPTIONS", "/v1/images", {}),
]


class Audited:
    """An installation with an audit log."""

    def __init__(self, installation: Installation, path: Path) -> None:
        self.installation, self.path = installation, path
        owner = installation.client(ALICE)
        upload(owner, id="f17", is_public=True)
        owner.put("/v1/images/f17/members/other")
        insert_rows(installation, image_row(id="q17", owner="tenant-a"))
        self.lines()

    def lines(self) -> Lines:
        """Return the lines that were written since this was called last."""
        text = self.path.read_text(encoding="ascii")
        self.path.write_text("", encoding="ascii")
        return [json.loads(line) for line in text.splitlines()]


@pytest.fixture(scope="module")
def shared_audited_installation(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("audited")
    made = install(directory, audit_log=f"{directory}/audit.log")
    yield made
    made.registry["pyrimage.audit"].close()
    made.engine.dispose()


@pytest.fixture
def audited(shared_audited_installation: Installation) -> Iterator[Audited]:
    installation = shared_audited_installation
    path = installation.settings.audit_log
    assert path is not None
    yield Audited(installation, path)
    installation.empty()


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case[0]} {case[1]} {case[2]} {case[4][3]}")
def test_a_request_that_writes_downloads_or_is_refused_has_one_line(case: Any, audited: Audited) -> None:
    """S41: of who is refused, too."""
    caller, method, path, sent, (image_id, action, outcome, status) = case
    began = datetime.now(UTC)
    answer = audited.installation.client(caller).request(path, method=method, status=status, **sent)
    (line,) = audited.lines()
    assert datetime.fromisoformat(line.pop("time")).timestamp() == pytest.approx(began.timestamp(), abs=60)
    assert line == {
        "user": caller.user,
        "project": caller.project,
        "address": "127.0.0.1",
        "action": action,
        "image_id": image_id,
        "outcome": outcome,
        "status": status,
        "method": method,
        "path": path,
        "request_id": answer.headers["x-openstack-request-id"],
    }


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize(("method", "path", "headers"), NO_LINE)
def test_a_request_that_only_reads_has_none(method: str, path: str, headers: dict[str, str], audited: Audited) -> None:
    audited.installation.client(ALICE).request(path, method=method, headers=headers, status="*")
    assert audited.lines() == []


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
def test_a_login_that_fails_has_a_line_before_anything_is_looked_at(audited: Audited) -> None:
    """S41."""
    for error, status in ((Unauthenticated("No.", "Basic"), 401), (TooManyAttempts("Later.", 5), 429)):
        environ: dict[str, Any] = {UNAUTHENTICATED: error, IDENTITY: NOBODY, CHALLENGE: "Basic"}
        app = audited.installation.client(**environ)
        for method, action in (("GET", "read"), ("HEAD", "read"), ("PUT", "change"), ("PATCH", "other")):
            app.request("/v1/images/f17", method=method, status=status)
            (line,) = audited.lines()
            told = (line["user"], line["action"], line["outcome"], line["status"])
            assert told == (None, action, "refused", status)


def test_a_download_for_which_a_client_is_sent_to_the_store_has_a_line(install_with: Install, tmp_path: Path) -> None:
    path, keys = tmp_path / "audit.log", {"pyramid.includes": "vault_store", "vault_store_pin": "1234"}
    keys |= {"vault_store_path": f"{tmp_path}/vault", "vault_store_public": "https://vault.example.org/blobs"}
    made = Audited(install_with(audit_log=str(path), stores="vault", redirect_downloads="anonymous", **keys), path)
    made.installation.client(NOBODY).get("/v1/images/f17", status=307)
    (line,) = made.lines()
    assert (line["action"], line["outcome"], line["status"]) == ("download", "begun", 307)
    made.installation.registry["pyrimage.audit"].close()


def test_an_administrator_without_a_name_is_told_from_nobody(audited: Audited) -> None:
    audited.installation.client().delete("/v1/images/f17")
    (line,) = audited.lines()
    assert (line["user"], line["project"]) == ("admin", None)


def be_busy(session: Session) -> None:
    raise DatabaseBusy("The database is busy.")


@sql_catalogue_only
def test_an_upload_whose_commit_fails_is_never_done(audited: Audited) -> None:
    installation = audited.installation
    for method, path in (("POST", "/v1/images"), ("PUT", "/v1/images/q17")):
        at_commit(installation, be_busy)
        installation.client(ALICE).request(path, method=method, body=b"b", headers=data_headers(), status=503)
        (line,) = audited.lines()
        assert (line["action"], line["outcome"], line["status"]) == ("upload", "failed", 503)


def test_a_line_is_written_when_all_is_over(audited: Audited) -> None:
    """Neither in the transaction nor before the claim of a failed upload has ended."""
    written: list[str] = []
    at_commit(audited.installation, lambda session: written.append(audited.path.read_text(encoding="ascii")))
    audited.installation.client(ALICE).put("/v1/images/q17", b"b", headers=data_headers())
    assert written == [""]
    assert len(audited.lines()) == 1


def test_a_line_is_bounded_and_its_texts_cannot_forge_another(audited: Audited) -> None:
    """S46."""
    eve = Identity(user="eve\n{}" + "\N{GRINNING FACE}" * 10_000, project="\r\n" * 10_000, roles=frozenset({"member"}))
    app = audited.installation.client(eve, REMOTE_ADDR="127.0.0.1")
    app.delete("/v1/images/https://joe:secret@host/" + "x" * 10_000, status="*")
    text = audited.path.read_text(encoding="ascii")
    (line,) = audited.lines()
    assert len(text) < 8192  # so much goes to the file at once, between the lines of other processes
    assert "secret" not in text
    assert (line["user"], line["project"]) == (str(eve.user)[:SHORT], str(eve.project)[:SHORT])
    assert len(line["path"]) <= SHOWN + len("...")


# The file


def test_the_file_is_opened_anew_when_it_was_moved_and_is_never_for_others(audited: Audited, umask: int) -> None:
    app, moved = audited.installation.client(ALICE), audited.path.with_name("moved.log")
    audited.path.unlink()
    for _ in range(2):
        app.put("/v1/images/f17")
        assert audited.path.stat().st_mode & 0o777 == 0o640 & ~umask
        assert len(audited.path.read_text(encoding="ascii").splitlines()) == 1
        audited.path.rename(moved)


def test_where_no_line_can_be_written_requests_go_on_and_one_error_says_so(
    install_with: Install, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "log"
    directory.mkdir()
    made = Audited(install_with(audit_log=str(directory / "audit.log")), directory / "audit.log")
    app = made.installation.client(ALICE)

    def told() -> list[str]:
        errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
        caplog.clear()
        return errors

    for _ in range(2):
        directory.rename(tmp_path / "away")
        for _ in range(2):
            app.put("/v1/images/f17", status=200)
        (error,) = told()
        assert error.startswith(f"The audit log {directory}/audit.log cannot be written to, and loses lines: [Errno 2]")
        (tmp_path / "away").rename(directory)
        app.put("/v1/images/f17", status=200)
        assert (len(made.lines()), told()) == (1, [])
    made.installation.registry["pyrimage.audit"].close()


def test_a_full_disk_fails_no_request(install_with: Install, caplog: pytest.LogCaptureFixture) -> None:
    installation = install_with(audit_log="/dev/full")
    app = installation.client(ALICE)
    path = upload(app)
    assert app.get(path).body == b"bytes"
    app.delete(path)
    errors = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert errors == [
        "The audit log /dev/full cannot be written to, and loses lines: [Errno 28] No space left on device"
    ]
    with pytest.raises(OSError, match="No space"):
        installation.registry["pyrimage.audit"].close()


def test_a_file_that_cannot_be_opened_keeps_the_server_from_starting_but_no_shell(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "audit.log"
    ini = ini_settings(tmp_path, audit_log=str(path))
    with pytest.raises(ConfigurationError) as caught:
        main({}, **ini)
    assert str(caught.value) == f"pyrimage.audit_log = {path}: cannot be opened: No such file or directory."
    path.parent.mkdir()
    os.mkfifo(path)  # whose opening would take until somebody reads
    with pytest.raises(ConfigurationError, match="use the absolute path of a file"):
        main({}, **ini)
    path.unlink()
    main({"__script__": "pshell"}, **ini)
    assert not path.exists()  # it would be the user's who started the shell
    main({}, **ini)
    assert path.read_bytes() == b""


def test_the_registry_has_one_as_well(own_installation: Installation, tmp_path: Path) -> None:
    path = tmp_path / "audit.log"
    with registry_of(own_installation, tmp_path / "registry", audit_log=str(path)) as registry:
        image = registry.by(ALICE).add()["id"]
        registry.by(ADMIN).ask("GET", f"/images/{image}", status=200)
        registry.by(BOB).ask("PUT", f"/images/{image}", {"image": {}}, 404)
        registry.installation.registry["pyrimage.audit"].close()
    lines = [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
    told = [(line["user"], line["image_id"], line["action"], line["outcome"]) for line in lines]
    assert told == [("alice", image, "create", "done"), ("bob", image, "change", "failed")]


def test_a_token_in_a_path_is_masked(audited: Audited, caplog: pytest.LogCaptureFixture) -> None:
    """S46: also where it stands for an image's id."""
    secret = f"pyr_{'s' * 43}"
    audited.installation.client(ALICE).delete(f"/v1/images/{secret}", status=404)
    (line,) = audited.lines()
    assert (line["image_id"], line["path"]) == ("***", "/v1/images/***")
    assert [each for each in map(JsonFormatter().format, caplog.records) if secret in each] == []
