"""The audit log: who did what with which image, and how that ended. Source: docs/audit.md, "Lines"."""

import json
import logging
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from .environ import CHUNKED, IDENTITY, IMAGE_ID, REQUEST_ID
from .errors import ConfigurationError
from .logs import LogFile
from .server.logtext import SHORT, shown

log = logging.getLogger(__name__)

WRITING = frozenset({"POST", "PUT", "DELETE"})
REFUSED = frozenset({401, 403, 429})

# What methods do at paths whose end is this; the path of a request that came to nothing is no less telling.
_ACTIONS = (
    (re.compile("/members(/[^/]*)?/?$"), {"PUT": "share", "DELETE": "unshare"}),
    (re.compile("/images/?$"), {"POST": "create"}),
    (re.compile("/images/[^/]+$"), {"PUT": "change", "DELETE": "delete"}),
    (re.compile("/auth/tokens$"), {"POST": "log in", "DELETE": "log out"}),
)


class AuditLog(LogFile):
    """A file with a line for every request that writes, downloads or is refused.

    Opened with the first line, for processes are forked before. Where a line cannot be written it is lost, and the
    request goes on; an ERROR says so, once until lines are written again.

    takes_data: bodies are the data of images, not JSON.
    """

    def __init__(self, path: Path, *, takes_data: bool) -> None:
        super().__init__(path, encoding="utf-8", delay=True)
        self._takes_data = takes_data
        self._lost, self._is_told = 0, False

    def check(self) -> None:
        """Create the file if it is not there. Raises ConfigurationError if it cannot be written to."""
        try:
            self._open().close()
        except OSError as error:
            path = self.baseFilename
            raise ConfigurationError(f"pyrimage.audit_log = {path}: cannot be opened: {error.strerror}.") from error

    def note(self, environ: Mapping[str, Any], status: int, *, is_download: bool) -> None:
        """Write the line of a request whose transaction is over, if it is one that has a line.

        is_download: an image's bytes are about to be sent.
        """
        if is_download or status in REFUSED or environ["REQUEST_METHOD"] in WRITING:
            action = "download" if is_download else _action(environ, takes_data=self._takes_data)
            line = json.dumps(_line(environ, action, status))
            self.handle(logging.LogRecord(__name__, logging.INFO, __file__, 0, line, None, None))

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        before = self._lost
        super().emit(record)
        if self._lost == before:
            self._is_told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802 - the name is logging's
        """Say that lines are lost, unless that was said."""
        self._lost += 1
        if not self._is_told:
            error = sys.exc_info()[1]
            log.error("The audit log %s cannot be written to, and loses lines: %s", self.baseFilename, error)
        self._is_told = True


def _line(environ: Mapping[str, Any], action: str, status: int) -> dict[str, str | int | None]:
    identity = environ.get(IDENTITY)
    user, project = (None, None) if identity is None else (identity.name, identity.project)
    return {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "user": user and user[:SHORT],
        "project": project and project[:SHORT],
        "address": shown(environ.get("REMOTE_ADDR", "-"), SHORT),
        "action": action,
        "image_id": environ.get(IMAGE_ID) and shown(environ[IMAGE_ID]),
        "outcome": _outcome(action, status),
        "status": status,
        "method": shown(environ["REQUEST_METHOD"], SHORT),
        "path": shown(environ.get("PATH_INFO", "")),
        "request_id": environ[REQUEST_ID],
    }


def _action(environ: Mapping[str, Any], *, takes_data: bool) -> str:
    method, path = environ["REQUEST_METHOD"], environ.get("PATH_INFO", "")
    if method in ("GET", "HEAD"):
        return "read"
    action = next((methods.get(method) for ends, methods in _ACTIONS if ends.search(path)), None)
    if takes_data and action in ("create", "change"):
        has_body = CHUNKED in environ or (environ.get("CONTENT_LENGTH") or "0").strip("0")
        return "upload" if has_body else action
    return action or "other"


def _outcome(action: str, status: int) -> str:
    if status in REFUSED:
        return "refused"
    if status >= 400:
        return "failed"
    return "begun" if action == "download" else "done"
