"""README's curl session works as printed, but for the port."""

import re
import subprocess
from pathlib import Path

import pytest

from servers.processes import OWNED, wait_until
from servers.pyrimage import READY_SECONDS, ROOT, Server

pytestmark = pytest.mark.system

PRINTED = "127.0.0.1:9292"


def curl_session() -> str:
    """Return README's first block of shell commands that has curl in it."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    found = next((block for block in blocks if "curl" in block), "")
    assert PRINTED in found, "README.md has no ```sh block with a curl session"
    return str(found)


def test_the_session_is_of_five_to_eight_lines() -> None:
    commands = [line for line in curl_session().splitlines() if line and not line.startswith("#")]
    assert 5 <= len(commands) <= 8


def test_the_session_uploads_lists_downloads_and_deletes(own_server: Server, tmp_path: Path) -> None:
    session = curl_session().replace(PRINTED, f"127.0.0.1:{own_server.port}")
    place = tmp_path / "session"
    place.mkdir()
    bash = [*OWNED, "bash", "-euo", "pipefail", "-c", session]
    done = subprocess.run(bash, cwd=place, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120)
    print(done.stdout, done.stderr)
    assert done.returncode == 0

    def statuses() -> set[tuple[str, str]]:
        return {(method, status) for _, method, path, status, *_ in own_server.access_lines() if "/images" in path}

    wait_until(
        lambda: statuses() >= {("POST", "201"), ("GET", "200"), ("HEAD", "200"), ("DELETE", "200")}, READY_SECONDS
    )
    assert all(status < "400" for _, status in statuses())  # curl without --fail goes on after a refusal
    assert own_server.files() == []
