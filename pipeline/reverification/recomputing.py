# SPDX-License-Identifier: Apache-2.0
"""One drawn batch computed again, as the run did it, and held against its rows."""

from dataclasses import dataclass

from pipeline.domain import ItemResult, ManifestItem
from pipeline.errors import Reason
from pipeline.manifest_slice import as_manifest_item
from pipeline.preparing import PreparedItem
from pipeline.reverification.draw import Batch
from pipeline.reverification.outcome import Difference, Outcome
from pipeline.run_context import RunContext
from pipeline.services import Services
from storage.items import items_between
from storage.manifests import read_locations
from storage.tables import ItemTable

#: Items that are left alone: there is nothing to read, or they end whoever computes
#: them. Their places are zero, as they were in the run.
_LEFT_ALONE = frozenset(
    {Reason.SUBJECT_ERASED, Reason.KILLED_WORKER, Reason.BROKE_COMPUTATION}
)
#: Why an input of a finished run cannot be read again.
_GONE = frozenset(
    {
        Reason.FILE_MISSING,
        Reason.FILE_CHANGED,
        Reason.FILE_UNREADABLE,
        Reason.FILE_EMPTY,
        Reason.OUTSIDE_ALLOWED_ROOTS,
        Reason.MASK_MISSING,
        Reason.MASK_UNREADABLE,
        Reason.ROW_UNREADABLE,
    }
)
#: Codes beside those of items.
INPUT_CHANGED = "input_changed"
BATCH_HALVED = "batch_halved"
ROW_MISSING = "row_missing"


@dataclass(frozen=True, slots=True)
class _Pair:
    """An item as prepared now, and its row."""

    prepared: PreparedItem
    row: ItemTable | None


def recompute(
    services: Services, context: RunContext, batch: Batch, outcome: Outcome
) -> None:
    """The batch's items are counted in the outcome.

    Raises:
        InfrastructureError: a source failed.
        StorageError: the database failed.
    """
    locations = read_locations(
        services.engine,
        context.run_id,
        first_item=batch.first_item,
        item_count=batch.item_count,
    )
    rows = {
        row.item_index: row
        for row in items_between(
            services.engine, context.run_id, batch.first_item, batch.item_count
        )
    }
    pairs = [
        _prepared(context, as_manifest_item(place), rows.get(place.item_index))
        for place in locations
    ]
    executor = context.executor
    output = executor.explain_staged(executor.stage([pair.prepared for pair in pairs]))
    if output.halved:
        outcome.not_computed[BATCH_HALVED] += len(pairs)
        return
    for pair, result in zip(pairs, output.results, strict=True):
        _compare(pair, result, outcome)


def _prepared(context: RunContext, item: ManifestItem, row: ItemTable | None) -> _Pair:
    if row is not None and row.reason in _LEFT_ALONE:
        return _Pair(PreparedItem(item=item, reason=Reason(row.reason)), row)
    return _Pair(context.preparer.prepare(item), row)


def _compare(pair: _Pair, result: ItemResult, outcome: Outcome) -> None:
    why = _why_not(pair)
    if why is not None:
        outcome.not_computed[why] += 1
    elif pair.row is not None and pair.row.record_digest == result.record_digest:
        outcome.same += 1
    else:
        outcome.differs(
            Difference(
                item_index=result.item_index,
                item_id=result.item_id,
                stored="" if pair.row is None else pair.row.record_digest.hex(),
                computed=result.record_digest.hex(),
            )
        )


def _why_not(pair: _Pair) -> str | None:
    """Return why the item says nothing of the computation, None where it does."""
    prepared, row = pair.prepared, pair.row
    if row is None:
        # The result digest lacks it too, so that the rows do not hold.
        return ROW_MISSING
    if row.reason in _LEFT_ALONE:
        return row.reason
    if prepared.reason in _GONE and prepared.reason != row.reason:
        return str(prepared.reason)
    if (prepared.content_sha256, prepared.truth_sha256) != (
        row.input_sha256,
        row.truth_sha256,
    ):
        return INPUT_CHANGED
    return None
