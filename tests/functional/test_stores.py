"""Several stores in one service: two directories, and a kind that a plug-in brings."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pyramid.paster import get_app
from sqlalchemy import select
from webtest import TestApp

import vault_store
from conftest import Installation
from factories import data_headers, error_of, files_below, meta, upload
from faults import DEAD, claim_upload
from pyrimage.errors import ConfigurationError, StoreUnavailable
from pyrimage.models import LocationRow, StoreRow, make_engine, migrations
from pyrimage.scripts import manage
from pyrimage.stores import make_configurator, store_kinds

INI = """
[app:main]
use = egg:pyrimage
pyrimage.auth = none
sqlalchemy.url = sqlite:///%(here)s/pyrimage.sqlite
"""
TWO = {
    "stores": "file, fast:file",
    "file.filesystem_store_datadir": "%(here)s/slow",
    "fast.filesystem_store_datadir": "%(here)s/fast",
}
VAULT = {
    "stores": "file, safe:vault",
    "filesystem_store_datadir": "%(here)s/slow",
    "safe.vault_store_path": "%(here)s/fast",
    "vault_store_pin": "1234",
}

OURS = store_kinds(make_configurator({}))

Start = Callable[..., Installation]


def write_ini(here: Path, keys: dict[str, str], more: str = "") -> Path:
    ini = here / "pyrimage.ini"
    lines = "".join(f"pyrimage.{name} = {text}\n" for name, text in keys.items())
    ini.write_text(f"{INI}{lines}{more}", encoding="utf-8")
    return ini


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to be copied: to bring an empty database up to date takes longer than most tests here."""
    path = tmp_path_factory.mktemp("empty") / "pyrimage.sqlite"
    engine = make_engine({"sqlalchemy.url": f"sqlite:///{path}"})
    migrations.upgrade(engine)
    engine.dispose()
    return path


@pytest.fixture
def start(tmp_path: Path, empty_database: Path) -> Iterator[Start]:
    """Give a function that starts a server with these ``pyrimage.*`` keys in its ini."""
    started: list[Installation] = []
    shutil.copy(empty_database, tmp_path)

    def start_now(keys: dict[str, str], more: str = "") -> Installation:
        started.append(Installation(get_app(str(write_ini(tmp_path, keys, more))), tmp_path))
        return started[-1]

    yield start_now
    for each in started:
        each.engine.dispose()


def refusal(start: Start, keys: dict[str, str], more: str = "") -> str:
    with pytest.raises(ConfigurationError) as refused:
        start(keys, more)
    return str(refused.value)


def images_in(here: Path) -> dict[str, list[str]]:
    """Return the ids of the images whose bytes lie in each directory."""
    return {
        name: sorted(file.rpartition("/")[2].partition(".")[0] for file in files_below(here / name))
        for name in ("slow", "fast")
    }


def stores_of(installation: Installation) -> dict[str, str]:
    """Return the name of each image's store, as its row has it."""
    with installation.engine.connect() as connection:
        return {row.image_id: row.store for row in connection.execute(select(LocationRow))}


def location(app: TestApp, image_id: str) -> str:
    return str(app.head(f"/v1/images/{image_id}", status=200).headers["x-image-meta-location"])


def run_manage(tmp_path: Path, *arguments: str, status: int = 0) -> None:
    assert manage.main(["-c", str(tmp_path / "pyrimage.ini"), *arguments]) == status


# -- two directories


@pytest.mark.parametrize(
    ("default", "asked", "name"),
    [
        ({}, {}, "file"),
        ({"default_store": "fast"}, {}, "fast"),
        ({}, {"store": "fast"}, "fast"),
        ({"default_store": "fast"}, {"store": "file"}, "file"),
    ],
)
def test_an_upload_goes_to_the_store_that_it_names_or_to_the_default(
    start: Start, tmp_path: Path, default: dict[str, str], asked: dict[str, str], name: str
) -> None:
    server = start({**TWO, **default})
    path = upload(server.client(), b"bytes", id="f17", **asked)
    directory = {"file": "slow", "fast": "fast"}[name]
    assert images_in(tmp_path) == {"slow": [], "fast": [], directory: ["f17"]}
    assert stores_of(server) == {"f17": name}
    assert location(server.client(), "f17").startswith(f"file://{tmp_path}/{directory}/blobs/")
    assert server.client().get(path, status=200).body == b"bytes"


def test_a_reserved_image_is_uploaded_into_the_store_that_the_upload_names(start: Start, tmp_path: Path) -> None:
    app = start(TWO).client()
    app.post("/v1/images", headers=meta(id="f17"), status=201)
    app.put("/v1/images/f17", b"bytes", headers={"Content-Type": "application/octet-stream", **meta(store="fast")})
    assert images_in(tmp_path) == {"slow": [], "fast": ["f17"]}


def test_a_kind_means_the_first_store_of_that_kind(start: Start) -> None:
    names = {name.replace("file.", "slow."): text for name, text in TWO.items()}
    server = start({**names, "stores": "slow:file, fast:file", "default_store": "fast"})
    upload(server.client(), id="f17", store="file")
    assert stores_of(server) == {"f17": "slow"}


@pytest.mark.parametrize("name", ["s3", "FAST", "fast,file", "/etc"])
def test_a_store_that_is_none_is_refused_with_the_names_of_those_that_are(start: Start, name: str) -> None:
    refused = start(TWO).client().post("/v1/images", b"bytes", headers=meta(id="f17", store=name), status=400)
    assert f"x-image-meta-store: '{name}' is not a store here; try file, fast." in error_of(refused)


def test_images_of_both_stores_are_there_after_a_restart_and_deleted_where_they_lie(
    start: Start, tmp_path: Path
) -> None:
    for name in ("file", "fast"):
        upload(start(TWO).client(), name.encode(), id=name, store=name)
    app = start({**TWO, "stores": "fast:file, file"}).client()
    assert [app.get(f"/v1/images/{name}").body for name in ("file", "fast")] == [b"file", b"fast"]
    app.delete("/v1/images/fast", status=200)
    assert images_in(tmp_path) == {"slow": ["file"], "fast": []}


def test_a_store_is_added_to_a_service_that_has_images(start: Start, tmp_path: Path) -> None:
    upload(start({"filesystem_store_datadir": "%(here)s/slow"}).client(), id="f17")
    app = start(TWO).client()
    app.get("/v1/images/f17", status=200)
    upload(app, id="f18", store="fast")
    assert images_in(tmp_path) == {"slow": ["f17"], "fast": ["f18"]}


def test_an_image_of_a_store_that_is_configured_no_more_is_shown_without_its_bytes(start: Start) -> None:
    upload(start(TWO).client(), id="f17", store="fast")
    app = start({"filesystem_store_datadir": "%(here)s/slow"}).client()
    assert "x-image-meta-location" not in app.head("/v1/images/f17", status=200).headers
    assert "no store 'fast'" in error_of(app.get("/v1/images/f17", status=503))


def test_each_directory_has_a_marker_of_its_own(start: Start, tmp_path: Path) -> None:
    server = start(TWO)
    with server.engine.connect() as connection:
        known = {row.name: row.identity for row in connection.execute(select(StoreRow))}
    assert known == {
        name: (tmp_path / directory / "blobs/pyrimage-store").read_text().strip()
        for name, directory in (("file", "slow"), ("fast", "fast"))
    }
    assert len(set(known.values())) == 2


def test_two_stores_of_one_directory_are_refused_at_start(start: Start, tmp_path: Path) -> None:
    same = {"file.filesystem_store_datadir": "%(here)s/fast/"}
    assert refusal(start, {**TWO, **same}) == "The stores file and fast have the same place: give each its own."
    assert not (tmp_path / "fast").exists()


@pytest.mark.parametrize("is_new", [True, False])
def test_two_stores_of_one_directory_are_refused_whatever_it_is_called(
    start: Start, tmp_path: Path, is_new: bool
) -> None:
    if is_new:
        (tmp_path / "slow").mkdir()
    else:
        start({"stores": "file", "filesystem_store_datadir": "%(here)s/slow"})
    (tmp_path / "fast").symlink_to("slow")
    assert refusal(start, TWO) == (
        f"{tmp_path}/fast/blobs is the directory of the store file: give the store fast one of its own."
    )


# -- pyrimage-manage


def test_verify_looks_at_every_store(start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = start(TWO).client()
    for name in ("file", "fast"):
        upload(app, name.encode(), id=name, store=name)
    run_manage(tmp_path, "verify")
    assert "2 images are whole, 0 are not." in capsys.readouterr().out
    (damaged,) = (tmp_path / "fast").rglob("fast.*")
    damaged.write_bytes(b"last")
    run_manage(tmp_path, "verify", status=1)
    told = capsys.readouterr().out
    assert "fast '': The image's bytes were changed" in told
    assert f"file://{damaged}" in told
    assert "1 images are whole, 1 are not." in told


def test_scrub_cleans_every_store(start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server = start(TWO)
    for name in ("file", "fast"):
        claim_upload(server, name, is_new=True, age=DEAD, store_name=name)
    assert images_in(tmp_path) == {"slow": ["file"], "fast": ["fast"]}
    run_manage(tmp_path, "scrub")
    told = capsys.readouterr().out
    assert [f"claim of image {name}: {name} {name}." in told for name in ("file", "fast")] == [True, True]
    assert images_in(tmp_path) == {"slow": [], "fast": []}


@pytest.mark.parametrize("command", ["verify", "scrub"])
def test_a_store_whose_directory_is_away_stops_them(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    upload(start(TWO).client(), id="f17", store="fast")
    (tmp_path / "fast").rename(tmp_path / "away")
    run_manage(tmp_path, command, status=1)
    assert "run: pyrimage-manage --config FILE.ini store adopt fast" in capsys.readouterr().err


def test_adopt_is_for_the_store_that_it_names(start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    app = start(TWO).client()
    upload(app, id="f17", store="fast")
    (tmp_path / "fast/blobs/pyrimage-store").write_text(f"{'f' * 32}\n")
    assert "the directory of the store fast" in refusal(start, TWO)
    run_manage(tmp_path, "store", "adopt", "fast")
    assert capsys.readouterr().out.startswith(
        f"{tmp_path}/fast/blobs is the directory of the store fast.\n"
        "1 files that the database names are there, 0 are missing."
    )
    start(TWO).client().get("/v1/images/f17", status=200)  # and the other store is still known


def test_adopt_refuses_the_directory_of_another_store(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    start(TWO)
    (tmp_path / "fast").rename(tmp_path / "old")
    (tmp_path / "fast").symlink_to("slow")
    run_manage(tmp_path, "store", "adopt", "fast", status=1)
    assert f"{tmp_path}/fast/blobs is the directory of the store file: give" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "Name a store: file, fast."),
        (("slow",), "The store 'slow' has no directory here: file, fast."),
    ],
)
def test_adopt_asks_for_the_name_of_one_of_several_stores(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], says: str
) -> None:
    start(TWO)
    run_manage(tmp_path, "store", "adopt", *arguments, status=1)
    assert capsys.readouterr().err == f"pyrimage-manage: {says}\n"


@pytest.mark.parametrize("arguments", [(), ("disk",)])
def test_adopt_needs_no_name_for_the_only_store(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...]
) -> None:
    start({"stores": "disk:file", "filesystem_store_datadir": "%(here)s/slow"})
    run_manage(tmp_path, "store", "adopt", *arguments)
    assert f"{tmp_path}/slow/blobs is the directory of the store disk.\n" in capsys.readouterr().out


# -- a plug-in's kind

INCLUDES = "pyramid.includes = vault_store\n"


def test_a_plug_in_brings_a_kind_of_store(start: Start, tmp_path: Path) -> None:
    server = start(VAULT, INCLUDES)
    path = upload(server.client(), b"bytes", id="f17", store="vault")
    assert stores_of(server) == {"f17": "safe"}
    assert images_in(tmp_path) == {"slow": [], "fast": ["f17"]}
    assert location(server.client(), "f17").startswith("vault://home/f17.")
    assert server.client().get(path, status=200).body == b"bytes"


def test_the_registry_knows_it_too(start: Start) -> None:
    upload(start(VAULT, INCLUDES).client(), id="f17", store="safe")
    shown = start({**VAULT, "application": "registry"}, INCLUDES).client().get("/images/f17", status=200).json
    assert shown["image"]["location"].startswith("vault://home/f17.")


def test_the_commands_know_it_too(start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    upload(start(VAULT, INCLUDES).client(), id="f17", store="safe")
    run_manage(tmp_path, "verify")
    run_manage(tmp_path, "scrub")
    run_manage(tmp_path, "store", "adopt")  # which is for stores with a marker: there is one
    told = capsys.readouterr().out
    assert "1 images are whole, 0 are not." in told
    assert "is the directory of the store file." in told
    run_manage(tmp_path, "store", "adopt", "safe", status=1)
    assert capsys.readouterr().err == "pyrimage-manage: The store 'safe' has no directory here: file.\n"


def test_a_store_that_is_away_at_the_start_is_a_warning_and_503_for_its_images_alone(
    start: Start, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(store: vault_store.VaultStore) -> None:
        raise StoreUnavailable("The vault does not answer.")

    path = upload(start(VAULT, INCLUDES).client(), store="safe")
    with monkeypatch.context() as away:
        away.setattr(vault_store.VaultStore, "check", fail)
        app = start(VAULT, INCLUDES).client()
        assert "The store safe cannot be checked. The vault does not answer." in caplog.messages
        assert app.get(upload(app), status=200).body == b"bytes"
        for refused in (
            app.post("/v1/images", b"bytes", headers=data_headers(store="safe"), status=503),
            app.get(path, status=503),
        ):
            assert error_of(refused) == "The vault does not answer."
        app.head(path, status=200)
    assert app.get(path, status=200).body == b"bytes"  # it is back, and nothing was started anew


@pytest.mark.parametrize("is_away_from_the_start", [True, False])
def test_verify_leaves_out_a_store_that_is_away_and_looks_at_the_others(
    start: Start,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    is_away_from_the_start: bool,
) -> None:
    app = start(VAULT, INCLUDES).client()
    for name, store in (("a", "safe"), ("b", "file"), ("c", "safe"), ("d", "file")):
        upload(app, id=name, store=store)
    check, calls = vault_store.VaultStore.check, 0

    def fail(store: vault_store.VaultStore) -> None:
        nonlocal calls
        calls += 1
        if calls > 1 or is_away_from_the_start:
            raise StoreUnavailable("The vault does not answer.")
        check(store)

    monkeypatch.setattr(vault_store.VaultStore, "check", fail)
    run_manage(tmp_path, "verify", status=1)
    told = capsys.readouterr()
    assert told.out == "2 images are whole, 0 are not.\n2 images were not looked at.\n"
    assert told.err.count("The store safe is away, its images are left out. The vault does not answer.\n") == 1
    assert ("The store safe cannot be checked. The vault does not answer.\n" in told.err) is is_away_from_the_start
    assert calls == 3  # once at the start; for the first image, and then whether it is there at all


@pytest.mark.parametrize(
    ("keys", "more", "says"),
    [
        (VAULT, "", f"pyrimage.stores = file, safe:vault: vault is no kind of store here; use {' or '.join(OURS)}."),
        (
            {**VAULT, "safe.vault_store_relm": "away"},
            INCLUDES,
            "Unknown setting pyrimage.safe.vault_store_relm; did you mean pyrimage.safe.vault_store_realm?",
        ),
        ({**VAULT, "vault_store_realm": "here"}, INCLUDES, "pyrimage.vault_store_realm = here: use home or away."),
        (VAULT, "pyramid.includes = no_such_plug_in\n", "pyramid.includes: No module named 'no_such_plug_in'"),
        (VAULT, "pyramid.includes = factories\n", "pyramid.includes: module 'factories' has no attribute 'includeme'"),
    ],
)
def test_what_is_wrong_with_it_is_told_at_start(
    start: Start, tmp_path: Path, capsys: pytest.CaptureFixture[str], keys: dict[str, str], more: str, says: str
) -> None:
    assert refusal(start, keys, more) == says
    run_manage(tmp_path, "scrub", status=1)
    assert capsys.readouterr().err == f"pyrimage-manage: {says}\n"
