# SPDX-License-Identifier: Apache-2.0
"""Threshold policies: which part of a map is kept, and how much that was.

A policy turns float32 maps of any number of positions into masks with the
requested and the achieved fraction; ``sweep_fractions`` measures the masks of all
fractions at once, and ``fit`` finds one fraction a class. Nothing here resizes,
stores or judges. The cards load without torch; the rest is imported when it is asked
for.
"""

from typing import TYPE_CHECKING, Any

from explain.thresholds.cards import POLICIES, PolicyCard
from explain.thresholds.status import ThresholdStatus

if TYPE_CHECKING:
    from explain.thresholds.calibration import Calibration, fit, fit_table
    from explain.thresholds.fixed import FixedKeep
    from explain.thresholds.policy import (
        Levels,
        Need,
        ThresholdContext,
        ThresholdPolicy,
        ThresholdResult,
        mask_from_cut,
    )
    from explain.thresholds.registry import create_policy
    from explain.thresholds.sweep import Sweep, sweep_fractions

__all__ = [
    "POLICIES",
    "Calibration",
    "FixedKeep",
    "Levels",
    "Need",
    "PolicyCard",
    "Sweep",
    "ThresholdContext",
    "ThresholdPolicy",
    "ThresholdResult",
    "ThresholdStatus",
    "create_policy",
    "fit",
    "fit_table",
    "mask_from_cut",
    "sweep_fractions",
]


def __getattr__(name: str) -> Any:
    """Return an export that needs torch, importing it now."""
    from importlib import import_module  # noqa: PLC0415 - only when one is asked for

    homes = {
        "Calibration": "explain.thresholds.calibration",
        "FixedKeep": "explain.thresholds.fixed",
        "Levels": "explain.thresholds.policy",
        "Need": "explain.thresholds.policy",
        "Sweep": "explain.thresholds.sweep",
        "ThresholdContext": "explain.thresholds.policy",
        "ThresholdPolicy": "explain.thresholds.policy",
        "ThresholdResult": "explain.thresholds.policy",
        "create_policy": "explain.thresholds.registry",
        "fit": "explain.thresholds.calibration",
        "fit_table": "explain.thresholds.calibration",
        "mask_from_cut": "explain.thresholds.policy",
        "sweep_fractions": "explain.thresholds.sweep",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(homes[name]), name)
