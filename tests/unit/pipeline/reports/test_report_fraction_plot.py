# SPDX-License-Identifier: Apache-2.0
"""Curves over the fraction kept: which values make one, and where points stand."""

import xml.etree.ElementTree as ET
from typing import Any

from pipeline.reports.fraction_plot import fraction_curves, fraction_plot


def part(name: str, mean: float | None) -> dict[str, Any]:
    """Return a part of the report as far as the plot looks at it."""
    return {"name": name, "mean": mean, "n": 0 if mean is None else 3}


PARTS = [
    part("threshold_recall_20", 0.5),
    part("threshold_recall_5", 0.25),
    part("threshold_iou_5", 0.1),
    part("threshold_iou_20", 0.2),
    part("threshold_precision_5", None),
    part("threshold_precision_20", 1.0),
    part("retention_auc", 0.8),
]


def test_values_at_percentages_make_a_curve() -> None:
    """In order of the percentage; a single point and other values make none."""
    assert fraction_curves(PARTS) == {
        "threshold_recall": [(5, 0.25), (20, 0.5)],
        "threshold_iou": [(5, 0.1), (20, 0.2)],
    }


def test_points_stand_where_their_means_are() -> None:
    """Twice the fraction is twice as far; the same is told in words."""
    page = str(fraction_plot(PARTS, "p"))
    tree = ET.fromstring(page)  # noqa: S314 - our own
    lines = tree.findall("polyline")
    assert len(lines) == 2
    (x5, y5), (x20, y20) = (
        tuple(map(float, point.split(",")))
        for point in lines[0].get("points", "").split()
    )
    left, right, top, bottom = 40.0, 508.0, 12.0, 162.0
    for x, y, fraction, mean in ((x5, y5, 0.05, 0.25), (x20, y20, 0.2, 0.5)):
        assert abs(x - (left + fraction * (right - left))) < 0.01
        assert abs(y - (bottom - mean * (bottom - top))) < 0.01
    told = tree.findtext("desc") or ""
    assert "recall: 0.2500 at 5 %, 0.5000 at 20 %" in told, told
    dashes = {line.get("stroke-dasharray") for line in lines}
    assert len(dashes) == 2


def test_a_metric_without_fractions_has_no_plot() -> None:
    """Nothing is drawn, not even empty axes."""
    assert str(fraction_plot([part("mprt", 0.1), part("mprt_full", 0.0)], "p")) == ""
    assert str(fraction_plot(PARTS[:1], "p")) == ""
