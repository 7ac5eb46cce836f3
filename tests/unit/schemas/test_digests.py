"""How the digests of a request's body are spelled. What becomes of them: tests/functional/test_digests.py."""

from base64 import b64encode
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import md5, sha256
from growth import check_growth
from pyrimage.web.digests import demand_digests, read_digests
from pyrimage.web.request import Request

MakeRequest = Callable[..., Request]

DATA = b"bytes"
MD5, SHA256 = (b64encode(bytes.fromhex(digest)).decode() for digest in (md5(DATA), sha256(DATA)))
SHA = f"sha-256=:{SHA256}:"


def short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:20]}... {len(text)}"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (f" {SHA}\t", {"sha256": sha256(DATA)}),
        (SHA.replace("=:", ":").replace("sha-256:", "sha-256=:"), {"sha256": sha256(DATA)}),  # without padding
        (f"sha-512=:AAAA: ,\t{SHA}, *a.b-c_d=::", {"sha256": sha256(DATA)}),
        (f'{SHA};a;b=1;  c="x, \\" ;y";d=?0;e=-1.5;f=:AA==:;g=@5', {"sha256": sha256(DATA)}),
        ("sha-512=:AAAA:", {}),
        (" ", {}),
    ],
    ids=short,
)
def test_a_dictionary_names_digests(text: str, found: dict[str, str], make_request: MakeRequest) -> None:
    """RFC 9651, 3.2."""
    problems: list[str] = []
    read = read_digests(make_request(HTTP_REPR_DIGEST=text), problems)
    assert ({name: digest for name, (_, digest) in read.items()}, problems) == (found, [])


@pytest.mark.parametrize(
    "text",
    [
        *("sha-256", "sha-256=", "sha-256=::", "sha-256=:AAAA:", "sha-256=?1", "x", ",", "=", f"md5=:{SHA256}:"),
        *(f"SHA-256=:{SHA256}:", f"{SHA},", f",{SHA}", f"{SHA}, ,{SHA}", f"{SHA} {SHA}", f"{SHA};", f"{SHA}; A"),
        *(
            f'{SHA};a="x',
            f"{SHA}x",
            "sha-512=1",
            "sha-512=:A=A=:",
            "sha-512=:AA*A:",
            "\xe9=:AAAA:",
            f"sha-256= :{SHA256}:",
        ),
    ],
    ids=short,
)
def test_what_is_no_dictionary_of_digests_is_a_problem(text: str, make_request: MakeRequest) -> None:
    problems: list[str] = []
    assert read_digests(make_request(HTTP_REPR_DIGEST=text), problems) == {}
    assert [problem.partition(":")[0] for problem in problems] == ["Repr-Digest"]


@pytest.mark.parametrize("text", ["", SHA256, MD5[:-2], f"{MD5}, {MD5}", f":{MD5}:", "=" * 24, "\xe9" * 24, f" {MD5} "])
def test_content_md5_is_16_bytes_in_base64(text: str, make_request: MakeRequest) -> None:
    problems: list[str] = []
    found = read_digests(make_request(HTTP_CONTENT_MD5=text), problems)
    assert bool(found) is (text.strip() == MD5)
    assert bool(problems) is not bool(found)


def test_headers_that_contradict_each_other_are_a_problem(make_request: MakeRequest) -> None:
    other = SHA.replace(SHA256, b64encode(bytes(32)).decode())
    for headers in ({"Content-Digest": f"{SHA}, {other}"}, {"Content-Digest": SHA, "Repr-Digest": other}):
        problems: list[str] = []
        read_digests(make_request(headers=headers), problems)
        [problem] = problems
        assert all(header in problem for header in headers)


@pytest.mark.parametrize("piece", ["sha-256=:", "a=::,", "a=::;a", "a" * 9, ':;a="\\"', " ", ",\t", "a=::; ", "A" * 4])
def test_a_dictionary_is_read_in_time_that_grows_with_its_length(piece: str) -> None:
    """S40."""
    check_growth(
        lambda text: read_digests(Request.blank("/", environ={"HTTP_REPR_DIGEST": text}), []),
        lambda length: "a=::;a" + piece * (length // len(piece)),
        2**18,
    )


@given(st.text(alphabet='sha-256md5=:AZ+/;, \t"\\*?1\xe9', max_size=60), st.sampled_from(["MD5", "DIGEST"]))
def test_no_header_is_an_error_of_ours(text: str, name: str) -> None:
    problems: list[str] = []
    request = Request.blank("/", environ={f"HTTP_CONTENT_{name}": text})
    demand_digests(request, {}, problems, str, has_data=True)
    assert len(problems) <= 1
