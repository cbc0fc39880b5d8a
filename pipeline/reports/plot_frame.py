# SPDX-License-Identifier: Apache-2.0
"""What all plots share: the frame with title and description, scale and axis."""

from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from pipeline.reports.formats import number

WIDTH = 520
_LEFT, _RIGHT = 12, 12


class Scale:
    """Maps values to horizontal places."""

    def __init__(self, low: float, high: float) -> None:
        self.low = low
        self.high = high if high > low else low + 1.0

    @classmethod
    def of(cls, part: Mapping[str, Any]) -> "Scale":
        """Return a scale that spans the bins, and the whole range if that is near.

        A metric between 0 and 1 is drawn from 0 to 1 when its values fill a fair
        part of it, so that plots of different metrics can be compared at a glance.
        """
        edges = part["histogram"]["edges"]
        low, high = edges[0], edges[-1]
        bounds = part["definition"]["range"]
        if bounds and bounds[1] is not None:
            whole = bounds[1] - bounds[0]
            inside = bounds[0] <= low and high <= bounds[1]
            if inside and (high - low) >= 0.25 * whole:
                return cls(bounds[0], bounds[1])
        return cls(low, high)

    def x(self, value: float) -> float:
        """Return the horizontal place of a value."""
        share = (value - self.low) / (self.high - self.low)
        share = min(1.0, max(0.0, share))
        return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 2)


def axis(scale: Scale, top: float) -> Markup:
    """Return a line below the plot with the values of its ends and middle."""
    middle = (scale.low + scale.high) / 2
    ends = (
        (scale.low, "start"),
        (middle, "middle"),
        (scale.high, "end"),
    )
    ticks = [
        Markup(
            '<line class="axis" x1="{x}" y1="{y}" x2="{x}" y2="{foot}"/>'
            '<text class="tick" x="{x}" y="{ty}" text-anchor="{anchor}">{text}</text>'
        ).format(
            x=scale.x(value),
            y=top,
            foot=top + 4,
            ty=top + 17,
            anchor=anchor,
            text=number(value),
        )
        for value, anchor in ends
    ]
    line = Markup('<line class="axis" x1="{a}" y1="{y}" x2="{b}" y2="{y}"/>').format(
        a=_LEFT, b=WIDTH - _RIGHT, y=top
    )
    return line + Markup("").join(ticks)


def svg(
    body: Markup,
    *,
    plot_id: str,
    title: str,
    description: str,
    size: tuple[int, int],
    css: str = "distribution",
    stretch: bool = False,
) -> Markup:
    """Return the drawing with what a reader who cannot see it is told."""
    aspect = Markup(' preserveAspectRatio="none"') if stretch else Markup()
    return Markup(
        '<svg class="plot {css}" viewBox="0 0 {w} {h}" role="img"{aspect} '
        'aria-labelledby="{id}-title {id}-desc">'
        '<title id="{id}-title">{title}</title><desc id="{id}-desc">{desc}</desc>'
        "{body}</svg>"
    ).format(
        css=css,
        w=size[0],
        h=size[1],
        aspect=aspect,
        id=plot_id,
        title=escape(title),
        desc=escape(description),
        body=body,
    )
