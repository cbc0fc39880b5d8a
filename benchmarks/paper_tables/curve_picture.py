# SPDX-License-Identifier: Apache-2.0
"""The precision-recall curve by threshold as an SVG picture of plain shapes."""

from collections.abc import Mapping, Sequence
from typing import Any

WIDTH, HEIGHT, MARGIN = 560, 400, 56
INK, LINE, GRID = "#3b4250", "#1f4e9c", "#e4e7ec"
NAMED = (1, 5, 10, 20, 50)


def picture(points: Sequence[Mapping[str, Any]]) -> str:
    """Return the curve; whiskers are 95 % intervals at the named percentages."""
    line = " ".join("{:.1f},{:.1f}".format(*_at(point)) for point in points)
    named = [p for p in points if _percent(p) in NAMED]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="12" fill="{INK}">'
        "<title>Precision over recall of the object, by fraction kept</title>"
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>'
        + "".join(_tick(tick / 5) for tick in range(6))
        + f'<polyline points="{line}" fill="none" stroke="{LINE}" stroke-width="2"/>'
        + "".join(_mark(point) for point in named)
        + f'<text x="{WIDTH / 2:.0f}" y="{HEIGHT - 14}" text-anchor="middle">'
        "recall of the object</text>"
        f'<text x="16" y="{HEIGHT / 2:.0f}" text-anchor="middle" '
        f'transform="rotate(-90 16 {HEIGHT / 2:.0f})">precision</text></svg>\n'
    )


def _percent(point: Mapping[str, Any]) -> int:
    return round(100 * point["keep"])


def _place(recall: float, precision: float) -> tuple[float, float]:
    return (
        MARGIN + recall * (WIDTH - 2 * MARGIN),
        HEIGHT - MARGIN - precision * (HEIGHT - 2 * MARGIN),
    )


def _at(point: Mapping[str, Any]) -> tuple[float, float]:
    return _place(point["recall"]["value"], point["precision"]["value"])


def _tick(value: float) -> str:
    x, y = _place(value, value)
    low, right = HEIGHT - MARGIN, WIDTH - MARGIN
    return (
        f'<path d="M{x:.1f} {MARGIN}V{low}M{MARGIN} {y:.1f}H{right}" stroke="{GRID}"/>'
        f'<text x="{x:.1f}" y="{low + 18}" text-anchor="middle">{value:g}</text>'
        f'<text x="{MARGIN - 8}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
    )


def _mark(point: Mapping[str, Any]) -> str:
    x, y = _at(point)
    whiskers = ""
    recall, precision = point["recall"], point["precision"]
    if recall["low"] is not None and precision["low"] is not None:
        left, low = _place(recall["low"], precision["low"])
        right, high = _place(recall["high"], precision["high"])
        whiskers = (
            f'<path d="M{left:.1f} {y:.1f}H{right:.1f}M{x:.1f} {low:.1f}V{high:.1f}" '
            f'stroke="{LINE}" stroke-opacity="0.35"/>'
        )
    return (
        f'{whiskers}<circle cx="{x:.1f}" cy="{y:.1f}" r="4" fill="{LINE}"/>'
        f'<text x="{x + 8:.1f}" y="{y - 6:.1f}" fill="{LINE}">{_percent(point)} %'
        "</text>"
    )
