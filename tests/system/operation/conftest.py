"""What tests of the operator's chapter share: the places that it names."""

from pathlib import Path

import pytest

from servers.operated import Place, printed
from servers.pyrimage import Server


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def on_sqlite(place: Place) -> Server:
    """An installation of the page's, which nothing serves."""
    place.configure()
    place.shell(printed("First start", "db upgrade"))
    (place.etc / "move_catalogue.py").write_text(printed("Moving a catalogue", "import", "python"), encoding="utf-8")
    return place.server()
