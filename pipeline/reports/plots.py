# SPDX-License-Identifier: Apache-2.0
"""Plots as inline SVG: text stays text, colours come from the page's style sheet.

What a mark means never hangs on its colour alone: the mean is a solid line, the median
a dashed one, the interval of the mean a hatched bar that the solid line crosses. Every
plot has a title and a description for readers who cannot see it.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup

from pipeline.reports.formats import count, number, percent
from pipeline.reports.plot_frame import WIDTH, Scale, axis, svg

#: What the name of a line takes beside it.
_NAME_ROOM = 82
_BARS_TOP, _BARS_HEIGHT = 26, 96
_BAND_TOP, _BAND_HEIGHT = _BARS_TOP + _BARS_HEIGHT + 6, 9
_BOX_CENTRE = _BAND_TOP + _BAND_HEIGHT + 15
_AXIS = _BOX_CENTRE + 15
HEIGHT = _AXIS + 22


def distribution(part: Mapping[str, Any], plot_id: str) -> Markup:
    """Return the histogram and box of a column of the report.

    Empty where there is no distribution: without values, or when all are equal.

    Args:
        part: A metric or column of the JSON report.
        plot_id: Unique within the page.
    """
    if not part["n"] or part["min"] == part["max"]:
        return Markup()
    scale = Scale.of(part)
    pieces = [
        _bars(part["histogram"], scale),
        _interval(part, scale, plot_id),
        _box(part, scale),
        _lines(part, scale),
        axis(scale, _AXIS),
    ]
    return svg(
        Markup("").join(pieces),
        plot_id=plot_id,
        title=f"Distribution of {part['title']}",
        description=_described(part),
        size=(WIDTH, HEIGHT),
    )


def _described(part: Mapping[str, Any]) -> str:
    text = (
        f"{count(part['n'])} values from {number(part['min'])} to "
        f"{number(part['max'])}; mean {number(part['mean'])}, median "
        f"{number(part['median'])}, half of them between {number(part['p25'])} and "
        f"{number(part['p75'])}"
    )
    if part["interval"]:
        low, high = number(part["interval"]["low"]), number(part["interval"]["high"])
        text += f"; 95 % interval of the mean {low} to {high}"
    return text + "."


def _bars(histogram: Mapping[str, Sequence[float]], scale: Scale) -> Markup:
    edges, counts = histogram["edges"], histogram["counts"]
    most = max(counts)
    bars = []
    for low, high, many in zip(edges, edges[1:], counts, strict=False):
        if not many:
            continue
        # At least a pixel, or a single outlier among a million would vanish.
        tall = max(1.0, round(_BARS_HEIGHT * many / most, 2))
        left, right = scale.x(low), scale.x(high)
        bars.append(
            Markup(
                '<rect class="bar" x="{x}" y="{y}" width="{w}" height="{h}">'
                "<title>{low} to {high}: {many}</title></rect>"
            ).format(
                x=left,
                y=round(_BARS_TOP + _BARS_HEIGHT - tall, 2),
                w=round(max(0.5, right - left - 1), 2),
                h=tall,
                low=number(low),
                high=number(high),
                many=count(int(many)),
            )
        )
    return Markup("").join(bars)


def _interval(part: Mapping[str, Any], scale: Scale, plot_id: str) -> Markup:
    interval = part["interval"]
    if not interval:
        return Markup()
    low, high = scale.x(interval["low"]), scale.x(interval["high"])
    return Markup(
        '<defs><pattern id="{plot}-hatch" width="5" height="5" '
        'patternUnits="userSpaceOnUse" patternTransform="rotate(45)">'
        '<rect class="band" width="5" height="5"/>'
        '<line class="hatch" x1="0" y1="0" x2="0" y2="5"/></pattern></defs>'
        '<rect class="interval" x="{x}" y="{y}" width="{w}" height="{h}" '
        'fill="url(#{plot}-hatch)"><title>95 % interval of the mean: '
        "{from_} to {to}</title></rect>"
    ).format(
        plot=plot_id,
        x=low,
        y=_BAND_TOP,
        w=round(max(1.5, high - low), 2),
        h=_BAND_HEIGHT,
        from_=number(interval["low"]),
        to=number(interval["high"]),
    )


def _lines(part: Mapping[str, Any], scale: Scale) -> Markup:
    """Draw mean and median with their names, which lean away from each other.

    Near an edge both names lean inwards; the one that must pass over the other's line
    then has the upper row, where that line has not begun.
    """
    mean, median = scale.x(part["mean"]), scale.x(part["median"])
    mean_right = _leans_right(mean, away=mean > median)
    median_right = _leans_right(median, away=median >= mean)
    mean_on_top = mean_right != median_right or (mean < median) == mean_right
    rows = (9, 21) if mean_on_top else (21, 9)
    lines, names = [], []
    for name, x, right, row, foot in (
        ("mean", mean, mean_right, rows[0], _BAND_TOP + _BAND_HEIGHT + 1),
        ("median", median, median_right, rows[1], _BARS_TOP + _BARS_HEIGHT),
    ):
        lines.append(
            Markup(
                '<line class="{name}" x1="{x}" y1="{top}" x2="{x}" y2="{foot}"/>'
            ).format(name=name, x=x, top=row - 8, foot=foot)
        )
        names.append(
            Markup(
                '<text class="mark" x="{x}" y="{y}" text-anchor="{anchor}">'
                "{name} {value}</text>"
            ).format(
                x=round(x + (5 if right else -5), 2),
                y=row,
                anchor="start" if right else "end",
                name=name,
                value=number(part[name]),
            )
        )
    # Names last: a line behind a name must not cross it out.
    return Markup("").join([*lines, *names])


def _leans_right(x: float, *, away: bool) -> bool:
    """Return on which side a name stands: away from the other, unless at an edge."""
    if _NAME_ROOM < x < WIDTH - _NAME_ROOM:
        return away
    return x <= _NAME_ROOM


def _box(part: Mapping[str, Any], scale: Scale) -> Markup:
    """Draw whiskers from p05 to p95, a box from p25 to p75 and dots at the ends."""
    at = {key: scale.x(part[key]) for key in ("p05", "p25", "median", "p75", "p95")}
    return Markup(
        '<g class="box"><title>Box: {p25} to {p75}; whiskers: {p05} to {p95} (5 % and '
        "95 %); dots: least {least} and greatest {greatest}</title>"
        '<line x1="{w0}" y1="{y}" x2="{w1}" y2="{y}"/>'
        '<line x1="{w0}" y1="{a}" x2="{w0}" y2="{b}"/>'
        '<line x1="{w1}" y1="{a}" x2="{w1}" y2="{b}"/>'
        '<rect x="{b0}" y="{t}" width="{bw}" height="14" rx="2"/>'
        '<line class="middle" x1="{m}" y1="{t}" x2="{m}" y2="{f}"/>'
        '<circle cx="{lo}" cy="{y}" r="2"/><circle cx="{hi}" cy="{y}" r="2"/></g>'
    ).format(
        p05=number(part["p05"]),
        p25=number(part["p25"]),
        p75=number(part["p75"]),
        p95=number(part["p95"]),
        least=number(part["min"]),
        greatest=number(part["max"]),
        w0=at["p05"],
        w1=at["p95"],
        b0=at["p25"],
        bw=round(max(1.0, at["p75"] - at["p25"]), 2),
        m=at["median"],
        lo=scale.x(part["min"]),
        hi=scale.x(part["max"]),
        y=_BOX_CENTRE,
        a=_BOX_CENTRE - 4,
        b=_BOX_CENTRE + 4,
        t=_BOX_CENTRE - 7,
        f=_BOX_CENTRE + 7,
    )


def keep_bar(requested: float | None, achieved: float | None, plot_id: str) -> Markup:
    """Return a bar of the fraction kept, with a mark at the fraction asked for."""
    if achieved is None:
        return Markup()
    width, height = 160, 10
    mark = Markup()
    described = f"{percent(achieved)} kept"
    if requested is not None:
        mark = Markup('<line class="asked" x1="{x}" y1="0" x2="{x}" y2="{h}"/>').format(
            x=round(width * min(1.0, requested), 2), h=height
        )
        described += f", {percent(requested)} asked for"
    body = (
        Markup(
            '<rect class="trough" width="{w}" height="{h}" rx="2"/>'
            '<rect class="kept" width="{k}" height="{h}" rx="2"/>'
        ).format(w=width, h=height, k=round(width * min(1.0, achieved), 2))
        + mark
    )
    return svg(
        body,
        plot_id=plot_id,
        title="Fraction kept",
        description=described,
        size=(width, height),
        css="keep",
    )


def parts_bar(parts: Sequence[tuple[str, int]], plot_id: str, title: str) -> Markup:
    """Return one bar cut into named parts, such as items done, failed and missing.

    The first word of a part's name is its class in the style sheet.
    """
    total = sum(many for _, many in parts)
    if not total:
        return Markup()
    width, height = 1000, 14
    x = 0.0
    pieces = []
    for name, many in parts:
        if not many:
            continue
        wide = width * many / total
        pieces.append(
            Markup(
                '<rect class="part-{name}" x="{x}" width="{w}" height="{h}">'
                "<title>{name}: {many}</title></rect>"
            ).format(
                name=name,
                x=round(x, 2),
                w=round(max(2.0, wide - 2), 2),
                h=height,
                many=count(many),
            )
        )
        x += wide
    return svg(
        Markup("").join(pieces),
        plot_id=plot_id,
        title=title,
        description=", ".join(f"{name} {count(many)}" for name, many in parts) + ".",
        size=(width, height),
        css="parts",
        stretch=True,
    )
