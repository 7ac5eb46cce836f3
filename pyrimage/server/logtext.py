"""What log lines show of a request: not much of it, no secrets, and nothing that could be taken for another line."""

import re
from collections.abc import Iterator

SHOWN = 1024  # characters of one text of a request: a target, a name, an address
SHORT = 256  # of the caller's name, which stands in two places of some lines
LINE = 4 * SHOWN  # of all that one line shows of a request
LAYERS = 2  # of percent-encoding that masks see through

_SECRET = re.compile("sig|token|secret|passw|pwd|credential|auth|jwt|access_?key|api_?key", re.IGNORECASE)
_BEFORE_QUERY = re.compile("[?#]")
_BEFORE_NAME = re.compile("[?#;]")  # within what "&" ends; some end a parameter at ";", too, and some do not
_USERINFO = re.compile("//([^/?#]+)@")
_CUT_USERINFO = re.compile("//([^/?#]+)\\Z")
_ENCODED = re.compile("%([0-9A-Fa-f]{2})")
_SUSPICIOUS = re.compile("[@=%]")


def shown(text: str, most: int = SHOWN) -> str:
    """Return the beginning of ``text`` for a log line, ``most`` characters of printable ASCII, its secrets masked.

    Secret are the users and passwords of URLs, and parameters of a query with a name such as ``Signature``, in URLs
    within it and within these, too.
    """
    begun, is_cut = text[:most], len(text) > most
    if is_cut or _SUSPICIOUS.search(begun):
        begun = _masked(begun, is_cut)
    escaped = begun.encode("unicode_escape").decode("ascii")
    return f"{escaped[:most]}..." if is_cut or len(escaped) > most else escaped


def _masked(text: str, is_cut: bool) -> str:
    """Mask what is secret in ``text``, and in what it becomes when it is decoded.

    A secret may go on behind a character that only ends it when it is decoded, or the other way round: each layer is
    searched, and what any of them finds is masked.
    """
    characters, offsets = text, list(range(len(text) + 1))  # the second: where in ``text`` each begins, and its end
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
    """Undo one layer of percent-encoding, byte by byte: of a character beyond ASCII, all bytes stay by themselves."""
    texts, places, done = [], [], 0
    for found in _ENCODED.finditer(characters):
        texts += [characters[done : found.start()], chr(int(found[1], 16))]
        places += offsets[done : found.start() + 1]
        done = found.end()
    return "".join([*texts, characters[done:]]), [*places, *offsets[done:]]


def _secrets(text: str, is_cut: bool) -> Iterator[tuple[int, int]]:
    """Give start and stop of each secret. Every character is looked at a few times at most, however many there are."""
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
            inner = _BEFORE_NAME.search(text, equals + 1, stop)  # of another parameter, or in a URL that is the value
            name = inner.end() if inner else stop
        start = stop + 1
