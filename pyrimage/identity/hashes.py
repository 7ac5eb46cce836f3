"""How passwords are hashed, and which may be set."""

import re

from passlib.context import CryptContext

MIN_PASSWORD = 8  # characters
MAX_PASSWORD = 72  # bytes in UTF-8; bcrypt has no use for more

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

# What is written is bcrypt's; a hash of sha512-crypt, as crypt(3) and older htpasswd files have it, is read as well.
_CONTEXT = CryptContext(["bcrypt", "sha512_crypt"], default="bcrypt")


def hash_password(password: str) -> str:
    """Hash a password; takes about 0.2 s. Raises ValueError for one that may not be set."""
    if len(password) < MIN_PASSWORD:
        raise ValueError(f"a password has {MIN_PASSWORD} characters or more")
    if not is_usable(password):
        raise ValueError(f"a password has up to {MAX_PASSWORD} bytes in UTF-8, and no control characters")
    hashed: str = _CONTEXT.hash(password)
    return hashed


def is_usable(password: str) -> bool:
    """Say whether a hash can have been made of a password."""
    try:
        return not _CONTROL.search(password) and len(password.encode()) <= MAX_PASSWORD
    except UnicodeEncodeError:  # half of a character, as JSON can have it
        return False


def is_hash(text: str) -> bool:
    """Say whether a text is a hash, complete and of a kind that is taken here."""
    kind = _CONTEXT.identify(text, resolve=True)
    try:
        return kind is not None and kind.from_string(text).checksum is not None
    except ValueError:
        return False


def verify(password: str, hashed: str) -> bool:
    """Say whether a hash is that of a password, one that ``is_usable``; takes about 0.2 s."""
    is_right: bool = _CONTEXT.verify(password, hashed)
    return is_right
