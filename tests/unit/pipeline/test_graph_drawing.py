# SPDX-License-Identifier: Apache-2.0
"""Drawings of graphs: near is near, what is kept shows, and nothing runs."""

from xml.etree import ElementTree as ET

import numpy as np
import pytest

from explain.graphs.content import Graph, make_graph
from pipeline.kinds.graph_drawing import MOST_NODES, drawn_graph, drawn_values
from pipeline.kinds.graph_layout import layout


def _ring(nodes: int, per: str = "edge") -> Graph:
    places = np.arange(nodes)
    edges = np.stack([places, np.roll(places, -1)])
    return make_graph(
        np.ones((nodes, 2), dtype=np.float32), edges, undirected=True, per=per
    )


def _drawn(graph: Graph, values: list[float], kept: list[int]) -> ET.Element:
    mask = np.zeros(len(values), dtype=np.bool_)
    mask[kept] = True
    picture = drawn_graph(
        graph, np.array(values, dtype=np.float32), mask, [""] * graph.nodes, "Why"
    )
    return ET.fromstring(picture.fragment)  # noqa: S314 - made here


def test_joined_nodes_lie_a_unit_apart() -> None:
    """A path is drawn as a line, the same at each call."""
    pairs = np.array([[0, 1, 2, 3], [1, 2, 3, 4]])
    places = layout(pairs, 5)
    assert np.array_equal(places, layout(pairs, 5))
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert steps == pytest.approx([1] * 4, abs=0.05)
    assert np.linalg.norm(places[0] - places[4]) == pytest.approx(4, abs=0.1)


def test_nodes_with_the_same_neighbours_do_not_lie_on_each_other() -> None:
    """The arms of a star, and what is joined to nothing."""
    pairs = np.array([[0, 0, 0, 0], [1, 2, 3, 4]])
    places = layout(pairs, 7)
    apart = np.linalg.norm(places[:, None] - places[None], axis=2)
    assert apart[~np.eye(7, dtype=bool)].min() > 0.4
    assert layout(np.zeros((2, 0), dtype=np.int64), 1).tolist() == [[0, 0]]
    lonely = layout(np.zeros((2, 0), dtype=np.int64), 3)
    assert np.isfinite(lonely).all()


def test_width_and_colour_are_importance_and_outlines_what_is_kept() -> None:
    """One kept edge for the class, one against it, one of none."""
    root = _drawn(_ring(4), [2.0, -1.0, 0.0, 1.0], [0])
    lines = root.findall("line")
    assert len(lines) == 5
    outline, first, against, none, half = lines
    assert outline.get("stroke") == "var(--ink)"
    assert (outline.get("x1"), outline.get("y2")) == (first.get("x1"), first.get("y2"))
    assert float(outline.get("stroke-width", 0)) > float(first.get("stroke-width", 0))
    assert first.get("stroke") == half.get("stroke") == "var(--band)"
    assert against.get("stroke") == "var(--bar-edge)"
    assert none.get("stroke") == "var(--rule)"
    widths = [float(line.get("stroke-width", 0)) for line in (first, against, half)]
    assert widths == pytest.approx([7.0, 4.25, 4.25])
    assert len(root.findall("circle")) == 4
    assert first.find("title") is not None
    assert root.find("title").text == (  # type: ignore[union-attr]
        "A graph of 4 nodes and 4 edges; 1 of 4 edges kept."
    )


def test_nodes_carry_importance_where_they_are_ranked() -> None:
    """Their size and fill, and the outline of what is kept."""
    root = _drawn(_ring(3, "node"), [1.0, -0.5, 0.0], [0])
    first, second, third = root.findall("circle")
    assert first.get("fill") == "var(--band)"
    assert first.get("stroke") == "var(--ink)"
    assert second.get("fill") == "var(--bar-edge)"
    assert third.get("fill") == "var(--card)"
    assert (
        float(first.get("r", 0)) > float(second.get("r", 0)) > float(third.get("r", 0))
    )


def test_a_loop_is_drawn_as_a_ring() -> None:
    """A line of no length would not be seen."""
    graph = make_graph(
        np.ones((2, 1), dtype=np.float32), np.array([[0, 0], [0, 1]]), undirected=True
    )
    root = _drawn(graph, [1.0, 0.5], [0])
    rings = [one for one in root.findall("circle") if one.get("fill") == "none"]
    assert len(rings) == 2
    assert len(root.findall("line")) == 1


def test_of_a_large_graph_the_important_part_is_drawn() -> None:
    """No more nodes than can be told apart, the kept ones among them."""
    values = [0.0] * 500
    values[250], values[400] = 1.0, -3.0
    root = _drawn(_ring(500), values, [250])
    assert len(root.findall("circle")) <= MOST_NODES
    strokes = [line.get("stroke") for line in root.findall("line")]
    assert strokes.count("var(--ink)") == 1
    assert strokes.count("var(--band)") == 1
    assert strokes.count("var(--bar-edge)") == 1
    assert "the part with 120 of them" in root.find("title").text  # type: ignore[union-attr,operator]


def test_values_alone_show_no_structure() -> None:
    """Where the graph may not be shown: bars in stored order."""
    kept = np.array([True, False, False])
    values = np.array([1.0, -0.5, 0.0], dtype=np.float32)
    picture = drawn_values(values, kept, "edge", "Why")
    root = ET.fromstring(picture.fragment)  # noqa: S314 - made here
    bars = root.findall("rect")
    assert [bar.get("stroke") for bar in bars] == ["var(--ink)", None, None]
    assert [float(bar.get("height", 0)) for bar in bars] == [40, 20, 0.5]
    assert not root.findall("line")
    assert picture.description == (
        "The importance of 3 edges in stored order; 1 of 3 edges kept."
    )


def test_a_blank_map_can_be_drawn() -> None:
    """Nothing is divided by zero."""
    root = _drawn(_ring(3), [0.0, 0.0, 0.0], [])
    assert {line.get("stroke") for line in root.findall("line")} == {"var(--rule)"}
