# SPDX-License-Identifier: Apache-2.0
"""Measuring how a run differs from the one before it of the same audit.

Runs are compared that explain the same way: same method, target, policy and metrics,
with the same parameters. Spec, weights and data may have changed; that is said. Rows
pass through in chunks, so that memory does not grow with them.
"""

import zlib
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from explain.change_statistics import (
    ColumnStream,
    ks_statistic,
    mean_change,
    population_stability_index,
    shared_histogram,
)
from pipeline.item_row import SCORE
from pipeline.run_change import RunChange, ValueChange
from storage.earlier_runs import runs_before
from storage.item_pairs import (
    common_items,
    distinct_items,
    iterate_figures,
    iterate_pairs,
)
from storage.states import ItemStatus
from storage.tables import RunTable

#: Facts of the plan that two runs must share to be compared.
_SAME = (
    "method",
    "method_arguments",
    "remedies",
    "grid",
    "target",
    "policy",
    "policy_arguments",
    "metrics",
    "metric_arguments",
)

#: Bins of the picture of one value.
BINS = 24


def change_since(
    engine: sa.Engine, run: RunTable, *, alive: Callable[[], None]
) -> RunChange | None:
    """Return how the run differs from the one before, None where there is none.

    A run over another one's failed items has none: it is no turn of the audit.
    """
    if run.parent_run_id is not None:
        return None
    previous = previous_run(engine, run)
    if previous is None:
        return None
    return measure_change(engine, run, previous, alive=alive)


def previous_run(engine: sa.Engine, run: RunTable) -> RunTable | None:
    """Return the newest older run of the audit that can be compared, None if none."""
    found = runs_before(engine, run.spec["audit"], run.created_at)
    return next((one for one in found if _explains_alike(one, run)), None)


def _explains_alike(one: RunTable, other: RunTable) -> bool:
    return all(one.plan.get(name) == other.plan.get(name) for name in _SAME)


@dataclass(slots=True)
class _Side:
    """What one run says, gathered chunk by chunk."""

    seed: int
    number: int
    done: int = 0
    classes: Counter[int] = field(default_factory=Counter)
    columns: dict[str, ColumnStream] = field(default_factory=dict)

    def take(self, rows: Sequence[Any]) -> None:
        chunk: dict[str, list[float]] = {}
        for row in rows:
            if row.status != ItemStatus.DONE:
                continue
            self.done += 1
            if row.predicted is not None:
                self.classes[row.predicted] += 1
            for name, value in _numbers(row.score, row.metrics):
                chunk.setdefault(name, []).append(value)
        _extend(self.columns, chunk, self.seed, self.number)


@dataclass(slots=True)
class _Pairs:
    """What the items that both runs have say."""

    seed: int
    compared: int = 0
    predicted_otherwise: int = 0
    content_changed: int = 0
    columns: dict[str, ColumnStream] = field(default_factory=dict)

    def take(self, rows: Sequence[Any]) -> None:
        chunk: dict[str, list[float]] = {}
        for row in rows:
            digests = row.input_sha256_0, row.input_sha256_1
            self.content_changed += None not in digests and digests[0] != digests[1]
            if not row.status_0 == row.status_1 == ItemStatus.DONE:
                continue
            classes = row.predicted_0, row.predicted_1
            if None not in classes:
                self.compared += 1
                self.predicted_otherwise += classes[0] != classes[1]
            before = dict(_numbers(row.score_0, row.metrics_0))
            for name, value in _numbers(row.score_1, row.metrics_1):
                if name in before:
                    chunk.setdefault(name, []).append(value - before[name])
        _extend(self.columns, chunk, self.seed, 2)


def _numbers(
    score: float | None, metrics: Mapping[str, float]
) -> list[tuple[str, float]]:
    found = list(metrics.items())
    if score is not None:
        found.append((SCORE, score))
    return found


def _extend(
    columns: dict[str, ColumnStream],
    chunk: Mapping[str, list[float]],
    seed: int,
    side: int,
) -> None:
    for name, values in chunk.items():
        if name not in columns:
            # The name and the side tell the draws of one sample from another's.
            number = zlib.crc32(name.encode()) * 4 + side
            columns[name] = ColumnStream(seed, number)
        columns[name].extend(values)


def measure_change(
    engine: sa.Engine,
    run: RunTable,
    previous: RunTable,
    *,
    alive: Callable[[], None] = lambda: None,
) -> RunChange:
    """Return how the run differs from the one before.

    Args:
        engine: The database.
        run: The run, whose shards are all final.
        previous: The run before it.
        alive: Called now and again.
    """
    seed = int(run.plan["seed"])
    before, after, pairs = _Side(seed, 0), _Side(seed, 1), _Pairs(seed)
    for side, found in ((before, previous), (after, run)):
        for rows in iterate_figures(engine, found.id):
            side.take(rows)
            alive()
    for rows in iterate_pairs(engine, previous.id, run.id):
        pairs.take(rows)
        alive()
    common = common_items(engine, previous.id, run.id)
    alive()
    return RunChange(
        previous=previous.id,
        previous_finished=previous.finished_at,
        spec_is_same=previous.spec_digest == run.spec_digest,
        model_is_same=previous.model_digest == run.model_digest,
        items_before=previous.items_total,
        items_after=run.items_total,
        common=common,
        only_before=distinct_items(engine, previous.id) - common,
        only_after=distinct_items(engine, run.id) - common,
        content_changed=pairs.content_changed,
        failed_before=_without(before, previous),
        failed_after=_without(after, run),
        compared=pairs.compared,
        predicted_otherwise=pairs.predicted_otherwise,
        classes_before=before.classes,
        classes_after=after.classes,
        class_psi=population_stability_index(before.classes, after.classes),
        values=_values(before, after, pairs, seed, alive),
    )


def _without(side: _Side, run: RunTable) -> float:
    """Return the share of a run's items that have no explanation."""
    return (run.items_total - side.done) / run.items_total


def _values(
    before: _Side,
    after: _Side,
    pairs: _Pairs,
    seed: int,
    alive: Callable[[], None],
) -> dict[str, ValueChange]:
    found = {}
    for name in sorted(before.columns.keys() | after.columns.keys()):
        none = ColumnStream(seed, 0)
        one, two = before.columns.get(name, none), after.columns.get(name, none)
        alive()
        found[name] = ValueChange(
            n_before=one.n,
            n_after=two.n,
            mean_before=one.mean,
            mean_after=two.mean,
            change=mean_change(one, two, pairs.columns.get(name, none), seed=seed),
            ks=ks_statistic(one.sample, two.sample),
            is_exact=one.is_whole and two.is_whole,
            histogram=shared_histogram(one.sample, two.sample, BINS),
        )
    return found
