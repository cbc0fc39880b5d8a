# SPDX-License-Identifier: Apache-2.0
"""Values that a metric gives at several keep-fractions, as curves in inline SVG."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipeline.reports.curve_plot import at_fraction, at_share, axes, plot_size
from pipeline.reports.formats import number

#: `threshold_precision_10` is the value of the curve `threshold_precision` at 10 %.
_AT_PERCENT = re.compile(r"(?P<curve>.+)_(?P<percent>[1-9][0-9]?|100)")
#: Told apart without colour.
_DASHES = ("none", "7 4", "2 4", "9 3 2 3")


def fraction_curves(
    parts: Sequence[Mapping[str, Any]],
) -> dict[str, list[tuple[int, float]]]:
    """Return the mean of each curve at each percentage, of curves with two points."""
    found: dict[str, list[tuple[int, float]]] = {}
    for part in parts:
        match = _AT_PERCENT.fullmatch(part["name"])
        if match and part["n"]:
            point = (int(match["percent"]), float(part["mean"]))
            found.setdefault(match["curve"], []).append(point)
    return {name: sorted(curve) for name, curve in found.items() if len(curve) > 1}


def fraction_plot(parts: Sequence[Mapping[str, Any]], plot_id: str) -> Markup:
    """Return the curves of one metric's values; empty where it has none."""
    curves = fraction_curves(parts)
    if not curves:
        return Markup()
    width, height = plot_size()
    told = "; ".join(
        f"{_title(name)}: "
        + ", ".join(f"{number(mean)} at {percent} %" for percent, mean in curve)
        for name, curve in curves.items()
    )
    lines = Markup("").join(
        _line(name, curve, _DASHES[place % len(_DASHES)])
        for place, (name, curve) in enumerate(curves.items())
    )
    return Markup(
        '<svg class="plot levels" viewBox="0 0 {w} {h}" role="img" '
        'aria-labelledby="{id}-title {id}-desc"><title id="{id}-title">Means by '
        'fraction kept</title><desc id="{id}-desc">{told}.</desc>{axes}{lines}</svg>'
    ).format(w=width, h=height, id=plot_id, told=told, axes=axes(), lines=lines)


def _line(name: str, curve: Sequence[tuple[int, float]], dash: str) -> Markup:
    points = [(at_fraction(percent / 100), at_share(mean)) for percent, mean in curve]
    path = " ".join(f"{x},{y}" for x, y in points)
    dots = Markup("").join(
        Markup('<circle cx="{}" cy="{}" r="3"><title>{} at {} %: {}</title></circle>')
        .format(x, y, _title(name), percent, number(mean))
        for (x, y), (percent, mean) in zip(points, curve, strict=True)
    )  # fmt: skip
    x, y = points[-1]
    return Markup(
        '<polyline class="curve" points="{}" fill="none" stroke-dasharray="{}"/>{}'
        '<text class="tick" x="{}" y="{}">{}</text>'
    ).format(path, dash, dots, round(x + 7, 2), round(y + 4, 2), _title(name))


def _title(name: str) -> str:
    """Return the curve's last word, which is what tells it from its neighbours."""
    return name.rsplit("_", 1)[-1]
