"""What unit tests share."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from factories import ADMIN
from pyrimage.security import IDENTITY, Identity
from pyrimage.web import Request

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
