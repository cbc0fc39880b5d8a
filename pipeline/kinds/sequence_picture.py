# SPDX-License-Identifier: Apache-2.0
"""The picture of a sequence: its features over time, its importance beneath.

One SVG without scripts or links. Long sequences are drawn in bins: the line spans the
least and greatest value of a bin, the strip shows the value that is furthest from zero,
and a bin is marked as kept where any of its steps is. No torch here.
"""

from collections.abc import Sequence
from itertools import groupby

import numpy as np
import numpy.typing as npt
from markupsafe import Markup

from explain.sequences.choices import FEATURE, STEP
from pipeline.kinds.kind import UnitMap
from pipeline.reports.inputs import Picture

#: Width of the page's column, and of the names at the left.
_WIDTH, _NAMES = 560, 92
_PLOT = _WIDTH - _NAMES - 8
_LINE, _STRIP, _GAP = 34, 12, 6
#: Most bins along the time axis, and most features that are drawn.
_BINS, _FEATURES = 230, 12
#: Shades of importance; equal neighbours are drawn as one.
_SHADES = 16
_FOR, _AGAINST = "var(--pass)", "var(--fail)"
#: Most runs of kept steps that the description names.
_NAMED = 12

Floats = npt.NDArray[np.floating]
Bools = npt.NDArray[np.bool_]


def drawn(
    unit_map: UnitMap, values: Floats | None, names: Sequence[str], per: str
) -> Picture:
    """Return the picture of one explanation.

    Args:
        unit_map: The explanation.
        values: (T, F) as in the source, None where they may not be shown.
        names: Of the features.
        per: What a unit is.
    """
    rows = _rows(unit_map, values, names, per)
    parts: list[Markup] = []
    top = 4
    for row in rows:
        parts.append(row.drawn_at(top))
        top += row.height + _GAP
    if per != FEATURE:
        parts.append(_axis(top + 8, unit_map.values.shape[1]))
        top += 16
    parts.append(_legend(top))
    height = top + 18
    about = _described(unit_map, names, per)
    fragment = Markup(
        '<svg viewBox="0 0 {w} {h}" width="{w}" height="{h}" role="img"'
        ' aria-label="{about}" style="font:11px var(--sans);fill:var(--ink)">'
        "<title>{about}</title>{body}</svg>"
    ).format(w=_WIDTH, h=height, about=about, body=Markup("").join(parts))
    return Picture(
        title=f"What speaks for {unit_map.target} over time"
        if per != FEATURE
        else f"Which features speak for {unit_map.target}",
        description=about,
        fragment=str(fragment),
    )


class _Row:
    """One line of the picture: a name, a curve or none, a strip or none."""

    def __init__(
        self,
        name: str,
        curve: Floats | None,
        strip: Floats | None,
        kept: Bools | None,
        highest: float,
    ) -> None:
        self._name = name
        self._curve = curve
        self._strip = strip
        self._kept = kept
        self._highest = highest

    @property
    def height(self) -> int:
        """In pixels."""
        curve = 0 if self._curve is None else _LINE
        return curve + (0 if self._strip is None else _STRIP)

    def drawn_at(self, top: int) -> Markup:
        """Return the row with its upper edge there."""
        parts = [
            Markup('<text x="0" y="{y}">{name}<title>{whole}</title></text>').format(
                y=top + self.height // 2 + 4, name=_short(self._name), whole=self._name
            )
        ]
        below = top
        if self._curve is not None:
            below += _LINE
            if self._kept is not None:
                parts.append(_bands(self._kept, top, _LINE))
            parts.append(_line(self._curve, top))
        if self._strip is not None and self._kept is not None:
            parts.append(_shaded(self._strip, self._highest, below))
            parts.append(_frames(self._kept, below))
        return Markup("").join(parts)


def _rows(
    unit_map: UnitMap, values: Floats | None, names: Sequence[str], per: str
) -> list[_Row]:
    """Return the rows of the picture, the strip of all features last."""
    shown = list(names[:_FEATURES])
    highest = float(np.abs(unit_map.values).max(initial=0.0))
    rows = []
    common = unit_map.mask[0] if per == STEP else None
    for place, name in enumerate(shown):
        curve = None if values is None else values[:, place]
        own, kept = None, common
        if per != STEP:
            own, kept = unit_map.values[place], unit_map.mask[place]
        if curve is not None or own is not None:
            rows.append(_Row(name, curve, own, kept, highest))
    if len(names) > len(shown):
        rest = f"and {len(names) - len(shown)} more"
        rows.append(_Row(rest, None, np.zeros(0), np.zeros(0, dtype=bool), highest))
    if per == STEP:
        rows.append(
            _Row("importance", None, unit_map.values[0], unit_map.mask[0], highest)
        )
    return rows


def _bins(steps: int) -> npt.NDArray[np.intp]:
    """Return where each bin begins."""
    count = min(steps, _BINS)
    return (np.arange(count) * steps) // max(count, 1)


def _x(place: int, count: int) -> float:
    return round(_NAMES + _PLOT * place / count, 1)


def _line(curve: Floats, top: int) -> Markup:
    """Return a curve over time, scaled to its own least and greatest value."""
    starts = _bins(len(curve))
    low = np.minimum.reduceat(curve, starts)
    high = np.maximum.reduceat(curve, starts)
    least, most = float(low.min()), float(high.max())
    span = most - least or 1.0
    room = _LINE - 6

    def y(value: float) -> float:
        return round(top + 3 + room * (1 - (value - least) / span), 1)

    points = []
    for place, (down, up) in enumerate(zip(low, high, strict=True)):
        x = _x(place, len(starts)) + _PLOT / len(starts) / 2
        points += [f"{x:.1f},{y(value)}" for value in dict.fromkeys((down, up))]
    return Markup(
        '<polyline points="{points}" fill="none" style="stroke:var(--ink)"'
        ' stroke-width="1"><title>{least:.4g} to {most:.4g}</title></polyline>'
    ).format(points=" ".join(points), least=least, most=most)


def _shaded(strip: Floats, highest: float, top: int) -> Markup:
    """Return the importance as shades of two colours."""
    if not len(strip):
        return Markup()
    starts = _bins(len(strip))
    down = np.minimum.reduceat(strip, starts)
    up = np.maximum.reduceat(strip, starts)
    furthest = np.where(-down > up, down, up) / (highest or 1.0)
    shades = np.rint(furthest * _SHADES).astype(int)
    cells = []
    for shade, first, behind in _runs(shades.tolist()):
        if shade:
            left, right = _x(first, len(starts)), _x(behind, len(starts))
            cells.append(
                Markup(
                    '<rect x="{x}" y="{y}" width="{w:.1f}" height="{h}" style="fill:'
                    '{colour}" fill-opacity="{o:.2f}"/>'
                ).format(
                    x=left,
                    y=top,
                    w=right - left,
                    h=_STRIP,
                    colour=_FOR if shade > 0 else _AGAINST,
                    o=abs(shade) / _SHADES,
                )
            )
    frame = Markup(
        '<rect x="{x}" y="{y}" width="{w}" height="{h}" fill="none"'
        ' style="stroke:var(--rule)"/>'
    ).format(x=_NAMES, y=top, w=_PLOT, h=_STRIP)
    return Markup("").join(cells) + frame


def _kept_runs(kept: Bools) -> list[tuple[float, float]]:
    """Return the left and right end of each run of kept bins."""
    if not len(kept):
        return []
    starts = _bins(len(kept))
    any_kept = np.logical_or.reduceat(kept, starts).tolist()
    return [
        (_x(first, len(starts)), _x(behind, len(starts)))
        for there, first, behind in _runs(any_kept)
        if there
    ]


def _bands(kept: Bools, top: int, height: int) -> Markup:
    """Return faint bands behind a curve where steps are kept."""
    return Markup("").join(
        Markup(
            '<rect x="{x}" y="{y}" width="{w:.1f}" height="{h}"'
            ' style="fill:var(--band)" fill-opacity=".22"/>'
        ).format(x=left, y=top, w=right - left, h=height)
        for left, right in _kept_runs(kept)
    )


def _frames(kept: Bools, top: int) -> Markup:
    """Return outlines of the kept parts of a strip."""
    return Markup("").join(
        Markup(
            '<rect class="kept" x="{x}" y="{y}" width="{w:.1f}" height="{h}"'
            ' fill="none" style="stroke:var(--ink)" stroke-width="1.5"/>'
        ).format(x=left, y=top, w=max(right - left, 1.5), h=_STRIP)
        for left, right in _kept_runs(kept)
    )


def _axis(foot: int, steps: int) -> Markup:
    """Return the numbers of the first and the last step."""
    return Markup(
        '<text x="{left}" y="{y}">step 1</text>'
        '<text x="{right}" y="{y}" text-anchor="end">step {steps}</text>'
    ).format(left=_NAMES, right=_NAMES + _PLOT, y=foot, steps=steps)


def _legend(top: int) -> Markup:
    """Return what the colours mean."""
    parts = []
    for x, colour, text in (
        (_NAMES, _FOR, "speaks for the class"),
        (_NAMES + 150, _AGAINST, "speaks against it"),
    ):
        parts.append(
            Markup(
                '<rect x="{x}" y="{y}" width="10" height="10" style="fill:{colour}"/>'
                '<text x="{tx}" y="{ty}">{text}</text>'
            ).format(x=x, y=top + 3, colour=colour, tx=x + 14, ty=top + 12, text=text)
        )
    parts.append(
        Markup(
            '<rect x="{x}" y="{y}" width="10" height="10" fill="none"'
            ' style="stroke:var(--ink)" stroke-width="1.5"/>'
            '<text x="{tx}" y="{ty}">kept</text>'
        ).format(x=_NAMES + 290, y=top + 3, tx=_NAMES + 304, ty=top + 12)
    )
    return Markup("").join(parts)


def _described(unit_map: UnitMap, names: Sequence[str], per: str) -> str:
    """Return the explanation for those who cannot see it."""
    rows, steps = unit_map.values.shape
    kept = int(unit_map.mask.sum())
    if per == FEATURE:
        there = [
            name for name, one in zip(names, unit_map.mask[:, 0], strict=True) if one
        ]
        return f"Importance of {rows} features; kept: {', '.join(there) or 'none'}."
    found = [
        f"{first + 1}" if behind == first + 1 else f"{first + 1} to {behind}"
        for there, first, behind in _runs(
            np.logical_or.reduce(unit_map.mask, axis=0).tolist()
        )
        if there
    ]
    more = f" and {len(found) - _NAMED} more runs" if len(found) > _NAMED else ""
    where = ", ".join(found[:_NAMED]) + more if found else "none"
    what = f"{steps} steps" if per == STEP else f"{rows} features at {steps} steps"
    return f"Importance of {what}; {kept} kept: steps {where}."


def _runs(values: Sequence[object]) -> list[tuple[int, int, int]]:
    """Return the runs of equal values: the value, its first place and the one behind.

    Truth counts as 1.
    """
    found, place = [], 0
    for value, group in groupby(values):
        count = len(list(group))
        found.append((int(value), place, place + count))  # type: ignore[call-overload]
        place += count
    return found


def _short(name: str) -> str:
    """Return a name that fits beside the plot."""
    return name if len(name) <= 14 else f"{name[:13]}…"
