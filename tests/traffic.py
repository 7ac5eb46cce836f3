"""Clients that use every call of the API at once, and a journal of what they were told.

::

    journal = Journal(seed)
    with traffic([server], journal, clients=16):
        ...  # whatever is done to the server meanwhile
    assert journal.wrong == []
    assert contradictions(server, database_url, journal) == []
"""

import contextlib
import http.client
import json
import random
import select
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from factories import data_headers, meta
from journal import Journal
from servers.pyrimage import Answer, Reachable

PIECE = 100_000  # bytes of a chunk

TRANSFERS = {"post": 2, "post_chunked": 2, "put": 1, "put_chunked": 1, "download": 3, "delete": 4}
EVERY_CALL = {
    **TRANSFERS,
    "reserve": 1,
    "change": 4,
    "head": 4,
    "part": 3,
    "unchanged": 3,
    "brief_list": 2,
    "detailed_list": 2,
    "members": 2,
    "share": 2,
    "replace_members": 1,
    "unshare": 1,
    "note": 2,
    "invite": 1,
    "shared_images": 2,
}


class Client:
    """One that calls again and again, over a connection that it keeps or, by turns, over fresh ones."""

    def __init__(self, server: Reachable, journal: Journal, calls: Mapping[str, int], number: int) -> None:
        self._server, self._journal, self._calls, self._number = server, journal, calls, number
        self._keeps = number % 4 != 0
        self._kept: http.client.HTTPConnection | None = None
        self._chance = random.Random(f"{journal.seed} {number}")
        self._kind = ""

    def work(self, stop: threading.Event) -> None:
        """Call until told to stop."""
        kinds, weights = list(self._calls), list(self._calls.values())
        while not stop.is_set():
            (self._kind,) = self._chance.choices(kinds, weights)
            try:
                getattr(self, f"_{self._kind}")()
            except ConnectionRefusedError:
                self._journal.count_cut("refused")
                stop.wait(0.05)  # the server is away
            except (OSError, http.client.HTTPException):
                self._journal.count_cut(self._kind)  # what the server did with it, nobody was told
        self._drop()

    def _post(self, *, chunked: bool = False) -> None:
        image_id = str(uuid.uuid4())
        headers = data_headers(id=image_id, is_public=self._chance.choice(("true", "false")))
        self._upload("POST", "/v1/images", image_id, headers, 201, chunked=chunked)

    def _post_chunked(self) -> None:
        self._post(chunked=True)

    def _put(self, *, chunked: bool = False) -> None:
        image_id = self._reserve()
        if image_id is not None:
            self._upload("PUT", f"/v1/images/{image_id}", image_id, data_headers(), 200, chunked=chunked)

    def _put_chunked(self) -> None:
        self._put(chunked=True)

    def _upload(
        self, method: str, path: str, image_id: str, headers: dict[str, str], status: int, *, chunked: bool
    ) -> None:
        data = self._journal.send(image_id, self._chance)
        answer = self._ask(method, path, pieces(data) if chunked else bytes(data), headers)
        sent = self._journal.sent[image_id]
        if self._is_right(answer, status) and self._holds(
            (answer.image["checksum"], answer.image["size"], answer.image["status"]) == (sent.md5, sent.size, "active"),
            answer,
        ):
            self._journal.acknowledge(image_id)

    def _reserve(self) -> str | None:
        image_id = str(uuid.uuid4())
        if not self._is_right(self._ask("POST", "/v1/images", None, meta(id=image_id)), 201):
            return None
        self._journal.reserved.add(image_id)
        return image_id

    def _download(self) -> None:
        if image_id := self._journal.choose(self._chance):
            answer = self._ask("GET", f"/v1/images/{image_id}")
            if self._is_right(answer, 200, image_id):
                self._holds(answer.body == self._journal.bytes_of(image_id), answer)
                self._holds(answer.headers["ETag"] == self._journal.sent[image_id].md5, answer)

    def _part(self) -> None:
        if image_id := self._journal.choose(self._chance):
            data = self._journal.bytes_of(image_id)
            first = self._chance.randrange(len(data))
            last = self._chance.randrange(first, len(data))
            answer = self._ask("GET", f"/v1/images/{image_id}", None, {"Range": f"bytes={first}-{last}"})
            if self._is_right(answer, 206, image_id):
                self._holds(answer.body == data[first : last + 1], answer)

    def _unchanged(self) -> None:
        if image_id := self._journal.choose(self._chance):
            headers = {"If-None-Match": self._journal.sent[image_id].md5}
            self._is_right(self._ask("GET", f"/v1/images/{image_id}", None, headers), 304, image_id)

    def _head(self) -> None:
        if image_id := self._journal.choose(self._chance):
            answer = self._ask("HEAD", f"/v1/images/{image_id}")
            if self._is_right(answer, 200, image_id):
                self._holds(answer.headers["x-image-meta-checksum"] == self._journal.sent[image_id].md5, answer)

    def _change(self) -> None:
        if image_id := self._journal.choose(self._chance):
            self._put_change(image_id, meta(name=self._kind, min_ram=self._chance.randrange(1000)))

    def _note(self) -> None:
        """Write the next number into a property that no other client has."""
        if image_id := self._journal.choose(self._chance):
            value = self._journal.next_note(image_id, self._number)
            if self._put_change(image_id, meta(properties={f"note_{self._number}": str(value)})):
                self._journal.noted[image_id, self._number] = value

    def _put_change(self, image_id: str, headers: dict[str, str]) -> bool:
        """Change an image; the properties that others write stay."""
        headers["x-glance-registry-purge-props"] = "false"
        return self._is_right(self._ask("PUT", f"/v1/images/{image_id}", None, headers), 200, image_id)

    def _brief_list(self) -> None:
        self._is_right(self._ask("GET", "/v1/images?limit=20"), 200)

    def _detailed_list(self) -> None:
        self._is_right(self._ask("GET", "/v1/images/detail?limit=20&is_public=None&status=active"), 200)

    def _members(self) -> None:
        if image_id := self._journal.choose(self._chance):
            self._is_right(self._ask("GET", f"/v1/images/{image_id}/members"), 200, image_id)

    def _share(self) -> None:
        if image_id := self._journal.choose(self._chance):
            answer = self._ask("PUT", f"/v1/images/{image_id}/members/{self._tenant()}")
            self._is_right(answer, 204, image_id)

    def _invite(self) -> None:
        """Share with somebody whom nobody removes, unless all are replaced."""
        if image_id := self._journal.choose(self._chance):
            member = f"guest-{uuid.uuid4()}"
            answer = self._ask("PUT", f"/v1/images/{image_id}/members/{member}")
            if self._is_right(answer, 204, image_id):
                self._journal.invited.append((image_id, member))

    def _replace_members(self) -> None:
        if image_id := self._journal.choose(self._chance):
            self._journal.replaced.add(image_id)
            members = [{"member_id": self._tenant(), "can_share": True}]
            body = json.dumps({"memberships": members}).encode()
            answer = self._ask("PUT", f"/v1/images/{image_id}/members", body, {"Content-Type": "application/json"})
            self._is_right(answer, 204, image_id)

    def _unshare(self) -> None:
        if image_id := self._journal.choose(self._chance):
            answer = self._ask("DELETE", f"/v1/images/{image_id}/members/{self._tenant()}")
            if answer.status != 404:  # which is right if it was none
                self._is_right(answer, 204, image_id)

    def _shared_images(self) -> None:
        self._is_right(self._ask("GET", f"/v1/shared-images/{self._tenant()}"), 200)

    def _delete(self) -> None:
        image_id = self._journal.choose(self._chance, least=self._journal.kept + 1, to_delete=True)
        if image_id is not None and self._is_right(self._ask("DELETE", f"/v1/images/{image_id}"), 200, image_id):
            self._journal.deleted.add(image_id)

    def _tenant(self) -> str:
        return f"tenant-{self._chance.randrange(5)}"

    def _is_right(self, answer: Answer, status: int, image_id: str | None = None) -> bool:
        """Say whether the answer has the status; if not, it must be about an image that is being deleted.

        Or a server behind a proxy is away at the moment, where the journal takes that.
        """
        if answer.status in self._journal.away:
            self._journal.count_cut(f"{self._kind} {answer.status}")
            return False
        is_gone = answer.status in (403, 404, 409) and image_id in self._journal.delete_tried
        self._holds(answer.status == status or is_gone, answer)
        return answer.status == status

    def _holds(self, is_true: bool, answer: Answer) -> bool:
        """Note the answer as wrong unless what should be true is."""
        if not is_true:
            self._journal.wrong.append(f"{self._kind}: {answer.status} {answer.headers.items()} {answer.body[:300]!r}")
        return is_true

    def _ask(self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None) -> Answer:
        connection = self._connection()
        try:
            connection.request(method, path, body, headers or {})
            response = connection.getresponse()
            answer = Answer(response.status, response.headers, response.read())
        except BaseException:
            connection.close()
            raise
        if self._keeps:
            self._kept = connection
        else:
            connection.close()
        self._journal.count(self._kind)
        return answer

    def _connection(self) -> http.client.HTTPConnection:
        """Return the connection that was kept, unless it has ended, or a new one."""
        kept = self._kept
        if kept is not None and kept.sock is not None and not select.select([kept.sock], [], [], 0)[0]:
            return kept
        self._drop()
        return self._server.client()

    def _drop(self) -> None:
        if self._kept is not None:
            self._kept.close()
        self._kept = None


def pieces(data: memoryview) -> Iterator[bytes]:
    """Cut data into chunks; nothing announces their length."""
    for start in range(0, len(data), PIECE):
        yield bytes(data[start : start + PIECE])


@contextlib.contextmanager
def traffic(
    servers: Sequence[Reachable], journal: Journal, *, clients: int, calls: Mapping[str, int] = EVERY_CALL
) -> Iterator[threading.Event]:
    """Let clients call while the block runs, each one of the servers; ``calls`` says how often each is made.

    Gives an event to wait on, which nobody sets before the block ends. Prints what was done.
    """
    stop = threading.Event()
    began = time.monotonic()
    with ThreadPoolExecutor(clients) as threads:
        made = [Client(servers[number % len(servers)], journal, calls, number) for number in range(clients)]
        working = [threads.submit(each.work, stop) for each in made]
        try:
            yield stop
        finally:
            stop.set()
        for each in working:
            each.result()
    seconds = time.monotonic() - began
    print(f"{journal}, {journal.calls.total() / seconds:.0f}/s for {seconds:.0f} s")
