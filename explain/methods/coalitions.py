# SPDX-License-Identifier: Apache-2.0
"""Which coalitions KernelSHAP asks about, and with what weight.

    pi(z) = (M - 1) / (C(M, |z|) |z| (M - |z|))

Coalition sizes s and M - s are taken in pairs from the outside in: a pair of sizes
is enumerated while the samples that its weight deserves suffice for it. What is
left is sampled, each coalition with its complement.

Source: Lundberg and Lee 2017, "A Unified Approach to Interpreting Model
Predictions", theorem 2; pairing: Covert and Lee 2021, "Improving KernelSHAP:
Practical Shapley Value Estimation Using Linear Regression", section 3.3.
"""

import math
from collections.abc import Callable
from itertools import combinations

import torch
from torch import Tensor

#: From a shape to uniform numbers in [-1, 1) of that shape.
Uniform = Callable[[tuple[int, ...]], Tensor]


def coalitions(parts: int, samples: int, uniform: Uniform) -> tuple[Tensor, Tensor]:
    """Return at most so many coalitions, neither empty nor full, and their weights.

    All of them where there are no more than samples; Shapley values are then exact.

    Args:
        parts: How many there are, M.
        samples: Most coalitions to ask about.
        uniform: Source of randomness, used where not all can be asked.

    Shape: (R, M) bool and (R,) float64 that sums to one (R is 0 for a single part).
    """
    half = range(1, parts // 2 + 1)
    shares = {size: _share(parts, size) for size in half}
    everything = 2**parts - 2 <= samples
    left, weight_left = samples, sum(shares.values())
    rows: list[Tensor] = []
    weights: list[Tensor] = []
    sampled = list(half)
    for size in half:
        count = math.comb(parts, size) * (1 if 2 * size == parts else 2)
        if not everything and left * shares[size] < count * weight_left:
            break
        rows.append(_all_of(parts, size))
        weights.append(torch.full((count,), shares[size] / count, dtype=torch.float64))
        left -= count
        weight_left -= shares[size]
        sampled.remove(size)
    pairs = left // 2
    if sampled and pairs:
        numbers = uniform((pairs, parts + 1))
        rows.append(_drawn(numbers, [(size, shares[size]) for size in sampled]))
        each = weight_left / (2 * pairs)
        weights.append(torch.full((2 * pairs,), each, dtype=torch.float64))
    if not rows:
        return torch.ones(0, parts, dtype=torch.bool), torch.ones(0).double()
    weight = torch.cat(weights)
    return torch.cat(rows), weight / weight.sum()


def _share(parts: int, size: int) -> float:
    """Return the summed weight of all coalitions of a size and its counterpart."""
    both = 1 if 2 * size == parts else 2
    return both * (parts - 1) / (size * (parts - size))


def _all_of(parts: int, size: int) -> Tensor:
    """Return every coalition of the size, and every complement."""
    members = torch.tensor(list(combinations(range(parts), size)))
    rows = torch.zeros(len(members), parts, dtype=torch.bool)
    rows.scatter_(1, members, value=True)
    # At half size the complements are among them already.
    return rows if 2 * size == parts else torch.cat([rows, ~rows])


def _drawn(numbers: Tensor, sizes: list[tuple[int, float]]) -> Tensor:
    """Return a random coalition and its complement for each row of numbers.

    The first number decides the size, by weight; the order of the others decides
    the members.
    """
    weight = torch.tensor([share for _, share in sizes], dtype=torch.float64)
    ends = (weight / weight.sum()).cumsum(dim=0)[:-1]
    place = torch.bucketize((numbers[:, 0].double() + 1) / 2, ends, right=True)
    size = torch.tensor([size for size, _ in sizes])[place]
    rank = numbers[:, 1:].argsort(dim=1, stable=True).argsort(dim=1, stable=True)
    rows = rank < size[:, None]
    return torch.stack([rows, ~rows], dim=1).flatten(0, 1)
