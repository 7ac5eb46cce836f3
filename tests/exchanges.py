"""The exchanges that the documentation prints: found in a page, and compared with what is answered.

A page's ``http`` blocks come in pairs, a request and its answer; an ``ini`` block before them stands for a new
installation with these settings. What no two runs have in common matches by its form:

- a time, in the spelling that is printed;
- an id that the service made: the first answer that prints it binds it, later ones must repeat it;
- a location: its directory, and what is added to the image's id.
"""

import configparser
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from factories import send_chunked, wire

HOST = "127.0.0.1:9292"  # goes with every request, unprinted

_BLOCK = re.compile(r"^```(http|ini)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_ID = "[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"
_TIME = "[0-9]{4}-[0-9]{2}-[0-9]{2}%s[0-9]{2}:[0-9]{2}:[0-9]{2}"
_HTTP_TIME = "[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
_DIRECTORY = r"file:///[^\s\"]*/blobs/[0-9a-f]{2}/"
_ATTEMPT = r"\.[0-9a-f]{16}"
_FORMS = (_TIME % "T" + r"\.[0-9]{6}", _TIME % "T", _TIME % " ", _HTTP_TIME, _DIRECTORY, _ATTEMPT)
_VARYING = re.compile("|".join(f"({form})" for form in (_ID, *_FORMS)))

# Answers carry these where the page may not say so; see "How to read the examples".
_UNPRINTED = {"content-length", "x-content-type-options", "x-openstack-request-id", "connection", "date", "server"}
_META = "x-image-meta-"


@dataclass(frozen=True, slots=True)
class Message:
    """A request or an answer as it is printed; ``line`` is the page's, ``start`` the first of its own."""

    line: int
    start: str
    headers: Mapping[str, str]
    body: str


@dataclass(frozen=True, slots=True)
class Chapter:
    """The exchanges with one installation, whose ``[app:main]`` has these settings."""

    line: int
    settings: Mapping[str, str]
    exchanges: list[tuple[Message, Message]] = field(default_factory=list)


def read_page(text: str) -> list[Chapter]:
    """Find the exchanges of a page in Markdown. Raises ValueError for blocks that do not pair."""
    chapters: list[Chapter] = []
    request: Message | None = None
    for match in _BLOCK.finditer(text):
        kind, block, line = match[1], match[2], text.count("\n", 0, match.start(2)) + 1
        if (request is not None) != block.startswith("HTTP/"):
            raise ValueError(f"line {line}: a request is followed by its answer, and nothing else is")
        if kind == "ini":
            ini = configparser.RawConfigParser()
            ini.read_string(block)
            chapters.append(Chapter(line, dict(ini["app:main"])))
        elif request is None:
            request = _read_message(line, block)
            _check_length(request)
        else:
            chapters[-1].exchanges.append((request, _read_message(line, block)))
            request = None
    if request is not None:
        raise ValueError(f"line {request.line}: the request has no answer")
    return chapters


def _read_message(line: int, block: str) -> Message:
    head, _, body = block.partition("\n\n")
    start, *lines = head.splitlines()
    pairs = [each.partition(":") for each in lines]
    headers = {name.lower(): value.strip() for name, _, value in pairs}
    if len(headers) != len(lines):
        raise ValueError(f"line {line}: a header comes twice")
    return Message(line, start, headers, body.removesuffix("\n"))


def _check_length(request: Message) -> None:
    if request.headers.get("transfer-encoding") == "chunked":
        chunks(request.body)
    elif int(request.headers.get("content-length", 0)) != len(request.body.encode()):
        raise ValueError(f"line {request.line}: the body has {len(request.body.encode())} bytes")


def chunks(body: str) -> str:
    """Return what a chunked body carries."""
    lines = body.split("\n")
    sizes, pieces = [int(size, 16) for size in lines[::2]], lines[1::2]
    if sizes != [len(piece.encode()) for piece in pieces] or sizes[-1] != 0:
        raise ValueError(f"{sizes} are not the sizes of {pieces}")
    return "".join(pieces)


class Ids:
    """Which id of this run each printed one stands for."""

    def __init__(self) -> None:
        self._bound: dict[str, str] = {}

    def replace(self, text: str) -> str:
        """Write this run's ids into a printed text."""
        return re.sub(_ID, lambda printed: self._bound.get(printed[0], printed[0]), text)

    def match(self, printed: str, text: str) -> bool:
        """Say whether ``text`` is what was printed, and bind ids that were not known."""
        pattern, unbound, end = "", [], 0
        for found in _VARYING.finditer(printed):
            pattern += re.escape(printed[end : found.start()])
            end = found.end()
            form = next(index for index, group in enumerate(found.groups()) if group)
            if form == 0 and found[0] not in self._bound:
                unbound.append(found[0])
                pattern += f"({_ID})"
            elif form == 0:
                pattern += self._bound[found[0]]
            else:
                pattern += _FORMS[form - 1]
        match = re.fullmatch(pattern + re.escape(printed[end:]), text)
        if match is not None:
            self._bound.update(zip(unbound, match.groups(), strict=True))
        return match is not None


def differences(
    printed: Message, status: str, headers: Iterable[tuple[str, str]], body: bytes, ids: Ids
) -> Iterator[str]:
    """Say in what an answer differs from the printed one: status line, headers, body.

    What is not printed differs too, but for what goes without saying, and for the image's headers where none is.
    """
    if printed.start != f"HTTP/1.1 {status}":
        yield f"{printed.start} was answered with {status}"
    answered: dict[str, str] = {}
    for name, value in headers:
        if name.lower() in answered:
            yield f"{name} was answered twice"
        answered[name.lower()] = value.encode("latin-1").decode()
    for name, value in printed.headers.items():
        if name not in answered or not ids.match(value, answered[name]):
            yield f"{name}: {value} was answered as {answered.get(name)}"
    shows_meta = any(name.startswith(_META) for name in printed.headers)
    for name in sorted(answered.keys() - printed.headers.keys() - _UNPRINTED):
        if shows_meta or not name.startswith(_META):
            yield f"{name}: {answered[name]} is not printed"
    if answered.get("content-type") == "application/json" and body:
        same = _same(json.loads(printed.body or "null"), json.loads(body), ids)
    else:
        same = ids.match(printed.body, body.decode())
    if not same:
        yield f"the body is {body.decode()}"


def _same(printed: Any, value: Any, ids: Ids) -> bool:
    match printed, value:
        case dict(), dict():
            return printed.keys() == value.keys() and all(_same(printed[key], value[key], ids) for key in printed)
        case list(), list():
            return len(printed) == len(value) and all(map(_same, printed, value, [ids] * len(value)))
        case str(), str():
            return ids.match(printed, value)
    return type(printed) is type(value) and bool(printed == value)


def ask(client: Any, request: Message, ids: Ids) -> Any:
    """Send a printed request to an application; give webtest's answer."""
    method, target, _ = request.start.split(" ")
    headers = {name: wire(ids.replace(value)) for name, value in request.headers.items() if name != "content-length"}
    body = ids.replace(request.body)
    if headers.pop("transfer-encoding", None):
        return send_chunked(
            client, method, ids.replace(target), chunks(body).encode(), {"host": HOST, **headers}, expect_errors=True
        )
    more = {"body": body.encode()} if body else {}
    return client.request(
        ids.replace(target), method=method, headers={"host": HOST, **headers}, expect_errors=True, **more
    )
