"""One shape for every error, in JSON or as text, and the headers that every answer has."""

import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from default_catalogue import sql_catalogue_only
from default_store import file_store_only
from factories import ALICE, BOB, add_row, data_headers, error_of, md5, meta, upload
from faults import hinder, raising
from pyrimage.models import ClaimRow, ImageRow

if TYPE_CHECKING:
    from conftest import Installation

A_REQUEST_ID = re.compile("req-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")

# Method, path ("{image}": a protected public image of Alice's), headers and data; status and title that Bob is told.
ERRORS: dict[str, tuple[str, str, dict[str, str], bytes, int, str]] = {
    "bad header": ("POST", "/v1/images", meta(size="x"), b"", 400, "Bad Request"),
    "mismatch": ("POST", "/v1/images", data_headers(checksum=md5(b"x")), b"bytes", 400, "Bad Request"),
    "bad query": ("GET", "/images?limit=x", {}, b"", 400, "Bad Request"),
    "query not UTF-8": ("GET", "/images?name=%ff", {}, b"", 400, "Bad Request"),
    "path not UTF-8": ("GET", "/images/%ff", {}, b"", 400, "Bad Request"),
    "not allowed": ("DELETE", "{image}", {}, b"", 403, "Forbidden"),
    "id unknown": ("GET", "/images/none", {}, b"", 404, "Not Found"),
    "path unknown": ("GET", "/no/such/path", {}, b"", 404, "Not Found"),
    "version unknown": ("GET", "/v9/images", {}, b"", 404, "Not Found"),
    "path not canonical": ("GET", "/images/../images", {}, b"", 404, "Not Found"),
    "method": ("PATCH", "/images", {}, b"", 405, "Method Not Allowed"),
    "encoding": ("POST", "/images", {"Content-Encoding": "gzip"}, b"", 415, "Unsupported Media Type"),
    "range": ("GET", "/images/taken", {"Range": "bytes=5-"}, b"", 416, "Range Not Satisfiable"),
    "id taken": ("POST", "/v1/images", meta(id="taken"), b"", 409, "Conflict"),
}


@pytest.fixture
def told(installation: "Installation") -> Any:
    """A function that provokes an error and returns the answer."""
    image = upload(installation.client(ALICE), name="f17", id="taken", is_public=True, protected=True)

    def tell(name: str, method: str | None = None, **headers: str) -> Any:
        usual, path, own, data, _, _ = ERRORS[name]
        more: dict[str, Any] = {"method": method or usual, "headers": {**own, **headers}}
        more |= {"body": data} if data else {}
        return installation.client(BOB).request(path.format(image=image), **more, expect_errors=True)

    return tell


@sql_catalogue_only
@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_json_or_text_and_never_a_page(name: str, told: Any, caplog: pytest.LogCaptureFixture) -> None:
    """S33."""
    *_, code, title = ERRORS[name]
    with caplog.at_level(logging.INFO, "pyrimage"):
        message = error_of(told(name))
    [record] = [record for record in caplog.records if record.name == "pyrimage.web.errors"]
    assert record.levelname == "INFO"
    assert message in record.getMessage()
    assert message.endswith(".")
    answers = {
        accept: told(name, Accept=accept) for accept in ("*/*", "application/json", "text/html", "image/png", "no")
    }
    for answer in answers.values():
        assert (answer.headers["Content-Type"], error_of(answer)) == ("application/json", message)
        assert answer.json["error"]["title"] == title
    texts = ("text/plain", "text/plain, application/json;q=0.5", "text/html, text/plain")
    answers |= {accept: told(name, Accept=accept) for accept in texts}
    for accept in texts:
        assert answers[accept].headers["Content-Type"].startswith("text/plain")
        assert answers[accept].text == f"{code} {title}\n\n{message}\n"
    if ERRORS[name][0] == "GET" and name not in ("range", "query not UTF-8"):
        answers["HEAD"] = told(name, method="HEAD")
        assert answers["HEAD"].body == b""
    for answer in answers.values():
        assert answer.status == f"{code} {title}"
        assert A_REQUEST_ID.fullmatch(answer.headers["x-openstack-request-id"])
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


def test_an_endless_accept_is_as_good_as_none(told: Any) -> None:
    assert told("id taken", Accept="text/plain" + ",a/a" * 1000).content_type == "text/plain"
    assert told("id taken", Accept="text/plain" + ",a/a" * 60_000).content_type == "application/json"


def test_markup_travels_as_json_that_is_not_sniffed(testapp: TestApp) -> None:
    """S33."""
    script = "<script>alert(1)</script>"
    headers = meta(name=script, owner=script, is_public=True, properties={"script": script})
    answers = [testapp.post("/images", headers=headers, status=201), testapp.get("/images/detail")]
    for accept in ("text/html", "text/plain"):
        answers.append(testapp.post("/images", headers={"Accept": accept, **meta(disk_format=script)}, status=400))
        answers.append(testapp.get(f"/images?marker={script}", headers={"Accept": accept}, status=400))
        answers.append(testapp.get("/<script>", headers={"Accept": accept}, status=404))
    for answer in answers:
        assert answer.headers["Content-Type"].partition(";")[0] in ("application/json", "text/plain")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("path", ["/", "/healthcheck", "/images", "/v1/images/detail"])
def test_every_good_answer_has_a_request_id_of_its_own(path: str, testapp: TestApp) -> None:
    sent = {"x-openstack-request-id": "req-of-the-client"}
    ids = [testapp.get(path, headers=sent).headers["x-openstack-request-id"] for _ in range(2)]
    assert all(A_REQUEST_ID.fullmatch(each) for each in ids)
    assert ids[0] != ids[1]


def test_the_servers_access_line_finds_request_id_and_caller(installation: "Installation") -> None:
    answer = installation.client(ALICE).get("/images")
    environ = answer.request.environ
    assert environ["pyrimage.request_id"] == answer.headers["x-openstack-request-id"]
    assert str(environ["pyrimage.identity"]) == "alice/tenant-a"


# Methods

GETTABLE = [
    *("/", "/versions", "/healthcheck", "/v1", "/v1/", "/images", "/images/", "/v1/images"),
    *("/images/detail", "/v1/images/detail", "/images/taken", "/v1/images/taken", "/images/taken/file/x.iso"),
    *("/images/taken/members", "/v1/images/taken/members/", "/shared-images/b", "/v1/shared-images/b"),
]


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
def test_an_unknown_method_is_told_with_those_that_are_known(
    testapp: TestApp, caplog: pytest.LogCaptureFixture
) -> None:
    """Which methods each path knows, the reference lists, and tests/functional/test_docs.py compares."""
    for method in ("PROPFIND", "get", "BREW", "X" * 5000):
        answer = testapp.request("/images", method=method, status=501)
        assert method[:20] in error_of(answer)
        assert len(answer.body) < 200
    for method in ("PATCH", "OPTIONS", "TRACE", "CONNECT"):
        assert method in error_of(testapp.request("/images", method=method, status=405))
    assert [record.name for record in caplog.records if record.exc_info or record.levelno > logging.INFO] == []


@pytest.mark.parametrize("path", GETTABLE)
def test_head_is_answered_wherever_get_is(path: str, testapp: TestApp) -> None:
    upload(testapp, name="f17", id="taken")
    got, headed = testapp.get(path), testapp.head(path)
    assert (headed.status_int, headed.body) == (got.status_int, b"")
    own = "x-openstack-request-id"
    assert {**headed.headers, own: ""} == {**got.headers, own: ""}


# Our faults


@sql_catalogue_only
def test_a_refused_statement_is_our_fault_and_tells_no_sql(
    committing_app: TestApp, own_installation: "Installation", caplog: pytest.LogCaptureFixture
) -> None:
    with own_installation.engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE images RENAME TO elsewhere")
    message = error_of(committing_app.get("/v1/images", status=500))
    assert [word for word in ("images", "SELECT", "sqlite", "Traceback") if word in message] == []
    [record] = [record for record in caplog.records if record.name == "pyrimage.web.errors"]
    assert record.levelname == "ERROR"
    assert record.exc_info


def test_what_nobody_foresaw_is_our_fault_and_leaves_nothing(
    committing_app: TestApp, own_installation: "Installation"
) -> None:
    hinder(own_installation).before["write"] = raising(ZeroDivisionError("secret"))
    answer = committing_app.post("/v1/images", b"bytes", headers=data_headers(name="f17"), status=500)
    assert "secret" not in error_of(answer)
    assert own_installation.rows(ImageRow) == own_installation.rows(ClaimRow) == 0


def test_lost_bytes_are_our_fault(testapp: TestApp, installation: "Installation") -> None:
    path = upload(testapp, name="f17")
    installation.lose_blobs()
    assert str(installation.datadir) not in error_of(testapp.get(path, status=500))
    testapp.head(path, status=200)
    path = f"/v1/images/{add_row(installation, status='active', size=5)}"
    assert "location" in error_of(testapp.get(path, status=500))
    testapp.head(path, status=200)


@file_store_only
def test_a_store_that_cannot_be_written_is_503_with_a_time_to_come_back(
    committing_app: TestApp, own_installation: "Installation"
) -> None:
    (own_installation.datadir / "staging").write_text("in the place of a directory")
    answer = committing_app.post("/v1/images", b"bytes", headers=data_headers(name="f17"), status=503)
    assert answer.headers["Retry-After"].isdigit()
    assert str(own_installation.datadir) not in error_of(answer)
    assert own_installation.rows(ImageRow) == own_installation.rows(ClaimRow) == 0
