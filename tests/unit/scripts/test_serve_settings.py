"""The settings that a server shows at its start, and the secrets that neither they nor errors show."""

import logging
from pathlib import Path

import pytest

from inis import APP, LATE, URL, Run, Told, loading, read, write
from logged import logs_below
from pyrimage.errors import ConfigurationError
from servers.processes import free_port

pytestmark = pytest.mark.usefixtures("loggers_of_its_own")

WORD = "S3cr3t"


def debug(ini: Path, run: Run, *argv: str) -> Told:
    """Let all settings be read and shown, and stop there."""
    said = run(ini, "--debug", *LATE, *argv)
    assert "shutdown_timeout" in said.error
    return said


def test_debug_shows_the_settings_in_force(ini: Path, run: Run) -> None:
    write(ini, f"{APP}{URL}pyrimage.require_formats = yes", server="threads = 3")
    shown = debug(ini, run, "--port", "7").output
    for text in (
        "DEBUG [pyrimage.scripts.serve] app: pyrimage.require_formats = True\n",
        "app: pyrimage.api_limit_max = 1000\n",
        "app: pyrimage.registry_secret = None\n",
        f"app: sqlalchemy.url = sqlite:///{ini.parent}/pyrimage.sqlite\n",
        "server: threads = 3\n",
        "server: listen = 127.0.0.1:7\n",
        "server: shutdown_timeout = x\n",
    ):
        assert text in shown


@pytest.mark.parametrize("argv", [(), ("--verbose",)])
def test_without_debug_no_settings_are_shown(argv: tuple[str, ...], ini: Path, run: Run) -> None:
    assert run(ini, *argv, *LATE).output == ""


def test_what_is_shown_goes_where_the_log_goes(ini: Path, run: Run) -> None:
    assert debug(ini, run, "--log-file", "x.log", "--log-format", "json").output == ""
    assert any('"message": "app: pyrimage.auth = none"' in line for line in logs_below(ini.parent)["x.log"])


def test_a_secret_of_the_ini_or_of_the_environment_is_shown_as_set(
    ini: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S44."""
    write(ini, f"{APP}{URL}pyrimage.registry_secret = {WORD}{WORD}{WORD}")
    monkeypatch.setenv("PYRIMAGE_REGISTRY_SECRET", f"{WORD}2{WORD}2{WORD}2")
    for _ in range(2):
        said = debug(ini, run)
        assert "app: pyrimage.registry_secret = ***\n" in said.output
        assert WORD not in said.output + said.errors
        write(ini)  # for the second time, the environment's alone


DEFAULT = f"[DEFAULT]\nx = {WORD}\n"
SECRETS = {  # [app:main], and what stands before it
    "userinfo": (f"sqlalchemy.url = postgresql://u:{WORD}@127.0.0.1/db", ""),
    "user of a tenant": (f"sqlalchemy.url = mysql+pymysql://u@tenant:{WORD}@127.0.0.1/db", ""),
    "query": (f"sqlalchemy.url = postgresql://127.0.0.1/db?user=u&password={WORD}", ""),
    "no URL": (f"sqlalchemy.url = postgresql//u:{WORD}@127.0.0.1/db", ""),
    "name": (f"{URL}swift.key = {WORD}\nmail.password = {WORD}", ""),
    "default": ("sqlalchemy.url = postgresql://u:%(x)s@127.0.0.1/db", DEFAULT),
    "default that nobody uses": (URL, DEFAULT),
    "global variable": (
        f"set x = {WORD}\nsqlalchemy.url = postgresql://u:%(x)s@127.0.0.1/db",
        DEFAULT.replace(WORD, "y"),
    ),
    "misspelt key": (f"{URL}sqlalchemy_url = postgresql://u:{WORD}\nregistrysecret = {WORD}", ""),
}


@pytest.mark.parametrize(("lines", "before"), SECRETS.values(), ids=SECRETS)
def test_no_secret_is_shown_wherever_it_stands(lines: str, before: str, ini: Path, run: Run) -> None:
    """S44, S46."""
    said = debug(write(ini, f"{APP}{lines}", more=before), run)
    assert "app: pyrimage.auth = none\n" in said.output
    assert WORD not in said.output + said.errors


def test_a_servers_key_that_is_none_is_told_without_its_value(ini: Path, run: Run) -> None:
    """S44."""
    said = run(write(ini, server=f"x = {WORD}\nthreads = 4"), "--debug")
    assert said.error == "unknown server setting 'x'"
    assert "server: threads = 4\n" in said.output
    assert WORD not in said.output + said.errors


BROKEN = {
    "a literal % in a password": (f"sqlalchemy.url = postgresql://u:{WORD}%40{WORD}@127.0.0.1/db", ""),
    "a password like a variable": (f"sqlalchemy.url = postgresql://u:%({WORD})s@127.0.0.1/db", ""),
    "a literal % in a secret": (f"{URL}pyrimage.registry_secret = {WORD}%{WORD}{WORD}", ""),
    "a secret that is too short": (f"{URL}pyrimage.registry_secret = {WORD}", ""),
    "a secret before all sections": (URL, f"pyrimage.registry_secret = {WORD}"),
    "an endpoint with a password": (f"{URL}pyrimage.public_endpoint = ftp://u:{WORD}@127.0.0.1", ""),
    "an unknown setting": (f"{URL}pyrimage.registry_secrets = {WORD}", ""),
}


@pytest.mark.parametrize(("lines", "before"), BROKEN.values(), ids=BROKEN)
def test_an_error_of_the_ini_tells_no_secret(lines: str, before: str, ini: Path, run: Run) -> None:
    """S44, S46."""
    said = run(write(ini, f"{APP}{lines}", more=before), "--debug", *LATE)
    assert said.error
    assert WORD not in said.output + said.errors
    with pytest.raises(ConfigurationError) as caught:  # which others, such as pyrimage-control, print
        read(ini)
    assert WORD not in str(caught.value)


@loading
def test_a_database_that_cannot_be_used_is_told_without_its_password(ini: Path, run: Run) -> None:
    """S44."""
    url = f"postgresql+nothere://u:{WORD}@127.0.0.1/db"
    said = run(write(ini, f"{APP}sqlalchemy.url = {url}"), "--port", free_port(), "--debug")
    assert said.error
    assert WORD not in said.output + said.errors


def test_whoever_shows_settings_needs_no_program(ini: Path, caplog: pytest.LogCaptureFixture) -> None:
    found = read(ini)
    logging.getLogger().addHandler(caplog.handler)
    with caplog.at_level(logging.DEBUG):
        found.show()
    assert "app: pyrimage.auth = none" in caplog.messages
