"""Downloads: every byte once, verified, and a file that is complete or not there."""

import os
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from client_sites import Site, Stranger, pattern, port_of
from pyrimage.client import BadAnswer, Basic, Client, ConnectionFailed, ConnectionLost, HashMismatch, NotFound
from pyrimage.client.names import file_name
from servers.fault_proxy import FaultProxy
from servers.in_process_server import MIB, SECONDS, serving

DATA = pattern(21 * MIB + 5)
HEAD = 2000  # bytes of an answer's headers, at most
BETWEEN = 512 * 1024  # bytes that may be on their way to the client when a connection is reset


@pytest.fixture
def image(guide: Client) -> str:
    return guide.add_image(DATA, name="Fedora 17", id="f17", disk_format="raw").id


def part_of(path: Path, image: str = "f17") -> Path:
    return path.with_name(f"{path.name}.{image}.part")


@pytest.mark.usefixtures("image")
def test_an_image_is_metadata_and_bytes(client: Client) -> None:
    meta, data = client.get_image("f17")
    assert b"".join(data) == DATA
    assert meta == client.get_image_meta("f17")
    _, data = client.get_image(meta.uri)
    with data:
        assert DATA.startswith(next(data))  # and the rest is not taken
    assert b"".join(client.get_image(client.add_image(b"", name="empty").id)[1]) == b""


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_file_is_complete_and_as_the_umask_wants_it(
    parallel: int, client: Client, image: str, target: Path, umask: int
) -> None:
    seen: list[tuple[int, int | None]] = []
    path = target / "disk.raw"
    done = client.download(image, path, parallel=parallel, progress=lambda *pair: seen.append(pair))
    assert done == path
    assert path.read_bytes() == DATA
    assert path.stat().st_mode & 0o777 == 0o666 & ~umask
    assert list(target.iterdir()) == [path]
    assert seen == sorted(seen)
    assert seen[-1] == (len(DATA), len(DATA))


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_file_that_is_there_is_overwritten_only_if_asked(
    parallel: int, guide: Client, image: str, target: Path
) -> None:
    path, link = target / "disk.raw", target / "link.raw"
    path.write_bytes(b"mine")
    link.symlink_to("nowhere")
    for each in (path, link):
        with pytest.raises(FileExistsError, match="is there already"):
            guide.download(image, each, parallel=parallel)
    assert path.read_bytes() == b"mine"
    guide.download(image, path, parallel=parallel, overwrite=True)
    assert path.read_bytes() == DATA


def test_a_file_that_comes_into_being_meanwhile_is_not_overwritten(guide: Client, image: str, target: Path) -> None:
    path = target / "disk.raw"

    def interfere(done: int, size: int | None) -> None:
        path.write_bytes(b"mine")

    with pytest.raises(FileExistsError):
        guide.download(image, path, progress=interfere)
    assert path.read_bytes() == b"mine"
    path.unlink()
    guide.download(image, path)
    assert path.read_bytes() == DATA
    assert list(target.iterdir()) == [path]


def test_a_directory_gets_the_name_that_the_service_suggests(client: Client, image: str, target: Path) -> None:
    assert client.download(image, target) == target / "Fedora 17.raw"
    other = client.add_image(b"x", name='../ö "1"', disk_format="qcow2")
    assert client.download(other.id, target) == target / '__ö "1".qcow2'


def test_a_suggested_name_leads_nowhere_else() -> None:
    names = {
        'attachment; filename="a b.raw"': "a b.raw",
        'attachment; filename="a\\"b"': 'a"b',
        "attachment; filename=\"_.raw\"; filename*=UTF-8''%C3%B6.raw": "ö.raw",
        "attachment": None,
        'attachment; filename="../a"': None,
        'attachment; filename=".bashrc"': None,
        "attachment; filename*=UTF-8''a%2Fb": None,
        "attachment; filename*=UTF-8''a%00b": None,
        'attachment; filename=""': None,
    }
    assert {disposition: file_name(disposition) for disposition in names} == names


@pytest.mark.parametrize("parallel", [1, 2])
def test_what_has_no_bytes_leaves_no_file(parallel: int, guide: Client, target: Path) -> None:
    queued = guide.add_image(name="later", size=5).id
    for image, text in ((queued, "is queued"), ("nonesuch", "HEAD .*/images/nonesuch was refused")):
        with pytest.raises(NotFound, match=text):
            guide.download(image, target / "disk", parallel=parallel)
        assert list(target.iterdir()) == []
    empty = guide.add_image(b"", name="empty").id
    assert guide.download(empty, target / "disk", parallel=parallel).read_bytes() == b""


# -- connections that break


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_download_goes_on_where_connections_broke(parallel: int, site: Site, image: str, target: Path) -> None:
    with FaultProxy(site.port) as proxy, Client(f"http://127.0.0.1:{proxy.port}") as client:
        assert client.get_image_meta(image).size == len(DATA)
        before = proxy.delivered
        proxy.reset()
        proxy.reset_down, proxy.count = 3 * MIB, 4
        assert client.download(image, target / "disk", parallel=parallel).read_bytes() == DATA
        assert proxy.delivered - before < len(DATA) + 20 * HEAD + 4 * BETWEEN
        assert proxy.accepted >= 6
    assert [each.name for each in target.iterdir()] == ["disk"]


def test_bytes_that_are_iterated_go_on_where_connections_broke(site: Site, image: str) -> None:
    with FaultProxy(site.port) as proxy, Client(f"http://127.0.0.1:{proxy.port}") as client:
        proxy.reset_down, proxy.count = 3 * MIB, 3
        assert b"".join(client.get_image(image)[1]) == DATA
        assert proxy.accepted == 4


@pytest.mark.parametrize("parallel", [1, 2])
def test_what_came_is_not_fetched_again_by_the_next_download(
    parallel: int, site: Site, image: str, target: Path
) -> None:
    path = target / "disk"
    with FaultProxy(site.port) as proxy:
        client = Client(f"http://127.0.0.1:{proxy.port}", patience=0)
        proxy.reset_down, proxy.count = 9 * MIB, None
        with pytest.raises(ConnectionLost):
            client.download(image, path, parallel=parallel)
        (part,) = target.iterdir()
        assert part == part_of(path)
        assert part.stat().st_mode & 0o777 == 0o600
        had, before = part.stat().st_size, proxy.delivered
        assert had > 8 * MIB
        assert part.read_bytes() == DATA[:had]
        proxy.heal()
        assert client.download(image, path, parallel=parallel).read_bytes() == DATA
        assert proxy.delivered - before < len(DATA) - had + 10 * HEAD
    assert list(target.iterdir()) == [path]


def test_a_service_that_is_away_is_waited_for_but_not_for_ever(site: Site, image: str, target: Path) -> None:
    with FaultProxy(site.port) as proxy:
        client, seen = Client(f"http://127.0.0.1:{proxy.port}", patience=SECONDS), [0]

        def leave(done: int, size: int | None) -> None:
            if seen[-1] <= 4 * MIB < done:
                proxy.down()
            elif done == seen[-1] and not proxy.is_up:
                proxy.up()  # the progress is told while the client waits, too
            seen.append(done)

        def go_away(done: int, size: int | None) -> None:
            if proxy.is_up:
                proxy.down()

        assert client.download(image, target / "disk", progress=leave).read_bytes() == DATA
        client = Client(f"http://127.0.0.1:{proxy.port}", patience=0.5)
        with pytest.raises(ConnectionFailed, match="cannot be reached: Connection refused"):
            client.download(image, target / "other", progress=go_away)


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_progress_that_raises_ends_a_download_which_can_go_on(
    parallel: int, guide: Client, image: str, target: Path
) -> None:
    path, threads = target / "disk", threading.active_count()

    def cancel(done: int, size: int | None) -> None:
        if done > 9 * MIB:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guide.download(image, path, parallel=parallel, progress=cancel)
    assert list(target.iterdir()) == [part_of(path)]
    assert part_of(path).read_bytes() == DATA[: part_of(path).stat().st_size]
    assert len([each for each in threading.enumerate() if each.name.startswith("pyrimage-download")]) == 0
    assert threading.active_count() <= threads + 1
    guide.download(image, path, parallel=parallel)
    assert path.read_bytes() == DATA


def test_connections_that_wait_for_bytes_end_with_their_download(site: Site, image: str, target: Path) -> None:
    with FaultProxy(site.port) as proxy:
        client = Client(f"http://127.0.0.1:{proxy.port}", timeout=5, patience=SECONDS)

        def cancel(done: int, size: int | None) -> None:
            if done > 0:
                proxy.hang = True
                raise KeyboardInterrupt

        proxy.rate = 16 * MIB
        with pytest.raises(KeyboardInterrupt):
            client.download(image, target / "disk", parallel=2, progress=cancel)
        assert proxy.accepted == 2  # or they would have asked again, after the timeout


# -- the file that is not complete


@pytest.mark.parametrize(
    "rest", [b"other bytes" * 1000, DATA + b"more", DATA, b""], ids=["wrong", "long", "all", "none"]
)
def test_whatever_was_left_the_file_is_right(rest: bytes, guide: Client, image: str, target: Path) -> None:
    path = target / "disk"
    part_of(path).write_bytes(rest)
    guide.download(image, path)
    assert path.read_bytes() == DATA
    assert list(target.iterdir()) == [path]


def test_a_file_in_the_way_is_left_alone(guide: Client, image: str, target: Path) -> None:
    path, other = target / "disk", target / "other"
    other.write_bytes(b"mine")
    ways: list[Callable[[], None]] = [
        lambda: part_of(path).symlink_to(other),
        lambda: part_of(path).hardlink_to(other),
        lambda: os.mkfifo(part_of(path)),
        part_of(path).mkdir,
    ]
    for put in ways:
        put()
        with pytest.raises(OSError, match=f"{part_of(path)}"):
            guide.download(image, path)
        part_of(path).rmdir() if part_of(path).is_dir() else part_of(path).unlink()
    assert other.read_bytes() == b"mine"


def test_two_downloads_do_not_write_one_file(guide: Client, image: str, target: Path) -> None:
    errors: list[Exception] = []

    def again(done: int, size: int | None) -> None:
        if not errors:
            with pytest.raises(BlockingIOError, match="is being downloaded") as raised:
                guide.download(image, target / "disk")
            errors.append(raised.value)

    assert guide.download(image, target / "disk", progress=again).read_bytes() == DATA
    assert len(errors) == 1


def test_a_target_with_a_long_name_has_room_for_its_part(guide: Client, image: str, target: Path) -> None:
    assert guide.download(image, target / ("x" * 255)).read_bytes() == DATA


# -- services that are not ours


def test_other_bytes_than_the_service_tells_are_an_error_and_leave_nothing(target: Path) -> None:
    with serving(Stranger(DATA, changes=lambda data: b"X" + data[1:])) as running:
        client = Client(f"http://127.0.0.1:{port_of(running)}")
        for parallel in (1, 2):
            with pytest.raises(HashMismatch, match="the md5 of image one is"):
                client.download("one", target / "disk", parallel=parallel)
            assert list(target.iterdir()) == []
        with pytest.raises(HashMismatch):
            b"".join(client.get_image("one")[1])


def test_fewer_bytes_than_the_service_tells_are_an_error(target: Path) -> None:
    with serving(Stranger(DATA, changes=lambda data: data[:-1])) as running:
        client = Client(f"http://127.0.0.1:{port_of(running)}", patience=0)
        for parallel in (1, 2):
            with pytest.raises(ConnectionLost):
                client.download("one", target / "disk", parallel=parallel)
            assert list(target.iterdir()) == [part_of(target / "disk", "one")]
        with pytest.raises(ConnectionLost):
            b"".join(client.get_image("one")[1])


def test_an_id_leads_to_no_other_directory(target: Path) -> None:
    meta = {"x-image-meta-id": "../one", "x-image-meta-status": "active", "x-image-meta-size": "5"}
    stranger = Stranger(answers={"/images/one": ("200 OK", meta, b"")})
    with serving(stranger) as running, Client(f"http://127.0.0.1:{port_of(running)}") as client:
        for path in (target, target / "disk"):
            with pytest.raises(BadAnswer, match="cannot be part of a file's name"):
                client.download("one", path)


@pytest.mark.parametrize("parallel", [1, 3])
def test_a_service_without_ranges_sends_all_again(parallel: int, target: Path) -> None:
    path, stranger = target / "disk", Stranger(DATA, ranges=False)
    part_of(path, "one").write_bytes(DATA[: 5 * MIB])
    with serving(stranger) as running, Client(f"http://127.0.0.1:{port_of(running)}/v1") as client:
        assert client.download("one", path, parallel=parallel).read_bytes() == DATA
    assert [asked["REQUEST_METHOD"] for asked in stranger.asked] == ["HEAD", "GET"]


def test_a_redirect_to_another_host_is_followed_without_credentials(target: Path) -> None:
    store, stranger = Stranger(DATA), Stranger(DATA)
    with serving(store) as there, serving(stranger) as here:
        url = f"http://127.0.0.1:{port_of(there)}/bucket/key?signature=x"
        meta = {"x-image-meta-id": "one", "x-image-meta-status": "active", "x-image-meta-size": str(len(DATA))}
        stranger.answers["/images/two"] = ("307 Elsewhere", {"Location": url, **meta}, b"")
        with Client(f"http://127.0.0.1:{port_of(here)}", Basic("alice", "secret")) as client:
            meta_read, data = client.get_image("two")
            assert (meta_read.id, b"".join(data)) == ("one", DATA)
    assert "HTTP_AUTHORIZATION" in stranger.asked[0]
    assert len(store.asked) == 1
    assert not any("secret" in str(value) or name == "HTTP_AUTHORIZATION" for name, value in store.asked[0].items())


def test_a_redirect_is_not_followed_for_ever_nor_to_other_schemes_nor_with_a_change(target: Path) -> None:
    stranger = Stranger(DATA)
    with serving(stranger) as here, Client(f"http://127.0.0.1:{port_of(here)}") as client:
        for place, text in (("/images/two", "again and again"), ("file:///etc/passwd", "is not followed")):
            stranger.answers["/images/two"] = ("302 Elsewhere", {"Location": place}, b"")
            with pytest.raises(BadAnswer, match=text):
                client.get_image("two")
        asked = len(stranger.asked)
        with pytest.raises(Exception, match="302"):
            client.delete_image("two")
        assert len(stranger.asked) == asked + 1
