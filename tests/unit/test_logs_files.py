"""The file that a program logs to: which one it is, and what becomes of its lines."""

import json
import logging
import os
from pathlib import Path

import pytest

from logged import given, logs_below, read, start
from pyrimage.errors import ConfigurationError
from pyrimage.logs import log_file

pytestmark = pytest.mark.usefixtures("loggers_of_its_own")

FILES: dict[str, tuple[dict[str, str], dict[str, str], str | None]] = {
    "none": ({}, {"log_file": ""}, None),
    "key": ({}, {"log_file": "/var/log/x"}, "/var/log/x"),
    "key below key": ({}, {"log_file": "a/x", "log_dir": "/var/log"}, "/var/log/a/x"),
    "key below option": ({"log_dir": "/opt/log"}, {"log_file": "x", "log_dir": "/var/log"}, "/opt/log/x"),
    "absolute key": ({"log_dir": "/opt/log"}, {"log_file": "/x", "log_dir": "/var/log"}, "/x"),
    "option": ({"log_file": "/opt/x"}, {"log_file": "/var/log/x"}, "/opt/x"),
    "option where it was typed": ({"log_file": "a/x"}, {}, "HERE/started/a/x"),
    "option below key": ({"log_file": "x"}, {"log_file": "y", "log_dir": "/var/log"}, "/var/log/x"),
    "absolute option": ({"log_file": "/x", "log_dir": "/opt/log"}, {}, "/x"),
    "directory alone": ({"log_dir": "/opt/log"}, {"log_dir": "/var/log"}, "/opt/log/registry.log"),
    "directory of the key alone": ({}, {"log_dir": "/var/log"}, "/var/log/registry.log"),
}


@pytest.mark.parametrize(("options", "keys", "path"), FILES.values(), ids=FILES)
def test_the_directory_is_the_prefix_of_a_relative_file(
    options: dict[str, str], keys: dict[str, str], path: str | None, here: Path
) -> None:
    expected = None if path is None else Path(path.replace("HERE", str(here)))
    assert log_file("registry", read(here, keys), given(here, options)) == expected


def test_a_file_of_the_ini_does_not_depend_on_where_the_program_is_started(here: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        start(here, {"log_file": "log/x.log"}, {})
    assert str(caught.value) == "pyrimage.log_file = log/x.log: use an absolute path, or set pyrimage.log_dir."


@pytest.mark.parametrize("path", ["nowhere/x.log", "etc", "etc/pyrimage.ini/x.log"])
@pytest.mark.parametrize("by", ["option", "key"])
def test_a_file_that_cannot_be_opened_is_named_with_the_reason(by: str, path: str, here: Path) -> None:
    file = {"log_file": f"HERE/{path}"}
    with pytest.raises(ConfigurationError, match=f"The log file {here}/{path} cannot be opened: [NI].* directory"):
        start(here, file if by == "key" else {}, file if by == "option" else {})
    assert not (here / "nowhere").exists()


def test_a_log_file_is_never_for_others_also_when_it_is_opened_anew(here: Path, umask: int) -> None:
    start(here, {"log_file": "HERE/x.log"}, {})
    for _ in range(2):
        logging.getLogger("pyrimage").warning("a line")
        assert (here / "x.log").stat().st_mode & 0o777 == 0o640 & ~umask
        (here / "x.log").rename(here / "moved.log")


def test_an_existing_log_file_is_for_others_no_more(here: Path) -> None:
    path = here / "x.log"
    path.touch()
    path.chmod(0o667)
    start(here, {"log_file": "HERE/x.log"}, {})
    assert path.stat().st_mode & 0o777 == 0o660


def test_what_is_no_file_keeps_its_mode(here: Path) -> None:
    """As a terminal or ``/dev/null``, which are for others, too."""
    ours, theirs = os.openpty()
    os.fchmod(theirs, 0o622)
    start(here, {"log_file": os.ttyname(theirs)}, {})
    assert os.fstat(theirs).st_mode & 0o777 == 0o622
    for each in (ours, theirs):
        os.close(each)


def test_a_pipe_is_no_log_file(here: Path) -> None:
    os.mkfifo(here / "pipe")
    with pytest.raises(ConfigurationError, match=f"The log file {here}/pipe is a pipe"):
        start(here, {"log_file": "HERE/pipe"}, {})


@pytest.mark.parametrize("form", ["%(message)s", "json"])
def test_a_file_that_was_moved_or_removed_is_opened_anew(form: str, here: Path) -> None:
    path, log = here / "option/api.log", logging.getLogger("pyrimage.x")
    start(here, {}, {"log_dir": "HERE/option", "log_format": form})
    log.error("one")
    path.rename(path.with_name("api.log.1"))
    log.error("two")
    path.unlink()
    log.error("three")
    log.error("four")
    lines = logs_below(here)
    if form == "json":
        lines = {name: [json.loads(line)["message"] for line in each] for name, each in lines.items()}
    assert lines == {"option/api.log.1": ["one"], "option/api.log": ["three", "four"]}


def test_where_the_file_cannot_be_opened_anew_whoever_logs_goes_on(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A thread that serves, say; and the lines go on when the directory is there again."""
    log, directory = logging.getLogger("pyrimage.x"), here / "option"
    start(here, {}, {"log_dir": "HERE/option", "log_format": "%(message)s"})
    log.error("one")
    directory.rename(here / "moved")
    log.error("two")
    assert "FileNotFoundError" in capsys.readouterr().err
    directory.mkdir()
    log.error("three")
    assert logs_below(here) == {"moved/api.log": ["one"], "option/api.log": ["three"]}


def test_a_file_is_gone_on_with_and_no_line_is_lost_for_its_characters(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for _ in range(2):
        start(here, {}, {"log_dir": "HERE/option", "log_format": "%(message)s"})
        logging.getLogger("pyrimage.x").error("f\xfcr \udcff")
    assert (here / "option/api.log").read_bytes() == b"f\xc3\xbcr \\udcff\n" * 2
    assert capsys.readouterr() == ("", "")
