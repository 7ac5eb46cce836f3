"""What unit tests share."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from factories import ADMIN
from logged import own_logging
from pyrimage.catalogue.records import Identity
from pyrimage.environ import IDENTITY
from pyrimage.web.request import Request

if TYPE_CHECKING:
    from conftest import Installation


@pytest.fixture
def make_request(shared_installation: "Installation") -> Callable[..., Request]:
    """Give a function that makes a request as the views get it: ``make_request("/?limit=1", headers, ALICE)``."""

    def make(
        path: str = "/", headers: dict[str, str] | None = None, identity: Identity = ADMIN, **environ: Any
    ) -> Request:
        request = Request.blank(path, headers=headers or {}, environ={IDENTITY: identity, **environ})
        request.registry = shared_installation.registry
        return request

    return make


@pytest.fixture
def loggers_of_its_own() -> Iterator[None]:
    """Let the test begin as a program does, without handlers and levels."""
    with own_logging():
        yield


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of all logs; the program is started in one of those in it."""
    for name in ("etc", "started", "option", "key"):
        (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / "started")
    return tmp_path
