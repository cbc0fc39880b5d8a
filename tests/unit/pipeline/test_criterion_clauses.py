# SPDX-License-Identifier: Apache-2.0
"""Criteria with a family, a confidence or parts: what they say, how they end."""

import dataclasses

import numpy as np
import pytest

from pipeline.aggregation import Aggregate
from pipeline.criteria import parse_criterion
from pipeline.criterion_clauses import require_columns
from pipeline.errors import SpecError
from pipeline.item_row import ItemRow
from pipeline.judging import LISTED_PARTS, judge_closely

KNOWN = {"deletion_auc", "insertion_auc"}


@pytest.mark.parametrize(
    ("text", "confidence", "by"),
    [
        ("deletion_auc.mean <= 0.2", None, None),
        ("faithfulness.deletion_auc.mean <= 0.2", None, None),
        ("faithfulness.deletion_auc.mean<=0.2 with 95% confidence", 0.95, None),
        ("deletion_auc.mean <= 0.2 with 99.5 % confidence", 0.995, None),
        ("deletion_auc.mean <= 0.2 on all items with 90% confidence", 0.9, None),
        ("deletion_auc.mean <= 0.2 by class", None, "class"),
        ("score.mean > 0 by group:scanner type", None, "group:scanner type"),
        (
            "deletion_auc.mean <= 0.2 by group:site with 95% confidence",
            0.95,
            "group:site",
        ),
        ("deletion_auc.mean <= 0.2 with 95% confidence by class", 0.95, "class"),
    ],
)
def test_clauses_are_read(text: str, confidence: float | None, by: str | None) -> None:
    """The comparison is the same whatever stands beside it."""
    found = parse_criterion(text, KNOWN)
    assert (found.confidence, found.by) == (confidence, by)
    assert found.text == text
    assert found.aggregate == "mean"
    assert found.is_plain == (confidence is None and by is None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("localisation.deletion_auc.mean <= 0.2", "belongs to faithfulness"),
        ("nothing.deletion_auc.mean <= 0.2", "not a criterion"),
        ("deletion_auc.median <= 0.2 with 95% confidence", "only a mean"),
        ("deletion_auc.p95 <= 0.2 by class", "only a mean"),
        ("items_failed.fraction <= 0.2 with 95% confidence", "only a mean"),
        ("deletion_auc.mean == 0.2 with 95% confidence", "no finite"),
        ("deletion_auc.mean <= 0.2 with 100% confidence", "expected 50 to 99.9"),
        ("deletion_auc.mean <= 0.2 with confidence", "ends in 'with confidence'"),
        ("deletion_auc.mean <= 0.2 by site", "ends in 'by site'"),
        ("deletion_auc.mean <= 0.2 by class by class", "says twice which items"),
        (
            "deletion_auc.mean <= 0.2 with 90% confidence with 95% confidence",
            "says twice a confidence",
        ),
    ],
)
def test_senseless_clauses_are_refused(text: str, message: str) -> None:
    """The sentence says what is wrong before any work is done."""
    with pytest.raises(SpecError, match=message):
        parse_criterion(text, KNOWN)


def test_parts_are_columns_of_the_audit() -> None:
    """A group that the data does not name is refused with the nearest one."""
    require_columns("c", "class", ())
    require_columns("c", "group:site", ("site",))
    with pytest.raises(SpecError, match="did you mean 'site'"):
        require_columns("c", "group:sites", ("site",))


def rows(values: list[float], *, site: str = "A", start: int = 0) -> list[ItemRow]:
    """Return explained items of one site."""
    return [
        ItemRow(
            item_index=start + place,
            item_id=f"id{place}",
            status="done",
            target=place % 2,
            metrics={"deletion_auc": value},
            groups={"site": site},
        )
        for place, value in enumerate(values)
    ]


def aggregate_of(items: list[ItemRow], *, subjects: bool = False) -> Aggregate:
    """Return the aggregate of the items in order."""
    found = Aggregate(groups=("site",), subjects=subjects)
    for place, item in enumerate(items):
        found.add(dataclasses.replace(item, item_index=place))
    return found


def around(mean: float, count: int = 100) -> list[float]:
    """Return values with exactly that mean and a deviation of about 0.1."""
    values = np.random.default_rng(1).normal(0, 0.1, size=count)
    return list(values - values.mean() + mean)


@pytest.mark.parametrize(
    ("mean", "wanted"), [(0.1, "pass"), (0.21, "inconclusive"), (0.3, "fail")]
)
@pytest.mark.parametrize(("op", "mirror"), [("<=", 1), (">=", -1)])
def test_the_interval_decides(mean: float, wanted: str, op: str, mirror: int) -> None:
    """Wholly right passes, wholly wrong fails, and straddling is told as that."""
    values = [mirror * value for value in around(mean)]
    criterion = parse_criterion(
        f"deletion_auc.mean {op} {mirror * 0.2} with 95% confidence"
    )
    found = judge_closely(criterion, aggregate_of(rows(values)))
    assert found.verdict == wanted
    assert found.n == 100
    assert found.observed == pytest.approx(mirror * mean)
    assert found.interval is not None
    assert found.interval["confidence"] == 0.95
    assert (found.reason is not None) == (wanted == "inconclusive")


def test_a_higher_confidence_is_harder_to_satisfy() -> None:
    """What passes at 80 % may be open at 99.9 %."""
    items = rows(around(0.185))
    verdicts = [
        judge_closely(
            parse_criterion(f"deletion_auc.mean <= 0.2 with {c}% confidence"),
            aggregate_of(items),
        ).verdict
        for c in (80, 99.9)
    ]
    assert verdicts == ["pass", "inconclusive"]


def test_a_handful_of_values_decides_nothing() -> None:
    """However good they look, fewer than eight independent values are too few."""
    criterion = parse_criterion("deletion_auc.mean <= 0.2 with 95% confidence")
    few = judge_closely(criterion, aggregate_of(rows(around(0.01, 7))))
    assert few.verdict == "inconclusive"
    assert few.reason is not None
    assert "Fewer than 8" in few.reason
    nothing = judge_closely(criterion, aggregate_of([]))
    assert (nothing.verdict, nothing.n) == ("incomplete", 0)


def test_subjects_and_not_photographs_are_counted() -> None:
    """Many photographs of five persons decide nothing either."""
    criterion = parse_criterion("deletion_auc.mean <= 0.2 with 95% confidence")
    items = [
        dataclasses.replace(item, subject_token=f"s{place % 5}")
        for place, item in enumerate(rows(around(0.1)))
    ]
    found = judge_closely(criterion, aggregate_of(items, subjects=True))
    assert found.verdict == "inconclusive"
    assert found.interval is not None
    assert found.interval["independent"] == 5


@pytest.mark.parametrize(
    ("second", "clause", "wanted"),
    [
        (0.15, "", "pass"),
        (0.21, "", "fail"),
        (0.15, " with 95% confidence", "pass"),
        (0.21, " with 95% confidence", "inconclusive"),
        (0.3, " with 95% confidence", "fail"),
    ],
)
def test_every_part_must_hold(second: float, clause: str, wanted: str) -> None:
    """One group decides for all, and is the first that is listed."""
    items = [*rows(around(0.1)), *rows(around(second), site="B")]
    criterion = parse_criterion(f"deletion_auc.mean <= 0.2 by group:site{clause}")
    found = judge_closely(criterion, aggregate_of(items))
    assert (found.verdict, found.by, found.parts_total) == (wanted, "group:site", 2)
    assert found.observed == pytest.approx(second)
    if wanted != "pass":
        assert found.parts[0]["part"] == "B"
        assert found.parts[0]["verdict"] == wanted


def test_a_group_whose_items_all_failed_is_not_passed_over() -> None:
    """Without a value of one group the criterion is not met."""
    failed = ItemRow(
        item_index=0, item_id="x", status="failed", groups={"site": "gone"}
    )
    criterion = parse_criterion("deletion_auc.mean <= 0.2 by group:site")
    found = judge_closely(criterion, aggregate_of([*rows(around(0.1)), failed]))
    assert found.verdict == "incomplete"
    assert found.parts[0] == {
        "part": "gone",
        "verdict": "incomplete",
        "n": 0,
        "mean": None,
        "interval": None,
    }


def test_many_parts_are_listed_in_part() -> None:
    """The worst parts come first and the others are counted."""
    items = [
        dataclasses.replace(item, target=place // 10)
        for place, item in enumerate(rows([0.1] * 300))
    ]
    criterion = parse_criterion("deletion_auc.mean <= 0.2 by class")
    found = judge_closely(criterion, aggregate_of(items))
    assert len(found.parts) == LISTED_PARTS
    assert (found.parts_total, found.n) == (30, 300)


def test_in_null_audits_by_group_hardly_any_fails() -> None:
    """Among twenty groups that all hold, none is failed by chance at 95 %."""
    criterion = parse_criterion(
        "deletion_auc.mean <= 0 by group:site with 95% confidence"
    )
    failed = 0
    for audit in range(200):
        random = np.random.Generator(np.random.Philox(key=[20_261_127, audit]))
        items = [
            row
            for group in range(20)
            for row in rows(list(random.normal(size=30)), site=str(group))
        ]
        failed += judge_closely(criterion, aggregate_of(items)).verdict == "fail"
    assert failed / 200 <= 0.066
