# SPDX-License-Identifier: Apache-2.0
"""Which method, layer, policy, size and precision to take: searched, and learned.

``search`` finds the Pareto front of quality, time and bytes; ``fit`` and
``fit_every`` learn from recorded rewards which policy suits which kind of item, as a
``PolicyTable`` that the policy ``learned`` applies. Arrays and callables come in,
documents with a digest go out. Nothing here runs a network, times or stores.

All loads without torch, except ``explain.optimise.item_features`` and
``explain.optimise.scores``; Optuna (extra ``optimise``) is imported by ``search``.
"""

from explain.optimise.arm import Arm
from explain.optimise.fitting import fit, fit_every
from explain.optimise.front import ParetoFront
from explain.optimise.objectives import BYTES, OBJECTIVES, QUALITY, TIME, Objective
from explain.optimise.pareto import hypervolume, non_dominated
from explain.optimise.policy_table import PolicyTable
from explain.optimise.reward import Reward
from explain.optimise.search import search
from explain.optimise.space import Choice, PolicySpace, Range, Space

__all__ = [
    "BYTES",
    "OBJECTIVES",
    "QUALITY",
    "TIME",
    "Arm",
    "Choice",
    "Objective",
    "ParetoFront",
    "PolicySpace",
    "PolicyTable",
    "Range",
    "Reward",
    "Space",
    "fit",
    "fit_every",
    "hypervolume",
    "non_dominated",
    "search",
]
