"""What is wrong with an ini, or with where it lies, is told in one line that names it."""

from pathlib import Path

import pytest

from inis import APP, LATE, SERVER, URL, Run, read, write
from pyrimage.settings import store_directories

pytestmark = pytest.mark.usefixtures("loggers_of_its_own")

USE = "use = egg:pyrimage\n"
LOADED: dict[str, tuple[str, str]] = {  # the section [app:main], and what is told
    "no such egg": (APP.replace("egg:pyrimage", "egg:nothere"), "nothere"),
    "no such application": (APP.replace("egg:pyrimage", "egg:pyrimage#nothere"), "nothere"),
    "no such file": (APP.replace("egg:pyrimage", "config:nothere.ini"), "nothere.ini"),
    "the section itself": (APP.replace("egg:pyrimage", "main"), ""),
    "a key twice": (APP + "pyrimage.auth = none", "pyrimage.auth"),
    "a key without a value": (APP + "word", "line 7"),
}


@pytest.mark.parametrize(("app", "says"), LOADED.values(), ids=LOADED)
def test_an_application_that_cannot_be_loaded_is_told_with_the_ini(app: str, says: str, ini: Path, run: Run) -> None:
    said = run(write(ini, app), *LATE).error
    assert str(ini.parent) in said
    assert says in said


@pytest.mark.parametrize("section", ["app", "server"])
def test_a_section_that_is_missing_is_told(section: str, ini: Path, run: Run) -> None:
    sections = {"app": f"[app:registry]\n{APP}{URL}", "server": f"[server:registry]\n{SERVER}"}
    del sections[section]
    ini.write_text("".join(sections.values()), encoding="utf-8")
    said = run(ini, *LATE, server="registry").error
    assert said.startswith(f"{ini}: No section 'registry' (prefixed by '{section}'")


def test_a_server_that_is_not_there_is_told(ini: Path, run: Run) -> None:
    ini.write_text(f"[app:main]\n{APP}{URL}[server:main]\nuse = egg:pyrimage#nothere\n", encoding="utf-8")
    assert "Entry point 'nothere' not found" in run(ini).error


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "cannot be read: No such file or directory."),
        ("directory", "cannot be read: Is a directory."),
        (b"", "No section 'main'"),
        (b"[app:main]\n# f\xfcr\n", "codec can't decode byte 0xfc"),
        (b"auth = none\n[app:main]\n", "line 1"),
        (b"[app:main]\n[app:main]\n", "'app:main' already exists"),
        (b"\xef\xbb\xbf[app:main]\n", "begins with a byte order mark"),
    ],
    ids=repr,
)
def test_a_file_that_is_no_ini_is_told_by_its_name(content: bytes | str | None, says: str, ini: Path, run: Run) -> None:
    ini.unlink()
    if content == "directory":
        ini.mkdir()
    elif isinstance(content, bytes):
        ini.write_bytes(content)
    said = run(ini).error
    assert said.startswith(str(ini))
    assert says in said


@pytest.mark.parametrize("name", ["with blanks", "f\xfcr", "a;b", "a&b", "a:b", "a=b"])
def test_an_ini_may_lie_in_a_directory_of_any_name(name: str, tmp_path: Path) -> None:
    (tmp_path / name).mkdir()
    found = read(write(tmp_path / name / "pyrimage.ini"))
    assert store_directories(found.settings) == [tmp_path / name / "images"]


@pytest.mark.parametrize("name", ["pyrimage.conf", "pyrimage", "a#b/pyrimage.ini", "a%b/pyrimage.ini", "a?b/x.ini"])
def test_an_ini_whose_name_pastedeploy_cannot_read_is_told(name: str, tmp_path: Path, run: Run) -> None:
    (tmp_path / name).parent.mkdir(exist_ok=True)
    ini = write(tmp_path / name)
    assert run(ini, *LATE).error == f"{ini}: the path of a configuration ends in .ini, and holds no %, # or ?."


SETTINGS = {
    "pyrimage.log_fil = x": "Unknown setting pyrimage.log_fil; did you mean pyrimage.log_file?",
    "pyrimage.require_formats = maybe": "pyrimage.require_formats = maybe: use true or false.",
    "pyrimage.log_dir = log": "pyrimage.log_dir = log: use an absolute path",
    "pyrimage.log_format = %%(nothing)s": "log_format = %(nothing)s: ",
    "pyrimage.log_dir = %(here)s/nowhere": "/nowhere/api.log cannot be opened: No such file or directory.",
}


@pytest.mark.parametrize(("line", "says"), SETTINGS.items(), ids=SETTINGS)
def test_a_wrong_setting_is_told(line: str, says: str, ini: Path, run: Run) -> None:
    assert says in run(write(ini, APP + line), *LATE).error


def test_a_literal_percent_sign_is_told_with_its_key_and_its_cure(ini: Path, run: Run) -> None:
    write(ini, f"{APP}sqlalchemy.url = postgresql://u:a%40b@127.0.0.1/db")
    assert run(ini).error == f"{ini}: sqlalchemy.url: a literal % is written %%, and what %(name)s names must be set."
