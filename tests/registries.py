"""The registry as an API server asks it: JSON, signed on behalf of somebody."""

import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from webtest import TestApp

from conftest import Installation, install
from factories import ADMIN
from pyrimage.catalogue.records import Identity, new_image_id
from pyrimage.signatures import DIGEST, KEY_ID, SIGNATURE, TIMESTAMP, WHO, digest_of, sign

SECRET = "a secret that nobody guesses"  # 16 characters and more
DATA_FACTS = {"size": 5, "checksum": "5" * 32, "sha256": "6" * 64}
NO_DATA = {
    "size": 0,
    "checksum": "d41d8cd98f00b204e9800998ecf8427e",
    "sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
}


def signed(
    identity: Identity,
    method: str,
    target: str,
    body: bytes = b"",
    *,
    secret: str = SECRET,
    key: str | None = None,
    timestamp: int | str | None = None,
    chunked: bool = False,
    more: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Make the headers of a signed request; ``target`` is the path as it is sent, and its query.

    key: the id of the key. more: other headers.
    """
    path, _, query = target.partition("?")
    who = (identity.user or "", identity.project or "", ",".join(sorted(identity.roles)))
    moment = str(int(time.time()) if timestamp is None else timestamp)
    headers = {TIMESTAMP: moment, **dict(zip(WHO, who, strict=True)), **(more or {})}
    if key is not None:
        headers[KEY_ID] = key
    if body:
        headers[DIGEST] = digest_of(body)
    if not chunked and (body or method in ("POST", "PUT")):
        headers["Content-Length"] = str(len(body))
    headers[SIGNATURE] = sign(secret, method, path, query, headers)
    return {name: value.encode().decode("latin-1") for name, value in headers.items()}


@dataclass(frozen=True)
class Registry:
    """A registry over WSGI, asked by ``identity``."""

    installation: Installation
    identity: Identity

    def by(self, identity: Identity) -> "Registry":
        """Return the registry as somebody else asks it."""
        return Registry(self.installation, identity)

    def ask(
        self, method: str, target: str, value: Any = None, status: Any = None, headers: Mapping[str, str] | None = None
    ) -> Any:
        """Send JSON, or bytes as they are; return webtest's answer."""
        body = value if isinstance(value, bytes) else b"" if value is None else json.dumps(value).encode()
        target = quote(target, safe="/?&=%+-._~")
        sent = signed(self.identity, method, target, body, more=headers)
        app = TestApp(self.installation.wsgi, extra_environ={"REMOTE_ADDR": "192.0.2.1"})
        data = {"body": body} if body else {}
        return app.request(target, method=method, headers=sent, status=status, **data)

    def add(self, **image: Any) -> dict[str, Any]:
        """Record an image and return its JSON."""
        made: dict[str, Any] = self.ask("POST", "/images", {"image": image}, 200).json["image"]
        return made

    def claim(self, image_id: str | None = None, *, status: int = 200, **more: Any) -> dict[str, Any]:
        """Claim a new id, or an image; return the claim."""
        made = image_id or new_image_id()
        claim = {"image_id": made, "store": "file", "key": fresh_key(made), "owner": self.identity.project, "size": 5}
        claim |= more
        path = "/claims/begin" if image_id is None else f"/images/{image_id}/claims"
        self.ask("POST", path, {"claim": claim}, status)
        return claim

    def upload(self, **image: Any) -> dict[str, Any]:
        """Record an image with bytes, its whole way from the claim on, but for the bytes."""
        claim = self.claim(owner=image.get("owner", self.identity.project))
        sent = {"image": {"id": claim["image_id"], **image}, "blob": blob_of(claim)}
        made: dict[str, Any] = self.ask("POST", "/images", sent, 200).json["image"]
        return made


@contextmanager
def registry_of(installation: Installation, directory: Path, **more: str) -> Iterator[Registry]:
    """Give a registry of an installation's database and store, asked by an administrator."""
    keys = {
        **installation.shared,
        "application": "registry",
        "registry_secret": SECRET,
    }
    made = install(directory, **keys, **more)
    yield Registry(made, ADMIN)
    made.engine.dispose()


def fresh_key(image_id: str) -> str:
    return f"{image_id}.{new_image_id().replace('-', '')[:16]}"


def blob_of(claim: Mapping[str, Any], **more: Any) -> dict[str, Any]:
    """Make the blob of an upload of five bytes under a claim."""
    place = {"store": claim["store"], "key": claim["key"]}
    return {**DATA_FACTS, "location": place, "claim": claim["key"], **more}
