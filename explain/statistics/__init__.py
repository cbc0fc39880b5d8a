# SPDX-License-Identifier: Apache-2.0
"""Summaries, intervals, tests and plans: pure functions on arrays. No torch here.

Every random draw is counter-based under a seed that the caller fixes, so the same
numbers give the same result on every machine. Tests that need scipy load it when they
are called.
"""

from explain.statistics.bootstrap import (
    BOOTSTRAP_LIMIT,
    REPLICATES,
    bootstrap_mean_interval,
)
from explain.statistics.clusters import ClusterSums, cluster_sums
from explain.statistics.columns import EXACT_LIMIT, ColumnAggregate
from explain.statistics.equivalence import Equivalence, tost
from explain.statistics.families import holm
from explain.statistics.moments import Moments, moment_interval
from explain.statistics.paired import PairedTest, wilcoxon_paired
from explain.statistics.passfail import McNemar, mcnemar
from explain.statistics.planning import (
    Planned,
    items_for_criterion,
    items_for_equivalence,
    items_for_pairs,
)
from explain.statistics.sketch import QuantileSketch
from explain.statistics.summaries import (
    Histogram,
    Interval,
    Summary,
    describe,
    histogram,
)

__all__ = [
    "BOOTSTRAP_LIMIT",
    "EXACT_LIMIT",
    "REPLICATES",
    "ClusterSums",
    "ColumnAggregate",
    "Equivalence",
    "Histogram",
    "Interval",
    "McNemar",
    "Moments",
    "PairedTest",
    "Planned",
    "QuantileSketch",
    "Summary",
    "bootstrap_mean_interval",
    "cluster_sums",
    "describe",
    "histogram",
    "holm",
    "items_for_criterion",
    "items_for_equivalence",
    "items_for_pairs",
    "mcnemar",
    "moment_interval",
    "tost",
    "wilcoxon_paired",
]
