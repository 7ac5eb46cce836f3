"""Glance's own API servers on our registry: what they say of images is recorded, and what they store stays theirs."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from conftest import Installation, install
from factories import ADMIN, data_headers, error_of, stored, upload
from faults import claim_upload
from glance_servers import GlanceServer
from origins import Origin
from pyrimage.catalogue.records import new_image_id
from pyrimage.models import LocationRow
from pyrimage.scripts.verify import report
from registries import DATA_FACTS, Registry

URL = "file:///var/lib/glance/images/f17"
WORDS = ("queued", "saving", "active", "killed", "pending_delete", "deleted")


@pytest.fixture(scope="module")
def shared(shared_web_installation: Installation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    keys = {**shared_web_installation.shared, "allowed_hosts": "127.0.0.1", "application": "registry"}
    made = install(tmp_path_factory.mktemp("glance"), **keys)
    yield made
    made.engine.dispose()


@pytest.fixture
def glance(shared: Installation, web_installation: Installation) -> GlanceServer:
    """An API server of Glance; ``web_installation`` is an API server of ours on the same database."""
    return GlanceServer(shared)


def locations(installation: Installation) -> list[tuple[str, str, bool, str]]:
    with installation.engine.connect() as connection:
        return [(row.store, row.key, row.owned, row.state) for row in connection.execute(select(LocationRow)).all()]


# -- the requests of an API server of Glance, in their order

NEW: dict[str, Any] = {
    "name": "f17",
    "disk_format": "raw",
    "container_format": "bare",
    "is_public": True,
    "size": 0,
    "properties": {"os_type": "linux", "empty": None},
    "status": "queued",
}
FACTS = {"checksum": "5" * 32, "size": 5}


def test_an_upload_is_queued_saving_and_active(glance: GlanceServer, web_installation: Installation) -> None:
    made = glance.add(NEW)
    assert (made["status"], made["properties"]) == ("queued", {"os_type": "linux", "empty": ""})
    image_id, api = made["id"], web_installation.client(ADMIN)
    assert glance.update(image_id, {"status": "saving"})["status"] == "saving"
    assert api.get(f"/v1/images/{image_id}", status=404)
    changed = glance.update(image_id, FACTS, "saving")
    assert (changed["status"], changed["size"], changed["checksum"]) == ("saving", 5, "5" * 32)
    active = glance.activate(image_id, URL, "saving")
    assert (active["status"], active["size"], active["checksum"]) == ("active", 5, "5" * 32)
    assert active["location"] == URL
    [place] = active["location_data"]
    assert {"url": URL, "metadata": {}, "status": "active"}.items() <= place.items()
    assert "id" not in place  # where there is one, Glance looks for it in a database of its own
    assert active["properties"] == {"os_type": "linux", "empty": ""}
    assert glance.find(image_id) == active
    assert api.head(f"/v1/images/{image_id}").headers["x-image-meta-location"] == URL


@pytest.mark.parametrize("state", ["queued", "saving"])
def test_an_upload_that_fails_is_killed(state: str, glance: GlanceServer, web_installation: Installation) -> None:
    image_id = glance.add(NEW)["id"]
    glance.update(image_id, {"status": state})
    assert glance.update(image_id, {"status": "killed"}, state)["status"] == "killed"
    web_installation.client(ADMIN).get(f"/v1/images/{image_id}", status=404)
    glance.activate(image_id, URL, state, status=409)
    glance.activate(image_id, URL, status=409)


def test_of_two_uploads_at_once_the_second_is_told(glance: GlanceServer) -> None:
    image_id = glance.add(NEW)["id"]
    for _ in range(2):
        glance.update(image_id, {"status": "saving"})
    glance.update(image_id, FACTS, "saving")
    glance.activate(image_id, URL, "saving")
    glance.update(image_id, FACTS, "saving", status=409)
    glance.activate(image_id, f"{URL}-2", "saving", status=409)
    assert glance.find(image_id)["location"] == URL


def test_an_image_without_bytes_is_active_at_once(glance: GlanceServer, web_installation: Installation) -> None:
    made = glance.add({**NEW, "status": "active"})
    assert (made["status"], made["location"], made["location_data"]) == ("active", None, [])
    assert web_installation.client(ADMIN).get(f"/v1/images/{made['id']}").body == b""


@pytest.mark.parametrize("is_reserved", [False, True])
def test_a_registered_location_is_answered_and_comes_again_with_active(
    is_reserved: bool, glance: GlanceServer, web_installation: Installation, origin: Origin
) -> None:
    """Glance goes on with the location of the answer; nothing is kept before it is used."""
    url = origin.put("/f17.img", b"bytes")
    if is_reserved:
        image_id = glance.add(NEW)["id"]
        sent = {"location": url, "size": 5, "properties": {"a": "b"}}
        answer = glance.update(image_id, sent, purge=True)
    else:
        answer = glance.add({**NEW, "location": url, "size": 5, "properties": {"a": "b"}})
    assert (answer["status"], answer["location"], answer["properties"]) == ("queued", url, {"a": "b"})
    assert glance.find(answer["id"])["location"] is None
    active = glance.activate(answer["id"], url)
    assert (active["status"], active["location"], active["size"]) == ("active", url, 5)
    assert active["location_data"][0]["store"] == "http"
    assert web_installation.client(ADMIN).get(f"/v1/images/{answer['id']}").body == b"bytes"


@pytest.mark.parametrize("word", ["deleted", "pending_delete"])
def test_a_deletion_removes_no_bytes_and_can_be_given_up(
    word: str, glance: GlanceServer, web_installation: Installation
) -> None:
    image_id = glance.add({"location": URL, "size": 5})["id"]
    going = glance.update(image_id, {"status": word})
    assert (going["status"], going["deleted"], going["location_data"][0]["status"]) == (word, False, "active")
    web_installation.client(ADMIN).get(f"/v1/images/{image_id}", status=404)
    back = glance.update(image_id, {"status": "active"})
    assert (back["status"], back["location"]) == ("active", URL)
    glance.update(image_id, {"status": word})
    answer = glance.ask("DELETE", f"/images/{image_id}").json
    assert (answer["image"]["status"], answer["image"]["deleted"], answer["garbage"]) == ("deleted", True, [])
    assert locations(web_installation) == []
    glance.ask("DELETE", f"/images/{image_id}", status=404)


def test_an_image_that_is_deleted_meanwhile_takes_nothing(glance: GlanceServer, web_installation: Installation) -> None:
    image_id = glance.add(NEW)["id"]
    glance.update(image_id, {"status": "saving"})
    web_installation.client(ADMIN).delete(f"/v1/images/{image_id}")
    glance.update(image_id, FACTS, "saving", status=409)
    assert glance.find(image_id)["status"] == "deleted"  # which it asks for then


# -- single requests


def test_a_new_image_is_active_unless_its_status_is_told(glance: GlanceServer) -> None:
    told = {"location": URL, "size": 5, "checksum": "5" * 32, "created_at": "2011-09-22T19:57:47", "owner": "tenant-x"}
    made = glance.add(told)
    assert made["status"] == "active"
    assert made == {**made, **told, "created_at": "2011-09-22T19:57:47.000000"}
    for word in WORDS:
        made = glance.add({"status": word})
        assert (made["status"], made["deleted"]) == (word, word == "deleted")
        assert glance.find(made["id"]) == made
    for word in ("deactivated", "ACTIVE", "nonsense"):
        assert "body.image.status" in error_of(glance.ask("POST", "/images", {"image": {"status": word}}, 400))


def test_an_image_can_be_recorded_as_deleted(glance: GlanceServer) -> None:
    made = glance.add({"deleted": True, "deleted_at": "2011-09-22T19:57:47", "name": "gone"})
    assert (made["status"], made["deleted_at"]) == ("deleted", "2011-09-22T19:57:47.000000")
    assert glance.add({"deleted": False, "status": "queued"})["deleted"] is False
    listed = glance.ask("GET", "/images/detail?is_public=None&deleted=True").json["images"]
    assert listed == [made]
    glance.add({"id": made["id"]}, 409)
    refused = glance.ask("POST", "/images", {"image": {"deleted": True, "status": "queued"}}, 400)
    assert "body.image.deleted" in error_of(refused)


def test_nothing_is_active_without_its_bytes(glance: GlanceServer) -> None:
    for status in ({}, {"status": "active"}):
        answer = glance.ask("POST", "/images", {"image": {"size": 5, **status}}, 400)
        assert "body.image.location" in error_of(answer)
    image_id = glance.add({"status": "queued", "size": 5})["id"]
    answer = glance.ask("PUT", f"/images/{image_id}", {"image": {"status": "active"}}, 400)
    assert "body.image.location" in error_of(answer)
    gone = glance.add({"status": "pending_delete", "size": 5, "location": URL})["id"]
    glance.update(gone, {"status": "active"}, status=409)


WAYS = {
    "queued": {"saving", "active", "killed", "pending_delete", "deleted"},
    "saving": {"active", "killed", "pending_delete", "deleted"},
    "active": {"pending_delete", "deleted"},
    "killed": {"pending_delete", "deleted"},
    "pending_delete": {"active", "killed", "deleted"},
    "deleted": {"active", "killed", "pending_delete"},
}


@pytest.mark.parametrize("was", WAYS)
def test_no_way_leads_back_to_where_an_image_takes_bytes(was: str, glance: GlanceServer) -> None:
    """S12."""
    for word in WORDS:
        image_id = glance.add({"status": "active" if was == "deleted" else was})["id"]
        if was == "deleted":
            glance.update(image_id, {"status": "deleted"})
        good = word in WAYS[was] or word == was
        glance.update(image_id, {"status": word, "name": "x"}, was, status=200 if good else 409)
        assert glance.find(image_id)["status"] == (word if good else was)
    glance.update(image_id, {"status": "nonsense"}, status=400)


def test_an_active_image_keeps_its_bytes(glance: GlanceServer) -> None:
    """S12: what is sent back is no other source, and facts do not change."""
    made = glance.add({"location": URL, **FACTS})
    sent = {"location": f"{URL}-2", "location_data": [{"url": f"{URL}-2"}], "name": "x"}
    changed = glance.update(made["id"], sent)
    assert {**changed, "name": None, "updated_at": ""} == {**made, "updated_at": ""}
    for fact in ({"size": 6}, {"checksum": "7" * 32}):
        glance.update(made["id"], fact, status=400)
    glance.update(made["id"], {"status": "pending_delete"})
    glance.activate(made["id"], f"{URL}-2")
    assert glance.find(made["id"])["location"] == URL


# -- where bytes lie


@pytest.mark.parametrize(
    "url",
    [
        *(URL, "swift+config://ref1/glance/f17", "rbd://fsid/images/f17/snap", "cinder://f17", "https://10.0.0.1/x"),
        *("file:///etc/passwd", "s3://10.0.0.1:8080/glance/f17@2", "swift+http://[::1]:5000/v3/glance/f17"),
        "gAAAAABf17_of-glance's-metadata_encryption_key==",
    ],
)
def test_what_no_store_here_reads_is_shown_and_neither_read_nor_removed(
    url: str, glance: GlanceServer, web_installation: Installation
) -> None:
    image_id = glance.add({**NEW, **FACTS, "status": "active", "location": url})["id"]
    api = web_installation.client(ADMIN)
    assert glance.find(image_id)["location"] == url
    assert api.head(f"/v1/images/{image_id}").headers["x-image-meta-location"] == url
    assert "no store of this server" in error_of(api.get(f"/v1/images/{image_id}", status=503))
    before = web_installation.stored_keys()
    api.delete(f"/v1/images/{image_id}")
    assert locations(web_installation) == []
    assert web_installation.stored_keys() == before


@pytest.mark.parametrize(
    "url",
    [
        *("http://joe:hunter2@origin/x", "swift+https://account:user:hunter2@auth/v1/glance/f17"),
        *("s3://access:hunter2/more@s3.example.org/glance/f17", "https://hunter2@origin", "x" * 513, "a\nb"),
    ],
)
def test_a_location_with_a_password_is_refused(url: str, glance: GlanceServer, web_installation: Installation) -> None:
    """S43, S45."""
    queued = glance.add(NEW)["id"]
    before = stored(web_installation)
    data = {"location_data": [{"url": url, "metadata": {}, "status": "active"}]}
    for image in ({"location": url}, data, {"location": url, **data}):
        for method, path in (("POST", "/images"), ("PUT", f"/images/{queued}")):
            message = error_of(glance.ask(method, path, {"image": {**image, "size": 5, "status": "active"}}, 400))
            assert "body.image.location" in message
            assert "hunter2" not in message
    assert stored(web_installation) == before


@pytest.mark.parametrize(
    "data", [5, "x", {}, [URL], [{}], [{"url": 5}], [{"url": None}], [{"url": URL}, {"url": f"{URL}-2"}]]
)
def test_an_image_has_one_location_that_is_understood(data: Any, glance: GlanceServer) -> None:
    answer = glance.ask("POST", "/images", {"image": {"location_data": data}}, 400)
    assert "body.image.location_data" in error_of(answer)


def test_of_several_locations_those_that_are_deleted_do_not_count(glance: GlanceServer) -> None:
    gone: list[Any] = [
        {"url": f"{URL}-{word}", "metadata": {}, "status": word} for word in ("deleted", "pending_delete")
    ]
    made = glance.add({"size": 5, "location_data": [*gone, {"url": URL, "metadata": {"x": 1}, "status": "active"}]})
    assert made["location"] == URL
    assert glance.add({"status": "queued", "location": None, "location_data": []})["location"] is None


def test_the_key_of_a_claim_is_a_place_of_ours(glance: GlanceServer, web_installation: Installation) -> None:
    """S20: a URL of another blob of ours is none, whoever names it."""
    claim = claim_upload(web_installation, new_image_id(), is_new=True, age=timedelta(seconds=-60))
    url = web_installation.store.url(claim.key)
    glance.add({"location": url, "size": 5}, 409)
    glance.add({"id": new_image_id(), "location": url, "size": 5}, 409)
    made = glance.add({"id": claim.image_id, "location": url, **FACTS})
    assert made["location_data"][0]["owned"] is True
    assert list(web_installation.catalogue.claims.garbage()) == []
    api = web_installation.client(ADMIN)
    place = api.head(upload(api, b"bytes")).headers["x-image-meta-location"]
    glance.add({"location": place, "size": 5}, 409)
    assert [owned for _, _, owned, _ in locations(web_installation)] == [True, True]


def test_what_no_store_here_reads_is_left_out_by_verify(
    glance: GlanceServer, web_installation: Installation, capsys: pytest.CaptureFixture[str]
) -> None:
    upload(web_installation.client(ADMIN), b"bytes")
    for _ in range(2):
        glance.add({"location": URL, **FACTS})
    assert report(web_installation.stores, web_installation.catalogue.active, sizes_only=False)
    said = capsys.readouterr()
    assert said.out == "1 images are whole, 0 are not.\n2 images were not looked at.\n"
    assert said.err == "Images whose bytes lie where no store of this server reads them are left out.\n"


# -- beside our own API servers


def test_an_image_that_is_saving_takes_no_bytes_of_ours(glance: GlanceServer, web_installation: Installation) -> None:
    image_id = glance.add(NEW)["id"]
    glance.update(image_id, {"status": "saving"})
    path, api = f"/v1/images/{image_id}", web_installation.client(ADMIN)
    assert "saving" in error_of(api.put(path, b"bytes", headers=data_headers(), status=409))
    assert api.put(path, headers={"x-image-meta-name": "new"}).json["image"]["status"] == "saving"
    assert web_installation.stored_keys() == []


def test_an_upload_of_ours_ends_where_another_server_began_one(
    glance: GlanceServer, web_installation: Installation
) -> None:
    image_id = glance.add(NEW)["id"]
    claim = claim_upload(web_installation, image_id, is_new=False, age=timedelta(seconds=-60))
    glance.activate(image_id, URL, status=409)
    assert glance.find(image_id)["status"] == "queued"
    place = {"store": claim.store, "key": claim.key}
    sent = {"image": {}, "blob": {**DATA_FACTS, "location": place, "claim": claim.key}}
    glance.update(image_id, {"status": "saving"})
    glance.ask("PUT", f"/images/{image_id}", sent, 409)


def test_what_a_signed_request_says_of_locations_is_what_it_was_told(
    registry: Registry, installation: Installation
) -> None:
    """S2, S11: who signs for an administrator says what that may say at the API, and bytes come as a blob."""
    sent = {"location": URL, "location_data": [{"url": URL}], "deleted": True, "deleted_at": "2011-01-01", "size": 5}
    made = registry.add(**sent)
    assert (made["status"], made["location"], made["deleted"]) == ("queued", None, False)
    for word in ("saving", "active", "pending_delete", "deleted"):
        registry.ask("POST", "/images", {"image": {"status": word, "location": URL}}, 400)
        registry.ask("PUT", f"/images/{made['id']}", {"image": {"status": word, "location": URL}}, 403)
    assert locations(installation) == []
