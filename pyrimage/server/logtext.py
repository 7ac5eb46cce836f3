"""Text of a request for the log: shortened, printable (so that it cannot forge a line), its secrets masked."""

import re
from collections.abc import Iterator

SHOWN = 1024  # characters of one text of a request: a target, a name, an address
SHORT = 256  # characters of the caller's name, which some lines show twice
LINE = 4 * SHOWN  # characters of all that one line shows of a request
LAYERS = 2  # of percent-encoding that are decoded to look for secrets

_SECRET = re.compile("sig|token|secret|passw|pwd|credential|auth|jwt|access_?key|api_?key", re.IGNORECASE)
_BEFORE_QUERY = re.compile("[?#]")
_BEFORE_NAME = re.compile("[?#;]")  # within a parameter: some servers end one at ";" too, others only at "&"
_USERINFO = re.compile("//([^/?#]+)@")
_CUT_USERINFO = re.compile("//([^/?#]+)\\Z")
_ENCODED = re.compile("%([0-9A-Fa-f]{2})")
_TOKEN = re.compile("pyr_[A-Za-z0-9_-]{20,}")  # of ours, wherever somebody has put it
_SUSPICIOUS = re.compile("[@=%]|pyr_")


def shown(text: str, most: int = SHOWN) -> str:
    """Return the beginning of ``text`` for a log line, ``most`` characters of printable ASCII, its secrets masked.

    Secret are tokens of ours, the users and passwords of URLs, and parameters of a query with a name such as
    ``Signature``, in URLs within it and within these, too.
    """
    begun, is_cut = text[:most], len(text) > most
    if is_cut or _SUSPICIOUS.search(begun):
        begun = _masked(begun, is_cut)
    escaped = begun.encode("unicode_escape").decode("ascii")
    return f"{escaped[:most]}..." if is_cut or len(escaped) > most else escaped


def _masked(text: str, is_cut: bool) -> str:
    """Mask what is secret in ``text`` as it stands, and in what it becomes when it is decoded once or twice.

    A character may end a secret in one layer of encoding and belong to it in another, so what any layer finds is
    masked.
    """
    characters, offsets = text, list(range(len(text) + 1))  # where in ``text`` each character begins, and the end
    found = list(_secrets(characters, is_cut))
    for _ in range(LAYERS):
        if "%" not in characters:
            break
        characters, offsets = _decoded(characters, offsets)
        found += [(offsets[start], offsets[stop]) for start, stop in _secrets(characters, is_cut)]
    pieces, done = [], 0
    for start, stop in sorted(found):
        if start >= done:
            pieces += [text[done:start], "***"]
        done = max(done, stop)
    return "".join([*pieces, text[done:]])


def _decoded(characters: str, offsets: list[int]) -> tuple[str, list[int]]:
    """Undo one layer of percent-encoding; each encoded byte becomes a character of its own."""
    texts, positions, done = [], [], 0
    for found in _ENCODED.finditer(characters):
        texts += [characters[done : found.start()], chr(int(found[1], 16))]
        positions += offsets[done : found.start() + 1]
        done = found.end()
    return "".join([*texts, characters[done:]]), [*positions, *offsets[done:]]


def _secrets(text: str, is_cut: bool) -> Iterator[tuple[int, int]]:
    """Give start and stop of each secret, in time that grows with the length alone."""
    yield from (found.span() for found in _TOKEN.finditer(text))
    for pattern in (_USERINFO, _CUT_USERINFO) if is_cut else (_USERINFO,):
        yield from (found.span(1) for found in pattern.finditer(text))
    query = _BEFORE_QUERY.search(text)
    start = query.end() if query else len(text)
    while start < len(text):
        stop = text.find("&", start)
        stop = len(text) if stop < 0 else stop
        name = start
        while (equals := text.find("=", name, stop)) >= 0:
            if _SECRET.search(text, name, equals):
                yield equals + 1, stop
                break
            inner = _BEFORE_NAME.search(text, equals + 1, stop)  # another parameter, or the query of a URL
            name = inner.end() if inner else stop
        start = stop + 1
