# SPDX-License-Identifier: Apache-2.0
"""The picture of a row's explanation: its reasons as a table with signed bars."""

from collections.abc import Sequence
from html import escape

from pipeline.reports.inputs import Picture
from pipeline.table_reasons import TableReason

_WIDTH, _HEIGHT = 160, 14
#: Reads in light and dark, and apart for colour-blind people; the sign is told by the
#: side as well.
_FOR, _AGAINST = "#2f7fb8", "#c8641b"
_AXIS = "#808080"


def reasons_picture(
    reasons: Sequence[TableReason], target: str, columns: int
) -> Picture:
    """Return the table of reasons; every text of the row is escaped.

    Args:
        reasons: The weightiest first.
        target: The explained class in words.
        columns: How many columns there are.
    """
    title = f"Reasons for {target or 'the class'}, {len(reasons)} of {columns} columns"
    return Picture(
        title=title,
        description=_described(reasons, target),
        fragment=_table(reasons) if reasons else "<p>No column has a part in it.</p>",
    )


def _table(reasons: Sequence[TableReason]) -> str:
    largest = max(abs(reason.value) for reason in reasons)
    shows_cells = any(reason.cell is not None for reason in reasons)
    head = "<th>Column</th>" + ("<th>Value</th>" if shows_cells else "")
    rows = "".join(_row(reason, largest, shows_cells=shows_cells) for reason in reasons)
    return (
        f'<table><thead><tr>{head}<th>Against | for</th><th class="n">Part</th>'
        f"<th>Kept</th></tr></thead><tbody>{rows}</tbody></table>"
    )


def _row(reason: TableReason, largest: float, *, shows_cells: bool) -> str:
    cell = f"<td>{escape(reason.cell or '')}</td>" if shows_cells else ""
    name = escape(reason.column)
    strong = f"<strong>{name}</strong>" if reason.kept else name
    return (
        f"<tr><td>{strong}</td>{cell}<td>{_bar(reason.value, largest)}</td>"
        f'<td class="n">{reason.value:+.4g}</td>'
        f"<td>{'kept' if reason.kept else ''}</td></tr>"
    )


def _bar(value: float, largest: float) -> str:
    """Return a bar from the middle: to the right what speaks for the class."""
    middle = _WIDTH / 2
    length = max(1.0, middle * abs(value) / largest)
    left = middle if value > 0 else middle - length
    colour = _FOR if value > 0 else _AGAINST
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}"'
        # In a narrow card the table would shrink bars before names.
        ' style="min-width:6.5rem" aria-hidden="true">'
        f'<rect x="{left:.1f}" y="2" width="{length:.1f}" height="{_HEIGHT - 4}"'
        f' fill="{colour}"/>'
        f'<line x1="{middle:g}" y1="0" x2="{middle:g}" y2="{_HEIGHT}"'
        f' stroke="{_AXIS}"/></svg>'
    )


def _described(reasons: Sequence[TableReason], target: str) -> str:
    """Return the reasons for those who cannot see them; no cell is in it."""
    said = ", ".join(f"{reason.column} {reason.value:+.3g}" for reason in reasons[:5])
    return f"Columns by their part in {target or 'the class'}: {said or 'none'}"
