# SPDX-License-Identifier: Apache-2.0
"""The page of a comparison, drawn from its JSON: tables and a Pareto plot."""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipeline.reports.formats import number
from pipeline.reports.html import CONTENT_POLICY, environment

_WIDTH, _HEIGHT, _MARGIN = 520, 260, 44


def render_comparison(document: Mapping[str, Any]) -> str:
    """Return the page of a comparison."""
    template = environment().get_template("comparison.html.j2")
    return template.render(
        comparison=document,
        policy=CONTENT_POLICY,
        plot=pareto_plot(document["runs"], document["quality"]),
    )


def pareto_plot(rows: Sequence[Mapping[str, Any]], quality: str) -> Markup:
    """Return quality over seconds an item; filled points are on the front."""
    points = [
        (row["seconds_per_item"], row["means"][quality], row)
        for row in rows
        if row["seconds_per_item"] is not None and row["means"][quality] is not None
    ]
    if not points:
        return Markup()
    most = max(x for x, _, _ in points) or 1.0
    low, high = min(y for _, y, _ in points), max(y for _, y, _ in points)
    span = (high - low) or 1.0
    marks = []
    for index, (x, y, row) in enumerate(points, start=1):
        across = _MARGIN + x / most * (_WIDTH - 2 * _MARGIN)
        down = _HEIGHT - _MARGIN - (y - low) / span * (_HEIGHT - 2 * _MARGIN)
        marks.append(
            Markup(
                '<circle class="{css}" cx="{x}" cy="{y}" r="6"><title>{label}: {q}, '
                '{s} s an item</title></circle><text class="tick" x="{tx}" y="{ty}">'
                "{index}</text>"
            ).format(
                css="front" if row["on_front"] else "behind",
                x=round(across, 1),
                y=round(down, 1),
                label=row["label"],
                q=number(y),
                s=number(x),
                tx=round(across + 9, 1),
                ty=round(down - 6, 1),
                index=index,
            )
        )
    return Markup(
        '<svg class="plot pareto" viewBox="0 0 {w} {h}" role="img" aria-labelledby='
        '"pareto-title"><title id="pareto-title">{quality} over seconds an item</title>'
        '<line class="axis" x1="{m}" y1="{b}" x2="{r}" y2="{b}"/>'
        '<line class="axis" x1="{m}" y1="{m}" x2="{m}" y2="{b}"/>'
        '<text class="tick" x="{r}" y="{t}" text-anchor="end">{most} s an item</text>'
        '<text class="tick" x="{m}" y="{u}">{quality}: {low} to {high}</text>{marks}'
        "</svg>"
    ).format(
        w=_WIDTH,
        h=_HEIGHT,
        m=_MARGIN,
        b=_HEIGHT - _MARGIN + 8,
        r=_WIDTH - _MARGIN,
        t=_HEIGHT - _MARGIN + 28,
        u=_MARGIN - 14,
        quality=quality,
        most=number(most),
        low=number(low),
        high=number(high),
        marks=Markup("").join(marks),
    )
