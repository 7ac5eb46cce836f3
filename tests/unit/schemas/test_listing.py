from collections.abc import Callable
from typing import Any

import pytest

from factories import ADMIN, ALICE
from pyrimage.errors import Invalid
from pyrimage.schemas.listing import ListQuery, read_list_query
from pyrimage.web import Request

MakeRequest = Callable[..., Request]


def test_a_list_is_the_callers_own_and_of_25(make_request: MakeRequest) -> None:
    query = read_list_query(make_request("/images"))
    assert query == ListQuery(limit=25, marker=None, name=None, is_public=None, default_scope=True)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("limit=0", {"limit": 0}),
        ("limit=1000", {"limit": 1000}),
        ("limit=1001", {"limit": 1000}),  # cut, as clients expect
        ("limit=7&limit=8", {"limit": 8}),
        ("marker=a", {"marker": "a"}),
        ("name=f%C3%BCr+alle", {"name": "für alle"}),
        ("is_public=TRUE", {"is_public": True, "default_scope": False}),
        ("is_public=0", {"is_public": False, "default_scope": False}),
        ("is_public=None", {"default_scope": False}),
        ("nothing=x&Limit=x", {}),
    ],
)
def test_parameters(text: str, fields: dict[str, Any], make_request: MakeRequest) -> None:
    assert read_list_query(make_request(f"/images?{text}", identity=ADMIN)) == ListQuery(**fields)


@pytest.mark.parametrize("word", ["none", "true", "0"])
def test_only_an_administrators_is_public_counts(word: str, make_request: MakeRequest) -> None:
    assert read_list_query(make_request(f"/images?is_public={word}", identity=ALICE)) == ListQuery()


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("limit=x", ["limit"]),
        ("limit=-1", ["limit"]),
        ("name=%00", ["name"]),
        ("marker=a%0Ab&limit=1.5", ["marker", "limit"]),
        ("is_public=maybe", ["is_public"]),
        ("name=%ff", ["The query string is not UTF-8"]),
    ],
)
def test_bad_parameters_are_named(text: str, problems: list[str], make_request: MakeRequest) -> None:
    with pytest.raises(Invalid) as caught:
        read_list_query(make_request(f"/images?{text}"))
    assert len(caught.value.problems) == len(problems)
    assert [name for name in problems if name not in str(caught.value)] == []
