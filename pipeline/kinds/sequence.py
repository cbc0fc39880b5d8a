# SPDX-License-Identifier: Apache-2.0
"""Sequences: items of numbers over time.

No torch here but in `gated` and `check`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from explain.parameters import resolved
from explain.sequences.choices import FEATURE, STEP
from explain.sequences.content import SequenceContent
from pipeline.errors import ItemError, ModelError, Reason, SpecError
from pipeline.kinds.kind import UnitMap
from pipeline.kinds.sequence_card import SEQUENCE_CARD
from pipeline.kinds.sequence_decoding import (
    Numbers,
    long_values,
    marks,
    npy_values,
    require_rising,
    wide_values,
)
from pipeline.kinds.sequence_picture import drawn
from pipeline.records import Record
from pipeline.reports.inputs import Picture
from pipeline.spec import AuditSpec, ColumnsSpec

if TYPE_CHECKING:
    from torch import nn

    from explain.sequences.network import GatedSequences


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceKind:
    """Sequences of one audit.

    Attributes:
        columns: Which column means what.
        names: Of the features.
        per: What is ranked.
        baseline: What stands for a part that is gone.
        mean: Subtracted from each feature, (F,) or a number for all.
        std: What each feature is divided by then, alike.
        max_steps: Of the longest sequence.
    """

    columns: ColumnsSpec
    names: tuple[str, ...]
    per: str
    baseline: str
    mean: Numbers
    std: Numbers
    max_steps: int
    card = SEQUENCE_CARD

    @classmethod
    def open(cls, spec: AuditSpec) -> "SequenceKind":
        """Return the kind of the spec.

        Raises:
            SpecError: an option does not fit the columns.
        """
        options: dict[str, Any] = resolved(
            "kind 'sequence'", SEQUENCE_CARD.options, spec.data.options
        )
        columns = spec.data.columns
        _require_columns(columns, options["per"])
        names = _feature_names(spec, options)
        return cls(
            columns=columns,
            names=names,
            per=options["per"],
            baseline=options["baseline"],
            mean=_each("mean", options["mean"], names, usual=0.0),
            std=_each("std", options["std"], names, usual=1.0),
            max_steps=options["max_steps"],
        )

    def decode(self, record: Record) -> SequenceContent:
        """Return the sequence as the network takes it.

        Raises:
            ItemError: it cannot be explained.
        """
        values = (self.values(record) - self.mean) / self.std
        with np.errstate(over="ignore"):
            narrow = values.astype(np.float32)
        if not np.isfinite(narrow).all():
            raise ItemError(Reason.CELL_NOT_FINITE)
        return SequenceContent.of(narrow, per=self.per, baseline=self.baseline)

    def values(self, record: Record) -> Numbers:
        """Return the sequence as it is in the source, (T, F).

        Raises:
            ItemError: it is no sequence, or none of these features.
        """
        if record.rows is None:
            values = npy_values(record.data)
        elif self.columns.id is None:
            values = wide_values(record.rows[0], self.columns.features)
        else:
            values = long_values(record.rows, self.columns.features)
            if self.columns.step is not None:
                require_rising(record.rows, self.columns.step)
        if values.shape[1] != len(self.names):
            raise ItemError(Reason.SEQUENCE_RAGGED)
        if len(values) > self.max_steps:
            raise ItemError(Reason.SEQUENCE_TOO_LONG)
        if not np.isfinite(values).all():
            raise ItemError(Reason.CELL_NOT_FINITE)
        return values

    def truth(
        self, record: Record, content: SequenceContent
    ) -> npt.NDArray[np.bool_] | None:
        """Return which units a person marked, None where nothing is marked."""
        if self.columns.mask is None or record.rows is None:
            return None
        found = marks(record.rows, self.columns.mask)
        if found is None:
            return None
        return np.broadcast_to(found, content.units).copy()

    def axis_labels(self, content: SequenceContent) -> tuple[str, ...]:  # noqa: ARG002 - the same of every sequence
        """Return the features where they are told apart; steps have no names."""
        return () if self.per == STEP else self.names

    def check(self, model: "nn.Module") -> None:
        """Nothing happens if the network takes as many features.

        Raises:
            ModelError: its first recurrent layer takes another number.
        """
        from torch import nn  # noqa: PLC0415

        first = next((m for m in model.modules() if isinstance(m, nn.RNNBase)), None)
        if first is not None and first.input_size != len(self.names):
            raise ModelError(
                f"The network takes {first.input_size} features a step, but the audit"
                f" names {len(self.names)} ({', '.join(self.names[:8])}); check"
                " model.arguments and data.columns.features."
            )

    def gated(
        self, model: "nn.Module", contents: Sequence[SequenceContent]
    ) -> "GatedSequences":
        """Return the network that sees these sequences through gates."""
        from explain.sequences.network import GatedSequences  # noqa: PLC0415

        return GatedSequences(model, contents)

    def draw(self, unit_map: UnitMap, record: Record | None) -> list[Picture]:
        """Return the sequence over time with its importance, or that alone."""
        values = None
        if record is not None:
            try:
                values = self.values(record)
            except ItemError:
                # The report is about the explanation; a changed row does not stop it.
                values = None
        return [drawn(unit_map, values, self.names, self.per)]


def _require_columns(columns: ColumnsSpec, per: str) -> None:
    """Nothing happens if the columns can be had together.

    Raises:
        SpecError: they cannot.
    """
    if columns.id is None:
        for role in ("step", "mask"):
            if getattr(columns, role) is not None:
                raise SpecError(
                    f"data.columns.{role}: only a table with a row a step has it; name"
                    " the column whose value the rows of a sequence share under"
                    " data.columns.id, or leave it out."
                )
    elif not columns.features:
        raise SpecError(
            "data.columns.features: name the columns that are the network's inputs."
        )
    if columns.mask is not None and per == FEATURE:
        raise SpecError(
            "data.columns.mask marks steps, so data.options.per must be step or both."
        )


def _feature_names(spec: AuditSpec, options: dict[str, Any]) -> tuple[str, ...]:
    """Return the names of the features, or their numbers where they have none.

    Raises:
        SpecError: nothing says how many there are.
    """
    columns = spec.data.columns
    if columns.id is not None:
        return tuple(columns.features)
    if columns.features:
        if options["per"] != STEP:
            raise SpecError(
                "data.options.per: a row of this table is one feature over time, so"
                " only step tells anything apart; or name data.columns.id, if rows are"
                " steps."
            )
        return ("value",)
    given = spec.model.arguments.get("features")
    count = options["features"] or (
        given if isinstance(given, int) else len(options["mean"])
    )
    if not count:
        raise SpecError(
            "data.options.features: say how many features the .npy files have."
        )
    return tuple(f"feature {number}" for number in range(1, int(count) + 1))


def _each(
    name: str, given: tuple[float, ...], names: tuple[str, ...], *, usual: float
) -> Numbers:
    """Return one number a feature, or one for all.

    Raises:
        SpecError: neither.
    """
    if len(given) not in {0, 1, len(names)}:
        raise SpecError(
            f"data.options.{name}: expected one number or {len(names)}, one for each of"
            f" {', '.join(names[:8])}, got {len(given)}."
        )
    return np.array(given or (usual,), dtype=np.float64)
