# SPDX-License-Identifier: Apache-2.0
"""What a run's metrics give for one batch, by value."""

from collections.abc import Sequence

from explain.metrics import Metric, MetricBatch
from pipeline.batch_rows import Columns


def measured_columns(metrics: Sequence[Metric], batch: MetricBatch) -> Columns:
    """Return each value's numbers, and the reasons of those that are absent."""
    return {
        key: (column.values.tolist(), column.absent)
        for metric in metrics
        for key, column in metric.measure(batch).items()
    }
