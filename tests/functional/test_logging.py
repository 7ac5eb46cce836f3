"""Log lines of requests that came through our server: each names its request, its image and its caller."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from default_catalogue import sql_catalogue_only
from factories import ADMIN, ALICE, NOBODY
from logged import own_logging
from pyrimage.catalogue.records import Identity, new_image_id
from pyrimage.logs import LogOptions, set_up
from pyrimage.settings import Settings
from registries import Registry, signed
from servers.in_process_server import Answer, Running, request, serving

if TYPE_CHECKING:
    from conftest import Installation

FORM = "%(levelname)s [%(name)s] %(request_id)s %(image_id)s %(caller)s | %(message)s"
BYTES = ("Content-Type: application/octet-stream", "Content-Length: 5")
ID = "x-openstack-request-id"
Line = dict[str, Any]


@pytest.fixture
def log(tmp_path: Path) -> Iterator[Path]:
    """The file that everything is logged to, once a format is set up."""
    with own_logging():
        yield tmp_path / "x.log"


def log_as(form: str, path: Path, settings: Settings) -> None:
    """Set up logging as ``pyrimage-api --debug`` does, of an ini without loggers."""
    ini = path.with_name("pyrimage.ini")
    ini.write_text("[app:main]\nuse = egg:pyrimage\n", encoding="utf-8")
    set_up("api", ini, settings, LogOptions(log_format=form, log_file=str(path), debug=True))


def lines_of(answer: Answer, path: Path) -> list[Line]:
    """Return the JSON lines of a request; every line of the file must be JSON."""
    lines = [json.loads(line) for line in path.read_text(encoding="ascii").splitlines()]
    return [line for line in lines if line["request_id"] == answer.headers[ID]]


def access_line(answer: Answer, path: Path) -> Line:
    (line,) = [line for line in lines_of(answer, path) if line["logger"] == "pyrimage.access"]
    return line


def send(server: Running, start: str, *header_lines: str, body: bytes = b"") -> Answer:
    return server.exchange(request(start, "Connection: close", *header_lines) + body)


def post(server: Running, *header_lines: str) -> Answer:
    return send(server, "POST /v1/images", "x-image-meta-name: f17", *BYTES, *header_lines, body=b"bytes")


@pytest.fixture
def asked(installation: "Installation", log: Path) -> Callable[..., tuple[Answer, Path]]:
    """A function that asks the API through our server, with the log as JSON; the lines are there when it returns."""
    log_as("json", log, installation.settings)

    def ask(work: Callable[[Running], Answer], identity: Identity | None = None) -> tuple[Answer, Path]:
        def app(environ: Any, start_response: Any) -> Any:
            if identity is not None:
                environ["pyrimage.identity"] = identity
            return installation.wsgi(environ, start_response)

        with serving(app) as server:
            answer = work(server)
        return answer, log

    return ask


Ask = Callable[..., tuple[Answer, Path]]


@pytest.mark.parametrize(
    ("identity", "caller"), [(None, "admin"), (ALICE, "alice/tenant-a"), (ADMIN, "root"), (NOBODY, None)]
)
def test_an_access_line_names_the_request_the_image_and_the_caller(
    identity: Identity | None, caller: str | None, asked: Ask
) -> None:
    answer, log = asked(lambda server: send(server, "GET /v1/images/none"), identity)
    line = access_line(answer, log)
    assert (answer.status, line["level"], line["image_id"], line["caller"]) == (404, "INFO", "none", caller)
    assert line["message"].startswith("127.0.0.1 GET /v1/images/none 404 ")
    assert line["message"].endswith(f" {answer.headers[ID]} {caller or '-'}")


def test_an_upload_names_its_new_image_and_a_refused_one_that_it_would_have_been(asked: Ask) -> None:
    answer, log = asked(post)
    assert access_line(answer, log)["image_id"] == answer.json["image"]["id"]
    answer, log = asked(lambda server: post(server, "x-image-meta-id: f17", f"x-image-meta-checksum: {'0' * 32}"))
    assert answer.status == 400
    assert {line["image_id"] for line in lines_of(answer, log)} == {"f17"}
    (said,) = [line for line in lines_of(answer, log) if line["logger"] == "pyrimage.web.errors"]
    assert (said["level"], said["caller"], said["message"].split(" ")[:2]) == ("INFO", "admin", ["POST", "/v1/images:"])
    assert "exception" not in said


# What is asked while there is an image f17, and the image that is named.
NAMED: list[tuple[str, tuple[str, ...], int, str | None]] = [
    ("GET /v1/images/f17/members", (), 200, "f17"),
    ("PUT /images/f17", ("x-image-meta-name: f18",), 200, "f17"),
    ("DELETE /v1/images/f17", (), 200, "f17"),
    ("GET /v1/images/f17", ("Range: bytes=2-",), 206, "f17"),
    ("GET /v1/images/f17/nothing", (), 404, "f17"),
    ("PATCH /v1/images/f17", (), 405, "f17"),
    ("GET /v1/images/detail", (), 200, None),
    ("GET /healthcheck", (), 200, None),
    ("GET /v1/images/%2e", (), 404, None),
    ("POST /v1/images", ("x-image-meta-size: x",), 400, None),
    ("GET /v1/images/f17", ("Content-Length: x",), 400, None),  # our server itself refuses this
]


@pytest.mark.parametrize(("start", "header_lines", "status", "image_id"), NAMED)
def test_a_request_to_an_image_names_it(
    start: str, header_lines: tuple[str, ...], status: int, image_id: str | None, asked: Ask
) -> None:
    def work(server: Running) -> Answer:
        assert post(server, "x-image-meta-id: f17").status == 201
        return send(server, start, *header_lines)

    answer, log = asked(work)
    assert (answer.status, access_line(answer, log)["image_id"]) == (status, image_id)


@sql_catalogue_only
def test_requests_at_one_connection_do_not_inherit_from_each_other(asked: Ask) -> None:
    def both(server: Running) -> Answer:
        with server.connect() as client:
            for start in ("GET /v1/images/f17", "GET /v1/images"):
                client.sendall(request(start))
                server.wait_for_line()
        return send(server, "GET /v1/images")

    _, log = asked(both)
    ids = [json.loads(line)["image_id"] for line in log.read_text().splitlines() if '"pyrimage.access"' in line]
    assert ids == ["f17", None, None]


@sql_catalogue_only
def test_an_error_is_one_line_with_its_traceback(own_installation: "Installation", log: Path) -> None:
    log_as("json", log, own_installation.settings)
    with own_installation.engine.begin() as connection:
        connection.execute(text("ALTER TABLE images RENAME TO elsewhere"))
    with serving(own_installation.wsgi) as server:
        answer = send(server, "GET /v1/images/f17")
    (line,) = [line for line in lines_of(answer, log) if "exception" in line]
    assert (answer.status, line["image_id"], line["caller"], line["logger"]) == (
        500,
        "f17",
        "admin",
        "pyrimage.web.errors",
    )
    assert line["level"] == "ERROR"
    for words in ("Traceback (most recent call last)", "sqlite3.OperationalError: no such table", "DatabaseRefused"):
        assert words in line["exception"]
    assert access_line(answer, log)["message"].split(" ")[3] == "500"


def test_hostile_paths_and_names_make_one_line_each(asked: Ask) -> None:
    """S46."""
    eve = Identity(user="eve\x85\u2028\x1b[2J", roles=frozenset({"admin"}))
    answer, log = asked(lambda server: send(server, "GET /v1/images/a%0d%0aERROR%20forged%1b"), eve)
    assert answer.status == 404
    assert {line["caller"] for line in lines_of(answer, log)} == {eve.user}
    assert [line for line in log.read_text(encoding="utf-8").splitlines() if not line.startswith('{"time": ')] == []


def test_headers_are_not_logged(asked: Ask) -> None:
    """S46."""
    secrets = (
        "X-Auth-Token: secret-token",
        "Authorization: Basic c2VjcmV0",
        "x-image-meta-location: http://a:secret@b",
    )
    copy_from = "x-glance-api-copy-from: http://secret"
    for start in ("GET /v1/images/f17", "PUT /v1/images/f17", "GET /images", "POST /images"):
        _, log = asked(lambda server, start=start: send(server, start, *secrets, copy_from))
    said = log.read_text()
    assert '"pyrimage.access"' in said
    assert [word for word in ("secret", "c2VjcmV0") if word in said] == []


def test_text_lines_can_name_them_too(installation: "Installation", log: Path) -> None:
    log_as(FORM, log, installation.settings)
    with serving(installation.wsgi) as server:
        made = post(server)
        missing = send(server, "GET /v1/images/none")
    image = made.json["image"]["id"]
    lines = log.read_text(encoding="utf-8").splitlines()
    assert any(
        line.startswith(f"INFO [pyrimage.access] {made.headers[ID]} {image} admin | 127.0.0.1 POST /v1/images 201 ")
        for line in lines
    )
    assert f"INFO [pyrimage.web.errors] {missing.headers[ID]} none admin | GET /v1/images/none: 404 " in "\n".join(
        lines
    )
    assert any(line.startswith(f"INFO [pyrimage.access] {missing.headers[ID]} none admin | ") for line in lines)


def test_the_registry_names_them_too(registry: Registry, log: Path) -> None:
    log_as("json", log, registry.installation.settings)
    image = new_image_id()
    body = json.dumps({"image": {"id": image, "name": "f17"}}).encode()
    headers = [f"{name}: {value}" for name, value in signed(ALICE, "POST", "/images", body).items()]
    with serving(registry.installation.wsgi) as server:
        made = send(server, "POST /images", *headers, body=body)
        unsigned = send(server, "GET /images/none")
    line = access_line(made, log)
    assert (made.status, line["image_id"], line["caller"]) == (200, image, "alice/tenant-a")
    refused = access_line(unsigned, log)
    assert (unsigned.status, refused["image_id"], refused["caller"]) == (401, None, None)
