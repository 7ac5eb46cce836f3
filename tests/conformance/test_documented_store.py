"""The store that docs/architecture.md writes: a plug-in outside of the package, and its suite."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import Installation, install
from factories import data_headers, error_of
from servers.pyrimage import ROOT

PAGE = ROOT / "docs/architecture.md"


def listings() -> dict[str, str]:
    """Return the page's listings of the chapter, by their languages and order."""
    _, _, rest = PAGE.read_text(encoding="utf-8").partition("### A store\n")
    chapter, _, _ = rest.partition("### A face\n")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", chapter, re.MULTILINE | re.DOTALL)
    module, ini, suite = [text for _, text in blocks]
    assert [language for language, _ in blocks] == ["python", "ini", "python"]
    return {"module": module, "ini": ini, "suite": suite}


@pytest.fixture
def plug_in(tmp_path: Path) -> Path:
    """A directory with the module and its test."""
    found = listings()
    (tmp_path / "memory_store.py").write_text(found["module"], encoding="utf-8")
    (tmp_path / "test_memory_store.py").write_text(found["suite"], encoding="utf-8")
    return tmp_path


def test_the_suite_passes_over_it(plug_in: Path) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", "/dev/null", "--rootdir", "."]
    done = subprocess.run(command, cwd=plug_in, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"^[0-9]{2,} passed", done.stdout, re.MULTILINE)


@pytest.fixture
def served(plug_in: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """An installation whose ini has the page's lines, and a smaller limit."""
    monkeypatch.syspath_prepend(plug_in)
    keys = dict(line.split(" = ") for line in listings()["ini"].splitlines())
    made = install(
        plug_in, **keys | {"pyrimage.memory_store_size": "5", "filesystem_store_datadir": f"{plug_in}/images"}
    )
    yield made
    made.engine.dispose()
    sys.modules.pop("memory_store")


def test_an_installation_has_it_as_a_store(served: Installation) -> None:
    app = served.client()
    app.post("/v1/images", b"bytes", headers=data_headers(id="f17", store="memory"), status=201)
    assert app.get("/v1/images/f17", headers={"Range": "bytes=1-2"}, status=206).body == b"yt"
    assert app.head("/v1/images/f17").headers["x-image-meta-location"].startswith("memory://memory/f17.")
    refused = app.post("/v1/images", b"bytes!", headers=data_headers(id="f18", store="memory"), status=507)
    assert error_of(refused) == "The image has more than 5 bytes."
    app.delete("/v1/images/f17", status=200)
    store: object = served.stores["memory"]
    assert (vars(store)["coming"], vars(store)["blobs"], served.stored_keys()) == ({}, {}, [])
