# SPDX-License-Identifier: Apache-2.0
"""The ledger as static files in the object store, for whoever mirrors or watches it.

What is published is first held against the signed root: a ledger that was altered is
not spread. Files of a whole tile never change; the one file that does, `checkpoint`, is
written last, so that everything it promises is there.
"""

import hashlib
import io
import time
from collections.abc import Sequence
from typing import Final

from ledger.checkpoint import Checkpoint, read_unverified
from ledger.errors import BrokenLedgerError, FormatError
from ledger.merkle import leaf_hash
from ledger.tiles import CHECKPOINT, Tile, entry_bundle, tiles_of
from pipeline.services import Services
from storage.engine import reading
from storage.errors import StorageError
from storage.ledger_writer import latest_checkpoint, read_entries
from storage.locks import Lock, hold
from storage.objects import ObjectNotFoundError
from storage.objects.protocol import ObjectStore
from storage.stored_tree import StoredTree, perfect_root

#: Where in the store the files lie; a log's URL prefix ends here.
PREFIX: Final = "ledger/"


def publish_when_due(services: Services, *, at_once: bool) -> bool:
    """Return whether the files are as they should be, by now.

    A store that does not answer stops nobody: the next signature tries again.

    Args:
        services: Database, store and settings.
        at_once: Whether it is due before the interval is over, as at a run's end.

    Raises:
        BrokenLedgerError: see `publish_tiles`.
    """
    try:
        if at_once or _is_due(services):
            publish_tiles(services)
    except StorageError:
        return False
    return True


def tile_problems(services: Services) -> list[str]:
    """Return what is wrong with the files: nothing, or that they are behind.

    Raises:
        BrokenLedgerError: the store holds the files of another ledger.
        StorageError: the database or the store does not answer.
    """
    note = latest_checkpoint(services.engine)
    if note is None:
        return []
    head = read_unverified(note)
    published = _published(services.store, head)
    age_s = _age_s(services)
    if age_s is None:
        return ["nothing of the ledger is published yet"]
    # Twice, because a signature must come by for anything to be published.
    if published < head.size and age_s > 2 * services.settings.anchor_interval_s:
        counted = f"{published:,} of {head.size:,} entries are published"
        return [f"{counted}, the last of them {age_s:.0f} s ago"]
    return []


def _is_due(services: Services) -> bool:
    age_s = _age_s(services)
    return age_s is None or age_s >= services.settings.anchor_interval_s


def _age_s(services: Services) -> float | None:
    try:
        info = services.store.stat(PREFIX + CHECKPOINT)
    except ObjectNotFoundError:
        return None
    return time.time() - info.modified_at


def publish_tiles(services: Services) -> int:
    """Return how many entries are published: all that a checkpoint covers.

    Doing it again is fine, and so is doing it in two places at once: the files of one
    ledger are the same whoever writes them.

    Raises:
        BrokenLedgerError: entries or stored subtrees do not lead to the signed root, or
            the store holds files of another ledger.
        StorageError: the database or the store does not answer.
    """
    note = latest_checkpoint(services.engine)
    if note is None:
        return 0
    head = read_unverified(note)
    with reading(services.engine) as session:
        # Of two publishers the later one must not take the newer checkpoint away.
        hold(session, Lock.TILES)
        before = _published(services.store, head)
        if before >= head.size:
            return before
        tree = StoredTree(session)
        if tree.subtree(0, head.size) != head.root:
            raise _broken(f"the first {head.size} entries")
        for tile in tiles_of(head.size, since=before):
            _publish(services, tree, tile)
        _replace(services.store, PREFIX + CHECKPOINT, note.encode("utf-8"))
    return head.size


def _published(store: ObjectStore, head: Checkpoint) -> int:
    """Return the size of the tree whose files are all there; 0 before the first."""
    try:
        with store.open(PREFIX + CHECKPOINT) as file:
            found = read_unverified(file.read().decode("utf-8"))
    except ObjectNotFoundError:
        return 0
    except (FormatError, UnicodeDecodeError):
        return 0  # a file that says nothing; all are written again
    if found.origin != head.origin:
        raise BrokenLedgerError(
            f"The object store holds the tiles of the ledger {found.origin}, and this "
            f"one is {head.origin}; give each ledger a store of its own."
        )
    return found.size


def _publish(services: Services, tree: StoredTree, tile: Tile) -> None:
    hashes = tree.tile(tile)
    if tile.is_whole and tree.node(tile.level + 1, tile.index) != perfect_root(hashes):
        raise _broken(f"the tile {tile.path}")
    if tile.level == 0:
        last = tile.first + tile.width - 1
        bodies = [
            body for _, body, _ in read_entries(services.engine, tile.first, last)
        ]
        if [leaf_hash(body) for body in bodies] != hashes:
            raise _broken(f"the entries {tile.first} to {last}")
        _put(services.store, tile.entries_path, [entry_bundle(bodies)])
    _put(services.store, tile.path, hashes)


def _put(store: ObjectStore, path: str, parts: Sequence[bytes]) -> None:
    data = b"".join(parts)
    store.put(PREFIX + path, io.BytesIO(data), sha256=hashlib.sha256(data).hexdigest())


def _replace(store: ObjectStore, key: str, data: bytes) -> None:
    """The key holds these bytes; a reader in between finds nothing and asks again."""
    store.delete(key)
    store.put(key, io.BytesIO(data), sha256=hashlib.sha256(data).hexdigest())


def _broken(what: str) -> BrokenLedgerError:
    return BrokenLedgerError(
        f"In the database {what} are not those that were signed; nothing of them was "
        "published, run 'affidavit verify'."
    )
