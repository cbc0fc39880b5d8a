# SPDX-License-Identifier: Apache-2.0
"""What the pipeline asks of a kind of items beside images."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from pipeline.domain import ItemResult
from pipeline.kinds.card import KindCard
from pipeline.kinds.cards import KIND_CARDS
from pipeline.records import Record
from pipeline.reports.inputs import Picture
from pipeline.spec import AuditSpec

if TYPE_CHECKING:
    from torch import nn

    from explain.gates import Content, GatedNetwork


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitMap:
    """One explanation over units, as its picture is drawn.

    Attributes:
        values: (h, w) float32, the map as stored, signed where the method is.
        mask: (h, w) bool, what the threshold policy kept.
        result: The item's row.
        target: The explained class in words.
    """

    values: npt.NDArray[np.float32]
    mask: npt.NDArray[np.bool_]
    result: ItemResult
    target: str


class DataKind(Protocol):
    """A kind, opened for one audit: its files are read.

    Neither the module nor anything but `gated` and `check` may import torch, because
    pages are drawn by processes without it.
    """

    @property
    def card(self) -> KindCard:
        """What audits say about the kind."""

    def decode(self, record: Record) -> "Content":
        """Return the item as numbers; called in threads.

        Raises:
            ItemError: it cannot be explained.
        """

    def truth(self, record: Record, content: "Content") -> npt.NDArray[np.bool_] | None:
        """Return which units a person marked, (h, w), None where nothing is marked.

        Raises:
            ItemError: the marks fit no unit.
        """

    def axis_labels(self, content: "Content") -> tuple[str, ...]:
        """Return the names of the units that are no item's own, such as columns.

        They go into artifacts, so nothing of an item's content may be in them.
        """

    def check(self, model: "nn.Module") -> None:
        """Nothing happens if the network takes what this kind gives it.

        Raises:
            ModelError: it does not, such as a tokenizer with more words.
        """

    def gated(
        self, model: "nn.Module", contents: "Sequence[Content]"
    ) -> "GatedNetwork":
        """Return the network that sees these items through gates."""

    def draw(self, unit_map: UnitMap, record: Record | None) -> list[Picture]:
        """Return the pictures of an explanation.

        Args:
            unit_map: The explanation.
            record: The item; None where it may not be shown or cannot be read.
        """


def open_kind(spec: AuditSpec) -> DataKind:
    """Return the kind of the spec's items, its files read.

    Args:
        spec: With absolute paths.

    Raises:
        SpecError: what the audit says of it is wrong, or an extra is not installed.
        ModelError: a file beside the weights cannot be used.
    """
    module, name = KIND_CARDS[spec.data.kind].home
    opener: Any = getattr(import_module(module), name)
    kind: DataKind = opener.open(spec)
    return kind
