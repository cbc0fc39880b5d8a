# SPDX-License-Identifier: Apache-2.0
"""What every metric is asked."""

from typing import Protocol

from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn


class Metric(Protocol):
    """A way to judge explanations; the same instance serves many batches."""

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return one column for each value key that the card names."""
