"""S46: downloads without credentials are sent to the store, and the URL of that is logged nowhere."""

from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from webtest import TestApp

from conftest import Installation, install
from factories import ALICE, NOBODY, id_of, reserve, upload
from logged import own_logging
from pyrimage.logs import LogOptions, set_up
from servers.in_process_server import Answer, serving
from vault_store import SIGNATURE

Install = Callable[..., Installation]

PUBLIC = "https://vault.example.org/blobs"
VAULT = {"pyramid.includes": "vault_store", "vault_store_pin": "1234"}
REDIRECTS = {"redirect_downloads": "anonymous"}


def vault_in(directory: Path, **more: str) -> dict[str, str]:
    """Make the keys of an installation whose default store is one that gives out URLs."""
    places = {"vault_store_path": f"{directory}/vault", "filesystem_store_datadir": f"{directory}/images"}
    return {**VAULT, **places, "vault_store_public": PUBLIC, "stores": "vault, file", **more}


@pytest.fixture(scope="module")
def redirecting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    directory = tmp_path_factory.mktemp("redirecting")
    made = install(directory, **vault_in(directory, **REDIRECTS))
    yield made
    made.engine.dispose()


@pytest.fixture
def app(redirecting: Installation) -> TestApp:
    return redirecting.client()


PATHS = ("/v1/images/{}", "/images/{}", "/v1/images/{}/file/disk.raw")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=1-2"}, {"X-Trace": "1"}], ids=str)
def test_a_download_without_credentials_is_sent_to_the_store(app: TestApp, path: str, headers: dict[str, str]) -> None:
    image_id = id_of(upload(app, name="disk", disk_format="raw", container_format="bare"))
    answer = app.get(path.format(image_id), headers=headers, status=307)
    place = urlsplit(answer.headers["Location"])
    assert f"{place.scheme}://{place.netloc}{place.path}".startswith(f"{PUBLIC}/{image_id}.")
    query = parse_qs(place.query)
    assert query["disposition"] == ['attachment; filename="disk.raw"']
    assert query["seconds"] == ["3600"]
    assert answer.headers["Cache-Control"] == "no-store"
    assert "ETag" not in answer.headers
    assert answer.body == b""


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "name",
    [
        *("Authorization", "Proxy-Authorization", "Cookie", "X-Auth-Token", "X-Auth-Key", "X-Storage-Token"),
        *("X-Storage-Pass", "X-Service-Token", "X-Subject-Token"),
        *("If-Match", "If-Range"),
    ],
)
def test_a_request_with_credentials_or_conditions_is_answered_here(app: TestApp, path: str, name: str) -> None:
    """Clients repeat them to whomever they are sent, and the store has other tags."""
    path = path.format(id_of(upload(app)))
    value = app.head(path).headers["ETag"] if name.startswith("If-") else ""  # also one that is empty
    assert app.get(path, headers={name: value}, status=200).body == b"bytes"


def test_what_is_refused_or_known_is_said_here(app: TestApp, redirecting: Installation) -> None:
    path = upload(app, owner="tenant-a")
    app.get(path, headers={"Range": "bytes=9-"}, status=416)
    app.get(path, headers={"If-None-Match": app.head(path).headers["ETag"]}, status=304)
    app.get(path, headers={"If-Match": '"other"'}, status=412)
    redirecting.client(NOBODY).get(path, status=404)
    redirecting.client(ALICE).get(path, status=307)
    app.get(reserve(app), status=404)


def test_head_and_an_image_without_bytes_are_answered_here(app: TestApp) -> None:
    assert app.head(upload(app), status=200).headers["Content-Length"] == "5"
    assert app.get(upload(app, b"", size=0), status=200).body == b""


@pytest.mark.parametrize(
    "keys",
    [{}, {"redirect_downloads": "never"}, {**REDIRECTS, "default_store": "file"}],
    ids=str,
)
def test_nobody_is_sent_away_unless_the_settings_and_the_store_say_so(
    install_with: Install, tmp_path: Path, keys: dict[str, str]
) -> None:
    app = install_with(**vault_in(tmp_path, **keys)).client()
    assert app.get(upload(app), status=200).body == b"bytes"


def test_a_store_that_names_no_public_place_is_read_here(install_with: Install, tmp_path: Path) -> None:
    keys = vault_in(tmp_path, **REDIRECTS)
    del keys["vault_store_public"]
    app = install_with(**keys).client()
    assert app.get(upload(app), status=200).body == b"bytes"


def test_its_url_is_in_no_log(redirecting: Installation, tmp_path: Path) -> None:
    """As with ``--debug``, the access line and what other libraries say."""
    ini, log = tmp_path / "pyrimage.ini", tmp_path / "x.log"
    ini.write_text("[app:main]\nuse = egg:pyrimage\n", encoding="utf-8")
    path = upload(redirecting.client())
    with own_logging():
        set_up("api", ini, redirecting.settings, LogOptions(log_file=str(log), debug=True))
        with serving(redirecting.wsgi) as server:
            answer: Answer = server.get(path)
    assert SIGNATURE in answer.headers["location"]
    told = log.read_text(encoding="utf-8")
    assert f"GET {path} 307 " in told
    assert SIGNATURE not in told
