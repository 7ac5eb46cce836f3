"""What is left when clients have called: it is compared with what they were told, and with itself."""

from collections import Counter
from pathlib import Path
from typing import Any

from sqlalchemy import NullPool, create_engine, text

from journal import Journal
from pyrimage.stores.interfaces import ListedStore
from pyrimage.stores.swift.store import SwiftStore
from servers.pyrimage import Answer, Reachable, Server


def rows(url: str, statement: str, **values: object) -> list[tuple[Any, ...]]:
    """Run one statement on a server's database, from the outside."""
    engine = create_engine(url, poolclass=NullPool)
    with engine.begin() as connection:
        result = connection.execute(text(statement), values)
        return [tuple(row) for row in result] if result.returns_rows else []


def contradictions(server: Reachable, url: str, journal: Journal) -> list[str]:
    """Compare the images, read through the server, with what the clients were told."""
    status: dict[Any, Any] = dict(rows(url, "SELECT id, status FROM images"))
    wanted = dict.fromkeys(journal.uploaded - journal.delete_tried, "active")
    wanted |= dict.fromkeys(journal.deleted, "deleted")
    found = [f"{each} was reserved, and is lost" for each in journal.reserved - status.keys()]
    found += [
        f"{each} is {status.get(each)} instead of {word}" for each, word in wanted.items() if status.get(each) != word
    ]
    for each, word in status.items():
        answer = server.request("GET", f"/v1/images/{each}")
        if word != "active":
            is_right = answer.status == 404
        else:
            is_right = answer.status == 200 and answer.body == journal.bytes_of(each)
            found += _lost_changes(server, each, answer, journal)
        if not is_right:
            found.append(f"{each} is {word}, and answered with {answer.status} and {len(answer.body)} bytes")
    return found


def _lost_changes(server: Reachable, image_id: str, shown: Answer, journal: Journal) -> list[str]:
    """Return the acknowledged changes and members that an active image does not have."""
    notes = {client: value for (each, client), value in journal.noted.items() if each == image_id}
    found = [
        f"{image_id} has lost the note {value} of client {client}"
        for client, value in notes.items()
        if int(shown.headers[f"x-image-meta-property-note_{client}"] or 0) < value
    ]
    invited = {member for each, member in journal.invited if each == image_id}
    if invited and image_id not in journal.replaced:
        listed = server.request("GET", f"/v1/images/{image_id}/members").json["members"]
        lost = invited - {member["member_id"] for member in listed}
        found += [f"{image_id} has lost the member {member}" for member in lost]
    return found


def stored_keys(server: Server, store: ListedStore | None = None) -> list[str]:
    """Return the key of everything that lies in the server's file store, or in the store that is given.

    A key comes once for a blob, and once for an upload to it that is under way.
    """
    if store is None:
        return [Path(name).name for name in server.files()]
    keys = [blob.key for blob in store.blobs()]
    return sorted(set(keys)) if isinstance(store, SwiftStore) else keys  # segments have the key of their blob


def leftovers(server: Server, url: str, store: ListedStore | None = None) -> list[str]:
    """Compare what lies in the server's store with the rows: all is an image's, no upload or deletion is unfinished."""
    found = [f"claim of {each}" for (each,) in rows(url, "SELECT image_id FROM claims")]
    located = rows(url, "SELECT image_locations.key, state FROM image_locations")
    found += [f"{state} location {key}" for key, state in located if state != "active"]
    wanted, stored = Counter(key for key, _ in located), Counter(stored_keys(server, store))
    found += [f"row alone: {key}" for key in wanted - stored]
    found += [f"in the store alone: {key}" for key in stored - wanted]
    return found
