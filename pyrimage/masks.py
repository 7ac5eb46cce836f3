"""Settings as people may read them: what is secret, or looks like it, is masked."""

import re

MASK = "***"
_SECRET_NAME = re.compile("secret|pass(?!wd_file)|pwd|credential|token(?!_lifetime)|dsn|key(?!stone)", re.IGNORECASE)
_SECRET_INSIDE = re.compile("(secret|pass[a-z]*|pwd|token|key)[\"']?\\s*[=:]", re.IGNORECASE)
_SECRET_PARAMETER = re.compile("([?&][^=&]*(?:secret|pass|pwd|credential|token|key)[^=&]*=)[^&]*", re.IGNORECASE)
_PASSWORD = re.compile("(://[^:/]*:).*@", re.DOTALL)


def masked(key: str, value: object) -> str:
    """Return a setting's value for people to read: what is secret, or looks like it, is ``***``."""
    if value is None:
        return str(None)
    text = str(value)
    is_url = re.match(r"[a-z][\w+.-]*://", text, re.IGNORECASE)
    if _SECRET_NAME.search(key) or (not is_url and (key.endswith("url") or _SECRET_INSIDE.search(text))):
        return MASK
    return _PASSWORD.sub(rf"\1{MASK}@", _SECRET_PARAMETER.sub(rf"\1{MASK}", text))
