# SPDX-License-Identifier: Apache-2.0
"""One graph as numbers, and which of its edges are one unit. No torch here."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from explain.errors import InvalidInputError
from explain.graphs.unit_names import EDGE, NODE


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Graph:
    """One decoded graph; made by `make_graph`.

    Attributes:
        features: (V, F) float32, a row a node.
        edges: (2, E) int64, from the first row to the second: the directed edges that
            messages travel along.
        unit_of_edge: (E,) int64, the edge unit that each belongs to.
        pairs: (2, P) int64, the nodes of each edge unit, as first stored.
        edge_features: (E, A) float32, or None.
        per: What the units are, `edge` or `node`.
        remove: Of node units: whether a node's gate closes its edges as well.
    """

    features: npt.NDArray[np.float32]
    edges: npt.NDArray[np.int64]
    unit_of_edge: npt.NDArray[np.int64]
    pairs: npt.NDArray[np.int64]
    edge_features: npt.NDArray[np.float32] | None = None
    per: str = EDGE
    remove: bool = False

    @property
    def nodes(self) -> int:
        """How many nodes there are."""
        return len(self.features)

    @property
    def units(self) -> tuple[int, int]:
        """One row of edges or of nodes."""
        return 1, self.nodes if self.per == NODE else self.pairs.shape[1]


def make_graph(
    features: npt.NDArray[np.float32],
    edges: npt.NDArray[np.int64],
    *,
    undirected: bool,
    edge_features: npt.NDArray[np.float32] | None = None,
    per: str = EDGE,
    remove: bool = False,
) -> Graph:
    """Return the graph with its units.

    Edges that join the same two nodes are one unit: in one direction where edges are
    directed, in either where they are not. Of an undirected graph, messages travel
    along both directions, so what is stored in one alone is added, behind what is
    stored and in its order; a loop has one direction.

    Shape: features (V, F), edges (2, E) with nodes 0 .. V-1, edge_features (E, A).

    Raises:
        InvalidInputError: no node, an edge to a node that is not there, or features of
            another number of rows.
    """
    nodes, count = len(features), edges.shape[1]
    if features.ndim != 2 or nodes == 0:
        raise InvalidInputError("Expected a graph of at least one node.")
    if count and not (edges.min() >= 0 and edges.max() < nodes):
        raise InvalidInputError(f"Expected edges between nodes 0 to {nodes - 1}.")
    if edge_features is not None and len(edge_features) != count:
        raise InvalidInputError(
            f"Expected a row of features for each of {count} edges, got"
            f" {len(edge_features)}."
        )
    if undirected:
        alone = np.flatnonzero(~_has_reverse(edges, nodes))
        edges = np.concatenate([edges, edges[::-1, alone]], axis=1)
        if edge_features is not None:
            edge_features = np.concatenate([edge_features, edge_features[alone]])
    unit_of_edge, first = _units(edges, nodes, undirected=undirected)
    return Graph(
        features=np.ascontiguousarray(features, dtype=np.float32),
        edges=np.ascontiguousarray(edges, dtype=np.int64),
        unit_of_edge=unit_of_edge,
        pairs=np.ascontiguousarray(edges[:, first], dtype=np.int64),
        edge_features=edge_features,
        per=per,
        remove=remove,
    )


def marked_units(graph: Graph, marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return which units are marked, given marks of stored edges or of nodes.

    An edge unit is marked where one of its stored edges is.

    Shape: marked (E,) of the stored edges, which come first, or (V,) -> (1, units).
    """
    if graph.per == NODE:
        return marked[None]
    found = np.zeros(graph.pairs.shape[1], dtype=np.bool_)
    np.logical_or.at(found, graph.unit_of_edge[: len(marked)], marked)
    return found[None]


def _has_reverse(edges: npt.NDArray[np.int64], nodes: int) -> npt.NDArray[np.bool_]:
    """Return which edges are stored in the other direction as well, (E,)."""
    found: npt.NDArray[np.bool_] = np.isin(
        edges[1] * nodes + edges[0], edges[0] * nodes + edges[1]
    )
    return found


def _units(
    edges: npt.NDArray[np.int64], nodes: int, *, undirected: bool
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return each edge's unit and each unit's first edge, units in stored order."""
    source, target = edges
    if undirected:
        source, target = np.minimum(*edges), np.maximum(*edges)
    _keys, first, inverse = np.unique(
        source * nodes + target, return_index=True, return_inverse=True
    )
    order = np.argsort(first, kind="stable")
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place[inverse.reshape(-1)], first[order].astype(np.int64)
