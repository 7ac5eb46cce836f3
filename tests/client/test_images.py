"""What is said of images, in both spellings: written, read, changed, listed, shared and deleted."""

import io
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from client_sites import Site, pattern
from factories import md5, sha256, stored
from pyrimage.client import Client, Conflict, Image, Invalid, Member, NotFound, SharedImage
from pyrimage.client.uploads import Source

DATA = pattern(3_000_000)
NAMES = ["Ångström", "अ", "…", "日本語 💾", "a 'b' \"c\" %41;=,", "Å" * 100]


def test_all_that_can_be_said_is_said_and_read(client: Client) -> None:
    made = client.add_image(
        DATA,
        id="fedora-17",
        name="Fedora 17",
        disk_format="qcow2",
        container_format="bare",
        is_public=True,
        protected=True,
        min_disk=5,
        min_ram=256,
        owner="tenant-a",
        properties={"os_type": "linux", "Arch": "x86"},
        size=len(DATA),
        checksum=md5(DATA),
        sha256=sha256(DATA),
        store="file",
    )
    assert made == client.get_image_meta("fedora-17")
    now = datetime.now(UTC)
    assert made.created_at is not None
    assert now - timedelta(minutes=5) < made.created_at <= now
    assert made.location is not None
    assert made == Image(
        id="fedora-17",
        uri=f"{client.url}/images/fedora-17",
        name="Fedora 17",
        disk_format="qcow2",
        container_format="bare",
        size=len(DATA),
        checksum=md5(DATA),
        sha256=sha256(DATA),
        status="active",
        is_public=True,
        protected=True,
        owner="tenant-a",
        min_disk=5,
        min_ram=256,
        created_at=made.created_at,
        updated_at=made.updated_at,
        location=made.location,
        properties={"os_type": "linux", "arch": "x86"},
    )


@pytest.mark.parametrize("name", NAMES)
def test_names_are_in_any_script(name: str, client: Client) -> None:
    made = client.add_image(b"x", name=name, is_public=True, properties={"os": name})
    (listed,) = client.get_images(name=name, properties={"os": name})
    meta, data = client.get_image(made.id)
    with data:
        assert {made.name, listed.name, meta.name, client.get_image_meta(made.id).name, meta.properties["os"]} == {name}


def test_data_comes_from_a_path_a_file_bytes_or_an_iterator(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "disk.raw"
    path.write_bytes(DATA)
    pieces = (DATA[start : start + 70_000] for start in range(0, len(DATA), 70_000))
    sources: list[Source] = [path, str(path), DATA, bytearray(DATA), io.BytesIO(DATA), pieces]
    sources.append([DATA[:1], b"", DATA[1:]])
    for source in sources:
        made = client.add_image(source, name="disk")
        assert (made.status, made.size, made.sha256) == ("active", len(DATA), sha256(DATA))
    with path.open("rb") as file:
        file.seek(1_000_000)
        assert client.add_image(file, name="disk").checksum == md5(DATA[1_000_000:])


def test_no_bytes_make_an_empty_image(client: Client) -> None:
    sources: list[Source] = [b"", io.BytesIO(), iter(())]
    for source in sources:
        made = client.add_image(source, name="empty")
        assert (made.status, made.size, made.checksum) == ("active", 0, md5(b""))


def test_an_image_is_reserved_and_filled_later(client: Client) -> None:
    made = client.add_image(name="later", properties={"os": "linux"})
    assert (made.status, made.checksum) == ("queued", None)
    filled = client.update_image(made.id, io.BytesIO(DATA), disk_format="raw")
    assert (filled.status, filled.disk_format, filled.sha256) == ("active", "raw", sha256(DATA))
    assert filled.properties == {"os": "linux"}
    with pytest.raises(Conflict, match=f"Image {made.id} is active"):
        client.update_image(made.id, b"others")


def test_an_update_leaves_alone_what_it_does_not_name(client: Client) -> None:
    made = client.add_image(b"x", name="one", min_ram=5, owner="me", properties={"os_type": "linux", "arch": "x86"})
    changed = client.update_image(made.id, name="two", properties={"arch": "arm"})
    assert (changed.name, changed.min_ram, changed.owner) == ("two", 5, "me")
    assert changed.properties == {"os_type": "linux", "arch": "arm"}
    assert client.update_image(made.id, owner=None).owner is None
    assert client.update_image(made.id, purge_properties=True, properties={"a": "b"}).properties == {"a": "b"}
    assert client.update_image(made.id, purge_properties=True).properties == {}


def test_a_deleted_image_is_not_there(client: Client) -> None:
    made = client.add_image(b"x", name="one")
    client.delete_image(made.uri)
    assert client.get_image_meta(made.id).deleted  # administrators see it
    with pytest.raises(NotFound) as raised:
        client.delete_image(made.id)
    assert raised.value.status == 404
    assert made.id in raised.value.message
    assert re.fullmatch("req-[0-9a-f-]{36}", raised.value.request_id or "")
    assert str(raised.value) == f"{raised.value.message} (404, request {raised.value.request_id})"


def test_lists_go_over_all_pages(client: Client) -> None:
    for number in range(8):
        client.add_image(b"x" * number or None, name=f"n{number}", is_public=number != 3, id=f"i{number}")
    sizes = [image.size for image in client.get_images(sort_key="size", sort_dir="asc")]
    assert sizes == [0, 1, 2, 4, 5, 6, 7]
    assert [image.id for image in client.get_images(is_public=None, limit=5)] == ["i7", "i6", "i5", "i4", "i3"]
    assert [image.id for image in client.get_images(marker="i2")] == ["i1", "i0"]
    assert [image.id for image in client.get_images(marker=client.get_image_meta("i1").uri)] == ["i0"]
    assert [image.name for image in client.get_images_detailed(size_min=2, size_max=4, protected=False)] == ["n4", "n2"]
    assert [image.id for image in client.get_images_detailed(is_public=False)] == ["i3"]
    assert [image.id for image in client.get_images_detailed(status="queued")] == ["i0"]
    assert list(client.get_images(limit=0)) == list(client.get_images(name="nonesuch")) == []
    later = datetime.now(UTC) + timedelta(hours=1)
    assert list(client.get_images(changes_since=later)) == []
    assert len(list(client.get_images(changes_since=later - timedelta(hours=2), is_public=None))) == 8
    with pytest.raises(Invalid, match="size_min must be"):
        next(client.get_images(size_min=-1))


def test_a_detailed_list_says_what_happened_to_an_upload(guide: Client) -> None:
    made = guide.add_image(name="later", is_public=True)
    with pytest.raises(Invalid):
        guide.update_image(made.id, b"bytes", checksum=md5(b"others"))
    (listed,) = guide.get_images_detailed()
    assert listed.last_error is not None
    assert "x-image-meta-checksum" in listed.last_error


def test_images_are_shared(client: Client) -> None:
    image = client.add_image(b"x", name="one").id
    client.add_member(image, "tenant-a", can_share=True)
    client.add_member(image, "tenantz ü")
    both = [Member("tenant-a", can_share=True), Member("tenantz ü")]
    assert client.get_image_members(image) == both
    assert client.get_member_images("tenantz ü") == [SharedImage(image)]
    client.add_member(image, "tenant-a")
    assert client.get_image_members(image) == both
    client.replace_members(image, ["tenant-a", Member("tenant-c", can_share=True)])
    assert client.get_image_members(image) == [Member(name, can_share=True) for name in ("tenant-a", "tenant-c")]
    client.delete_member(image, "tenant-c")
    assert client.get_image_members(image) == both[:1]
    assert client.get_member_images("tenant-c") == []
    with pytest.raises(NotFound, match="not a member"):
        client.delete_member(image, "tenant-c")


def test_a_uri_is_an_id_if_the_service_spells_its_own_so(guide: Client, site: Site) -> None:
    made = guide.add_image(b"x", name="one")
    before = stored(site.installation)
    for other in (made.uri.replace("127.0.0.1", "localhost"), "http://images.example.org/images/" + made.id):
        with pytest.raises(ValueError, match="is not a uri of an image of"):
            guide.delete_image(other)
    assert stored(site.installation) == before
    with Client(site.url.replace("127.0.0.1", "localhost")) as other_name:
        listed = next(other_name.get_images(is_public=None))
        assert other_name.get_image_meta(listed.uri).id == made.id
    guide.delete_image(made.uri)


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_no_id_leads_to_another_path(name: str, guide: Client, site: Site) -> None:
    made = guide.add_image(name="later")
    before = stored(site.installation)
    for step in (guide.delete_image, guide.update_image, guide.get_image_meta, guide.get_image_members):
        with pytest.raises(ValueError, match="names nothing"):
            step(name)
    with pytest.raises(ValueError, match="names nothing"):
        guide.add_member(made.id, name, can_share=True)
    with pytest.raises(NotFound):
        guide.delete_image(f"x/../{made.id}")
    assert stored(site.installation) == before


def test_what_no_header_can_say_is_refused_here(guide: Client) -> None:
    for name in ("a\r\nx-image-meta-is-public: true", "a\0b"):
        with pytest.raises(ValueError, match="name may have no control characters"):
            guide.add_image(name=name)
    with pytest.raises(ValueError, match="'os type' of a property"):
        guide.add_image(name="a", properties={"os type": "x"})


def test_a_uri_with_a_password_is_no_url_of_a_service() -> None:
    for url in ("http://alice:secret@127.0.0.1", "127.0.0.1:9292", "ftp://127.0.0.1", "http://", "http://x?a=b"):
        with pytest.raises(ValueError, match="The URL of a service") as raised:
            Client(url)
        assert "secret" not in str(raised.value)
