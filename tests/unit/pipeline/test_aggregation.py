# SPDX-License-Identifier: Apache-2.0
"""Aggregation: counts, summaries and the choice of gallery items."""

import random
import statistics
import subprocess
import sys
from typing import Any

import pytest

from pipeline.aggregation import Aggregate
from pipeline.gallery_choice import Ranking
from pipeline.item_row import ItemRow


def row(index: int, **changes: Any) -> ItemRow:
    """Return an item that is done, with the given fields changed."""
    values: dict[str, Any] = {
        "item_index": index,
        "item_id": f"id{index}",
        "status": "done",
        "score": 0.5,
        **changes,
    }
    return ItemRow(**values)


def aggregate_of(rows: list[ItemRow], **settings: Any) -> Aggregate:
    """Return an aggregate that has seen the rows."""
    aggregate = Aggregate(**settings)
    for one in rows:
        aggregate.add(one)
    return aggregate


def many_rows(count: int) -> list[ItemRow]:
    """Return rows with distinct shuffled values of deletion_auc."""
    values = [i / count for i in range(count)]
    random.Random(5).shuffle(values)  # noqa: S311 - a test's order, no secret
    return [row(i, metrics={"deletion_auc": values[i]}) for i in range(count)]


def groups(aggregate: Aggregate) -> dict[str, list[int]]:
    """Return the item indices of each group of the gallery."""
    found: dict[str, list[int]] = {"best": [], "worst": [], "random": []}
    for pick in aggregate.gallery().picks:
        found[pick.group].append(pick.row.item_index)
    return found


def test_items_are_counted_by_status_and_reason() -> None:
    """Done and failed items are told apart, and so are their reasons."""
    counts = aggregate_of(
        [
            row(0),
            row(1, reason="insufficient_support"),
            row(2, status="failed", reason="file_missing"),
            row(3, status="failed", reason="file_missing"),
            row(7, status="failed", reason="constant_map"),
        ]
    ).counts()
    assert (counts.done, counts.failed) == (2, 3)
    assert counts.failures == {"file_missing": 2, "constant_map": 1}
    assert counts.reservations == {"insufficient_support": 1}


def test_a_failed_item_is_in_no_summary() -> None:
    """Numbers of failed items never reach a mean."""
    aggregate = aggregate_of(
        [
            row(0, metrics={"m": 1.0}),
            row(1, status="failed", reason="file_empty", metrics={"m": 9.0}),
        ]
    )
    assert aggregate.summaries()["m"].mean == 1.0
    assert aggregate.summaries()["score"].n == 1


def test_absences_are_counted_by_metric_and_reason() -> None:
    """A metric that no item has is still summarised, as empty."""
    aggregate = aggregate_of(
        [
            row(0, absences={"iou": "no_ground_truth"}),
            row(1, absences={"iou": "no_ground_truth"}),
            row(2, absences={"iou": "empty_ground_truth"}),
        ]
    )
    assert aggregate.counts().absences == {
        "iou": {"no_ground_truth": 2, "empty_ground_truth": 1}
    }
    assert aggregate.summaries()["iou"].n == 0
    assert aggregate.summaries()["iou"].mean is None


def test_accuracy_counts_labelled_items_only() -> None:
    """An item without a label is neither right nor wrong."""
    counts = aggregate_of(
        [
            row(0, predicted=3, label=3),
            row(1, predicted=3, label=4),
            row(2, predicted=3),
            row(3, label=4),
            row(4, predicted=4, label=4),
        ]
    ).counts()
    assert (counts.labelled, counts.correct) == (3, 2)
    assert counts.accuracy == pytest.approx(2 / 3)
    assert counts.predicted_classes == {3: 3, 4: 1}
    assert counts.labelled_classes == {3: 1, 4: 2}
    assert counts.correct_classes == {3: 1, 4: 1}


def test_nothing_labelled_gives_no_accuracy() -> None:
    """Without labels the accuracy is absent, not zero."""
    assert aggregate_of([row(0, predicted=1)]).counts().accuracy is None


def test_summaries_match_the_standard_library() -> None:
    """Mean, spread and median agree with an independent implementation."""
    rows = many_rows(501)
    values = [one.metrics["deletion_auc"] for one in rows]
    summary = aggregate_of(rows).summaries()["deletion_auc"]
    assert summary.n == 501
    assert summary.mean == pytest.approx(statistics.fmean(values))
    assert summary.std == pytest.approx(statistics.stdev(values))
    assert summary.median == pytest.approx(statistics.median(values))
    assert (summary.min, summary.max) == (min(values), max(values))
    assert sum(summary.histogram_counts) == 501
    assert len(summary.histogram_edges) == len(summary.histogram_counts) + 1


def test_the_interval_surrounds_the_mean() -> None:
    """The 95 % interval holds the mean and says how it was found."""
    summary = aggregate_of(many_rows(50)).summaries()["deletion_auc"]
    assert summary.mean is not None
    assert summary.interval_low is not None
    assert summary.interval_high is not None
    assert summary.interval_low < summary.mean < summary.interval_high
    assert "bootstrap" in str(summary.interval_method)


def test_one_value_has_no_interval() -> None:
    """A single value has a mean, and nothing is pretended about its uncertainty."""
    summary = aggregate_of([row(0, metrics={"m": 0.25})]).summaries()["m"]
    assert (summary.mean, summary.std, summary.interval_low) == (0.25, None, None)


def test_equal_values_have_no_spread() -> None:
    """Rounding in a sum never becomes a deviation or an interval."""
    summary = aggregate_of([row(i, metrics={"m": 0.1}) for i in range(10)]).summaries()
    same = summary["m"]
    assert {same.mean, same.median, same.interval_low, same.interval_high} == {0.1}
    assert same.std == 0.0


def test_best_and_worst_follow_the_direction_of_the_ranking() -> None:
    """Low deletion is best; the order within a group is from most to least extreme."""
    rows = many_rows(200)
    by_value = sorted(rows, key=lambda one: one.metrics["deletion_auc"])
    chosen = groups(aggregate_of(rows, gallery_size=3))
    assert chosen["best"] == [one.item_index for one in by_value[:3]]
    assert chosen["worst"] == [one.item_index for one in by_value[:-4:-1]]


def test_a_higher_is_better_ranking_is_turned_around() -> None:
    """A named ranking decides, with its own direction."""
    rows = many_rows(50)
    ranking = Ranking(name="deletion_auc", higher_is_better=True)
    turned = groups(aggregate_of(rows, gallery_size=3, rankings=[ranking]))
    usual = groups(aggregate_of(rows, gallery_size=3))
    assert (turned["best"], turned["worst"]) == (usual["worst"], usual["best"])


def test_without_deletion_the_score_ranks() -> None:
    """The first ranking that any item has is used."""
    rows = [row(i, score=i / 20) for i in range(20)]
    gallery = aggregate_of(rows, gallery_size=2).gallery()
    assert gallery.ranking == Ranking(name="score", higher_is_better=True)
    assert [p.row.item_index for p in gallery.picks[:4]] == [19, 18, 0, 1]


def test_equal_values_are_taken_in_manifest_order() -> None:
    """Ties never depend on chance."""
    chosen = groups(aggregate_of([row(i) for i in range(30)], gallery_size=2))
    assert (chosen["best"], chosen["worst"]) == ([0, 1], [29, 28])


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 7, 8, 9, 40])
def test_no_item_is_shown_twice(count: int) -> None:
    """With few items the groups share them out; with many all groups are full."""
    chosen = groups(aggregate_of(many_rows(count), gallery_size=4))
    shown = [index for group in chosen.values() for index in group]
    assert len(shown) == len(set(shown)) == min(count, 12)


def test_items_without_a_value_can_only_be_drawn_at_random() -> None:
    """An item that has nothing to rank by is neither best nor worst."""
    rows = [row(0, score=None), row(1, score=0.9), row(2, score=0.1)]
    assert groups(aggregate_of(rows)) == {"best": [1], "worst": [2], "random": [0]}


def test_failed_items_are_not_in_the_gallery() -> None:
    """There is nothing to show of an item that failed."""
    rows = [row(i, status="failed", reason="file_empty") for i in range(9)]
    gallery = aggregate_of(rows).gallery()
    assert (gallery.ranking, gallery.picks) == (None, ())


def test_the_same_seed_draws_the_same_items() -> None:
    """The random group depends on the seed, and on nothing else."""
    draws = [
        groups(aggregate_of(many_rows(500), seed=seed))["random"] for seed in (1, 1, 2)
    ]
    assert draws[0] == draws[1] != draws[2]


def test_every_item_is_drawn_about_equally_often() -> None:
    """Early and late items have the same chance."""
    rows = [row(i, score=None) for i in range(40)]
    hits = [0] * 40
    for seed in range(400):
        for index in groups(aggregate_of(rows, seed=seed, gallery_size=4))["random"]:
            hits[index] += 1
    # 400 draws with chance 4/40: mean 40, standard deviation 6.
    assert min(hits) > 40 - 5 * 6
    assert max(hits) < 40 + 5 * 6
    assert sum(hits[:20]) == pytest.approx(800, abs=5 * 20)


def test_memory_for_the_gallery_does_not_grow() -> None:
    """After many items only a handful of rows is held."""
    aggregate = aggregate_of(many_rows(5_000), gallery_size=4)
    picker = aggregate._picker
    held = [*picker._best, *picker._worst, picker._random]
    assert max(len(heap) for heap in held) <= 12


def test_items_out_of_order_are_refused() -> None:
    """The manifest's order is part of what makes a run reproducible."""
    aggregate = aggregate_of([row(4)])
    for index in (4, 3):
        with pytest.raises(ValueError, match="manifest order"):
            aggregate.add(row(index))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_number_that_is_not_finite_is_refused(value: float) -> None:
    """No NaN becomes a number."""
    with pytest.raises(ValueError, match="finite"):
        aggregate_of([row(0, metrics={"m": value})])


def test_importing_aggregation_loads_neither_torch_nor_numpy() -> None:
    """Commands that only read a report start quickly."""
    code = (
        "import sys, pipeline.aggregation;"
        "print(sorted({'torch', 'numpy', 'PIL', 'pydantic'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
