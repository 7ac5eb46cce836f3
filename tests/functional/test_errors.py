"""One shape for every error, in JSON or as text, and the headers that every answer has."""

import logging
import re
from typing import TYPE_CHECKING, Any

import pytest
from webtest import TestApp

from factories import ALICE, BOB, add_row, data_headers, error_of, md5, meta, upload
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
def told(request: pytest.FixtureRequest, installation: "Installation") -> Any:
    """A function that provokes the error of the test's parameter and returns the answer."""
    image = upload(installation.client(ALICE), name="f17", id="taken", is_public=True, protected=True)

    def tell(name: str, method: str | None = None, **headers: str) -> Any:
        usual, path, own, data, _, _ = ERRORS[name]
        body = {"body": data} if data else {}
        path = path.format(image=image)
        return installation.client(BOB).request(
            path, method=method or usual, headers={**own, **headers}, expect_errors=True, **body
        )

    return tell


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("accept", [{}, {"Accept": "*/*"}, {"Accept": "application/json"}, {"Accept": "text/html"}])
def test_an_error_is_json(accept: dict[str, str], name: str, told: Any) -> None:
    answer, (*_, code, title) = told(name, **accept), ERRORS[name]
    assert answer.status == f"{code} {title}"
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json["error"] == {"code": code, "title": title, "message": error_of(answer)}
    assert error_of(answer).endswith(".")


def test_an_endless_accept_is_as_good_as_none(told: Any) -> None:
    assert told("id taken", Accept="text/plain" + ",a/a" * 1000).status_int == 409
    assert told("id taken", Accept="text/plain" + ",a/a" * 1000).content_type == "text/plain"
    assert told("id taken", Accept="text/plain" + ",a/a" * 60_000).content_type == "application/json"


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("accept", ["text/plain", "text/plain, application/json;q=0.5", "text/html, text/plain"])
def test_an_error_is_text_where_that_is_asked_for(accept: str, name: str, told: Any) -> None:
    answer, (*_, code, title) = told(name, Accept=accept), ERRORS[name]
    assert answer.status_int == code
    assert answer.headers["Content-Type"].startswith("text/plain")
    assert answer.text == f"{code} {title}\n\n{error_of(told(name))}\n"


@pytest.mark.parametrize("name", ERRORS)
@pytest.mark.parametrize("accept", ["application/json", "text/plain", "image/png", "no media type, at all"])
def test_every_error_has_a_request_id_and_is_not_sniffed(accept: str, name: str, told: Any) -> None:
    """S33."""
    headers = told(name, Accept=accept).headers
    assert A_REQUEST_ID.fullmatch(headers["x-openstack-request-id"])
    assert headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("name", ["id unknown", "path unknown", "version unknown", "bad query", "path not UTF-8"])
def test_the_error_of_a_head_has_no_body(name: str, told: Any) -> None:
    answer = told(name, method="HEAD")
    assert (answer.status_int, answer.body) == (ERRORS[name][4], b"")
    assert A_REQUEST_ID.fullmatch(answer.headers["x-openstack-request-id"])


@pytest.mark.parametrize("path", ["/", "/versions", "/healthcheck", "/images", "/v1/images/detail"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_every_good_answer_has_a_request_id_of_its_own(method: str, path: str, testapp: TestApp) -> None:
    sent = {"x-openstack-request-id": "req-of-the-client"}
    ids = [testapp.request(path, method=method, headers=sent).headers["x-openstack-request-id"] for _ in range(2)]
    assert all(A_REQUEST_ID.fullmatch(each) for each in ids)
    assert ids[0] != ids[1]


def test_the_servers_access_line_finds_request_id_and_caller(installation: "Installation") -> None:
    answer = installation.client(ALICE).get("/images")
    environ = answer.request.environ
    assert environ["pyrimage.request_id"] == answer.headers["x-openstack-request-id"]
    assert str(environ["pyrimage.identity"]) == "alice"


@pytest.mark.parametrize("name", ERRORS)
def test_a_refusal_is_logged_as_information(name: str, told: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "pyrimage"):
        message = error_of(told(name))
    [record] = [record for record in caplog.records if record.name == "pyrimage.web.errors"]
    assert record.levelname == "INFO"
    assert message in record.getMessage()


ALLOWED = {
    "/": "GET, HEAD",
    "/versions": "GET, HEAD",
    "/healthcheck": "GET, HEAD",
    "/v1": "GET, HEAD",
    "/v1/": "GET, HEAD",
    "/images": "GET, HEAD, POST",
    "/images/": "GET, HEAD, POST",
    "/v1/images": "GET, HEAD, POST",
    "/images/detail": "GET, HEAD",
    "/v1/images/detail": "GET, HEAD",
    "/images/taken": "GET, HEAD, PUT, DELETE",
    "/v1/images/taken": "GET, HEAD, PUT, DELETE",
    "/images/taken/file/x.iso": "GET, HEAD",
    "/v1/images/taken/file/detail": "GET, HEAD",
}
A_BLANK_ID = ("/images/", "DELETE")  # that names an image: see test_paths.py
METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT"]


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize(
    ("path", "method"),
    [
        (path, method)
        for path, allowed in ALLOWED.items()
        for method in METHODS
        if method not in allowed.split(", ") and (path, method) != A_BLANK_ID
    ],
)
def test_a_method_that_a_place_does_not_know_is_told_which_it_knows(path: str, method: str, testapp: TestApp) -> None:
    upload(testapp, name="f17", id="taken")
    answer = testapp.request(path, method=method, status=405)
    assert answer.headers["Allow"] == ALLOWED[path]
    assert method in error_of(answer)


@pytest.mark.filterwarnings("ignore:Unknown REQUEST_METHOD")
@pytest.mark.parametrize("path", [*ALLOWED, "/no/such/path", "/v9"])
@pytest.mark.parametrize("method", ["PROPFIND", "get", "BREW", "X" * 5000])
def test_a_method_that_http_does_not_commonly_know_is_not_implemented(
    path: str, method: str, testapp: TestApp, caplog: pytest.LogCaptureFixture
) -> None:
    answer = testapp.request(path, method=method, status=501)
    assert method[:20] in error_of(answer)
    assert len(answer.body) < 200
    assert [record.name for record in caplog.records if record.exc_info or record.levelno > logging.INFO] == []


@pytest.mark.parametrize("path", ALLOWED)
def test_head_is_answered_wherever_get_is(path: str, testapp: TestApp) -> None:
    upload(testapp, name="f17", id="taken")
    got, headed = testapp.get(path), testapp.head(path)
    assert (headed.status_int, headed.body) == (got.status_int, b"")
    own = "x-openstack-request-id"
    assert {name: value for name, value in headed.headers.items() if name != own} == {
        name: value for name, value in got.headers.items() if name != own
    }


@pytest.mark.parametrize("field", ["name", "owner", "property-script"])
@pytest.mark.parametrize("path", ["/images", "/images/detail", "/v1/images/detail"])
def test_markup_travels_as_json_that_is_not_sniffed(path: str, field: str, testapp: TestApp) -> None:
    """S33."""
    headers = {**meta(name="f17", is_public=True), f"x-image-meta-{field}": "<script>alert(1)</script>"}
    testapp.post("/images", headers=headers, status=201)
    answer = testapp.get(path)
    assert answer.headers["Content-Type"].startswith("application/json")
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("accept", ["text/html", "text/html, text/plain;q=0.1", "text/plain", "*/*"])
def test_no_error_is_a_page(accept: str, testapp: TestApp) -> None:
    """S33."""
    for answer in (
        testapp.post("/images", headers={"Accept": accept, **meta(disk_format="<script>")}, status=400),
        testapp.get("/images?marker=<script>", headers={"Accept": accept}, status=400),
        testapp.get("/<script>", headers={"Accept": accept}, status=404),
    ):
        assert answer.headers["Content-Type"].partition(";")[0] in ("application/json", "text/plain")
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


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


def test_missing_bytes_are_our_fault(testapp: TestApp, installation: "Installation") -> None:
    path = upload(testapp, name="f17")
    for name in installation.blobs_on_disk():
        (installation.datadir / name).unlink()
    assert str(installation.datadir) not in error_of(testapp.get(path, status=500))
    testapp.head(path, status=200)


def test_a_lost_location_is_our_fault(testapp: TestApp, installation: "Installation") -> None:
    path = f"/v1/images/{add_row(installation, status='active', size=5)}"
    assert "location" in error_of(testapp.get(path, status=500))
    testapp.head(path, status=200)


def test_a_store_that_cannot_be_written_is_503_with_a_time_to_come_back(
    committing_app: TestApp, own_installation: "Installation"
) -> None:
    (own_installation.datadir / "staging").write_text("in the place of a directory")
    answer = committing_app.post("/v1/images", b"bytes", headers=data_headers(name="f17"), status=503)
    assert answer.headers["Retry-After"].isdigit()
    assert str(own_installation.datadir) not in error_of(answer)
    assert own_installation.rows(ImageRow) == own_installation.rows(ClaimRow) == 0
