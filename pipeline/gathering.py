# SPDX-License-Identifier: Apache-2.0
"""The aggregate of a run's stored items, as the finaliser and later readers make it."""

from collections.abc import Callable, Iterator, Mapping

from pipeline.aggregation import Aggregate
from pipeline.grouped_items import with_groups
from pipeline.item_row import ItemRow
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.spec import AuditSpec
from storage.items import iterate_items
from storage.tables import ItemTable, RunTable


def new_aggregate(run: RunTable) -> Aggregate:
    """Return an aggregate with the seed, groups and subjects of the run's audit."""
    spec = AuditSpec.model_validate(run.spec)
    return Aggregate(
        seed=RunPlan.from_json(run.plan).seed,
        groups=spec.data.columns.groups,
        subjects=spec.has_subjects,
    )


def item_rows(services: Services, run: RunTable) -> Iterator[tuple[ItemTable, ItemRow]]:
    """Yield a run's items in manifest order, each as stored and as aggregates take it.

    About a chunk is in memory at a time.
    """
    wanted = bool(run.spec["data"]["columns"]["groups"])
    rows = iterate_items(services.engine, run.id)
    for row, groups in with_groups(services.engine, run.id, rows, wanted=wanted):
        yield row, as_item_row(row, groups)


def gather_values(
    services: Services,
    run: RunTable,
    *,
    on_items: Callable[[int], None] = lambda _count: None,
) -> Aggregate:
    """Return the aggregate of the run's items so far."""
    aggregate = new_aggregate(run)
    for _, item in item_rows(services, run):
        aggregate.add(item)
        on_items(1)
    return aggregate


def as_item_row(row: ItemTable, groups: Mapping[str, str]) -> ItemRow:
    """Return a stored row as aggregates take it."""
    return ItemRow(
        item_index=row.item_index,
        item_id=row.item_id,
        status=row.status,
        reason=row.reason,
        predicted=row.predicted,
        target=row.target,
        label=row.label,
        score=row.score,
        keep_requested=row.keep_requested,
        keep_achieved=row.keep_achieved,
        metrics=row.metrics,
        absences=row.absences,
        subject_token=row.subject_token,
        groups=groups,
    )
