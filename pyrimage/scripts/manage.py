"""``pyrimage-manage``: sample configurations, the database's schema, and cleaning up."""

import argparse
import sys
from collections.abc import Sequence
from datetime import timedelta
from importlib import resources
from pathlib import Path

from pyramid.paster import get_appsettings, setup_logging
from sqlalchemy import Engine

from .. import __version__
from ..blobs import GRACE, Blobs, scrub
from ..errors import DatabaseError, PyrimageError
from ..images.claims import LocalClaims
from ..models import make_engine, migrations
from ..settings import CONFIG_DIRECTORIES, CONFIG_NAME, find_config, read_settings
from ..stores import make_stores

OK, FAILED = 0, 1

MAX_GRACE = 10**9  # seconds


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, or 1 with the reason on standard error."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except DatabaseError as error:
        print(f"pyrimage-manage: {error} {error.__cause__}", file=sys.stderr)  # the driver's words are for us alone
        return FAILED
    except PyrimageError as error:
        print(f"pyrimage-manage: {error}", file=sys.stderr)
        return FAILED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pyrimage-manage", description="Care for an installation of pyrimage.")
    parser.add_argument("--version", action="version", version=f"pyrimage {__version__}")
    places = ", ".join(CONFIG_DIRECTORIES)
    parser.add_argument(
        "-c", "--config", type=Path, metavar="FILE", help=f"the ini file (default: the first {CONFIG_NAME} in {places})"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    sample = commands.add_parser("sample-config", help="print a commented ini file to begin with")
    sample.add_argument("kind", nargs="?", choices=("development", "production"), default="production")
    sample.set_defaults(run=_sample_config)

    database = commands.add_parser("db", help="look at the database's schema, or bring it up to date")
    actions = database.add_subparsers(metavar="ACTION", required=True)
    for name, run, what in (
        ("upgrade", _upgrade, "bring the schema up to date"),
        ("current", _current, "print the schema's revision, and the one that is wanted"),
        ("check", _check, "exit with 1 unless the schema is up to date"),
    ):
        actions.add_parser(name, help=what).set_defaults(run=run)

    clean = commands.add_parser("scrub", help="end uploads whose server died, and remove bytes of deleted images")
    clean.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    clean.add_argument(
        "--grace",
        type=float,
        metavar="SECONDS",
        default=GRACE.total_seconds(),
        help="how long a lease must have ended before its upload counts as dead (default: %(default)g)",
    )
    clean.set_defaults(run=_scrub)
    return parser


def _sample_config(arguments: argparse.Namespace) -> int:
    print(resources.files(__package__).joinpath(f"{arguments.kind}.ini").read_text(), end="")
    return OK


def _upgrade(arguments: argparse.Namespace) -> int:
    _, engine = _open(arguments)
    migrations.upgrade(engine)
    print(f"The schema is of revision {migrations.current_revision(engine)}.")
    return OK


def _current(arguments: argparse.Namespace) -> int:
    _, engine = _open(arguments)
    print(f"current: {migrations.current_revision(engine)}\nwanted:  {migrations.wanted_revision()}")
    return OK


def _check(arguments: argparse.Namespace) -> int:
    _, engine = _open(arguments)
    migrations.check(engine)
    print("The schema is up to date.")
    return OK


def _scrub(arguments: argparse.Namespace) -> int:
    if not 0 <= arguments.grace <= MAX_GRACE:  # "nan" is not
        raise PyrimageError(f"--grace must be a number of seconds from 0 to {MAX_GRACE}.")
    ini, engine = _open(arguments)
    settings = read_settings(ini)
    blobs = Blobs(make_stores(settings), LocalClaims(engine, settings))
    migrations.check(engine)
    done = failed = 0
    for what, error in scrub(blobs, timedelta(seconds=arguments.grace), dry_run=arguments.dry_run):
        if error is None:
            print(what, flush=True)
            done += 1
        else:
            print(f"{what}: not removed. {error}", file=sys.stderr)
            failed += 1
    print(f"{done} {'would be ' if arguments.dry_run else ''}cleaned up, {failed} failed.")
    return FAILED if failed else OK


def _open(arguments: argparse.Namespace) -> tuple[dict[str, str], Engine]:
    path = str(_config(arguments))
    try:
        ini: dict[str, str] = get_appsettings(path, name="main")
    except LookupError as error:
        raise PyrimageError(f"{path}: {error}") from error
    setup_logging(path)
    return ini, make_engine(ini)


def _config(arguments: argparse.Namespace) -> Path:
    path: Path | None = arguments.config
    if path is None:
        return find_config()
    if not path.is_file():
        raise PyrimageError(f"{path} is not a file.")
    return path.resolve()
