# SPDX-License-Identifier: Apache-2.0
"""Which values two runs can be compared by."""

from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.comparison import _common_values
from pipeline.errors import SpecError


def runs(*plans: dict[str, Any]) -> Any:
    """Return contenders with such plans, as far as values are concerned."""
    return [SimpleNamespace(run=SimpleNamespace(plan=plan)) for plan in plans]


def test_values_are_compared_where_both_runs_measure_them_alike() -> None:
    """Other parameters make another number; defaults written out do not."""
    one = {"metrics": ["deletion", "insertion", "entropy"]}
    two = {
        "metrics": ["entropy", "insertion", "deletion"],
        "metric_arguments": {"deletion": {"steps": 7}, "insertion": {"steps": 20}},
    }
    assert _common_values(runs(one, two)) == ["insertion_auc", "entropy"]


def test_what_describes_the_item_is_no_contest() -> None:
    """Neither side can be better at the texture of a picture."""
    plan = {"metrics": ["failure_cases", "entropy"]}
    assert _common_values(runs(plan, plan)) == ["entropy"]


def test_runs_that_measure_nothing_alike_are_refused() -> None:
    """The sentence says that parameters count."""
    one = {"metrics": ["deletion"]}
    two = {"metrics": ["deletion"], "metric_arguments": {"deletion": {"steps": 7}}}
    with pytest.raises(SpecError, match="under the same parameters"):
        _common_values(runs(one, two))
