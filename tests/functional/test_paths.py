"""One spelling of each path: what traversal would make sense of besides is not there."""

from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import pytest
from webtest import TestApp

from factories import add_row, data_headers, error_of, meta, stored, upload

if TYPE_CHECKING:
    from conftest import Installation

NOT_THERE = "There is nothing at this path."


def ask(app: TestApp, path_info: str, method: str = "GET", **environ: Any) -> Any:
    """Ask for a path as the server hands it over, unquoted and unchanged."""
    return app.request("/", method=method, environ={"PATH_INFO": path_info, **environ}, expect_errors=True)


def test_a_collection_answers_with_and_without_trailing_slash(testapp: TestApp) -> None:
    for path in ("/images", "/images/", "/v1/images", "/v1/images/", "/v1.0/images/", "/v1.1/images"):
        for method, status in (("GET", 200), ("HEAD", 200), ("POST", 201)):
            testapp.request(path, method=method, headers=meta(name="f17"), status=status)
        testapp.delete(path, status=404 if path.endswith("/") else 405)  # of a blank id


# "taken" is the id of an image that is there.
NOT_CANONICAL = {
    "doubled slashes": ["//images", "//", "/images//", "/v1//images", "/images//detail", "/images//taken"],
    "more segments than any path has": ["/a" * 9, "/images" + "/x" * 8, "/v1/images/taken/file" + "/x" * 5],
    "a dot": ["/./images", "/images/.", "/images/./taken", "/images/taken/.", "/."],
    "two dots": ["/..", "/images/..", "/images/../versions", "/images/x/../taken", "/v1/../images", "/images/taken/.."],
    "views by their other name": ["/@@versions", "/images/@@detail", "/@@healthcheck", "/@@", "/images/@@", "/v1/@@x"],
    "a slash behind a view": ["/versions/", "/healthcheck/", "/images/detail/", "/v1/images/detail/", "/images/taken/"],
    "more behind a view": ["/versions/x", "/healthcheck/x", "/images/detail/x", "/images/detail/detail"],
    "more behind an image": ["/images/taken/x", "/images/taken/detail", "/images/taken/taken", "/v1/images/taken/x/y"],
    "more behind a project": ["/shared-images/", "/shared-images/x/", "/shared-images/x/y", "/v1/shared-images/x/y"],
    "views of another place": ["/v1/versions", "/v1/healthcheck", "/v1/detail", "/detail", "/images/versions"],
    "names like ours": ["/Images", "/V1/images", "/image", "/images/images", "/v1/v1/images", "/images/Taken"],
    "with something at its end": [
        "/images.json",
        "/images/detail.json",
        "/images;a=b",
        "/images/taken;a=b",
        "/images ",
    ],
    "no such place": ["/images/new", "/shared-images", "/favicon.ico", "/static/x", "/images/%2e%2e", "/images/%2f"],
    "characters that no name holds": ["/images/a\\b", "/images\\taken", "/\\images", "/images\x00", "/images/\n"],
    "another host": ["//evil.example/images", "/\tevil.example", "/ /evil.example", "/\x01evil.example"],
    "files beside the images": ["/static/\x00", "/robots.txt", "/docs/index.html", "/..%00/etc/passwd"],
}


@pytest.mark.parametrize("path", [path for paths in NOT_CANONICAL.values() for path in paths])
def test_every_other_path_is_not_there(path: str, testapp: TestApp, installation: "Installation") -> None:
    """S26; S51: none leads elsewhere; S53: there is no view of static files that a NUL byte could confuse."""
    upload(testapp, name="f17", id="taken")
    before = stored(installation)
    for method in ("GET", "HEAD", "PUT", "DELETE", "POST"):
        answer = ask(testapp, path, method)
        assert (answer.status_int, "Location" in answer.headers) == (404, False)
        assert method == "HEAD" or error_of(answer) == NOT_THERE
    assert stored(installation) == before


@pytest.mark.parametrize(
    ("uri", "path_info", "status"),
    [
        ("//images", "/images", 404),  # waitress has merged the slashes
        ("//images?limit=1", "/images", 404),
        ("/v1%2fimages", "/v1/images", 404),
        ("/images%2Ftaken", "/images/taken", 404),
        ("/images/x%2f..%2ftaken", "/images/taken", 404),
        ("/images%2f", "/images/", 404),
        ("http://localhost//images", "/images", 404),
        ("http://localhost/v1%2fimages", "/v1/images", 404),
        ("/images/", "/images/", 200),
        ("/images?name=a//b%2fc", "/images", 200),
        ("http://localhost:80/images?marker=", "/images", 200),
        ("/%69mages", "/images", 200),
    ],
)
def test_the_spelling_that_the_client_used_counts(uri: str, path_info: str, status: int, testapp: TestApp) -> None:
    upload(testapp, name="f17", id="taken")
    answer = ask(testapp, path_info, REQUEST_URI=uri)
    assert answer.status_int == status
    assert status == 200 or error_of(answer) == NOT_THERE


@pytest.mark.parametrize("path", ["/images/\xff", "/\xff", "/v1/\xc3/x"])
def test_a_path_that_is_not_utf_8_is_refused(path: str, testapp: TestApp) -> None:
    answer = ask(testapp, path)
    assert (answer.status_int, error_of(answer)) == (400, "The path is not UTF-8.")


@pytest.mark.parametrize("version", ["v2", "v3", "v1.2", "v10", "v1.", "v1.a", "v1.10", "v0", "v1x"])
def test_an_unknown_version_is_not_there_and_the_known_ones_are_named(version: str, testapp: TestApp) -> None:
    for rest in ("", "/", "/images", "/images/detail"):
        message = error_of(testapp.get(f"/{version}{rest}", status=404))
        assert f"'{version}'" in message
        assert "v1, v1.0, v1.1" in message


@pytest.mark.parametrize("image_id", ["CON", "a.", "a..b", "0", "a" * 64, "detail.", "Detail", "nul.txt", "versions"])
def test_a_supplied_id_is_a_name_and_never_a_place(
    image_id: str, testapp: TestApp, installation: "Installation"
) -> None:
    """S26."""
    path = upload(testapp, name="f17", id=image_id)
    assert path == f"/v1/images/{image_id}"
    assert testapp.get(path).headers["x-image-meta-uri"] == f"http://localhost:80{path}"
    [key] = installation.stored_keys()
    assert key.rpartition(".")[0] == image_id
    assert urlsplit(testapp.get(path).headers["x-image-meta-location"]).path.endswith(f"/{key}")


def test_ids_that_differ_in_case_are_two_images(testapp: TestApp) -> None:
    """S26."""
    small, capital = upload(testapp, b"small", id="twin"), upload(testapp, b"capital", id="TWIN")
    assert (testapp.get(small).body, testapp.get(capital).body) == (b"small", b"capital")
    testapp.delete(small)
    assert testapp.get(capital).body == b"capital"


def test_a_row_under_the_name_of_a_view_hides_no_view(testapp: TestApp, installation: "Installation") -> None:
    add_row(installation, id="detail", is_public=True)
    assert "images" in testapp.get("/images/detail").json
    testapp.put("/images/detail", b"bytes", headers=data_headers(), status=405)


# Costs


def test_what_cannot_be_an_image_is_not_asked_of_the_database(testapp: TestApp, statements: list[str]) -> None:
    for path in ("/images/detail", "/images/-1", "/images/@", f"/images/{'a' * 65}", "/v1/images/a:b"):
        testapp.put(path, expect_errors=True)
    testapp.get("/images/f17" + "/x" * 8, status=404)  # nor is what has more segments than any path of ours
    for path in ("/", "/versions", "/healthcheck", "/v1"):
        testapp.get(path)
    assert statements == []


def test_an_image_is_found_with_at_most_two_selects(testapp: TestApp, statements: list[str]) -> None:
    path = upload(testapp, name="f17", properties={"a": "b"})
    for ask_for in (path, f"{path}/file/x"):
        for method in ("HEAD", "GET"):
            statements.clear()
            testapp.request(ask_for, method=method)
            assert 1 <= len(statements) <= 2
