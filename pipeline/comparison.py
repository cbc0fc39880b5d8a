# SPDX-License-Identifier: Apache-2.0
"""Finished runs over the same items, set beside each other pair by pair.

The first run is the reference. The family of tests is every other run times every value
that the audits measure, fixed before any result is read; a test without pairs counts
with p = 1. An item is a pair where both runs explained the same bytes.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from explain.metrics.cards import METRICS, Direction
from explain.statistics import bootstrap_mean_interval, holm, tost, wilcoxon_paired
from ledger.entries import Action
from pipeline.deeds import record_deed
from pipeline.errors import SpecError
from pipeline.gathering import item_rows
from pipeline.judging import interval_document
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from storage.runs import list_shards
from storage.states import ItemStatus, RunState
from storage.tables import ItemTable, RunTable

SCHEMA = "affidavit.comparison/1"
ALPHA = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """A finished run that takes part.

    Attributes:
        run: The run.
        peak_bytes: Most memory above the start while it ran; None where unknown.
    """

    run: RunTable
    peak_bytes: int | None = None

    @property
    def label(self) -> str:
        """Method and policy, which tell it from the others."""
        plan = RunPlan.from_json(self.run.plan)
        return f"{plan.method_name} {plan.policy_name}"


@dataclass(slots=True)
class _Pairs:
    """What two runs say of the same items, one value at a time."""

    differences: dict[str, list[float]] = field(default_factory=dict)
    subjects: dict[str, list[str]] = field(default_factory=dict)


def compare_runs(
    services: Services,
    contenders: Sequence[Contender],
    *,
    margin: float | None = None,
    quality: str | None = None,
) -> dict[str, Any]:
    """Return the comparison as a JSON object; the ledger tells of the reading.

    Args:
        services: Database and stores.
        contenders: Two or more, the reference first.
        margin: The largest difference that does not matter, for equivalence.
        quality: The value that the Pareto front is about; None takes the first.

    Raises:
        SpecError: fewer than two runs, one that is not finished, or no common value.
    """
    _require_finished(contenders)
    values = _common_values(contenders)
    quality = quality or values[0]
    if quality not in values:
        raise SpecError(
            f"--quality: the runs have no '{quality}' in common; they have "
            f"{', '.join(values)}."
        )
    for contender in contenders:
        record_deed(
            services,
            Action.RESULTS_READ,
            f"run/{contender.run.id}",
            details={"purpose": "comparison"},
        )
    tests = _tests(services, contenders, values, margin)
    rows = [_row(services, contender, values) for contender in contenders]
    _mark_front(rows, quality)
    return {
        "schema": SCHEMA,
        "reference": contenders[0].run.id,
        "quality": quality,
        "alpha": ALPHA,
        "margin": margin,
        "family": len(tests),
        "runs": rows,
        "tests": tests,
    }


def _require_finished(contenders: Sequence[Contender]) -> None:
    if len(contenders) < 2:
        raise SpecError("a comparison needs at least two runs.")
    for contender in contenders:
        if contender.run.state != RunState.DONE:
            raise SpecError(
                f"The run {contender.run.id} is {contender.run.state}; only finished "
                "runs can be compared."
            )
    if len({contender.run.id for contender in contenders}) < len(contenders):
        raise SpecError("a run is named twice; name each once.")


def _common_values(contenders: Sequence[Contender]) -> list[str]:
    """Return the values that every audit measures alike, by their cards alone.

    What describes the item and judges no explanation is left out.
    """
    settings = [_settings(contender.run.plan) for contender in contenders]
    common = [
        value
        for name, arguments in settings[0].items()
        if all(other.get(name) == arguments for other in settings)
        for value in METRICS[name].values
        if METRICS[name].direction_of(value) is not Direction.NEITHER
    ]
    if not common:
        raise SpecError(
            "the runs measure no value in common under the same parameters; name "
            "metrics in the spec."
        )
    return common


def _settings(plan: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return each known metric's parameters; a number of others is another number."""
    given = plan.get("metric_arguments") or {}
    return {
        name: METRICS[name].arguments(given.get(name) or {})
        for name in plan["metrics"]
        if name in METRICS
    }


def _tests(
    services: Services,
    contenders: Sequence[Contender],
    values: Sequence[str],
    margin: float | None,
) -> list[dict[str, Any]]:
    reference = contenders[0].run
    seed = RunPlan.from_json(reference.plan).seed
    found: list[dict[str, Any]] = []
    for other in contenders[1:]:
        pairs = _paired(services, reference, other.run, values)
        found.extend(
            {
                "run": other.run.id,
                "label": other.label,
                "value": value,
                "direction": str(direction_of(value)),
                **_test(pairs, value, seed, margin),
            }
            for value in values
        )
    adjusted = holm({str(i): one["p_value"] for i, one in enumerate(found)})
    for place, one in enumerate(found):
        one["p_holm"] = adjusted[str(place)]
        one["verdict"] = _verdict(one)
    return found


def _test(pairs: _Pairs, value: str, seed: int, margin: float | None) -> dict[str, Any]:
    differences = pairs.differences.get(value, [])
    subjects = pairs.subjects.get(value) or None
    test = wilcoxon_paired(differences, subjects=subjects)
    interval = bootstrap_mean_interval(differences, subjects=subjects, seed=seed)
    same = None
    if margin is not None and differences:
        same = asdict(tost(differences, margin, alpha=ALPHA, subjects=subjects))
    return {
        "pairs": len(differences),
        "mean_difference": (
            sum(differences) / len(differences) if differences else None
        ),
        "interval": interval_document(interval),
        "rank_biserial": test.rank_biserial,
        "p_value": test.p_value,
        "zeros": test.zeros,
        "ties": test.ties,
        "method": test.method,
        "by_subject": test.by_subject,
        "equivalence": same,
    }


def _verdict(test: Mapping[str, Any]) -> str:
    """Return `better`, `worse` or `open`, as seen from the reference."""
    if test["p_holm"] > ALPHA or not test["rank_biserial"]:
        return "open"
    rises = test["rank_biserial"] > 0
    return "better" if rises == (test["direction"] == Direction.HIGHER) else "worse"


def _paired(
    services: Services, first: RunTable, second: RunTable, values: Sequence[str]
) -> _Pairs:
    found = _Pairs()
    for one, two in _same_items(services, first, second):
        for value in values:
            if value in one.metrics and value in two.metrics:
                difference = two.metrics[value] - one.metrics[value]
                found.differences.setdefault(value, []).append(difference)
                if one.subject_token is not None:
                    found.subjects.setdefault(value, []).append(one.subject_token)
                else:
                    found.subjects.setdefault(value, [])
    if any(
        0 < len(found.subjects[value]) < len(found.differences[value])
        for value in found.differences
    ):
        raise SpecError("some items have a subject and others none; mend the manifest.")
    return found


def _same_items(
    services: Services, first: RunTable, second: RunTable
) -> Iterator[tuple[ItemTable, ItemTable]]:
    """Yield the rows of items that both runs explained, from the same bytes."""
    ones = (row for row, _ in item_rows(services, first))
    twos = (row for row, _ in item_rows(services, second))
    one, two = next(ones, None), next(twos, None)
    while one is not None and two is not None:
        if one.item_index < two.item_index:
            one = next(ones, None)
        elif two.item_index < one.item_index:
            two = next(twos, None)
        else:
            done = one.status == two.status == ItemStatus.DONE
            if done and one.input_sha256 == two.input_sha256:
                yield one, two
            one, two = next(ones, None), next(twos, None)


def direction_of(value: str) -> Direction:
    """Return which way a better explanation moves a value of a known metric."""
    for card in METRICS.values():
        if value in card.values:
            return card.direction_of(value)
    raise SpecError(f"No metric has the value '{value}'.")


def _row(
    services: Services, contender: Contender, values: Sequence[str]
) -> dict[str, Any]:
    run = contender.run
    sums: dict[str, list[float]] = {value: [] for value in values}
    for row, _ in item_rows(services, run):
        for value in values:
            if row.status == ItemStatus.DONE and value in row.metrics:
                sums[value].append(row.metrics[value])
    stored = sum(
        shard.size_bytes or 0 for shard in list_shards(services.engine, run.id)
    )
    seconds = None
    if run.started_at is not None and run.finished_at is not None:
        seconds = (run.finished_at - run.started_at) / run.items_total
    return {
        "run": run.id,
        "label": contender.label,
        "items": run.items_total,
        "means": {
            value: sum(held) / len(held) if held else None
            for value, held in sums.items()
        },
        "values": {value: len(held) for value, held in sums.items()},
        "seconds_per_item": seconds,
        "bytes_per_item": stored / run.items_total,
        "peak_bytes": contender.peak_bytes,
        "result_digest": run.result_digest,
    }


def _mark_front(rows: Sequence[dict[str, Any]], quality: str) -> None:
    """Each row says whether none beats it in quality, time and bytes together."""
    sign = -1.0 if direction_of(quality) is Direction.HIGHER else 1.0

    def costs(row: Mapping[str, Any]) -> tuple[float, ...] | None:
        mean, seconds = row["means"][quality], row["seconds_per_item"]
        if mean is None or seconds is None:
            return None
        return (sign * mean, seconds, row["bytes_per_item"])

    points = [costs(row) for row in rows]
    for row, own in zip(rows, points, strict=True):
        row["on_front"] = own is not None and not any(
            other is not None
            and other != own
            and all(a <= b for a, b in zip(other, own, strict=True))
            for other in points
        )
