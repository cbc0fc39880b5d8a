# SPDX-License-Identifier: Apache-2.0
"""The curve of a multi-level policy as inline SVG: energy kept over fraction kept."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipeline.reports.formats import number, percent

_WIDTH, _HEIGHT = 520, 190
_LEFT, _RIGHT, _TOP, _FOOT = 40, 12, 12, 28


def level_plot(curve: Sequence[Mapping[str, Any]], plot_id: str) -> Markup:
    """Return the curve; empty below two levels, which make none."""
    if len(curve) < 2:
        return Markup()
    points = [
        (at_fraction(row["keep_achieved"]), at_share(row["energy_retained"]))
        for row in curve
    ]
    path = " ".join(f"{x},{y}" for x, y in points)
    dots = Markup("").join(
        Markup(
            '<circle cx="{}" cy="{}" r="4"><title>{} kept: {}</title></circle>'
        ).format(x, y, percent(row["keep_achieved"]), number(row["energy_retained"]))
        for (x, y), row in zip(points, curve, strict=True)
    )
    told = "; ".join(
        f"{percent(row['keep_achieved'])} of the positions hold "
        f"{percent(row['energy_retained'])}"
        for row in curve
    )
    return Markup(
        '<svg class="plot levels" viewBox="0 0 {w} {h}" role="img" '
        'aria-labelledby="{id}-title {id}-desc"><title id="{id}-title">Energy kept by '
        'level</title><desc id="{id}-desc">{told}.</desc>{axes}'
        '<polyline class="curve" points="{path}" fill="none"/>{dots}</svg>'
    ).format(
        w=_WIDTH, h=_HEIGHT, id=plot_id, told=told, axes=axes(), path=path, dots=dots
    )


def plot_size() -> tuple[int, int]:
    """Return width and height of the plot."""
    return _WIDTH, _HEIGHT


def axes() -> Markup:
    """Return the axes of a share from 0 to 1 over the fraction kept."""
    bottom, right = _HEIGHT - _FOOT, _WIDTH - _RIGHT
    return Markup(
        '<line class="axis" x1="{l}" y1="{b}" x2="{r}" y2="{b}"/>'
        '<line class="axis" x1="{l}" y1="{t}" x2="{l}" y2="{b}"/>'
        '<text class="tick" x="{l}" y="{f}" text-anchor="middle">0 %</text>'
        '<text class="tick" x="{r}" y="{f}" text-anchor="end">100 % kept</text>'
        '<text class="tick" x="{n}" y="{t2}" text-anchor="end">1</text>'
        '<text class="tick" x="{n}" y="{b}" text-anchor="end">0</text>'
    ).format(
        l=_LEFT, b=bottom, r=right, t=_TOP, f=bottom + 17, n=_LEFT - 6, t2=_TOP + 6
    )


def at_fraction(fraction: float) -> float:
    """Return where a fraction kept lies from the left."""
    return round(_LEFT + fraction * (_WIDTH - _LEFT - _RIGHT), 2)


def at_share(energy: float) -> float:
    """Return where a share from 0 to 1 lies from the top."""
    return round(_HEIGHT - _FOOT - energy * (_HEIGHT - _FOOT - _TOP), 2)
