"""Uploads that do not go well: what the caller is told, and that nothing is there as if it had."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from client_sites import Site, Stranger, answering, pattern, port_of, silent
from factories import md5, sha256, stored
from pyrimage.client import (
    BadAnswer,
    Basic,
    Client,
    ClientError,
    Conflict,
    ConnectionFailed,
    ConnectionLost,
    HashMismatch,
    Invalid,
    LimitExceeded,
    MultipleChoices,
    NotAuthenticated,
    NotFound,
    Refused,
    Unavailable,
)
from servers.fault_proxy import FaultProxy
from servers.in_process_server import MIB, SECONDS, serving
from servers.processes import free_port, wait_until

HUGE, CAP = 1 << 40, 100 * MIB
DATA = pattern(2 * MIB)


class Endless:
    """A source that has far more than anybody takes; ``given`` are the bytes that were taken."""

    def __init__(self) -> None:
        self.given = 0

    def __iter__(self) -> Iterator[bytes]:
        while self.given < HUGE:
            self.given += MIB
            yield bytes(MIB)


@pytest.mark.parametrize("is_length_known", [True, False], ids=["length", "chunks"])
@pytest.mark.parametrize("case", ["id is taken", "too large", "unknown store"])
def test_a_refusal_is_told_while_the_bytes_are_sent(
    case: str, is_length_known: bool, client: Client, site: Site
) -> None:
    client.add_image(b"x", name="one", id="taken")
    before, source = stored(site.installation), Endless()
    expected: type[Refused] = {"id is taken": Conflict, "too large": LimitExceeded, "unknown store": Invalid}[case]
    fields = {"id is taken": {"id": "taken"}, "unknown store": {"store": "nonesuch"}, "too large": {}}[case]
    size = None if not is_length_known else HUGE if case == "too large" else CAP
    with pytest.raises(expected) as raised:
        client.add_image(source, name="two", size=size, **fields)  # type: ignore[arg-type]
    assert raised.value.request_id
    assert "pipe" not in str(raised.value)
    least = CAP if case == "too large" and size is None else 0  # that is known when so many bytes have come
    assert least <= source.given < least + CAP / 2  # what the buffers of both sides hold
    wait_until(lambda: stored(site.installation) == before, SECONDS)
    assert client.get_image_meta("taken").name == "one"


def test_who_is_not_known_is_told_while_the_bytes_are_sent(users_site: Site) -> None:
    source = Endless()
    with Client(users_site.url, Basic("alice", "wrong")) as client, pytest.raises(NotAuthenticated):
        client.add_image(source, name="one", size=HUGE)
    assert source.given < CAP / 2


def test_a_connection_is_not_used_again_after_a_body_that_was_cut() -> None:
    """Of a server that keeps it open all the same: the next request would be taken for the rest of the body."""
    with answering(409, 404) as port:
        client = Client(f"http://127.0.0.1:{port}", timeout=5)
        with pytest.raises(Conflict):
            client.add_image(Endless(), name="two")
        with pytest.raises(NotFound):
            client.delete_image("two")


@pytest.mark.parametrize("told", ["fewer", "more"])
def test_bytes_that_are_not_as_many_as_announced_make_no_image(told: str, client: Client, site: Site) -> None:
    before = stored(site.installation)
    size = len(DATA) + (1 if told == "fewer" else -1)
    pieces = (DATA[start : start + 100_000] for start in range(0, len(DATA), 100_000))
    with pytest.raises(ValueError, match="that were announced"):
        client.add_image(pieces, name="one", size=size)
    with pytest.raises(ValueError, match=f"The size is {len(DATA)} bytes"):
        client.add_image(DATA, name="one", size=size)
    wait_until(lambda: stored(site.installation) == before, SECONDS)


def test_bytes_with_another_sha256_than_announced_make_no_image(client: Client, site: Site) -> None:
    before = stored(site.installation)
    for source in (DATA, iter([DATA, DATA]), [b""]):
        with pytest.raises(HashMismatch, match="nothing was uploaded"):
            client.add_image(source, name="one", sha256=sha256(b"others"))
    wait_until(lambda: stored(site.installation) == before, SECONDS)


@pytest.mark.parametrize("error", [OSError("no medium"), BrokenPipeError("of the source"), ZeroDivisionError()])
def test_what_the_source_raises_comes_through_and_no_image_is_made(
    error: Exception, client: Client, site: Site
) -> None:
    before = stored(site.installation)

    def source() -> Iterator[bytes]:
        yield DATA
        yield DATA
        raise error

    with pytest.raises(type(error)) as raised:
        client.add_image(source(), name="one")
    assert raised.value is error
    wait_until(lambda: stored(site.installation) == before, SECONDS)


def test_progress_tells_how_far_it_is_and_can_end_it(client: Client, site: Site, tmp_path: Path) -> None:
    seen: list[tuple[int, int | None]] = []
    (path := tmp_path / "disk").write_bytes(DATA)
    client.add_image(path, name="one", progress=lambda done, size: seen.append((done, size)))
    assert seen == [(MIB, 2 * MIB), (2 * MIB, 2 * MIB)]
    before = stored(site.installation)

    class Cancelled(Exception):
        pass

    def cancel(done: int, size: int | None) -> None:
        assert size is None
        raise Cancelled

    with pytest.raises(Cancelled):
        client.add_image(iter([DATA, DATA]), name="two", progress=cancel)
    wait_until(lambda: stored(site.installation) == before, SECONDS)


def test_text_is_no_data(guide: Client) -> None:
    with pytest.raises(TypeError, match="of bytes, not of str"):
        guide.add_image(["text"], name="one")  # type: ignore[list-item]


def test_other_bytes_in_the_service_than_were_sent_are_an_error_that_names_the_image() -> None:
    stranger = Stranger(checksum=md5(b"others"))
    with serving(stranger) as running:
        for version, name in (("", "sha256"), ("/v1", "md5")):
            client = Client(f"http://127.0.0.1:{port_of(running)}{version}")
            stranger.sha256 = None if version else sha256(b"others")
            with pytest.raises(HashMismatch, match=f"other bytes than were sent: the {name} of image one") as raised:
                client.add_image(DATA, name="one")
            assert raised.value.image_id == "one"
        with pytest.raises(HashMismatch, match="does not tell what bytes it has of image one"):
            Client(f"http://127.0.0.1:{port_of(running)}").add_image(DATA, name="one")


def test_a_length_is_told_where_it_is_known() -> None:
    stranger = Stranger()
    with serving(stranger) as running, Client(f"http://127.0.0.1:{port_of(running)}/v1") as client:
        client.add_image(DATA, name="one", sha256=sha256(DATA))
        client.add_image(iter([DATA]), name="one", size=len(DATA))
        client.add_image(iter([DATA]), name="one")
        client.update_image("one")
    lengths = [asked.get("CONTENT_LENGTH") for asked in stranger.asked]
    assert lengths[:2] == [str(len(DATA))] * 2
    assert stranger.asked[2].get("pyrimage.chunked")
    assert not any("HTTP_X_IMAGE_META_SHA256" in asked for asked in stranger.asked)  # a Glance refuses it
    assert stranger.asked[3]["HTTP_X_GLANCE_REGISTRY_PURGE_PROPS"] == "false"


# -- a service that is away, or that is none


@pytest.mark.parametrize("data", [DATA, None], ids=["upload", "headers"])
def test_a_change_is_not_sent_a_second_time(data: bytes | None, site: Site) -> None:
    before = stored(site.installation)
    with FaultProxy(site.port) as proxy, Client(f"http://127.0.0.1:{proxy.port}") as client:
        proxy.reset_up = 100
        with pytest.raises(ConnectionLost, match="gave no answer"):
            client.add_image(data, name="one")
        assert proxy.accepted == 1
    wait_until(lambda: stored(site.installation) == before, SECONDS)


def test_what_only_reads_is_sent_again(site: Site) -> None:
    with FaultProxy(site.port) as proxy, Client(f"http://127.0.0.1:{proxy.port}") as client:
        proxy.reset_down, proxy.count = 10, 2
        assert list(client.get_images()) == []
        assert proxy.accepted == 3
        proxy.count = None
        proxy.reset()  # the connection that was kept open
        with pytest.raises(ConnectionLost):
            list(client.get_images())


def test_connections_are_kept(site: Site) -> None:
    with FaultProxy(site.port) as proxy, Client(f"http://127.0.0.1:{proxy.port}") as client:
        made = client.add_image(DATA, name="one")
        for _ in range(3):
            client.get_image_meta(made.id)
            with client.get_image(made.id)[1] as data:
                assert b"".join(data) == DATA
        client.delete_image(made.id)
        assert proxy.accepted == 1


def test_nobody_at_the_url_is_told() -> None:
    with Client(f"http://127.0.0.1:{free_port()}") as client:
        for step in (lambda: list(client.get_images()), lambda: client.add_image(b"x", name="one")):
            with pytest.raises(
                ConnectionFailed, match=r"http://127.0.0.1:[0-9]+/images cannot be reached: Connection refused$"
            ):
                step()


def test_a_service_that_hangs_is_left() -> None:
    with silent() as port:
        client = Client(f"http://127.0.0.1:{port}", timeout=0.05)
        with pytest.raises(ConnectionLost, match="gave no answer: nothing came in time"):
            client.delete_image("one")


ANSWERS: dict[str, tuple[str, dict[str, str], bytes, type[ClientError], str]] = {
    "a Glance": ("300 Multiple Choices", {}, b'{"versions": []}', MultipleChoices, "was refused"),
    "HTML": (
        "404 Not Found",
        {},
        b"<html><head><title>404</title></head><body><h1>404</h1>\n No image</body></html>",
        Refused,
        r"^No image \(404\)$",
    ),
    "control characters": ("400 Bad", {}, b'{"error": {"message": "\\u001b[2J\\nno"}}', Invalid, r"^\[2J no "),
    "a proxy": ("503 No", {"Retry-After": "7"}, b"<html>Bad", Unavailable, r"^Bad \(503\)$"),
    "no JSON": ("200 OK", {}, b"hello", BadAnswer, "no JSON"),
    "another JSON": ("200 OK", {}, b'{"images": 5}', BadAnswer, "no list of images"),
    "nonsense": ("200 OK", {}, b'{"images": [{"id": "x", "size": "many"}]}', BadAnswer, "makes no sense"),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_an_answer_that_is_no_service_s_is_told_in_few_words(case: str) -> None:
    status, headers, body, expected, text = ANSWERS[case]
    stranger = Stranger(answers={"/images": (status, headers, body)})
    with serving(stranger) as running:
        client = Client(f"http://127.0.0.1:{port_of(running)}")
        with pytest.raises(expected, match=text) as raised:
            next(client.get_images())
    if isinstance(raised.value, Unavailable):
        assert raised.value.retry_after == 7
