# SPDX-License-Identifier: Apache-2.0
"""Which batches of a run are computed again: drawn by the ledger, chosen by nobody.

The batches are ordered by SHA-256(key, number of the batch) and taken from the front
until they hold enough items. The key is SHA-256 over the run's id and seed and the
size and root of a signed checkpoint that covers the run's end. Whoever made the run
could not know that root, since what the run gave is under it; whoever asks cannot
choose it, since it is signed; and anyone can draw again from the ledger's entry.
"""

import hashlib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ledger.canonical import canonical_bytes

SCHEMA = "affidavit.reverify/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class DrawKey:
    """What decides a draw.

    Attributes:
        run_id: The run.
        seed: The run's seed.
        tree_size: Entries under the checkpoint.
        root: Its root, in hexadecimal.
    """

    run_id: str
    seed: int
    tree_size: int
    root: str

    def digest(self) -> bytes:
        """Return the 32 bytes that order the batches."""
        return hashlib.sha256(
            canonical_bytes(
                {
                    "schema": SCHEMA,
                    "run": self.run_id,
                    # As text: a seed may be beyond what JSON numbers hold exactly.
                    "seed": str(self.seed),
                    "tree_size": self.tree_size,
                    "root": self.root,
                }
            )
        ).digest()


@dataclass(frozen=True, slots=True, kw_only=True)
class Batch:
    """A batch of the run: the manifest positions that were computed together."""

    number: int
    first_item: int
    item_count: int


def batches_of(slices: Iterable[tuple[int, int]], batch_size: int) -> list[Batch]:
    """Return the batches in shards, whose bounds are multiples of the batch size.

    Args:
        slices: (first item, items) of each shard.
        batch_size: Positions in a batch.
    """
    return [
        Batch(
            number=start // batch_size,
            first_item=start,
            item_count=min(batch_size, first + count - start),
        )
        for first, count in slices
        for start in range(first, first + count, batch_size)
    ]


def drawn(batches: Sequence[Batch], fraction: float, key: DrawKey) -> list[Batch]:
    """Return whole batches with at least that fraction of all items, in order.

    Args:
        batches: All batches that can be computed again.
        fraction: Above 0, at most 1.
        key: What decides the draw.
    """
    secret = key.digest()
    order = sorted(
        batches,
        key=lambda batch: hashlib.sha256(
            secret + batch.number.to_bytes(8, "big")
        ).digest(),
    )
    wanted = math.ceil(fraction * sum(batch.item_count for batch in batches))
    taken: list[Batch] = []
    for batch in order:
        if wanted <= 0:
            break
        taken.append(batch)
        wanted -= batch.item_count
    return sorted(taken, key=lambda batch: batch.number)
