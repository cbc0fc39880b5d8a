# SPDX-License-Identifier: Apache-2.0
"""The ledger's tree as it lies in SQL; proofs are cut without reading it all.

Beside the leaf hashes, the roots of complete subtrees of 256, 256^2, ... entries are
stored (what C2SP tlog-tiles hold, see `ledger.tiles`). A proof then takes a few
ranges of at most 256 hashes, however large the ledger is.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.errors import BrokenLedgerError
from ledger.merkle import (
    HASH_SIZE,
    consistency_path,
    inclusion_path,
    node_hash,
    split_at,
)
from ledger.tiles import HEIGHT as TILE_HEIGHT
from ledger.tiles import WIDTH as TILE_WIDTH
from ledger.tiles import Tile
from storage.tables import EntryTable, LedgerNodeTable


def stored_nodes(
    size: int, completed: Sequence[bytes]
) -> Iterator[tuple[int, int, bytes]]:
    """Yield (level, index, hash) of what a leaf has completed and is to be stored.

    Args:
        size: Of the tree, that leaf included.
        completed: As `CompactRange.append` returns it.
    """
    for level, node in enumerate(completed[TILE_HEIGHT - 1 :: TILE_HEIGHT], start=1):
        yield level, (size >> (TILE_HEIGHT * level)) - 1, node


class StoredTree:
    """The tree of the entries, within one session."""

    def __init__(self, session: Session) -> None:
        """Nothing is read yet."""
        self._session = session
        self._tiles: dict[tuple[int, int], dict[int, bytes]] = {}
        self._roots: dict[tuple[int, int], bytes] = {}

    def inclusion_proof(self, index: int, size: int) -> tuple[bytes, ...]:
        """Return the path of one entry to the root over the first `size`.

        Raises:
            ProofError: the index is not below the size.
            BrokenLedgerError: an entry on the way is missing.
        """
        return tuple(inclusion_path(self.subtree, index, size))

    def consistency_proof(self, first: int, second: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of `first` entries begins the larger one.

        Raises:
            ProofError: the sizes are not 0 < first <= second.
            BrokenLedgerError: an entry on the way is missing.
        """
        return tuple(consistency_path(self.subtree, first, second))

    def subtree(self, low: int, high: int) -> bytes:
        """Return the root over the entries low..high-1.

        Raises:
            BrokenLedgerError: one of them is missing.
        """
        if high - low < TILE_WIDTH:
            return self._computed(low, high)
        # Proofs of neighbours share these, and each takes many hashes.
        found = self._roots.get((low, high))
        if found is None:
            found = self._roots[low, high] = self._computed(low, high)
        return found

    def _computed(self, low: int, high: int) -> bytes:
        width = high - low
        if width & (width - 1):
            middle = low + split_at(width)
            return node_hash(self.subtree(low, middle), self.subtree(middle, high))
        level = (width.bit_length() - 1) // TILE_HEIGHT
        shift = level * TILE_HEIGHT
        return perfect_root(
            [self._node(level, index) for index in range(low >> shift, high >> shift)]
        )

    def tile(self, tile: Tile) -> list[bytes]:
        """Return the hashes of a tile.

        Raises:
            BrokenLedgerError: an entry beneath it is missing.
        """
        places = range(tile.first, tile.first + tile.width)
        return [self._node(tile.level, index) for index in places]

    def node(self, level: int, index: int) -> bytes:
        """Return the root of a complete subtree of 256^level entries, as it is stored.

        Raises:
            BrokenLedgerError: an entry beneath it is missing.
        """
        return self._node(level, index)

    def _node(self, level: int, index: int) -> bytes:
        tile = index // TILE_WIDTH
        found = self._tiles.get((level, tile))
        if found is None:
            found = self._tiles[level, tile] = self._read(level, tile)
        node = found.get(index)
        if node is not None:
            return node
        if level == 0:
            raise BrokenLedgerError(
                f"The entry {index} is missing from the ledger; run 'affidavit verify'."
            )
        # A ledger of before these rows; it follows from what is below.
        first = index * TILE_WIDTH
        return perfect_root(
            [self._node(level - 1, below) for below in range(first, first + TILE_WIDTH)]
        )

    def _read(self, level: int, tile: int) -> dict[int, bytes]:
        table: Any = (EntryTable if level == 0 else LedgerNodeTable).__table__
        index, node = table.c.idx, table.c["leaf_hash" if level == 0 else "hash"]
        first = tile * TILE_WIDTH
        last = first + TILE_WIDTH - 1
        query = sa.select(index, node).where(index.between(first, last))
        if level:
            query = query.where(LedgerNodeTable.level == level)
        # Not through the session, which makes an object of each row.
        return {
            place: found
            for place, found in self._session.connection().execute(query).all()
            if isinstance(found, bytes) and len(found) == HASH_SIZE
        }


def perfect_root(nodes: list[bytes]) -> bytes:
    """Return the root over nodes of one height, a power of two of them."""
    while len(nodes) > 1:
        nodes = [
            node_hash(left, right)
            for left, right in zip(nodes[::2], nodes[1::2], strict=True)
        ]
    return nodes[0]
