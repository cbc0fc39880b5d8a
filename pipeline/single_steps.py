# SPDX-License-Identifier: Apache-2.0
"""A shard in single steps: each item is tried alone before its batch is computed.

A shard whose attempts ended badly twice is worked on like this. Its row names the item
in work, so that whoever finds the attempt ended knows which one it was. Condemned items
are not touched: their places are zero, as those of all failed items, so that the
others' results are what they would have been.
"""

from collections.abc import Generator, Sequence

import sqlalchemy as sa
import torch

from explain.errors import ExplainError
from pipeline.any_executor import AnyExecutor
from pipeline.domain import ManifestItem
from pipeline.errors import AuditError, Reason
from pipeline.preparing import PreparedItem, Preparer
from storage.leases import Claim
from storage.suspects import name_item_in_work

#: What an item alone can be blamed for. Memory, files and servers are not its fault.
_BLAMED = (
    AuditError,
    ExplainError,
    ArithmeticError,
    LookupError,
    RuntimeError,
    TypeError,
    ValueError,
)
#: How torch's allocators say, in a plain RuntimeError, that memory ran out.
_MEMORY_WORDS = ("allocate memory", "out of memory", "alloc_cpu", "start new thread")


class BlamedOnItemError(AuditError):
    """The computation failed with one item alone in the batch.

    Attributes:
        kind: Class name of the failure.
    """

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


def prepare_in_single_steps(
    engine: sa.Engine,
    claim: Claim,
    preparer: Preparer,
    executor: AnyExecutor,
    items: Sequence[ManifestItem],
    *,
    batch_size: int,
) -> Generator[list[PreparedItem]]:
    """Yield the items batch by batch, each of which was tried alone.

    Raises:
        BlamedOnItemError: the item in work made the computation fail.
        FencedOutError: another attempt owns the shard.
    """
    for start in range(0, len(items), batch_size):
        batch = []
        for place, item in enumerate(items[start : start + batch_size]):
            condemned = claim.condemned.get(item.item_index)
            if condemned is not None:
                batch.append(PreparedItem(item=item, reason=Reason(condemned)))
                continue
            name_item_in_work(
                engine,
                claim.shard_id,
                attempt=claim.attempt,
                item_index=item.item_index,
            )
            prepared = preparer.prepare(item)
            if prepared.has_input:
                _try(executor, prepared, place)
            batch.append(prepared)
        # What the whole batch does is no item's doing alone.
        name_item_in_work(
            engine, claim.shard_id, attempt=claim.attempt, item_index=None
        )
        yield batch


def _try(executor: AnyExecutor, prepared: PreparedItem, place: int) -> None:
    """Compute the item alone at its place in the batch; the result is dropped."""
    try:
        executor.try_alone(prepared, place)
    except _BLAMED as exc:
        if isinstance(exc, torch.OutOfMemoryError):
            raise
        if any(words in str(exc).lower() for words in _MEMORY_WORDS):
            raise
        raise BlamedOnItemError(type(exc).__name__) from exc
