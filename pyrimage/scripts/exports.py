"""A catalogue into files, and out of them: ``pyrimage-manage export`` and ``import``."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from ..catalogue.interfaces import Catalogue
from ..export.directory import Export, NewExport
from ..export.load import Outcome, load
from ..export.save import save
from ..stores import Stores
from ..uploads.claims import GRACE, LiveClaims
from . import FAILED, OK
from .progress import Progress
from .verify import explain

MB = 10**6  # bytes

Run = Callable[[argparse.Namespace], int]

_LEFT_OVER = (
    "What uploads of dead servers and deleted images left in the stores is not exported. If this installation is to "
    "go, run: pyrimage-manage scrub"
)
_TAKEN_OVER = (
    "The bytes belong to this database from now on. No server, and no scrub, may run with the old one any more: what "
    "is deleted there would be lost here."
)


def add_commands(
    commands: "argparse._SubParsersAction[argparse.ArgumentParser]", run_export: Run, run_import: Run
) -> None:
    """Add ``export`` and ``import``."""
    export = commands.add_parser(
        "export",
        help="write all that is known about the images into a directory, and their bytes if wanted",
        description="Write every image, deleted ones too, into DIR/images.jsonl, and with --data their bytes into "
        "DIR/blobs. Changes nothing, and may run beside the servers. If it is broken off, run it again: bytes that are "
        "there are not copied again. The exit status is 1 if the bytes of an image are damaged.",
    )
    export.add_argument("directory", type=Path, metavar="DIR", help="is made if it is not there")
    export.add_argument("--data", action="store_true", help="also the bytes, but for those that were only registered")
    export.set_defaults(run=run_export)
    load_ = commands.add_parser(
        "import",
        help="add the images of such a directory",
        description="Add every image of DIR that is not there yet; their bytes go into the default store, and are "
        "compared with their size and digests. Limits and quotas do not apply. If it is broken off, or something "
        "failed, run it again. What is there and differs is told and left as it is. The exit status is 1 if an image "
        "differs or failed.",
    )
    load_.add_argument("directory", type=Path, metavar="DIR", help="what pyrimage-manage export has written")
    load_.add_argument(
        "--adopt",
        action="store_true",
        help="copy no bytes: those of the old installation, in stores of the same names and places, become this one's; "
        "the old one must not run any more",
    )
    load_.set_defaults(run=run_import)


def report_export(catalogue: Catalogue, stores: Stores, directory: Path, *, with_data: bool) -> int:
    """Write an export; print what is wrong with images, and how much was written. Return the exit status."""
    if catalogue.claims.garbage() or catalogue.claims.expired(GRACE):
        print(_LEFT_OVER, file=sys.stderr, flush=True)
    new, progress = NewExport(directory), _Progress("")
    copies = copied = failed = 0
    try:
        for each in save(catalogue, stores, new, progress.came, with_data=with_data):
            progress.count()
            if each.error is not None:
                failed += 1
                progress.clear()
                print(
                    f"{each.image.id} {each.image.name or ''!a}: {explain(stores, each.image, each.error)}", flush=True
                )
            elif each.written is not None:
                copies, copied = copies + 1, copied + each.written
    finally:
        new.close()
        progress.clear()
    print(
        f"{progress.images} images are exported, {failed} of them failed; {copies} blobs of {copied} bytes were copied."
    )
    return FAILED if failed else OK


def report_import(catalogue: Catalogue, stores: Stores, directory: Path, store: str, *, adopts: bool) -> int:
    """Add the images of an export; print what was not added, and how much was. Return the exit status.

    store: takes the bytes.
    """
    export = Export(directory)
    claims, progress = LiveClaims(catalogue.claims, stores), _Progress(f" of {export.count}")
    outcomes, copied = Counter[Outcome](), 0
    try:
        for each in load(catalogue, claims, export, store, progress.came, adopts=adopts):
            progress.count()
            outcomes[each.outcome] += 1
            copied += each.copied
            if each.reason:
                progress.clear()
                print(f"{each.name}: {each.reason}", flush=True)
    finally:
        progress.clear()
        print(_summary(outcomes, copied), flush=True)
    if adopts:
        print(_TAKEN_OVER, file=sys.stderr)
    return FAILED if outcomes[Outcome.DIFFERENT] or outcomes[Outcome.FAILED] else OK


def _summary(outcomes: Counter[Outcome], copied: int) -> str:
    added, equal, different, failed = (outcomes[outcome] for outcome in Outcome)
    return (
        f"{added} images are added, with {copied} bytes that were copied; {equal} were there already, "
        f"{different} are there and differ, {failed} failed."
    )


class _Progress(Progress):
    """How many images there were so far, and how many bytes were copied. total: what stands behind the first number."""

    def __init__(self, total: str) -> None:
        super().__init__()
        self._total, self._came, self.images = total, 0, 0

    def came(self, size: int) -> None:
        """Count bytes."""
        self._came += size
        self.show(self._text)

    def count(self) -> None:
        """Count an image."""
        self.images += 1
        self.show(self._text)

    def _text(self) -> str:
        return f"{self.images}{self._total} images, {self._came / MB:.0f} MB copied"
