# SPDX-License-Identifier: Apache-2.0
"""Criteria with a confidence or by part: pass, fail, or inconclusive.

With a confidence the two-sided interval of the mean decides, the same that the report
shows: it lies wholly on the right side of the bound (pass), wholly on the wrong side
(fail), or straddles it (inconclusive). By part all parts must pass, which needs no
correction; that one of k parts fails is said at a confidence of 1 - (1 - c) / k, or
among many parts some would fail by chance (Bonferroni, the parts being fixed by the
manifest).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pipeline.aggregation import Aggregate
from pipeline.breakdown import FEWEST_FOR_INTERVAL, Part
from pipeline.criteria import OPERATORS, Criterion
from pipeline.reports.formats import number_of
from pipeline.reports.inputs import CriterionVerdict, Verdict

if TYPE_CHECKING:
    from explain.statistics import Interval

#: Parts that a verdict lists, the worst first; the rest are counted.
LISTED_PARTS = 20
#: Verdicts from the worst to the best.
_WORST_FIRST: tuple[Verdict, ...] = ("fail", "incomplete", "inconclusive", "pass")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """One part, or all items, beside the bound."""

    part: Part | None
    verdict: Verdict
    n: int
    mean: float | None
    interval: "Interval | None" = None


def judge_closely(criterion: Criterion, aggregate: Aggregate) -> CriterionVerdict:
    """Return how a criterion with a confidence, or by part, came out."""
    if criterion.by is None:
        return _whole(criterion, aggregate)
    return _by_part(criterion, aggregate, criterion.by)


def _whole(criterion: Criterion, aggregate: Aggregate) -> CriterionVerdict:
    moments = aggregate.moments(criterion.metric)
    if not moments.n:
        return _absent(criterion)
    interval = aggregate.interval(
        criterion.metric, confidence=criterion.confidence or 0.95
    )
    verdict = _beside(criterion, interval, interval)
    return CriterionVerdict(
        criterion=criterion.text,
        verdict=verdict,
        observed=moments.mean,
        bound=criterion.number,
        reason=_why(verdict, interval),
        n=moments.n,
        interval=interval_document(interval),
    )


def _absent(criterion: Criterion) -> CriterionVerdict:
    return CriterionVerdict(
        criterion=criterion.text,
        verdict="incomplete",
        observed=None,
        bound=criterion.number,
        reason=f"No item has {criterion.metric}, so {criterion.text!r} is not met.",
        n=0,
    )


def _why(verdict: Verdict, interval: "Interval | None") -> str | None:
    if verdict != "inconclusive":
        return None
    if interval is None or (interval.clusters or 0) < FEWEST_FOR_INTERVAL:
        return f"Fewer than {FEWEST_FOR_INTERVAL} independent values stand behind it."
    return "The interval of the mean straddles the bound; more items would tell."


def _beside(
    criterion: Criterion, interval: "Interval | None", wide: "Interval | None"
) -> Verdict:
    """Return the verdict of an interval, failing by the wider one."""
    if (
        interval is None
        or wide is None
        or (interval.clusters or 0) < FEWEST_FOR_INTERVAL
    ):
        return "inconclusive"
    holds = OPERATORS[criterion.op]
    falls = criterion.op.startswith("<")
    if holds(interval.high if falls else interval.low, criterion.number):
        return "pass"
    if not holds(wide.low if falls else wide.high, criterion.number):
        return "fail"
    return "inconclusive"


def _by_part(
    criterion: Criterion, aggregate: Aggregate, dimension: str
) -> CriterionVerdict:
    parts = aggregate.parts(dimension)
    if not parts:
        return _absent(criterion)
    judged = [_judged(criterion, aggregate, dimension, part, parts) for part in parts]
    verdicts = [one.verdict for one in judged]
    overall = next(word for word in _WORST_FIRST if word in verdicts)
    judged.sort(key=lambda one: _WORST_FIRST.index(one.verdict))
    means = [one.mean for one in judged if one.mean is not None]
    worst = max if criterion.op.startswith("<") else min
    return CriterionVerdict(
        criterion=criterion.text,
        verdict=overall,
        observed=worst(means) if means else None,
        bound=criterion.number,
        reason=_told(overall, verdicts),
        n=sum(one.n for one in judged),
        by=dimension,
        parts=tuple(_part_document(one) for one in judged[:LISTED_PARTS]),
        parts_total=len(judged),
    )


def _judged(
    criterion: Criterion,
    aggregate: Aggregate,
    dimension: str,
    part: Part,
    parts: Sequence[Part],
) -> _Judged:
    broken = aggregate.breakdown(dimension)
    name = criterion.metric
    moments = broken.moments(name, part)
    if not moments.n:
        return _Judged(part=part, verdict="incomplete", n=0, mean=None)
    if criterion.confidence is None:
        holds = OPERATORS[criterion.op](moments.mean, criterion.number)
        verdict: Verdict = "pass" if holds else "fail"
        return _Judged(part=part, verdict=verdict, n=moments.n, mean=moments.mean)
    interval = broken.interval(name, part, confidence=criterion.confidence)
    shared = 1 - (1 - criterion.confidence) / len(parts)
    wide = broken.interval(name, part, confidence=shared)
    return _Judged(
        part=part,
        verdict=_beside(criterion, interval, wide),
        n=moments.n,
        mean=moments.mean,
        interval=interval,
    )


def _told(overall: Verdict, verdicts: Sequence[Verdict]) -> str | None:
    if overall == "pass":
        return None
    counted = [
        f"{number_of(verdicts.count(word), 'part')} {said}"
        for word, said in (
            ("fail", "failed"),
            ("incomplete", "without a value"),
            ("inconclusive", "inconclusive"),
            ("pass", "passed"),
        )
        if word in verdicts
    ]
    return f"Of {number_of(len(verdicts), 'part')}: {', '.join(counted)}."


def interval_document(interval: "Interval | None") -> dict[str, Any] | None:
    """Return an interval as the report holds it."""
    if interval is None:
        return None
    return {
        "low": interval.low,
        "high": interval.high,
        "confidence": interval.confidence,
        "independent": interval.clusters,
        "method": interval.method,
    }


def _part_document(one: _Judged) -> dict[str, Any]:
    return {
        "part": one.part,
        "verdict": one.verdict,
        "n": one.n,
        "mean": one.mean,
        "interval": interval_document(one.interval),
    }
