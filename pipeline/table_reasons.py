# SPDX-License-Identifier: Apache-2.0
"""The reasons of a row, as reports and `affidavit show` tell them. No torch here."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from explain.tables.reasons import top_reasons
from pipeline.sources.cells import text_of

#: Characters of a cell that are shown.
_SHOWN = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class TableReason:
    """One column's part in the score of a row.

    Attributes:
        column: Its name.
        cell: What the row has there, None where it may not be shown.
        value: The attribution; above zero it speaks for the explained class.
        share: Its magnitude over that of all columns, 0 to 1.
        kept: Whether the threshold policy kept it.
    """

    column: str
    cell: str | None
    value: float
    share: float
    kept: bool

    def document(self) -> dict[str, Any]:
        """Return the reason as JSON values."""
        return asdict(self)


def table_reasons(
    values: npt.NDArray[np.float32],
    mask: npt.NDArray[np.bool_],
    columns: Sequence[str],
    *,
    cells: Mapping[str, Any] | None,
    most: int,
) -> tuple[TableReason, ...]:
    """Return the columns of the largest magnitude, the weightiest first.

    Args:
        values: (1, C), the map as stored.
        mask: (1, C), what was kept.
        columns: C names.
        cells: The row, None where it may not be shown.
        most: How many reasons at most.
    """
    found = top_reasons(values, columns, kept=mask, most=most)
    return tuple(
        TableReason(
            column=reason.column,
            cell=None if cells is None else _shown(cells.get(reason.column)),
            value=reason.value,
            share=reason.share,
            kept=reason.kept,
        )
        for reason in found
    )


def _shown(cell: Any) -> str:
    text = text_of(cell) or ""
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 1]}…"
