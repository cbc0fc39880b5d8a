# SPDX-License-Identifier: Apache-2.0
"""Preset for road scenes: every peak counts, however small or far away.

A pedestrian in the distance is a small, weak peak beside a near car. The rule is
that of ``multi_peak`` with peaks from a fifth of the maximum and close together.
The values are a convention, not a measured truth.
"""

from dataclasses import dataclass

from explain.thresholds.multi_peak import MultiPeak


@dataclass(frozen=True, slots=True)
class Driving(MultiPeak):
    """Keeps the part around each peak, small and distant ones included."""

    beta: float = 0.2
    gamma: float = 0.6
    distance: float = 0.04

    @property
    def name(self) -> str:
        """The name that the policy is registered under."""
        return "driving"
