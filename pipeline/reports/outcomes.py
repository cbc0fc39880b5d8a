# SPDX-License-Identifier: Apache-2.0
"""How often predictions are right in each group, with intervals, and how far apart."""

import math
from collections.abc import Mapping
from typing import Any

from pipeline.breakdown import FEW
from pipeline.group_outcomes import GroupOutcome

#: Groups of a column that a report lists, the largest first; the rest is counted.
LISTED_GROUPS = 20
#: Of the standard normal distribution, for 95 %.
_Z = 1.959963984540054


def outcomes_part(
    outcomes: Mapping[str, Mapping[str, GroupOutcome]], *, independent: bool
) -> list[dict[str, Any]]:
    """Return one part a group column.

    Args:
        outcomes: By column and group.
        independent: Whether items may be taken as independent; where subjects have
            several, no interval is given.
    """
    return [
        _column(name, groups, independent=independent)
        for name, groups in outcomes.items()
        if groups
    ]


def _column(
    name: str, groups: Mapping[str, GroupOutcome], *, independent: bool
) -> dict[str, Any]:
    ordered = sorted(groups.items(), key=lambda pair: (-pair[1].items, pair[0]))
    rows = [_row(group, one, independent=independent) for group, one in ordered]
    rates = sorted(row["accuracy"] for row in rows if row["labelled"] >= FEW)
    return {
        "by": name,
        "groups": len(rows),
        "compared": len(rates),
        "gap": rates[-1] - rates[0] if len(rates) > 1 else None,
        "listed": rows[:LISTED_GROUPS],
    }


def _row(name: str, one: GroupOutcome, *, independent: bool) -> dict[str, Any]:
    return {
        "name": name,
        "items": one.items,
        "failed": one.failed,
        "labelled": one.labelled,
        "correct": one.correct,
        "accuracy": one.correct / one.labelled if one.labelled else None,
        "few": one.labelled < FEW,
        "interval": wilson(one.correct, one.labelled)
        if independent and one.labelled
        else None,
    }


def wilson(correct: int, total: int) -> dict[str, float]:
    """Return the 95 % interval of a share.

    Source: Wilson 1927, Probable inference, the law of succession, and statistical
    inference; the score interval without correction for continuity.
    """
    share = correct / total
    middle = share + _Z**2 / (2 * total)
    half = _Z * math.sqrt(share * (1 - share) / total + _Z**2 / (4 * total**2))
    scale = 1 + _Z**2 / total
    return {
        "low": max(0.0, (middle - half) / scale),
        "high": min(1.0, (middle + half) / scale),
    }
