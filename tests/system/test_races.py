"""Several clients want one image at once, from two workers: one of them wins, and the others leave no bytes."""

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest

from amounts import amount
from factories import data_headers, md5, meta
from servers import databases
from servers.processes import RUN_SECONDS, wait_until
from servers.pyrimage import READY_SECONDS, Answer, Server
from traffic import leftovers, rows

pytestmark = [pytest.mark.system, pytest.mark.long]

ROUNDS = amount(3, 30)
CLIENTS = 8
MIB = 1 << 20
HALF = bytes(MIB)

Call = Callable[[], Answer]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with databases.fresh_database(request.param, tmp_path_factory.mktemp("database")) as made:
        yield made


@pytest.fixture(scope="module")
def running(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("server")
    with Server(directory, main={"sqlalchemy.url": url}, server={"workers": "2"}) as made:
        yield made


@pytest.fixture
def server(running: Server, url: str) -> Iterator[Server]:
    """A server of two workers; in the end, what is stored is what its images have."""
    yield running
    assert leftovers(running, url) == []
    assert [line for line in running.access_lines() if line[3] >= "500"] == []


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(CLIENTS) as pool:
        yield pool


def at_once(threads: ThreadPoolExecutor, calls: Sequence[Call]) -> list[Answer]:
    """Let each call begin when all of them can; return their answers."""
    start = threading.Barrier(len(calls))

    def run(call: Call) -> Answer:
        start.wait(RUN_SECONDS)
        return call()

    return list(threads.map(run, calls))


def reserve(server: Server) -> str:
    return f"/v1/images/{server.request('POST', '/v1/images', headers=meta(name='f17')).image['id']}"


def statuses(answers: Sequence[Answer]) -> list[int]:
    return sorted(answer.status for answer in answers)


def body_of(number: int, size: int) -> bytes:
    """Make a body that tells whose it is."""
    return f"client {number}".encode().ljust(size, b".")


def check_winner(server: Server, path: str, answers: Sequence[Answer], size: int) -> None:
    """Check that the image is that of the client who was told so."""
    (winner,) = (number for number, answer in enumerate(answers) if answer.status in (200, 201))
    got = server.request("GET", path)
    assert got.body == body_of(winner, size)
    assert got.headers["ETag"] == answers[winner].image["checksum"] == md5(got.body)


@pytest.mark.parametrize("length", ["sized", "chunked"])
def test_delete_during_an_upload_wins(server: Server, url: str, length: str) -> None:
    """S36, S37."""
    path = reserve(server)
    chunk = b"%x\r\n%s\r\n" % (MIB, HALF)
    lines, begin, end = {
        "sized": (f"Content-Length: {2 * MIB}", HALF, HALF),
        "chunked": ("Transfer-Encoding: chunked", chunk, chunk + b"0\r\n\r\n"),
    }[length]
    head = f"PUT {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{lines}\r\n"
    with server.connect(head.encode() + b"Content-Type: application/octet-stream\r\n\r\n" + begin) as client:
        wait_until(lambda: rows(url, "SELECT key FROM claims"), READY_SECONDS, server.log)
        assert server.request("DELETE", path).status == 200
        client.sendall(end)
        assert client.recv(4096).split()[1] in (b"404", b"409")
    assert server.request("GET", path).status == 404


def test_delete_and_upload_at_once_leave_nothing(server: Server, threads: ThreadPoolExecutor) -> None:
    """S36, S37."""
    for _ in range(ROUNDS):
        path = reserve(server)
        upload = partial(server.request, "PUT", path, HALF, data_headers())
        filled, deleted = at_once(threads, [upload, partial(server.request, "DELETE", path)])
        assert deleted.status == 200
        assert filled.status in (200, 403, 404, 409)  # an administrator, as we are, sees that it is deleted: 403
        assert server.request("GET", path).status == 404


@pytest.mark.parametrize("size", [10, MIB], ids=["small", "streamed"])
def test_one_of_many_uploads_into_one_image_wins(server: Server, threads: ThreadPoolExecutor, size: int) -> None:
    for _ in range(ROUNDS):
        path = reserve(server)
        bodies = [body_of(number, size) for number in range(CLIENTS)]
        calls = [
            partial(server.request, "PUT", path, iter([body]) if number % 2 else body, data_headers())
            for number, body in enumerate(bodies)
        ]
        answers = at_once(threads, calls)
        assert statuses(answers) == [200] + [409] * (CLIENTS - 1)
        check_winner(server, path, answers, size)


@pytest.mark.parametrize("size", [10, MIB], ids=["small", "streamed"])
def test_one_of_many_uploads_with_one_id_wins(server: Server, threads: ThreadPoolExecutor, size: int) -> None:
    for _ in range(ROUNDS):
        image_id = str(uuid.uuid4())
        bodies = [body_of(number, size) for number in range(CLIENTS)]
        calls = [
            partial(
                server.request, "POST", "/v1/images", iter([body]) if number % 2 else body, data_headers(id=image_id)
            )
            for number, body in enumerate(bodies)
        ]
        answers = at_once(threads, calls)
        assert statuses(answers) == [201] + [409] * (CLIENTS - 1)
        check_winner(server, f"/v1/images/{image_id}", answers, size)


def test_one_of_many_reservations_of_one_id_wins(server: Server, threads: ThreadPoolExecutor) -> None:
    for _ in range(ROUNDS):
        call = partial(server.request, "POST", "/v1/images", headers=meta(id=str(uuid.uuid4())))
        assert statuses(at_once(threads, [call] * CLIENTS)) == [201] + [409] * (CLIENTS - 1)


def test_one_of_many_deletions_wins(server: Server, threads: ThreadPoolExecutor) -> None:
    for _ in range(ROUNDS):
        path = f"/v1/images/{server.request('POST', '/v1/images', HALF, data_headers(name='f17')).image['id']}"
        answers = at_once(threads, [partial(server.request, "DELETE", path)] * CLIENTS)
        assert statuses(answers) == [200] + [404] * (CLIENTS - 1)
