# SPDX-License-Identifier: Apache-2.0
"""Graphs as items of an audit: read, gated by edge or by node, and drawn."""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import numpy as np
import numpy.typing as npt

from explain.graphs.content import Graph
from explain.parameters import resolved
from pipeline.errors import ItemError, ModelError
from pipeline.kinds.card import KindCard
from pipeline.kinds.graph_card import GRAPH
from pipeline.kinds.graph_drawing import drawn_graph, drawn_values
from pipeline.kinds.graph_file import document_of, graph_of, node_labels, truth_of
from pipeline.kinds.kind import UnitMap
from pipeline.records import Record
from pipeline.reports.inputs import Picture
from pipeline.spec import AuditSpec

if TYPE_CHECKING:
    from torch import nn

    from explain.graphs.gated import GraphNetwork

_LEGEND = "warm for it, cool against it, outlined what is kept"


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphKind:
    """Graphs of one audit.

    Attributes:
        per: What is ranked, `edge` or `node`.
        remove: Whether a closed node's edges close as well.
        marks: The key of the ground truth; None where the audit names none.
        width: Numbers of a node that the network takes; None where that is unknown.
    """

    per: str
    remove: bool
    marks: str | None
    width: int | None

    card: ClassVar[KindCard] = GRAPH

    @classmethod
    def open(cls, spec: AuditSpec) -> "GraphKind":
        """Return the graphs that a spec speaks of."""
        options = resolved("kind 'graph'", GRAPH.options, spec.data.options)
        width = spec.model.arguments.get("features")
        return cls(
            per=str(options["per"]),
            remove=bool(options["remove"]),
            marks=spec.data.columns.mask,
            width=width if isinstance(width, int) else None,
        )

    def decode(self, record: Record) -> Graph:
        """Return the graph as numbers.

        Raises:
            ItemError: it cannot be explained.
        """
        return graph_of(
            document_of(record), per=self.per, remove=self.remove, width=self.width
        )

    def truth(self, record: Record, content: Graph) -> npt.NDArray[np.bool_] | None:
        """Return which units the file marks, (1, units).

        Raises:
            ItemError: there are more or fewer marks than edges or nodes.
        """
        if self.marks is None:
            return None
        return truth_of(document_of(record), content, self.marks)

    def axis_labels(self, content: Graph) -> tuple[str, ...]:  # noqa: ARG002 - no unit is shared
        """Return nothing: each graph has edges and nodes of its own."""
        return ()

    def check(self, model: "nn.Module") -> None:
        """Nothing happens if the network can be called as graph classifiers are.

        Raises:
            ModelError: it takes other arguments.
        """
        try:
            inspect.signature(model.forward).bind(None, None, batch=None)
        except TypeError as exc:
            raise ModelError(
                "The network cannot be called with (x, edge_index, batch=...), so it is"
                " no graph classifier; wrap it in a module that can."
            ) from exc

    def gated(self, model: "nn.Module", contents: Sequence[Graph]) -> "GraphNetwork":
        """Return the network that sees these graphs through gates."""
        from explain.graphs.gated import GraphNetwork  # noqa: PLC0415 - torch

        return GraphNetwork(model, contents)

    def draw(self, unit_map: UnitMap, record: Record | None) -> list[Picture]:
        """Return the graph with its importance; without the graph, the values alone."""
        values, kept = unit_map.values[0], unit_map.mask[0]
        title = f"Importance for {unit_map.target or 'the class'}: {_LEGEND}"
        if record is not None:
            try:
                document = document_of(record)
                graph = self.decode(record)
            except ItemError:
                # The file is no longer what was explained.
                return [drawn_values(values, kept, self.per, title)]
            if graph.units == unit_map.values.shape:
                labels = node_labels(document, graph.nodes)
                return [drawn_graph(graph, values, kept, labels, title)]
        return [drawn_values(values, kept, self.per, title)]
