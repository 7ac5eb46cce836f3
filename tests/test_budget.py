"""How much of the package one request passes through, printed as a trend (``pytest -s``).

Glance's own figures, for comparison: a metadata GET passes 26 modules and 101 functions, an upload 34 and 224.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import pytest
from pyramid.httpexceptions import HTTPException

import pyrimage
from factories import data_headers, reserve, upload

if TYPE_CHECKING:
    from conftest import Installation

PACKAGE = str(Path(pyrimage.__file__).parent)
NOT_FUNCTIONS = {"<genexpr>", "<listcomp>", "<dictcomp>", "<setcomp>"}  # later Pythons call some of them no more

# Modules and functions. Few of each are meant: about 12 and 50, and with data 16 and 95.
BUDGETS = {"HEAD": (15, 43), "GET": (18, 55), "list": (18, 48), "POST": (33, 123), "PUT": (34, 135)}


def passed(ask: Callable[[], Any]) -> set[CodeType]:
    """Return the functions that run, in this thread, while ``ask`` does."""
    codes: set[CodeType] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        if event == "call":
            codes.add(frame.f_code)

    sys.setprofile(note)
    try:
        ask()
    finally:
        sys.setprofile(None)
    return codes


@pytest.fixture
def requests(installation: "Installation") -> dict[str, Callable[[], Any]]:
    """Requests by name; each is sent once before, for what is made at the first use alone."""
    app = installation.client()
    image, queued = upload(app, name="f17", properties={"a": "b"}), reserve(app)
    asks: dict[str, Callable[[], Any]] = {
        "HEAD": lambda: app.head(image),
        "GET": lambda: app.get(image),
        "list": lambda: app.get("/v1/images/detail?is_public=None"),
        "brief list": lambda: app.get("/v1/images"),
        "POST": lambda: app.post("/v1/images", b"bytes", headers=data_headers(name="f17", properties={"a": "b"})),
        "PUT": lambda: app.put(queued, b"bytes", headers=data_headers(name="f17")),
    }
    for name in ("HEAD", "GET", "list", "brief list", "POST"):
        asks[name]()
    return asks


@pytest.mark.parametrize(("name", "budget"), BUDGETS.items(), ids=BUDGETS)
def test_a_request_passes_few_modules_and_functions(
    name: str, budget: tuple[int, int], requests: dict[str, Callable[[], Any]]
) -> None:
    ours = {code for code in passed(requests[name]) if code.co_filename.startswith(PACKAGE)}
    codes = {code for code in ours if code.co_name not in NOT_FUNCTIONS}
    modules = {code.co_filename for code in codes}
    print(f"\nbudget: {name} passes {len(modules)} modules and {len(codes)} functions of {budget}")
    assert 0 < len(modules) <= budget[0]
    assert 0 < len(codes) <= budget[1]


@pytest.mark.parametrize("name", ["HEAD", "GET", "brief list"])
def test_a_reading_request_is_tried_on_no_view_of_another_method(
    name: str, requests: dict[str, Callable[[], Any]]
) -> None:
    # Of a view that does not fit, Pyramid hears by an exception.
    assert HTTPException.__init__.__code__ not in passed(requests[name])
