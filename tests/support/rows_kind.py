# SPDX-License-Identifier: Apache-2.0
"""A kind of items as small as one can be: rows of numbers under a linear network."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor, nn

from explain.gates import GatedNetwork
from pipeline.errors import ItemError, Reason
from pipeline.kinds.card import KindCard
from pipeline.kinds.cards import KIND_CARDS
from pipeline.kinds.kind import UnitMap
from pipeline.models import loading
from pipeline.models.architecture import Architecture
from pipeline.records import Record
from pipeline.reports.inputs import Picture
from pipeline.spec import AuditSpec

#: Weights of two classes on three columns, and what each column is without a value.
WEIGHTS = [[1.0, -2.0, 0.5], [-1.0, 1.0, 0.25]]
BASELINE = [0.5, 0.0, 1.0]


@dataclass(frozen=True)
class Numbers:
    """One row."""

    values: tuple[float, ...]

    @property
    def units(self) -> tuple[int, int]:
        """A unit a column."""
        return (1, len(self.values))


class GatedRows(GatedNetwork):
    """A network of rows, seen through gates."""

    def __init__(self, model: nn.Module, rows: Sequence[Numbers]) -> None:
        super().__init__([row.units for row in rows])
        self.model = model
        self.register_buffer("rows", torch.tensor([row.values for row in rows]))
        self.register_buffer("baseline", torch.tensor(BASELINE))

    def forward(self, gates: Tensor) -> Tensor:
        """Return the logits of the rows between baseline and themselves."""
        rows = self.rows[self.item_of_rows(len(gates), gates.device)]
        inputs = self.baseline + gates[:, 0, 0] * (rows - self.baseline)
        logits: Tensor = self.model(inputs)
        return logits


class RowsKind:
    """Rows of numbers."""

    card = KindCard(
        name="table",
        title="rows",
        map_kind="columns",
        even=True,
        default_method="gradient_x_input",
        home=("tests.support.rows_kind", "RowsKind"),
        suffixes=(".json",),
        column="features",
    )

    def __init__(self, features: Sequence[str]) -> None:
        self._features = tuple(features)

    @classmethod
    def open(cls, spec: AuditSpec) -> "RowsKind":
        """Return the kind of the spec."""
        return cls(spec.data.columns.features)

    def decode(self, record: Record) -> Numbers:
        """Return the row's numbers."""
        row = (record.rows or ({},))[0]
        try:
            return Numbers(tuple(float(row[name]) for name in self._features))
        except (KeyError, TypeError, ValueError) as exc:
            raise ItemError(Reason.ROW_UNREADABLE) from exc

    def truth(self, record: Record, _content: Numbers) -> npt.NDArray[np.bool_] | None:
        """Return the marked columns, where the row marks some."""
        row = (record.rows or ({},))[0]
        if not row.get("marked"):
            return None
        marked = str(row["marked"]).split()
        return np.array([[name in marked for name in self._features]])

    def axis_labels(self, _content: Numbers) -> tuple[str, ...]:
        """Return the columns."""
        return self._features

    def check(self, model: nn.Module) -> None:
        """Every network is taken."""

    def gated(self, model: nn.Module, contents: Sequence[Numbers]) -> GatedRows:
        """Return the network behind gates."""
        return GatedRows(model, contents)

    def draw(self, unit_map: UnitMap, _record: Record | None) -> list[Picture]:
        """Return the columns with their shares."""
        shares = zip(self._features, unit_map.values[0], strict=True)
        text = ", ".join(f"{escape(name)} {value:+.3f}" for name, value in shares)
        return [Picture(title="Reasons", description=text, fragment=f"<p>{text}</p>")]


def build(**_arguments: Any) -> nn.Module:
    """Return the linear network without its weights."""
    return nn.Linear(3, 2, bias=False)


@contextmanager
def rows_kind() -> Iterator[None]:
    """The kind `table` is rows of numbers, and the architecture `linear` is known."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(KIND_CARDS, "table", RowsKind.card)
        known = loading._registered

        def registered(name: str, *, plugins: bool) -> Architecture:
            if name == "linear":
                return Architecture(build=build)
            return known(name, plugins=plugins)

        patch.setattr(loading, "_registered", registered)
        yield
