# SPDX-License-Identifier: Apache-2.0
"""The ledger's tree as it lies in SQL; proofs are cut without reading it all.

Beside the leaf hashes, the roots of complete subtrees of 256, 256^2, ... entries are
stored (the tiles of C2SP tlog-tiles, without their files). A proof then takes a few
ranges of at most 256 hashes, however large the ledger is.
"""

from collections.abc import Iterator, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.errors import BrokenLedgerError
from ledger.merkle import (
    HASH_SIZE,
    consistency_path,
    inclusion_path,
    node_hash,
    root_of,
    split_at,
)
from storage.tables import EntryTable, LedgerNodeTable

#: Levels of the tree between two stored ones: a tile is 2^8 hashes wide.
TILE_HEIGHT: Final = 8
TILE_WIDTH: Final = 1 << TILE_HEIGHT


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
        width = high - low
        if width & (width - 1):
            middle = low + split_at(width)
            return node_hash(self.subtree(low, middle), self.subtree(middle, high))
        level = (width.bit_length() - 1) // TILE_HEIGHT
        shift = level * TILE_HEIGHT
        return root_of(
            self._node(level, index) for index in range(low >> shift, high >> shift)
        )

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
        return root_of(
            self._node(level - 1, below) for below in range(first, first + TILE_WIDTH)
        )

    def _read(self, level: int, tile: int) -> dict[int, bytes]:
        index: Any = EntryTable.idx if level == 0 else LedgerNodeTable.idx
        node: Any = EntryTable.leaf_hash if level == 0 else LedgerNodeTable.hash
        first = tile * TILE_WIDTH
        query = sa.select(index, node).where(index.between(first, first + 255))
        if level:
            query = query.where(LedgerNodeTable.level == level)
        return {
            row[0]: row[1]
            for row in self._session.execute(query)
            if isinstance(row[1], bytes) and len(row[1]) == HASH_SIZE
        }
