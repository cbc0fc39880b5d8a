# SPDX-License-Identifier: Apache-2.0
"""Where the nodes of a drawn graph lie: near in the graph is near on the page.

Places minimise the stress  sum over i < j of d_ij^-2 (|p_i - p_j| - d_ij)^2  with d the
hops between two nodes, by majorisation from classical scaling. Nothing is random.

Source: Gansner, Koren and North 2005, "Graph Drawing by Stress Majorization"; the start
is Torgerson 1952, "Multidimensional scaling: I".
"""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_ROUNDS = 80
#: Radians between nodes on the circle that breaks ties: the golden angle.
_TURN = 2.399963229728653


def layout(pairs: npt.NDArray[np.int64], nodes: int) -> Floats:
    """Return the place of each node, about a unit apart where they are joined.

    Parts that are not joined lie side by side.

    Shape: pairs (2, P), (nodes, 2) float64, centred at 0.
    """
    if nodes == 1:
        return np.zeros((1, 2))
    hops = _hops(pairs, nodes)
    places = _scaled(hops)
    weights = 1 / np.square(hops + np.eye(nodes))
    np.fill_diagonal(weights, 0.0)
    total = weights.sum(axis=1)
    for _round in range(_ROUNDS):
        apart = places[:, None] - places[None]
        length = np.sqrt(np.square(apart).sum(axis=2))
        pull = hops / np.maximum(length, 1e-9)
        np.fill_diagonal(pull, 0.0)
        wanted = places[None] + apart * pull[:, :, None]
        places = (weights[:, :, None] * wanted).sum(axis=1) / total[:, None]
    centred: Floats = places - places.mean(axis=0)
    return centred


def _hops(pairs: npt.NDArray[np.int64], nodes: int) -> Floats:
    """Return the hops between nodes; between parts, a little more than the longest."""
    from scipy.sparse import coo_array  # noqa: PLC0415 - not needed by other pages
    from scipy.sparse.csgraph import shortest_path  # noqa: PLC0415

    ones = np.ones(pairs.shape[1])
    joined = coo_array((ones, (pairs[0], pairs[1])), shape=(nodes, nodes)).tocsr()
    hops: Floats = shortest_path(joined, directed=False, unweighted=True)
    there = np.isfinite(hops)
    longest = float(hops[there].max()) if there.any() else 0.0
    found: Floats = np.where(there, hops, min(longest, 6.0) + 2.0)
    return found


def _scaled(hops: Floats) -> Floats:
    """Return places whose distances are near the hops, in two dimensions."""
    nodes = len(hops)
    squared = np.square(hops)
    centred = squared - squared.mean(axis=0) - squared.mean(axis=1)[:, None]
    values, vectors = np.linalg.eigh(-(centred + squared.mean()) / 2)
    axes = vectors[:, -2:][:, ::-1]
    # An eigenvector's sign is free: its largest entry counts as positive.
    largest = axes[np.abs(axes).argmax(axis=0), np.arange(axes.shape[1])]
    axes = axes * np.where(largest < 0, -1.0, 1.0)
    places: Floats = axes * np.sqrt(np.maximum(values[-2:][::-1], 0.0))
    turn = np.arange(nodes) * _TURN
    # Nodes with the same neighbours would lie on each other for ever.
    return places + 0.05 * np.stack([np.cos(turn), np.sin(turn)], axis=1)
