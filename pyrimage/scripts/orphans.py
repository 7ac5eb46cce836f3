"""Finding what no row knows, and removing it: ``pyrimage-manage scrub --deep``."""

import sys
from datetime import timedelta

from ..catalogue.interfaces import Claims
from ..catalogue.records import utcnow
from ..errors import StoreError, StoreMissing
from ..stores import Stores
from ..stores.interfaces import ListedStore, Store, StoredBlob
from ..uploads.orphans import remove, scan
from .progress import Progress

_FOREIGN = (
    "Most of what lies there is unknown. It may belong to another installation, or the database be an old copy: "
    "nothing is removed, except with --force."
)


def report(stores: Stores, claims: Claims, age: timedelta, *, removes: bool, force: bool) -> bool:
    """Look into every store that takes uploads; return whether each could be listed, and all be removed that should.

    removes: do so; else only say what there is. force: also where most of what lies in a store is unknown.
    """
    is_done = True
    for store in stores.values():
        if not isinstance(store, Store):
            continue  # nothing in it is ours
        try:
            if not isinstance(store, ListedStore):
                print(f"{store.name}: stores of this kind cannot list what they hold.")
            elif not _report(store, claims, age, removes=removes, force=force):
                is_done = False
        except StoreError as error:
            print(f"{store.name}: {error}{_advice(error)}", file=sys.stderr)
            is_done = False
    return is_done


def _report(store: ListedStore, claims: Claims, age: timedelta, *, removes: bool, force: bool) -> bool:
    progress = Progress()
    found = scan(store, claims, age, lambda count: progress.show(lambda: f"{store.name}: {count} blobs"))
    progress.clear()
    is_refused = found.is_foreign and not force and bool(found.orphans)
    is_removing = removes and not is_refused
    count = failed = 0
    for blob, error in (
        remove(store, claims, found.orphans) if is_removing else ((blob, None) for blob in found.orphans)
    ):
        if error is None:
            print(_line(store, blob), flush=True)
            count += 1
        elif isinstance(error, StoreMissing):
            raise error  # it went away just now; all the others would be told the same
        else:
            print(f"{_line(store, blob)}: not removed. {error}", file=sys.stderr)
            failed += 1
    done = f"removed, {failed} failed" if is_removing else "found"
    print(f"{store.name}: {count} unknown blobs {done}; {found.young} too young, {found.known} known.")
    if is_refused:
        print(f"{store.name}: {_FOREIGN}", file=sys.stderr)
    return not failed and not (removes and is_refused)


def _line(store: Store, blob: StoredBlob) -> str:
    hours = (utcnow() - blob.modified) / timedelta(hours=1)
    return f"unknown: {store.name} {blob.key}, {hours:.0f} hours old, {store.url(blob.key)}"


def _advice(error: StoreError) -> str:
    return f" {error.advice}" if isinstance(error, StoreMissing) else ""
