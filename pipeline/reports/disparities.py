# SPDX-License-Identifier: Apache-2.0
"""How far the values of groups lie apart: the highest and the lowest mean of each.

Parts with few independent values are left out and counted: their means are close to
noise. A gap is a number to look into and no finding of unfairness.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from pipeline.breakdown import FEW

_GROUP = "group:"


def disparities_part(
    parts: Iterable[Mapping[str, Any]], columns: Sequence[str]
) -> dict[str, Any]:
    """Return the gaps of each value over each group column.

    Args:
        parts: The values of the report, as its document holds them.
        columns: The group columns that the audit names.
    """
    gaps = [
        _gap(part, dimension)
        for part in parts
        for dimension in part["breakdowns"]
        if dimension["by"].startswith(_GROUP)
    ]
    return {"columns": list(columns), "fewest": FEW, "gaps": gaps}


def _gap(part: Mapping[str, Any], dimension: Mapping[str, Any]) -> dict[str, Any]:
    large = [row for row in dimension["listed"] if not row["few"]]
    # Equal means keep the order of the list, the largest part first.
    ordered = sorted(large, key=lambda row: row["mean"])
    low, high = (ordered[0], ordered[-1]) if len(ordered) > 1 else (None, None)
    return {
        "value": part["name"],
        "title": part["title"],
        "direction": part["definition"]["direction"],
        "by": dimension["by"].removeprefix(_GROUP),
        "parts": dimension["parts"],
        "compared": len(large),
        "few": len(dimension["listed"]) - len(large),
        "not_listed": dimension["more"]["parts"],
        "lowest": _end(low),
        "highest": _end(high),
        "gap": None if low is None or high is None else high["mean"] - low["mean"],
        "intervals_overlap": _overlap(low, high),
    }


def _end(row: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if row is None:
        return None
    return {name: row[name] for name in ("name", "n", "mean", "interval")}


def _overlap(
    low: Mapping[str, Any] | None, high: Mapping[str, Any] | None
) -> bool | None:
    if low is None or high is None or not (low["interval"] and high["interval"]):
        return None
    return bool(low["interval"]["high"] >= high["interval"]["low"])
