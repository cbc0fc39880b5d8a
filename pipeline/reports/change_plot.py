# SPDX-License-Identifier: Apache-2.0
"""The picture of how one value changed: its distribution now over that before.

Bars are this run; the dashed outline is the run before. Both are shares of their own
run, so that runs of different sizes can be compared. Solid and dashed lines mark the
two means.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipeline.reports.formats import count, number, percent
from pipeline.reports.plot_frame import WIDTH, Scale, axis, svg

_TOP, _TALL = 38, 88
_AXIS = _TOP + _TALL + 4
HEIGHT = _AXIS + 24
_NAME_ROOM = 110


def change_plot(part: Mapping[str, Any], plot_id: str) -> Markup:
    """Return the picture of one value of the section about change.

    Empty where there is nothing to draw: without values, or when all are equal.
    """
    histogram = part["histogram"]
    edges = histogram["edges"]
    if not edges:
        return Markup()
    scale = Scale(edges[0], edges[-1])
    before, after = _shares(histogram["before"]), _shares(histogram["after"])
    most = max(*before, *after)
    pieces = [
        _bars(edges, after, most, scale),
        _outline(edges, before, most, scale),
        _means(part, scale),
        axis(scale, _AXIS),
    ]
    return svg(
        Markup("").join(pieces),
        plot_id=plot_id,
        title=f"{part['title']}, this run and the one before",
        description=_described(part),
        size=(WIDTH, HEIGHT),
        css="change",
    )


def _described(part: Mapping[str, Any]) -> str:
    before, after = part["before"], part["after"]
    return (
        f"Before: {count(before['n'])} values, mean {number(before['mean'])}. "
        f"This run: {count(after['n'])} values, mean {number(after['mean'])}."
    )


def _shares(counts: Sequence[int]) -> list[float]:
    total = sum(counts)
    return [many / total if total else 0.0 for many in counts]


def _height(share: float, most: float) -> float:
    return round(_TALL * share / most, 2)


def _bars(
    edges: Sequence[float], shares: Sequence[float], most: float, scale: Scale
) -> Markup:
    bars = []
    for low, high, share in zip(edges, edges[1:], shares, strict=False):
        if not share:
            continue
        tall = max(1.0, _height(share, most))
        left, right = scale.x(low), scale.x(high)
        bars.append(
            Markup(
                '<rect class="bar" x="{x}" y="{y}" width="{w}" height="{h}">'
                "<title>{low} to {high}: {share} of this run</title></rect>"
            ).format(
                x=left,
                y=round(_TOP + _TALL - tall, 2),
                w=round(max(0.5, right - left - 1), 2),
                h=tall,
                low=number(low),
                high=number(high),
                share=percent(share),
            )
        )
    return Markup("").join(bars)


def _outline(
    edges: Sequence[float], shares: Sequence[float], most: float, scale: Scale
) -> Markup:
    if not any(shares):
        return Markup()
    floor = _TOP + _TALL
    points = [f"{scale.x(edges[0])},{floor}"]
    for low, high, share in zip(edges, edges[1:], shares, strict=False):
        y = round(floor - _height(share, most), 2)
        points += [f"{scale.x(low)},{y}", f"{scale.x(high)},{y}"]
    points.append(f"{scale.x(edges[-1])},{floor}")
    return Markup('<polyline class="before" points="{points}"/>').format(
        points=" ".join(points)
    )


def _means(part: Mapping[str, Any], scale: Scale) -> Markup:
    """Draw both means with their names, which lean away from each other."""
    now, before = part["after"]["mean"], part["before"]["mean"]
    pieces = []
    for name, css, row, mean, other in (
        ("now", "mean", 13, now, before),
        ("before", "median", 31, before, now),
    ):
        if mean is None:
            continue
        x = scale.x(mean)
        right = other is None or mean >= other
        if not _NAME_ROOM < x < WIDTH - _NAME_ROOM:
            right = x <= _NAME_ROOM
        pieces.append(
            Markup(
                '<line class="{css}" x1="{x}" y1="{top}" x2="{x}" y2="{foot}"/>'
                '<text class="mark" x="{at}" y="{row}" text-anchor="{anchor}">'
                "{name} {value}</text>"
            ).format(
                css=css,
                x=x,
                top=row - 12,
                foot=_TOP + _TALL,
                at=round(x + (5 if right else -5), 2),
                row=row,
                anchor="start" if right else "end",
                name=name,
                value=number(mean),
            )
        )
    # The upper name last, so that no line crosses it out.
    return Markup("").join(pieces[::-1])
