# SPDX-License-Identifier: Apache-2.0
"""From the JSON of one graph to its arrays; whatever is wrong with it is a reason.

    {"x": [[...], ...], "edge_index": [[sources], [targets]], "undirected": true,
     "edge_attr": [[...], ...], "edge_truth": [0, 1, ...], "node_labels": ["C", ...]}

`x` has a row of numbers a node, nodes are counted from 0, and all but the first two
keys may be left out. A row of JSON lines has the same keys beside its own.
"""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from explain.graphs.content import Graph, make_graph, marked_units
from pipeline.errors import ItemError, Reason
from pipeline.records import Record

#: A graph of more nodes or edges is refused: its units would be as many.
MOST_PARTS = 20_000


def document_of(record: Record) -> Mapping[str, Any]:
    """Return the JSON object of a file or row.

    Raises:
        ItemError: it is none.
    """
    if record.rows is not None:
        return record.rows[0] if record.rows else {}
    try:
        document = json.loads(record.data)
        # Half a character can be in JSON, but in no page.
        json.dumps(document, ensure_ascii=False).encode("utf-8")
    except (ValueError, RecursionError) as exc:
        raise ItemError(Reason.GRAPH_UNREADABLE) from exc
    if not isinstance(document, dict):
        raise ItemError(Reason.GRAPH_UNREADABLE)
    return document


def graph_of(
    document: Mapping[str, Any], *, per: str, remove: bool, width: int | None
) -> Graph:
    """Return the graph.

    Args:
        document: Its JSON.
        per: What its units are, `edge` or `node`.
        remove: Whether a closed node's edges close as well.
        width: Numbers of a node that the network takes; None where that is unknown.

    Raises:
        ItemError: it cannot be explained.
    """
    features = _matrix(document.get("x"))
    if not len(features):
        raise ItemError(Reason.GRAPH_EMPTY)
    if width is not None and features.shape[1] != width:
        raise ItemError(Reason.GRAPH_FEATURES_MISMATCH)
    edges = _edges(document.get("edge_index"), len(features))
    if max(len(features), edges.shape[1]) > MOST_PARTS:
        raise ItemError(Reason.GRAPH_TOO_LARGE)
    attributes = document.get("edge_attr")
    edge_features = None if attributes is None else _matrix(attributes)
    if edge_features is not None and len(edge_features) != edges.shape[1]:
        raise ItemError(Reason.GRAPH_UNREADABLE)
    undirected = document.get("undirected", False)
    if not isinstance(undirected, bool):
        raise ItemError(Reason.GRAPH_UNREADABLE)
    graph = make_graph(
        features,
        edges,
        undirected=undirected,
        edge_features=edge_features,
        per=per,
        remove=remove,
    )
    if graph.units[1] == 0:
        raise ItemError(Reason.GRAPH_WITHOUT_EDGES)
    return graph


def truth_of(
    document: Mapping[str, Any], graph: Graph, key: str
) -> npt.NDArray[np.bool_] | None:
    """Return which units are marked, (1, units), None where nothing is marked.

    Args:
        document: The graph's JSON.
        graph: The graph.
        key: Where the marks are, a 0 or 1 for each stored edge, or for each node;
            without it, `edge_truth` or `node_truth`.

    Raises:
        ItemError: there are more or fewer marks than edges or nodes.
    """
    marks = document.get(key, document.get(f"{graph.per}_truth"))
    if marks is None:
        return None
    stored = graph.nodes
    if graph.per == "edge":
        stored = len(document["edge_index"][0]) if document["edge_index"] else 0
    try:
        marked = np.asarray(marks, dtype=np.float64)
    except (TypeError, ValueError) as exc:
        raise ItemError(Reason.MASK_UNREADABLE) from exc
    if marked.shape != (stored,):
        raise ItemError(Reason.MASK_SIZE_MISMATCH)
    if not np.isin(marked, (0, 1)).all():
        raise ItemError(Reason.MASK_UNREADABLE)
    if not marked.any():
        return None
    return marked_units(graph, marked != 0)


def node_labels(document: Mapping[str, Any], nodes: int) -> list[str]:
    """Return what nodes are called, empty where nothing fits."""
    labels = document.get("node_labels")
    if not isinstance(labels, list) or len(labels) != nodes:
        return [""] * nodes
    return [str(label)[:12] for label in labels]


def _matrix(value: Any) -> npt.NDArray[np.float32]:
    """Return rows of finite numbers, (R, C) float32; no rows for an empty list."""
    if not isinstance(value, list):
        raise ItemError(Reason.GRAPH_UNREADABLE)
    if not value:
        return np.zeros((0, 0), dtype=np.float32)
    try:
        found = np.array(value, dtype=np.float32)
    except (TypeError, ValueError, OverflowError) as exc:
        raise ItemError(Reason.GRAPH_UNREADABLE) from exc
    if found.ndim != 2 or not found.shape[1] or not np.isfinite(found).all():
        raise ItemError(Reason.GRAPH_UNREADABLE)
    return found


def _edges(value: Any, nodes: int) -> npt.NDArray[np.int64]:
    """Return the stored edges, (2, E) int64, between nodes that are there."""
    if value in (None, []):
        return np.zeros((2, 0), dtype=np.int64)
    whole = isinstance(value, list) and len(value) == 2
    if not whole or not all(isinstance(part, list) for part in value):
        raise ItemError(Reason.GRAPH_UNREADABLE)
    flat = [node for part in value for node in part]
    if len(value[0]) != len(value[1]) or not all(type(node) is int for node in flat):
        raise ItemError(Reason.GRAPH_UNREADABLE)
    if flat and not (min(flat) >= 0 and max(flat) < nodes):
        raise ItemError(Reason.GRAPH_UNREADABLE)
    return np.array(value, dtype=np.int64).reshape(2, -1)
