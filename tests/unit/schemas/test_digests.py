"""How the digests of a request's body are read."""

import time
from base64 import b64encode
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import md5, sha256
from pyrimage.errors import DataMismatch, Invalid
from pyrimage.web.digests import check_digests, demand_digests, read_digests
from pyrimage.web.request import Request

MakeRequest = Callable[..., Request]

DATA = b"bytes"
MD5, SHA256 = md5(DATA), sha256(DATA)


def b64(digest: str) -> str:
    return b64encode(bytes.fromhex(digest)).decode()


SHA = f"sha-256=:{b64(SHA256)}:"
UNKNOWN = "sha-512=:AAAA:"


def short(text: str) -> str:
    return text if len(text) <= 60 else f"{text[:20]}... {len(text)}"


def digests_of(request: Request) -> dict[str, str]:
    problems: list[str] = []
    found = read_digests(request, problems)
    assert problems == []
    return {name: digest for name, (_, digest) in found.items()}


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest"])
@pytest.mark.parametrize(
    ("text", "found"),
    [
        (SHA, {"sha256": SHA256}),
        (f" {SHA}\t", {"sha256": SHA256}),
        (SHA.replace("=:", ":").replace("sha-256:", "sha-256=:"), {"sha256": SHA256}),  # without padding
        (f"md5=:{b64(MD5)}:", {"checksum": MD5}),
        (f"{SHA},md5=:{b64(MD5)}:", {"sha256": SHA256, "checksum": MD5}),
        (f"{UNKNOWN} ,\t{SHA}, *a.b-c_d=::", {"sha256": SHA256}),
        (f"{SHA}, {SHA}", {"sha256": SHA256}),
        (f'{SHA};a;b=1;  c="x, \\" ;y";d=?0;e=-1.5;f=:AA==:;g=@5', {"sha256": SHA256}),
        (UNKNOWN, {}),
        ("", {}),
        (" ", {}),
    ],
    ids=short,
)
def test_a_dictionary_names_digests(header: str, text: str, found: dict[str, str], make_request: MakeRequest) -> None:
    assert digests_of(make_request(headers={header: text})) == found


@pytest.mark.parametrize("header", ["Content-Digest", "Repr-Digest"])
@pytest.mark.parametrize(
    "text",
    [
        *("sha-256", "sha-256=", "sha-256=::", "sha-256=:AAAA:", "sha-256=?1", f"sha-256={b64(SHA256)}", "x", ",", "="),
        *(f"sha-256=:{SHA256}:", f"md5=:{b64(SHA256)}:", f"sha-256=:{b64(MD5)}:", f"SHA-256=:{b64(SHA256)}:"),
        *(f"{SHA},", f",{SHA}", f"{SHA}, ,{SHA}", f"{SHA} {SHA}", f"{SHA};", f"{SHA}; A", f'{SHA};a="x', f"{SHA}x"),
        *(f"{SHA}, sha-512", "sha-512=1", 'sha-512="x"', "sha-512=:A:", "sha-512=:A=A=:", "sha-512=:AA*A:", "é=:AAAA:"),
        *(f"sha-256 =:{b64(SHA256)}:", f"sha-256= :{b64(SHA256)}:", f"sha-256=: {b64(SHA256)}:"),
    ],
    ids=short,
)
def test_what_is_no_dictionary_of_digests_is_a_problem(header: str, text: str, make_request: MakeRequest) -> None:
    problems: list[str] = []
    assert read_digests(make_request(**{f"HTTP_{header.upper().replace('-', '_')}": text}), problems) == {}
    assert [problem.partition(":")[0] for problem in problems] == [header]


@pytest.mark.parametrize("text", [b64(MD5), f" {b64(MD5)} "])
def test_content_md5_is_base64(text: str, make_request: MakeRequest) -> None:
    assert digests_of(make_request(headers={"Content-MD5": text})) == {"checksum": MD5}


@pytest.mark.parametrize(
    "text", ["", "x", MD5, b64(SHA256), b64(MD5)[:-2], f"{b64(MD5)}, {b64(MD5)}", f":{b64(MD5)}:", "=" * 24, "é" * 24]
)
def test_what_is_no_content_md5_is_a_problem(text: str, make_request: MakeRequest) -> None:
    problems: list[str] = []
    assert read_digests(make_request(HTTP_CONTENT_MD5=text), problems) == {}
    assert problems == ["Content-MD5: must be 16 bytes in base64."]


def test_headers_that_contradict_each_other_are_a_problem(make_request: MakeRequest) -> None:
    other = f"sha-256=:{b64(sha256(b'other'))}:"
    for headers in ({"Content-Digest": f"{SHA}, {other}"}, {"Content-Digest": SHA, "Repr-Digest": other}):
        problems: list[str] = []
        read_digests(make_request(headers=headers), problems)
        [problem] = problems
        assert all(header in problem for header in headers)


def test_json_has_the_digests_that_it_is_said_to_have(make_request: MakeRequest) -> None:
    check_digests(make_request(headers={"Content-MD5": b64(MD5), "Content-Digest": f"{SHA}, {UNKNOWN}"}), DATA)
    for headers in ({"Content-MD5": b64(MD5)}, {"Repr-Digest": SHA}):
        with pytest.raises(DataMismatch, match=next(iter(headers))):
            check_digests(make_request(headers=headers), b"other")
    with pytest.raises(Invalid, match="Content-MD5"):
        check_digests(make_request(headers={"Content-MD5": "x"}), DATA)


@pytest.mark.parametrize("piece", ["sha-256=:", "a=::,", "a=::;a", "a" * 9, ':;a="\\"', " ", ",\t", "a=::; ", "A" * 4])
def test_an_endless_dictionary_is_read_once(piece: str, make_request: MakeRequest) -> None:
    """Four times the length takes four times as long, and not sixteen times."""
    took = []
    for length in (60_000, 240_000):
        request = make_request(HTTP_REPR_DIGEST="a=::;a" + piece * (length // len(piece)))
        runs = []
        for _ in range(5):
            began = time.process_time()
            read_digests(request, [])
            runs.append(time.process_time() - began)
        took.append(min(runs))
    assert took[1] <= 10 * took[0] + 0.001


@given(st.text(alphabet='sha-256md5=:AZ+/;, \t"\\*?1é', max_size=60), st.sampled_from(["MD5", "DIGEST"]))
def test_no_header_is_an_error_of_ours(text: str, name: str) -> None:
    problems: list[str] = []
    request = Request.blank("/", environ={f"HTTP_CONTENT_{name}": text})
    demand_digests(request, {}, problems, str, has_data=True)
    assert len(problems) <= 1
