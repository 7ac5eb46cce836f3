"""What a Keystone answers, in threads of the test's process: also what no real one can be made to say.

::

    with origins.serving() as origin:
        keystone = Keystone(origin)
        ini = keystone.write_ini(tmp_path)
        token = keystone.issue("member")
"""

import itertools
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from origins import Asked, Behaviour, Origin

USER, PROJECT = "7c9f3b1e5a2d4c68", "2f6e1d0c9b8a7f65"
PASSWORD = "the password of the service"
TOKENS = "/v3/auth/tokens"
JSON = "Content-Type: application/json"


def answer(status: int, body: object, *headers: str) -> list[bytes]:
    text = body if isinstance(body, str) else json.dumps(body)
    lines = (f"HTTP/1.1 {status} x", *headers, f"Content-Length: {len(text)}", "Connection: close", "", text)
    return ["\r\n".join(lines).encode()]


def refusal(status: int, about: str = "") -> list[bytes]:
    """Refuse as Keystone does, which quotes what it refuses."""
    return answer(status, {"error": {"code": status, "title": "x", "message": f"Not this one: {about}"}}, JSON)


class Keystone:
    """A Keystone at an origin. tokens: what it says of each; asked: about which it was asked, in order."""

    def __init__(self, origin: Origin) -> None:
        self.origin, self.url = origin, origin.url("/v3", "localhost")
        self.tokens: dict[str, Any] = {}
        self.asked: list[str] = []
        self.logins = 0
        self._numbers = itertools.count()
        version = {"id": "v3.14", "status": "stable", "links": [{"rel": "self", "href": f"{self.url}/"}]}
        for path in ("/v3", "/v3/"):
            origin.paths[path] = lambda asked: answer(200, {"version": version})
        self.work()

    def work(self) -> None:
        """Answer as it should, again."""
        self.log_in_with(self._log_in)
        self.answer_with(self._validate)

    def answer_with(self, behaviour: Behaviour) -> None:
        """Answer what is asked about tokens in another way."""
        self._behaviour = behaviour
        for query in ("", "?allow_expired=1"):
            self.origin.paths[TOKENS + query] = self._answer

    def log_in_with(self, behaviour: Behaviour) -> None:
        """Answer logins in another way."""
        self._login = behaviour

    def issue(self, *roles: str, seconds: int = 3600, **more: Any) -> str:
        """Issue a token of a user with these roles in a project; ``more`` are its fields, None for one to be absent."""
        token = f"token-{next(self._numbers)}"
        fields = {
            "methods": ["password"],
            "user": {"id": USER, "name": "alice", "domain": {"id": "default", "name": "Default"}},
            "project": {"id": PROJECT, "name": "tenant-a", "domain": {"id": "default", "name": "Default"}},
            "roles": [{"id": name, "name": name} for name in roles],
            "issued_at": _time(-60),
            "expires_at": _time(seconds),
            "catalog": self._catalogue(),
            **more,
        }
        self.tokens[token] = {"token": {name: value for name, value in fields.items() if value is not None}}
        return token

    def section(self, **more: str) -> dict[str, str]:
        """Return the options of a service that asks here; none of them is remembered."""
        return {
            "auth_url": self.url,
            "www_authenticate_uri": "https://keystone.example.org/v3",
            "auth_type": "password",
            "username": "pyrimage",
            "password": PASSWORD,
            "user_domain_id": "default",
            "project_name": "service",
            "project_domain_id": "default",
            "token_cache_time": "-1",
            **more,
        }

    def write_ini(self, directory: Path, **more: str) -> Path:
        return write_section(directory, self.section(**more))

    def _answer(self, asked: Asked) -> Iterable[bytes]:
        if asked.method == "POST":
            self.logins += 1
            return self._login(asked)
        self.asked.append(asked.headers["x-subject-token"])
        return self._behaviour(asked)

    def _log_in(self, asked: Asked) -> list[bytes]:
        fields = self.tokens[self.issue("service")]
        return answer(201, fields, "X-Subject-Token: of-the-service", JSON)

    def _validate(self, asked: Asked) -> list[bytes]:
        data = self.tokens.get(asked.headers["x-subject-token"])
        if data is None or (data["token"]["expires_at"] < _time(0) and "allow_expired" not in asked.target):
            return refusal(404, asked.headers["x-subject-token"])
        return answer(200, data, JSON)

    def _catalogue(self) -> list[dict[str, Any]]:
        endpoints = [{"interface": name, "region": "RegionOne", "url": self.url} for name in ("public", "internal")]
        image = {"type": "image", "name": "glance", "endpoints": []}
        return [{"type": "identity", "name": "keystone", "endpoints": endpoints}, image]


def write_section(directory: Path, section: Mapping[str, str]) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    path, lines = directory / "pyrimage.ini", (f"{name} = {text}\n" for name, text in section.items())
    path.write_text("[keystone_authtoken]\n" + "".join(lines), encoding="utf-8")
    return path


def _time(seconds: int) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%S.000000Z")
