"""What Glance's API servers ask their registry: the requests that ``RegistryClient`` of Glance 16 makes.

Source: glance/registry/client/v1/client.py, glance/api/v1/images.py and glance/api/v1/upload_utils.py of Glance 16.0.0.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from conftest import Installation


@dataclass(frozen=True)
class GlanceServer:
    """An API server of Glance, on the machine of the registry; or elsewhere, with a token among the ``headers``."""

    registry: Installation
    address: str = "127.0.0.1"
    headers: Mapping[str, str] = field(default_factory=dict)

    def ask(self, method: str, path: str, value: Any = None, status: Any = 200, **headers: str) -> Any:
        app = self.registry.client(REMOTE_ADDR=self.address)
        body = {} if value is None else {"body": json.dumps(value).encode()}
        kind = {} if value is None else {"Content-Type": "application/json"}
        return app.request(path, method=method, headers={**self.headers, **kind, **headers}, status=status, **body)

    def add(self, image: Mapping[str, Any], status: int = 200) -> Any:
        """Tell of a new image; return its JSON, or that of the error."""
        answer = self.ask("POST", "/images", {"image": image}, status).json
        return answer.get("image", answer)

    def update(
        self,
        image_id: str,
        image: Mapping[str, Any],
        from_state: str | None = None,
        status: int = 200,
        *,
        purge: bool = False,
    ) -> Any:
        """Tell of a change; return the image's JSON, or that of the error."""
        sent = {"image": image, "from_state": from_state}
        headers = {"X-Glance-Registry-Purge-Props": "true"} if purge else {}
        answer = self.ask("PUT", f"/images/{image_id}", sent, status, **headers).json
        return answer.get("image", answer)

    def find(self, image_id: str) -> dict[str, Any]:
        image: dict[str, Any] = self.ask("GET", f"/images/{image_id}").json["image"]
        return image

    def activate(self, image_id: str, url: str, from_state: str | None = None, status: int = 200) -> Any:
        """Tell that an image's bytes lie at a URL."""
        data = [{"url": url, "metadata": {}, "status": "active"}]
        return self.update(image_id, {"location": url, "status": "active", "location_data": data}, from_state, status)
