# SPDX-License-Identifier: Apache-2.0
"""The drawing of one explained graph, as SVG without scripts or styles of its own.

Importance is width and colour: warm for the class, cool against it; what the policy
kept has an outline. Of a graph with many nodes, the part around its most important
units is drawn. Colours are those of the page, so that they suit light and dark.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from markupsafe import Markup, escape

from explain.graphs.content import Graph
from explain.graphs.unit_names import EDGE
from pipeline.kinds.graph_layout import layout
from pipeline.reports.formats import count, number
from pipeline.reports.inputs import Picture

Values = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

#: More nodes than this are no picture.
MOST_NODES = 120
_WIDTH, _MARGIN, _STEP = 520.0, 24.0, 46.0
_RADIUS = 9.0
_FOR, _AGAINST, _NEUTRAL = "var(--band)", "var(--bar-edge)", "var(--rule)"


def drawn_graph(
    graph: Graph, values: Values, kept: Mask, labels: Sequence[str], title: str
) -> Picture:
    """Return the picture of a graph.

    Args:
        graph: The graph.
        values: The importance of its units, (units,).
        kept: What the policy kept, (units,).
        labels: What each node is called, empty for none.
        title: Beneath the picture.
    """
    nodes = _shown_nodes(graph, values, kept)
    where = np.full(graph.nodes, -1)
    where[nodes] = np.arange(len(nodes))
    pairs = where[graph.pairs]
    inside = (pairs >= 0).all(axis=0)
    places, size = _on_page(layout(pairs[:, inside], len(nodes)))
    share = _shares(values)
    parts = [
        _edge(
            places[pairs[:, unit]],
            share[unit] if graph.per == EDGE else 0.0,
            kept=graph.per == EDGE and bool(kept[unit]),
            said=_said(values, unit, labels, graph),
        )
        for unit in np.flatnonzero(inside).tolist()
    ]
    parts += [
        _node(
            places[place],
            share[node] if graph.per != EDGE else 0.0,
            kept=graph.per != EDGE and bool(kept[node]),
            label=labels[node],
        )
        for place, node in enumerate(nodes.tolist())
    ]
    part = "" if len(nodes) == graph.nodes else f", the part with {len(nodes)} of them"
    description = (
        f"A graph of {count(graph.nodes)} nodes and {count(graph.pairs.shape[1])} edges"
        f"{part}; {_kept_in_words(kept, graph.per)}."
    )
    return _picture(parts, size, title, description)


def drawn_values(values: Values, kept: Mask, per: str, title: str) -> Picture:
    """Return the values alone as bars, in stored order, where no graph may be shown."""
    share = _shares(values)[:400]
    step = (_WIDTH - 2 * _MARGIN) / max(len(share), 1)
    parts = []
    for place, value in enumerate(share.tolist()):
        height = abs(value) * 40
        top = 50 - height if value >= 0 else 50.0
        outline = ' stroke="var(--ink)"' if kept[place] else ""
        parts.append(
            Markup('<rect x="{}" y="{}" width="{}" height="{}" fill="{}"{}/>').format(
                round(_MARGIN + place * step, 2),
                round(top, 2),
                round(max(step * 0.8, 0.5), 2),
                round(max(height, 0.5), 2),
                _colour(value),
                Markup(outline),  # noqa: S704 - one of two constants
            )
        )
    part = "" if len(share) == len(values) else f", the first {len(share)}"
    description = (
        f"The importance of {count(len(values))} {per}s in stored order{part};"
        f" {_kept_in_words(kept, per)}."
    )
    return _picture(parts, (_WIDTH, 100.0), title, description)


def _picture(
    parts: Sequence[Markup], size: tuple[float, float], title: str, description: str
) -> Picture:
    fragment = Markup(
        '<svg role="img" viewBox="0 0 {} {}" width="{}" height="{}"><title>{}</title>'
        "{}</svg>"
    ).format(
        round(size[0], 1),
        round(size[1], 1),
        round(size[0]),
        round(size[1]),
        description,
        Markup("").join(parts),
    )
    return Picture(title=title, description=description, fragment=str(fragment))


def _shown_nodes(graph: Graph, values: Values, kept: Mask) -> npt.NDArray[np.int64]:
    """Return the nodes that are drawn: all, or those of the most important units."""
    if graph.nodes <= MOST_NODES:
        return np.arange(graph.nodes)
    # Kept units first, then by importance, then as stored.
    order = np.lexsort((np.arange(len(values)), -np.abs(values), ~kept))
    chosen: dict[int, None] = {}
    for unit in order.tolist():
        ends = [unit] if graph.per != EDGE else graph.pairs[:, unit].tolist()
        if len({*chosen, *ends}) > MOST_NODES:
            break
        chosen.update(dict.fromkeys(ends))
    return np.array(sorted(chosen), dtype=np.int64)


def _on_page(
    places: npt.NDArray[np.float64],
) -> tuple[npt.NDArray[np.float64], tuple[float, float]]:
    """Return places on the page and its size, wide rather than high."""
    spread = np.ptp(places, axis=0)
    if spread[1] > spread[0]:
        places, spread = places[:, ::-1], spread[::-1]
    scale = min(_STEP, (_WIDTH - 2 * _MARGIN) / max(float(spread[0]), 1e-9))
    moved = (places - places.min(axis=0)) * scale + _MARGIN
    width, height = (spread * scale + 2 * _MARGIN).tolist()
    return moved, (width, height)


def _shares(values: Values) -> npt.NDArray[np.float64]:
    """Return values relative to the largest magnitude, -1 to 1."""
    largest = float(np.abs(values).max()) if len(values) else 0.0
    return values.astype(np.float64) / (largest or 1.0)


def _colour(share: float) -> str:
    if abs(share) < 0.02:
        return _NEUTRAL
    return _FOR if share > 0 else _AGAINST


def _edge(
    ends: npt.NDArray[np.float64], share: float, *, kept: bool, said: Markup
) -> Markup:
    """Return one edge, or the circle of a loop."""
    width = round(1.5 + 5.5 * abs(share), 2)
    (x1, y1), (x2, y2) = np.round(ends, 2).tolist()
    shape = Markup('<line x1="{}" y1="{}" x2="{}" y2="{}"').format(x1, y1, x2, y2)
    if (x1, y1) == (x2, y2):
        shape = Markup('<circle cx="{}" cy="{}" r="{}" fill="none"').format(
            x1, round(y1 - _RADIUS, 2), _RADIUS
        )
    halo = Markup("")
    if kept:
        halo = shape + Markup(
            ' stroke="var(--ink)" stroke-width="{}" stroke-linecap="round"/>'
        ).format(round(width + 3.5, 2))
    return (
        halo
        + shape
        + Markup(' stroke="{}" stroke-width="{}" stroke-linecap="round">{}').format(
            _colour(share), width, said
        )
        + Markup("</{}>").format("circle" if (x1, y1) == (x2, y2) else "line")
    )


def _node(
    place: npt.NDArray[np.float64], share: float, *, kept: bool, label: str
) -> Markup:
    x, y = np.round(place, 2).tolist()
    radius = _RADIUS if label or share else 4.0
    circle = Markup(
        '<circle cx="{}" cy="{}" r="{}" fill="{}" stroke="{}" stroke-width="{}"/>'
    ).format(
        x,
        y,
        round(radius + 5 * abs(share), 2),
        _colour(share) if share else "var(--card)",
        "var(--ink)" if kept else "var(--soft)",
        3 if kept else 1,
    )
    if not label:
        return circle
    return circle + Markup(
        '<text x="{}" y="{}" text-anchor="middle" font-size="10" fill="var(--ink)">{}'
        "</text>"
    ).format(x, round(y + 3.5, 2), label)


def _said(values: Values, unit: int, labels: Sequence[str], graph: Graph) -> Markup:
    """Return what pointing at an edge shows."""
    first, second = graph.pairs[:, unit].tolist()
    ends = [
        f"{labels[node]}{node}" if labels[node] else str(node)
        for node in (first, second)
    ]
    value = f": {number(float(values[unit]))}" if graph.per == EDGE else ""
    return Markup("<title>{}</title>").format(escape(f"{ends[0]} - {ends[1]}{value}"))


def _kept_in_words(kept: Mask, per: str) -> str:
    return f"{count(int(kept.sum()))} of {count(len(kept))} {per}s kept"
