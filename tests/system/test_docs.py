"""The exchanges of the documentation, sent byte by byte as they are printed."""

from pathlib import Path

import pytest

from exchanges import HOST, Ids, Message, differences, read_page
from servers.pyrimage import ROOT, Answer, Server

pytestmark = pytest.mark.system

PAGES = sorted(path for path in ROOT.glob("docs/*.md") if "\n```http\n" in path.read_text(encoding="utf-8"))


def as_sent(request: Message, ids: Ids) -> bytes:
    """Return a printed request with what goes unprinted."""
    head = [request.start, f"Host: {HOST}", "Connection: close", *(": ".join(pair) for pair in request.headers.items())]
    chunked = request.headers.get("transfer-encoding") == "chunked"
    body = f"{request.body}\n".replace("\n", "\r\n") if chunked else request.body
    return ids.replace("\r\n".join([*head, "", body])).encode()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_exchange_is_answered_as_printed(page: Path, tmp_path: Path) -> None:
    found: list[str] = []
    for number, chapter in enumerate(read_page(page.read_text(encoding="utf-8"))):
        (directory := tmp_path / str(number)).mkdir()
        with Server(directory, main=chapter.settings) as server:
            ids = Ids()
            for request, printed in chapter.exchanges:
                head, _, body = server.exchange(as_sent(request, ids)).partition(b"\r\n\r\n")
                status = head.split(b"\r\n")[0].decode().partition(" ")[2]
                answered = differences(printed, status, Answer.parse(head, body).headers.items(), body, ids)
                found += [f"{page.name}:{printed.line}: {each}" for each in answered]
    assert not found, "\n".join(found)
