"""``pyrimage-manage``: sample configurations, the database's schema, cleaning up, images and their bytes, and users."""

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from datetime import timedelta
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from pyramid.paster import get_appsettings
from sqlalchemy import Engine

from .. import __version__
from ..app import make_catalogue
from ..catalogue.interfaces import Catalogue, MarkedStore
from ..catalogue.sql.catalogue import SqlCatalogue
from ..errors import DatabaseError, PyrimageError, StoreMissing, StoreUnavailable
from ..export.load import unlimited
from ..identity.user_changes import UserChanges
from ..identity.user_files import user_paths
from ..logs import read_loggers
from ..models import make_engine, migrations
from ..settings import CONFIG_DIRECTORIES, CONFIG_NAME, PREFIX, Settings, find_config
from ..stores import Identify, Stores, load_settings, make_stores
from ..uploads.claims import GRACE
from ..uploads.orphans import ORPHAN_AGE
from ..uploads.scrub import scrub, uploads_elsewhere
from . import FAILED, INTERRUPTED, OK, exports, replace_closed_streams, tokens
from .ini import reading
from .orphans import report as report_orphans
from .users import add_commands as add_user_commands
from .verify import report as report_damage

MAX_SECONDS = 10**9

PROGRAMS = "/opt/pyrimage/bin"  # in the files of service/


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; return the exit status: 0, or 1 with the reason on standard error."""
    replace_closed_streams()
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
    except DatabaseError as error:
        print(f"pyrimage-manage: {error} {error.__cause__}", file=sys.stderr)  # the driver's words are for us alone
        return FAILED
    except StoreMissing as error:
        print(f"pyrimage-manage: {error} {error.advice}", file=sys.stderr)
        return FAILED
    except PyrimageError as error:
        print(f"pyrimage-manage: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        return INTERRUPTED
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pyrimage-manage", description="Care for an installation of pyrimage.")
    parser.add_argument("--version", action="version", version=f"pyrimage {__version__}")
    places = ", ".join(CONFIG_DIRECTORIES)
    parser.add_argument(
        "-c", "--config", type=Path, metavar="FILE", help=f"the ini file (default: the first {CONFIG_NAME} in {places})"
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)

    _add_sample_config(commands)

    database = commands.add_parser("db", help="look at the database's schema, or bring it up to date")
    actions = database.add_subparsers(metavar="ACTION", required=True)
    for name, run, what in (
        ("upgrade", _upgrade, "bring the schema up to date"),
        ("current", _current, "print the schema's revision, and the one that is wanted"),
        ("check", _check, "exit with 1 unless the schema is up to date"),
    ):
        actions.add_parser(name, help=what).set_defaults(run=run)

    _add_scrub(commands)
    _add_verify(commands)
    _add_store(commands)
    exports.add_commands(commands, _export, _import)
    add_user_commands(commands).set_defaults(run=_change_users)
    tokens.add_commands(commands, _open)
    return parser


def _add_sample_config(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    sample = commands.add_parser("sample-config", help="print a commented ini file to begin with; write systemd units")
    sample.set_defaults(run=_sample_config, kind="production")
    kinds = sample.add_subparsers(metavar="[KIND]")
    for kind, what in (
        ("development", "print an ini file for a first try, and to develop with"),
        ("production", "print an ini file for an installation (what is printed if no KIND is given)"),
    ):
        kinds.add_parser(kind, help=what).set_defaults(kind=kind)
    service = kinds.add_parser(
        "service",
        help="write systemd's units and what belongs to them",
        description="Write systemd's units, with a timer, a user and directories, and logrotate's file, for the "
        "programs that lie beside this one. Prints each file that it writes. One that is there and differs is left "
        "alone and named on standard error, and the exit status is 1.",
    )
    service.add_argument("directory", type=Path, metavar="DIRECTORY", help="/ writes to /etc; another, to its etc")
    service.set_defaults(run=_write_service)


def _add_scrub(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    clean = commands.add_parser(
        "scrub",
        help="end uploads whose server died, and remove bytes of deleted images",
        description="End uploads whose server died, and remove bytes of deleted images: the database says where they "
        "lie. Remove tokens that have expired. With --deep, list what lies in the stores instead, and find blobs that "
        "no row of the database knows. That is for disasters, such as a database that was restored from a backup.",
    )
    clean.add_argument("--dry-run", action="store_true", help="say what would be done, and do nothing")
    clean.add_argument(
        "--grace",
        type=float,
        metavar="SECONDS",
        default=GRACE.total_seconds(),
        help="how long a lease must have ended before its upload counts as dead (default: %(default)g)",
    )
    clean.add_argument("--deep", action="store_true", help="list the stores, and say what no row knows; remove nothing")
    clean.add_argument("--remove", action="store_true", help="with --deep: remove it")
    clean.add_argument(
        "--age",
        type=float,
        metavar="SECONDS",
        default=ORPHAN_AGE.total_seconds(),
        help="with --deep: leave alone what is younger, by the clock of its store (default: %(default)g)",
    )
    clean.add_argument(
        "--force",
        action="store_true",
        help="with --deep --remove: also where most of what lies in a store is unknown; make sure that no other "
        "installation uses it",
    )
    clean.set_defaults(run=_scrub)


def _add_verify(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    compare = commands.add_parser(
        "verify",
        help="compare the bytes of every active image with what its row says of them",
        description="Read the bytes of every active image, and compare their size and checksum with the image's row. "
        "Changes nothing, and may run beside the servers. A line for each image whose bytes are missing, cut or "
        "changed: bring its file back from a backup, or delete the image. The exit status is 1 if there is any.",
    )
    compare.add_argument("--sizes-only", action="store_true", help="compare sizes only, which reads nothing")
    compare.set_defaults(run=_verify)


def _add_store(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    store = commands.add_parser("store", help="say which directory is a file store's")
    actions = store.add_subparsers(metavar="ACTION", required=True)
    adopt = actions.add_parser(
        "adopt",
        help="make filesystem_store_datadir the directory that the database's images are in",
        description="Make the directory of a file store (filesystem_store_datadir) the one that the database's images "
        "are in: its marker and the database know the same identity from then on. Servers use no other directory, so "
        "that nothing is stored below the mount point of a disk that is not mounted. The first start of a server does "
        "this by itself; after that, the command is for a new disk, a directory that was restored without its marker, "
        "or another database. Where the database had another directory, reload the servers.",
    )
    adopt.add_argument("name", nargs="?", metavar="NAME", help="the store, where pyrimage.stores names several")
    adopt.add_argument(
        "--force", action="store_true", help="also if none of the files that the database names is there: all are lost"
    )
    adopt.set_defaults(run=_adopt)


def _sample_config(arguments: argparse.Namespace) -> int:
    print(resources.files(__package__).joinpath(f"{arguments.kind}.ini").read_text(), end="")
    return OK


def _write_service(arguments: argparse.Namespace) -> int:
    programs = str(Path(sys.argv[0]).resolve().parent)
    status = OK
    for name, text in _files(resources.files(__package__).joinpath("service")):
        path = Path(arguments.directory, name)
        data = text.replace(PROGRAMS, programs).encode()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            is_there = os.path.lexists(path)  # also as a link to /dev/null, which is a unit that is masked
            if not is_there:
                path.write_bytes(data)
            differs = path.read_bytes() != data
        except OSError as error:
            raise PyrimageError(f"{path} cannot be written: {error.strerror}.") from error
        if differs:
            print(f"pyrimage-manage: {path} is there and differs; it is left as it is.", file=sys.stderr)
            status = FAILED
        elif not is_there:
            print(path)
    return status


def _files(folder: Traversable, parent: str = "") -> Iterator[tuple[str, str]]:
    """Yield the files of a folder of the package, and those below: name and text."""
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        name = f"{parent}{entry.name}"
        if entry.is_dir():
            yield from _files(entry, f"{name}/")
        else:
            yield name, entry.read_text(encoding="utf-8")


def _make_engine(arguments: argparse.Namespace) -> Engine:
    ini = _read_ini(arguments)
    if "sqlalchemy.url" not in ini and f"{PREFIX}registry_host" in ini:
        raise PyrimageError(f"This ini has no database, but {PREFIX}registry_host: run it where a registry is.")
    return make_engine(ini)


def _upgrade(arguments: argparse.Namespace) -> int:
    engine = _make_engine(arguments)
    migrations.upgrade(engine)
    print(f"The schema is of revision {migrations.current_revision(engine)}.")
    return OK


def _current(arguments: argparse.Namespace) -> int:
    engine = _make_engine(arguments)
    print(f"current: {migrations.current_revision(engine)}\nwanted:  {migrations.wanted_revision()}")
    return OK


def _check(arguments: argparse.Namespace) -> int:
    engine = _make_engine(arguments)
    migrations.check(engine)
    print("The schema is up to date.")
    return OK


def _scrub(arguments: argparse.Namespace) -> int:
    grace, age = _seconds(arguments, "grace"), _seconds(arguments, "age")
    _refuse_stray_options(arguments)
    catalogue, settings = _open(arguments)
    if arguments.deep:
        stores = make_stores(settings, catalogue.identities.known)
        catalogue.check(upgrade=False)
        is_done = report_orphans(stores, catalogue.claims, age, removes=arguments.remove, force=arguments.force)
        return OK if is_done else FAILED
    stores = _open_stores(catalogue, settings, catalogue.identities.known)
    done = failed = 0
    for what, error in scrub(stores, catalogue.claims, grace, dry_run=arguments.dry_run):
        if isinstance(error, StoreMissing):
            raise error  # it went away just now; all the others would be told the same
        if error is None:
            print(what, flush=True)
            done += 1
        else:
            print(f"{what}: not removed. {error}", file=sys.stderr)
            failed += 1
    for image in uploads_elsewhere(catalogue):
        since = image.updated_at.isoformat(" ", "seconds")
        print(f"image {image.id}: saving since {since} by a server of Glance; left alone", flush=True)
    tokens.clean(catalogue.tokens, dry_run=arguments.dry_run)
    print(f"{done} {'would be ' if arguments.dry_run else ''}cleaned up, {failed} failed.")
    return FAILED if failed else OK


def _seconds(arguments: argparse.Namespace, name: str) -> timedelta:
    seconds = getattr(arguments, name)
    if not 0 <= seconds <= MAX_SECONDS:  # "nan" is not
        raise PyrimageError(f"--{name} must be a number of seconds from 0 to {MAX_SECONDS}.")
    return timedelta(seconds=seconds)


def _refuse_stray_options(arguments: argparse.Namespace) -> None:
    """Refuse options that would say nothing, or the contrary of another; what removes is not guessed at."""
    if not arguments.deep and (arguments.remove or arguments.force):
        raise PyrimageError("--remove and --force are for scrub --deep.")
    if arguments.remove and arguments.dry_run:
        raise PyrimageError("--remove and --dry-run exclude each other; scrub --deep alone removes nothing.")


def _verify(arguments: argparse.Namespace) -> int:
    catalogue, settings = _open(arguments)
    stores = _open_stores(catalogue, settings, catalogue.identities.known)
    return OK if report_damage(stores, catalogue.active, sizes_only=arguments.sizes_only) else FAILED


def _export(arguments: argparse.Namespace) -> int:
    catalogue, settings = _open(arguments)
    stores = _open_stores(catalogue, settings, catalogue.identities.known)
    return exports.report_export(catalogue, stores, arguments.directory, with_data=arguments.data)


def _import(arguments: argparse.Namespace) -> int:
    catalogue, settings = _open(arguments, has_limits=False)
    if not isinstance(catalogue, SqlCatalogue):  # with members, an image takes more than the one change of a request
        raise PyrimageError(
            "import writes into the database itself: run it with an ini without pyrimage.registry_host."
        )
    stores = _open_stores(catalogue, settings, catalogue.identities.identify)  # it may come before the first start
    return exports.report_import(catalogue, stores, arguments.directory, settings.default_store, adopts=arguments.adopt)


def _adopt(arguments: argparse.Namespace) -> int:
    catalogue, settings = _open(arguments)
    catalogue.check(upgrade=False)
    store = _marked_store(make_stores(settings, catalogue.identities.known), arguments.name)
    count = catalogue.identities.adopt(store, although_empty=arguments.force)
    print(f"{store.marker.directory} is the directory of the store {store.name}.")
    print(f"{count.there} files that the database names are there, {count.missing} are missing.")
    print("If the database had another directory, servers that run have to be reloaded (SIGHUP, or pyrimage-control).")
    return OK


def _change_users(arguments: argparse.Namespace) -> int:
    ini = _read_ini(arguments)
    settings = load_settings(ini)

    def revoke(name: str) -> None:
        tokens.revoke_all(make_catalogue(ini, settings), name)

    arguments.act(arguments, UserChanges(*user_paths(settings)), revoke)
    return OK


def _marked_store(stores: Stores, name: str | None) -> MarkedStore:
    """Return the store of a name, or the only one whose directory carries a marker."""
    marked = {store.name: store for store in stores.values() if isinstance(store, MarkedStore)}
    if name is None and len(marked) == 1:
        (name,) = marked
    if name not in marked:
        which = "Name a store" if name is None else f"The store {name!a} has no directory here"
        raise PyrimageError(f"{which}: {', '.join(marked) or 'none has one'}.")
    return marked[name]


def _read_ini(arguments: argparse.Namespace) -> dict[str, str]:
    path = arguments.config.absolute() if arguments.config else find_config()
    with reading(path):
        ini: dict[str, str] = get_appsettings(str(path), name="main")
    read_loggers(path)
    return ini


def _open(arguments: argparse.Namespace, *, has_limits: bool = True) -> tuple[Catalogue, Settings]:
    ini = _read_ini(arguments)
    settings = load_settings(ini)
    if not has_limits:
        settings = unlimited(settings)
    return make_catalogue(ini, settings), settings


def _open_stores(catalogue: Catalogue, settings: Settings, identify: Identify) -> Stores:
    """Make the stores, and look first whether each is there: in another directory every image would be missing.

    One on the network that does not answer is told, and concerns its own images only. identify: says what the place of
    a store must carry.
    """
    stores = make_stores(settings, identify)
    catalogue.check(upgrade=False)
    for store in stores.values():
        try:
            store.check()
        except StoreMissing:
            raise
        except StoreUnavailable as error:
            print(f"pyrimage-manage: The store {store.name} cannot be checked. {error}", file=sys.stderr)
    return stores
