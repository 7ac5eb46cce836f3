"""Registered locations at the registry: an API server records what its client may register, and no more."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from conftest import Installation, install
from factories import ADMIN, ALICE, error_of, stored
from pyrimage.models import LocationRow
from registries import NO_DATA, SECRET, Registry

URL = "http://127.0.0.1:8080/f17.img"
S3 = {"s3_store_host": "s3.example.org", "s3_store_access_key": "key", "s3_store_secret_key": "secret"}
BUCKETS = {"s3": "images", "other": "others"}
STORES = {
    "stores": "file, http, s3, other:s3",
    "allowed_hosts": "127.0.0.1",
    **{f"pyrimage.{store}.{key}": text for store in BUCKETS for key, text in S3.items()},
    **{f"pyrimage.{store}.s3_store_bucket": bucket for store, bucket in BUCKETS.items()},
}


def install_registry(directory: Path, **more: str) -> Installation:
    datadir = str(directory / "images")
    keys = {"application": "registry", "registry_secret": SECRET, "filesystem_store_datadir": datadir, **STORES}
    return install(directory, **keys, **more)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    made = install_registry(tmp_path_factory.mktemp("registry"))
    yield made
    made.engine.dispose()


@pytest.fixture
def stores(shared: Installation) -> Iterator[Registry]:
    """A registry with stores in which locations can be registered."""
    yield Registry(shared, ADMIN)
    shared.empty()


def registered(store: str = "http", key: str = URL, **more: Any) -> dict[str, Any]:
    return {"size": 5, "checksum": None, "sha256": None, "location": place(store, key), "claim": None, **more}


def place(store: str, key: str) -> dict[str, Any]:
    return {"store": store, "key": key, "owned": False}


def locations(stores: Registry) -> list[tuple[str, str, bool]]:
    with stores.installation.engine.connect() as connection:
        return [(row.store, row.key, row.owned) for row in connection.execute(select(LocationRow)).all()]


@pytest.mark.parametrize("digests", [{}, {"checksum": "5" * 32, "sha256": "6" * 64}])
@pytest.mark.parametrize("place", [("http", URL), ("s3", "/golden/a/b c.img"), ("other", "/golden/x")])
def test_a_registered_location_is_recorded_and_never_removed(
    place: tuple[str, str], digests: dict[str, str], stores: Registry
) -> None:
    alice = stores.by(ALICE)
    queued, blob = alice.add(properties={"a": "b"}), registered(*place, **digests)
    purge = {"X-Glance-Registry-Purge-Props": "true"}
    sent = {"image": {**digests, "properties": {"c": "d"}}, "from_state": "queued", "blob": blob}
    images = [
        alice.ask("POST", "/images", {"image": {"name": "f17", **digests}, "blob": blob}, 200).json["image"],
        alice.ask("PUT", f"/images/{queued['id']}", sent, 200, purge).json["image"],
    ]
    for image in images:
        [shown] = image["location_data"]
        assert (shown["store"], shown["key"], shown["owned"]) == (*place, False)
        assert (image["status"], image["size"], image["checksum"]) == ("active", 5, digests.get("checksum"))
    assert images[1]["properties"] == {"c": "d"}
    assert locations(stores) == [(*place, False)] * 2
    assert alice.ask("DELETE", f"/images/{images[0]['id']}", status=200).json["garbage"] == []
    assert locations(stores) == [(*place, False)]


LIES: dict[str, tuple[dict[str, Any], str]] = {
    "no bytes": (registered(size=0), "body.blob.size"),
    "a claim": (registered(claim=URL), "body.blob.claim"),
    "no store": (registered("web"), "body.blob.location: "),
    "a store without locations": (registered("file"), "body.blob.location: "),
    "a place of the file store": (registered("http", "file:///etc/passwd"), "body.blob.location: "),
    "a host that may not be asked": (registered("http", "http://169.254.169.254/"), "body.blob.location: "),
    "a password": (registered("http", "http://joe:hunter2@127.0.0.1/x"), "body.blob.location: "),
    "our own bucket": (registered("s3", "/images/x"), "body.blob.location: "),
    "our own bucket, by a bare name": (registered("s3", "f17.0123456789abcdef"), "body.blob.location: "),
    "another store's own bucket": (registered("s3", "/others/x"), "body.blob.location: "),
    "a key of another form": (registered("s3", "//golden/x"), "body.blob.location: "),
    "a URL for a key": (registered("s3", "s3://s3.example.org/golden/x"), "body.blob.location: "),
    "another word for no": (
        registered(location={"store": "http", "key": URL, "owned": 0}),
        "body.blob.location.owned: must be true, false",
    ),
    "nothing said": (registered(location={"store": "http", "key": URL}), "body.blob.location.store"),
    "an upload without digests": (registered(location=None, size=0), "body.blob.checksum"),
    "the bytes of nothing": ({**registered(), **NO_DATA}, "body.blob.size"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_place_that_the_api_would_refuse_is_refused(lie: str, stores: Registry) -> None:
    """S19, S20, S21: for administrators too, and passwords are not said again."""
    blob, says = LIES[lie]
    path = f"/images/{stores.add()['id']}"
    before = stored(stores.installation)
    for method, target in (("POST", "/images"), ("PUT", path)):
        message = error_of(stores.ask(method, target, {"image": {}, "blob": blob}, 400))
        assert says in message
        assert "hunter2" not in message
    assert stored(stores.installation) == before


def test_other_digests_than_were_announced_are_refused(stores: Registry) -> None:
    queued = stores.add(checksum="7" * 32)
    for digest in (None, "5" * 32):
        sent = {"image": {}, "blob": registered(checksum=digest)}
        assert "body.image.checksum" in error_of(stores.ask("PUT", f"/images/{queued['id']}", sent, 400))


def test_an_image_that_is_claimed_takes_no_location(stores: Registry) -> None:
    queued = stores.add()
    stores.claim(queued["id"])
    stores.ask("PUT", f"/images/{queued['id']}", {"image": {}, "blob": registered()}, 409)
    assert locations(stores) == []


def test_who_may_register_can_be_limited(tmp_path: Path) -> None:
    """S7."""
    keys = {"set_image_location": "admin", "user_storage_quota": "4", "user_image_quota": "1"}
    made = install_registry(tmp_path, **keys)
    registry = Registry(made, ADMIN)
    path = f"/images/{registry.by(ALICE).add()['id']}"
    for method, target in (("POST", "/images"), ("PUT", path)):
        sent = {"image": {}, "blob": registered()}
        assert "set_image_location" in error_of(registry.by(ALICE).ask(method, target, sent, 403))
        sent["image"] = {"owner": "tenant-a"}
        assert "_quota" in error_of(registry.ask(method, target, sent, 413))
    made.engine.dispose()
