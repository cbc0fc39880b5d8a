# SPDX-License-Identifier: Apache-2.0
"""Correlations of each item's pairs, in float64."""

import torch
from torch import Tensor


def pearson(one: Tensor, two: Tensor) -> Tensor:
    """Return the correlation over the first axis; NaN where a side does not vary.

    Shape: (S, N) each -> (N,) float64.
    """
    first = one.double() - one.double().mean(dim=0)
    second = two.double() - two.double().mean(dim=0)
    spread = first.square().sum(dim=0) * second.square().sum(dim=0)
    found = (first * second).sum(dim=0) / spread.sqrt()
    # Rounding may lead out of the range; clamping leaves NaN what it is.
    return found.clamp(-1.0, 1.0)


def spearman(one: Tensor, two: Tensor) -> Tensor:
    """Return the rank correlation of each pair of maps, ties at their mean rank.

    NaN where a map is the same everywhere or not finite.

    Source: Spearman 1904, "The proof and measurement of association".

    Shape: (N, h, w) each -> (N,) float64.
    """
    flat = [maps.flatten(1).double() for maps in (one, two)]
    broken = ~torch.isfinite(torch.cat(flat, dim=1)).all(dim=1)
    found = pearson(*(_mean_ranks(side).T for side in flat))
    return found.masked_fill(broken, torch.nan)


def _mean_ranks(flat: Tensor) -> Tensor:
    """Return each value's rank in its row, equals at their mean.

    Shape: (N, n) -> (N, n) float64.
    """
    ordered = flat.sort(dim=1).values
    below = torch.searchsorted(ordered, flat)
    upto = torch.searchsorted(ordered, flat, right=True)
    return (below + upto).double() / 2


def varies(values: Tensor) -> Tensor:
    """Say where the samples differ by more than a network's last bits.

    Shape: (S, N) -> (N,) bool.
    """
    spread = values.amax(dim=0) - values.amin(dim=0)
    return spread > 1e-6 * values.abs().amax(dim=0)
