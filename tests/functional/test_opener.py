"""The opener of URLs that others name, over real sockets: S16, S18, S21 to S24, S47."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest

from origins import Asked, Origin, certified, closed_port, serving
from pyrimage.addresses import AllowedHosts
from pyrimage.errors import Invalid, OriginFailed, OriginTooSlow, PyrimageError
from pyrimage.opener import REDIRECTS, Opener
from pyrimage.readers import allowed_hosts

HERE = allowed_hosts("127.0.0.1")
NAMES = {"origin.example": "127.0.0.1", "private.example": "10.0.0.1", "mapped.example": "::ffff:10.0.0.1"}
FORBIDDEN = [
    *("http://localhost/", "http://127.0.0.2/", "http://[::1]/", "http://0.0.0.0/", "http://169.254.169.254/"),
    *("http://[fd00::1]/", "http://[fe80::1]/", "http://10.0.0.1/", "http://172.16.0.1/", "http://192.168.0.1/"),
    *("http://100.64.0.1/", "http://224.0.0.1/", "http://[::ffff:10.0.0.1]/", "http://[64:ff9b::10.0.0.1]/"),
    *("http://private.example/", "http://mapped.example/", "//private.example/x", "http://nowhere.example/"),
    *("http://2130706433/", "http://0x7f.1/", "http://0177.0.0.1/", "http://127.1/", "http://joe:secret@127.0.0.1/"),
    *("file:///etc/passwd", "FILE:///etc/passwd", "ftp://127.0.0.1/", "gopher://127.0.0.1/", "http://[x"),
    *("http://127.0.0.1/a b", "http://127.0.0.1/\ta", "http://127.0.0.1/\u00e9", "ht\ttp://127.0.0.1/"),
]


def resolve(name: str) -> list[str]:
    if name not in NAMES:
        raise OSError(f"no {name}")
    return [NAMES[name]]


def opener(allowed: AllowedHosts = HERE, seconds: float = 20, resolve: Callable[[str], list[str]] = resolve) -> Opener:
    return Opener(allowed, resolve=resolve, seconds=seconds)


@pytest.fixture
def origin() -> Iterator[Origin]:
    with serving() as made:
        yield made


def read(opener: Opener, url: str) -> bytes:
    answer = opener.open("GET", url)
    try:
        return b"".join(iter(lambda: answer.read(65536), b""))
    finally:
        answer.close()


def refusal(opener: Opener, url: str) -> str:
    with pytest.raises(PyrimageError) as refused:
        read(opener, url)
    return str(refused.value)


# -- where it goes


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("to", ["/there?a=b#c", "there?a=b", "?a=b", "http://origin.example:{port}/there?a=b"])
def test_redirects_are_followed(origin: Origin, code: int, to: str) -> None:
    for path in ("/there?a=b", "/x?a=b"):
        origin.put(path, b"bytes")
    assert read(opener(), origin.redirect("/x", to.format(port=origin.port), code)) == b"bytes"
    assert [asked.method for asked in origin.asked] == ["GET", "GET"]


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("to", FORBIDDEN)
def test_no_redirect_leads_where_a_client_could_not(origin: Origin, code: int, to: str) -> None:
    """S18, S21, S22."""
    url = origin.redirect("/x", to, code)
    with pytest.raises(Invalid) as refused:
        opener().open("GET", url)
    assert "secret" not in str(refused.value)
    assert len(origin.asked) == 1


@pytest.mark.parametrize("to", ["/x", "/y"])
def test_redirects_end(origin: Origin, to: str) -> None:
    """S22."""
    origin.redirect("/y", "/x")
    with pytest.raises(OriginFailed, match=r"127.0.0.1 redirects more than"):
        opener().open("GET", origin.redirect("/x", to))
    assert len(origin.asked) == REDIRECTS + 1


def test_a_redirect_to_nowhere_is_the_origins_fault(origin: Origin) -> None:
    with pytest.raises(OriginFailed, match=r"127.0.0.1 redirects to nowhere"):
        opener().open("GET", origin.redirect("/x", None))


def test_open_and_closed_ports_give_the_same_answer(origin: Origin) -> None:
    """S21: so do names that lead to private addresses, and names that are not there."""
    said = {refusal(opener(AllowedHosts()), f"http://127.0.0.1:{port}/") for port in (origin.port, closed_port())}
    assert len(said) == 1
    known, unknown = (refusal(opener(), f"http://{name}.example/") for name in ("private", "nowhere"))
    assert known.replace("private", "nowhere") == unknown
    assert origin.asked == []


@pytest.mark.parametrize("second", [["10.0.0.1"], ["127.0.0.1", "10.0.0.1"], []])
def test_a_name_that_leads_elsewhere_the_second_time_leads_nowhere(origin: Origin, second: list[str]) -> None:
    """S22: the connection goes to the address that was checked, and each redirect is checked anew."""
    answers: Iterator[list[str]] = iter([["127.0.0.1"], second])
    url = origin.redirect("/x", origin.url("/there", "origin.example"))
    origin.put("/there", b"bytes")
    with pytest.raises(Invalid):
        opener(resolve=lambda name: next(answers)).open("GET", url.replace("127.0.0.1", "origin.example"))
    assert [asked.target for asked in origin.asked] == ["/x"]


def test_a_name_is_asked_for_once_for_each_connection(origin: Origin) -> None:
    """S22."""
    answers = iter([["127.0.0.1"]])
    origin.put("/x", b"bytes")
    url = origin.url("/x", "origin.example")
    assert read(opener(resolve=lambda name: next(answers)), url) == b"bytes"
    assert origin.asked[0].headers["host"] == f"origin.example:{origin.port}"


def test_the_next_address_is_tried_where_one_does_not_answer(origin: Origin) -> None:
    origin.put("/x", b"bytes")
    there = opener(allowed_hosts("::1, 127.0.0.1"), resolve=lambda name: ["::1", "127.0.0.1"])
    assert read(there, origin.url("/x", "origin.example")) == b"bytes"


# -- what it sends


def test_nothing_but_the_request_is_sent(origin: Origin, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """S24: no credentials, no cookies, and no proxy of the environment."""
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login joe password secret\n", encoding="utf-8")
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, f"http://joe:secret@127.0.0.1:{closed_port()}")
    cookie = "HTTP/1.1 302 Elsewhere\r\nSet-Cookie: a=secret\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n"
    origin.paths["/x"] = lambda asked: [cookie.encode()]
    origin.put("/there", b"bytes")
    assert read(opener(), origin.url("/x")) == b"bytes"
    sent = {"host": f"127.0.0.1:{origin.port}", "user-agent": "pyrimage", "accept": "*/*"}
    assert [asked.headers for asked in origin.asked] == [{**sent, "accept-encoding": "identity"}] * 2


# -- what it takes


def endless(piece: bytes) -> Callable[[Asked], Iterable[bytes]]:
    return lambda asked: iter(lambda: piece, None)


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH\r\n", b"HTTP/1.1 200 OK\r\nContent-", b"HTTP/1.1 2000 OK\r\n\r\n", b"\x00" * 99]
)
def test_what_is_no_answer_is_the_origins_fault(origin: Origin, answer: bytes) -> None:
    origin.paths["/x?secret"] = lambda asked: [answer]
    with pytest.raises(OriginFailed, match=r"127.0.0.1") as failed:
        opener().open("GET", origin.url("/x?secret"))
    assert "secret" not in str(failed.value)


@pytest.mark.parametrize("piece", [b"HTTP/1.1 100 Continue\r\n\r\n", b"a: b\r\n", b"a" * 100])
def test_a_header_without_end_is_given_up(origin: Origin, piece: bytes) -> None:
    origin.paths["/x"] = endless(piece)
    with pytest.raises(OriginFailed):
        opener(seconds=0.5).open("GET", origin.url("/x"))


def waiting(origin: Origin, *pieces: bytes) -> Callable[[Asked], Iterable[bytes]]:
    def behave(asked: Asked) -> Iterator[bytes]:
        yield from pieces
        origin.over.wait()

    return behave


@pytest.mark.parametrize("begin", [b"", b"HTTP/1.1 200 OK\r\nContent-Le"])
def test_an_origin_that_says_nothing_is_too_slow(origin: Origin, begin: bytes) -> None:
    origin.paths["/x"] = waiting(origin, begin)
    with pytest.raises(OriginTooSlow, match=r"127.0.0.1 does not answer in time"):
        opener(seconds=0.2).open("GET", origin.url("/x"))


@pytest.mark.parametrize("is_dripping", [False, True])
def test_an_origin_whose_bytes_do_not_come_is_too_slow(origin: Origin, is_dripping: bool) -> None:
    """S16: in the middle of a body as well, if a byte comes now and then."""

    def drip(asked: Asked) -> Iterator[bytes]:
        yield b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbytes"
        while not origin.over.wait(0.02):
            if is_dripping:
                yield b"x"

    origin.paths["/x"] = drip
    with pytest.raises(OriginTooSlow):
        read(opener(seconds=0.3), origin.url("/x"))


@pytest.mark.parametrize("length", [0, 1, 4])
def test_a_body_that_ends_early_is_no_end(origin: Origin, length: int) -> None:
    """S16."""
    origin.put("/x", b"bytes", broken=[length])
    with pytest.raises(OriginFailed, match=r"127.0.0.1"):
        read(opener(), origin.url("/x"))


def test_a_chunked_body_that_ends_early_is_no_end(origin: Origin) -> None:
    """S16."""
    origin.paths["/x"] = lambda asked: [b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nbytes\r\n"]
    with pytest.raises(OriginFailed):
        read(opener(), origin.url("/x"))


def test_an_answer_may_be_given_up_before_its_end(origin: Origin) -> None:
    origin.put("/x", b"bytes" * 1_000_000)
    answer = opener().open("GET", origin.url("/x"))
    assert b"bytes".startswith(answer.read(3))
    answer.close()
    answer.close()


# -- certificates


@pytest.mark.parametrize(
    ("name", "days", "is_trusted"),
    [("origin", 2, True), ("origin", 2, False), ("other", 2, True), ("origin", -1, True)],
    ids=["right", "self-signed", "another's", "expired"],
)
def test_a_certificate_must_be_trusted_and_of_the_host(
    name: str, days: int, is_trusted: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S47: the host is the one that the URL names, though the connection goes to an address."""
    certificate, context = certified(tmp_path, f"{name}.example", days)
    if is_trusted:
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(context) as origin:
        origin.put("/x", b"bytes")
        url = origin.url("/x", "origin.example")
        if (name, days, is_trusted) == ("origin", 2, True):
            assert read(opener(), url) == b"bytes"
        else:
            with pytest.raises(OriginFailed, match=r"origin.example has no certificate that is valid for it"):
                opener().open("GET", url)
            assert origin.asked == []


def test_no_redirect_leads_from_https_to_http(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """S22."""
    certificate, context = certified(tmp_path, "origin.example")
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(context) as origin, serving() as plain:
        origin.redirect("/x", plain.put("/there", b"bytes"))
        with pytest.raises(Invalid, match=r"origin.example redirects from https to http"):
            opener().open("GET", origin.url("/x", "origin.example"))
        assert plain.asked == []
