# SPDX-License-Identifier: Apache-2.0
"""Threshold policies: which part of a map is kept, and how much that was.

A policy turns float32 maps of any number of positions into masks with the
requested and the achieved fraction. Nothing here resizes, stores or judges. The
cards load without torch; the rest is imported when it is asked for.
"""

from typing import TYPE_CHECKING, Any

from explain.thresholds.cards import POLICIES, PolicyCard
from explain.thresholds.status import ThresholdStatus

if TYPE_CHECKING:
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

__all__ = [
    "POLICIES",
    "FixedKeep",
    "Levels",
    "Need",
    "PolicyCard",
    "ThresholdContext",
    "ThresholdPolicy",
    "ThresholdResult",
    "ThresholdStatus",
    "create_policy",
    "mask_from_cut",
]


def __getattr__(name: str) -> Any:
    """Return an export that needs torch, importing it now."""
    from importlib import import_module  # noqa: PLC0415 - only when one is asked for

    homes = {
        "FixedKeep": "explain.thresholds.fixed",
        "Levels": "explain.thresholds.policy",
        "Need": "explain.thresholds.policy",
        "ThresholdContext": "explain.thresholds.policy",
        "ThresholdPolicy": "explain.thresholds.policy",
        "ThresholdResult": "explain.thresholds.policy",
        "create_policy": "explain.thresholds.registry",
        "mask_from_cut": "explain.thresholds.policy",
    }
    if name not in homes:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(homes[name]), name)
