# SPDX-License-Identifier: Apache-2.0
"""Rows of tables: the columns are the units.

No torch at import: pages are drawn by processes without it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from explain.kinds import TABLE
from explain.parameters import resolved
from explain.tables.rows import RowContent, RowSpace
from pipeline.errors import ItemError, ModelError, Reason, SpecError
from pipeline.kinds.card import KindCard
from pipeline.kinds.kind import UnitMap
from pipeline.kinds.table_card import TABLE_CARD
from pipeline.kinds.table_cells import baseline_numbers, row_numbers
from pipeline.kinds.table_encoding import Encoding, read_encoding, require_features
from pipeline.kinds.table_picture import reasons_picture
from pipeline.records import Record
from pipeline.reports.inputs import Picture
from pipeline.spec import AuditSpec
from pipeline.table_reasons import TableReason, table_reasons

if TYPE_CHECKING:
    from torch import Tensor, nn

    from explain.tables.gated_table import GatedTable


class TableKind:
    """Rows of one table, as one encoding makes them numbers."""

    card: KindCard = TABLE_CARD

    def __init__(
        self, encoding: Encoding, *, baseline: str, reasons: int, marks: str | None
    ) -> None:
        """Take the parts.

        Args:
            encoding: What each column becomes.
            baseline: `training` or `reference`.
            reasons: How many reasons of a row are shown.
            marks: The column that names the columns which a person marked.

        Raises:
            ModelError: there is no reference row, or it is no row.
        """
        self._encoding = encoding
        self._reasons = reasons
        self._marks = marks
        self._labels = tuple(encoding.names)
        self._space = RowSpace(
            widths=tuple(column.width for column in encoding.columns),
            baseline=_baseline(encoding, baseline),
        )

    @classmethod
    def open(cls, spec: AuditSpec) -> "TableKind":
        """Return the kind of an audit whose paths are absolute.

        Raises:
            SpecError: the audit names no encoding.
            ModelError: the encoding cannot be used.
        """
        if spec.model.encoding is None:
            raise SpecError(
                "model.encoding: an audit of table rows names the JSON file that says"
                " how columns become the network's inputs."
            )
        encoding = read_encoding(Path(spec.model.encoding))
        require_features(spec.data.columns.features, encoding)
        options = resolved(f"kind {TABLE!r}", TABLE_CARD.options, spec.data.options)
        return cls(
            encoding,
            baseline=str(options["baseline"]),
            reasons=int(str(options["reasons"])),
            marks=spec.data.columns.mask,
        )

    def decode(self, record: Record) -> RowContent:
        """Return the row's numbers.

        Raises:
            ItemError: a cell is missing, empty, or not what its column holds.
        """
        if record.rows is None or len(record.rows) != 1:
            raise ItemError(Reason.ROW_UNREADABLE)
        return RowContent(self._space, row_numbers(self._encoding, record.rows[0]))

    def truth(
        self, record: Record, content: RowContent
    ) -> npt.NDArray[np.bool_] | None:
        """Return which columns a person marked: their names, set off by semicolons.

        Raises:
            ItemError: `mask_unreadable` for a name that is no column.
        """
        marked = (record.rows or ({},))[0].get(self._marks) if self._marks else None
        if marked is None:
            return None
        names = [part.strip() for part in str(marked).split(";") if part.strip()]
        if not set(names) <= set(self._labels):
            raise ItemError(Reason.MASK_UNREADABLE)
        found = np.array([[label in names for label in self._labels]])
        return found.reshape(content.units)

    def axis_labels(self, content: RowContent) -> tuple[str, ...]:  # noqa: ARG002 - the same for all rows
        """Return the columns' names."""
        return self._labels

    def check(self, model: "nn.Module") -> None:
        """Nothing happens if the network takes the encoding's rows.

        Raises:
            ModelError: it takes rows of another length.
        """
        import torch  # noqa: PLC0415 - only here and in `gated`

        from explain.errors import ExplainError  # noqa: PLC0415

        weights: Tensor | None = next(model.parameters(), None)
        device = "cpu" if weights is None else weights.device
        # Two rows, as some networks take one for something else.
        rows = torch.from_numpy(np.stack([self._space.baseline] * 2)).to(device)
        was_training = model.training
        try:
            with torch.no_grad():
                model.eval()(rows)
        except (RuntimeError, ValueError, IndexError, ExplainError) as exc:
            first = (str(exc).strip().splitlines() or ["no reason given"])[0]
            raise ModelError(
                f"model.encoding makes {self._space.size} numbers of a row, which the"
                f" network does not take ({first.rstrip('.')}); name the encoding that"
                " the network was trained with."
            ) from exc
        finally:
            model.train(was_training)

    def gated(self, model: "nn.Module", contents: Sequence[RowContent]) -> "GatedTable":
        """Return the network that sees these rows through a gate for each column."""
        from explain.tables.gated_table import GatedTable  # noqa: PLC0415 - torch

        return GatedTable(model, contents)

    def reasons(
        self, unit_map: UnitMap, record: Record | None
    ) -> tuple[TableReason, ...]:
        """Return the weightiest columns, with their cells where they may be shown."""
        row = None if record is None or not record.rows else record.rows[0]
        return table_reasons(
            unit_map.values,
            unit_map.mask,
            self._labels,
            cells=row,
            most=self._reasons,
        )

    def draw(self, unit_map: UnitMap, record: Record | None) -> list[Picture]:
        """Return the table of the row's reasons."""
        found = self.reasons(unit_map, record)
        return [reasons_picture(found, unit_map.target, len(self._labels))]


def _baseline(encoding: Encoding, chosen: str) -> npt.NDArray[np.float32]:
    if chosen == "training":
        return baseline_numbers(encoding)
    if encoding.reference is None:
        raise ModelError(
            "data.options.baseline: reference: the encoding has no reference row; add"
            " one, or take training."
        )
    try:
        return row_numbers(encoding, encoding.reference)
    except ItemError as exc:
        raise ModelError(
            f"The encoding's reference row cannot be encoded ({exc.reason.value})."
        ) from exc
