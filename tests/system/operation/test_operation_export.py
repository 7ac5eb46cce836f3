"""The page about exports: its commands move a catalogue as it says, with its bytes and without."""

import re
import textwrap
from pathlib import Path

import pytest

from factories import id_of, meta
from servers import databases
from servers.operated import Place, fill, seen
from servers.processes import PROGRAMS
from servers.pyrimage import ROOT, Server

pytestmark = pytest.mark.system

PAGE = (ROOT / "docs/export.md").read_text(encoding="utf-8")


def printed(word: str) -> str:
    """Return the one block of the page's commands that has a word in it."""
    (block,) = (each for each in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) if word in each)
    return textwrap.dedent(block)


def shell(place: Place, commands: str) -> str:
    """Run the page's commands; no systemd runs here."""
    instead = {"systemctl": "true", "pyrimage-manage": f"{PROGRAMS}/pyrimage-manage", "/backup": str(place.directory)}
    return place.shell(commands, instead=instead)


def use_database(place: Place, url: str) -> None:
    text = place.ini.read_text(encoding="utf-8")
    text, count = re.subn(r"^sqlalchemy\.url = .*$", f"sqlalchemy.url = {url}", text, flags=re.MULTILINE)
    assert count == 1
    place.ini.write_text(text, encoding="utf-8")


def test_a_catalogue_moves_to_another_database_and_leaves_its_bytes_where_they_are(
    place: Place, on_sqlite: Server, tmp_path: Path
) -> None:
    with on_sqlite as server:
        images = fill(server)
        before, files = seen(server, images), files_of(place)
    with databases.fresh_database("postgresql", tmp_path) as url:
        shell(place, printed("old.ini"))
        use_database(place, url)
        assert shell(place, printed("--adopt")).endswith("\n3 images are whole, 0 are not.\n")
        with on_sqlite as server:  # its ini is another one by now
            assert seen(server, images) == before
            assert files_of(place) == files
            assert server.request("POST", "/v1/images", headers=meta(id=id_of(images[2]))).status == 409
            assert server.request("DELETE", images[0]).status == 200
        lost = place.try_shell(f"{PROGRAMS}/pyrimage-manage -c /etc/pyrimage/old.ini scrub")
        assert (lost.returncode, "carries the marker of another store than this database's" in lost.stderr) == (1, True)
    assert len(files_of(place)) == len(files) - 1


def files_of(place: Place) -> set[Path]:
    return {path for path in (place.lib / "images/blobs").glob("*/*") if path.is_file()}


def test_a_catalogue_moves_to_another_database_and_another_directory(
    place: Place, on_sqlite: Server, tmp_path: Path
) -> None:
    with on_sqlite as server:
        images = fill(server)
        before = seen(server, images)
    shell(place, printed("export --data"))
    place.lib.rename(tmp_path / "old")
    place.lib.mkdir()
    with databases.fresh_database("mariadb", tmp_path) as url:
        use_database(place, url)
        assert shell(place, printed("import /backup")).endswith("\n3 images are whole, 0 are not.\n")
        with on_sqlite as server:
            assert seen(server, images) == before
    (sums,) = re.findall(r"`(cd DIR/blobs[^`]+)`", PAGE)
    for line in place.shell(sums.replace("DIR", str(tmp_path / "export"))).splitlines():
        digest, name = line.split()
        assert name.rpartition("/")[2] == digest
