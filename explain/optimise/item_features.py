# SPDX-License-Identifier: Apache-2.0
"""The features of a batch's items: what a table may choose their policy by."""

from collections.abc import Sequence

import torch
from torch import Tensor

from explain.errors import InvalidInputError, UnknownNameError
from explain.numpy_maps import kept_count
from explain.optimise.features import FEATURES
from explain.thresholds.content import edge_density, entropy, grey
from explain.thresholds.peaks import peaks
from explain.thresholds.policy import ThresholdContext
from explain.thresholds.selection import ranked
from explain.thresholds.shaped import grid

#: The size of an edge, as in the policy ``adaptive``.
_EDGE = 0.1
#: The part of the positions whose share of the mass is the concentration.
_TOP = 0.10
#: Least peak and distance between two, as in the policy ``multi_peak``.
_BETA, _DISTANCE = 0.5, 0.1


def item_features(
    names: Sequence[str], maps: Tensor, context: ThresholdContext
) -> Tensor:
    """Return the named features; each is of the item alone, whatever its neighbours.

    What cannot be measured (a map without positive mass, a probability that is no
    number) counts as 0, so that a choice is always made; the policy's status then
    says what is wrong.

    Shape: maps (N, H, W) or (N, L) float32 -> (N, F) float64, on the maps' device.

    Raises:
        UnknownNameError: no such feature.
        InvalidInputError: images or probabilities are unknown, or not one an item.
    """
    measured = {
        "entropy": lambda: entropy(_levels(maps, context)),
        "edges": lambda: edge_density(_levels(maps, context), _EDGE),
        "probability": lambda: _given(maps, context, "probabilities"),
        "concentration": lambda: _concentration(maps),
        "peaks": lambda: _peaks(maps),
    }
    for name in names:
        if name not in FEATURES:
            raise UnknownNameError("feature", name, FEATURES)
    columns = [measured[name]().to(maps.device).double() for name in names]
    if not columns:
        return torch.zeros(len(maps), 0, dtype=torch.float64, device=maps.device)
    return torch.stack(columns, dim=1).nan_to_num(0.0, 0.0, 0.0)


def _given(maps: Tensor, context: ThresholdContext, field: str) -> Tensor:
    """Return one field of the context, which must have a row an item."""
    value: Tensor | None = getattr(context, field)
    if value is None or len(value) != len(maps):
        raise InvalidInputError(
            f"Expected {field} for each of {len(maps)} maps, got"
            f" {'none' if value is None else len(value)}."
        )
    return value


def _levels(maps: Tensor, context: ThresholdContext) -> Tensor:
    return grey(_given(maps, context, "images").to(maps.device))


def _concentration(maps: Tensor) -> Tensor:
    order = ranked(maps)
    top = torch.full_like(order.positives, kept_count(_TOP, order.positions))
    return order.energy_at(top)


def _peaks(maps: Tensor) -> Tensor:
    pictures = grid("learned", maps)
    radius = max(1, round(_DISTANCE * max(pictures.maps.shape[1:])))
    values = pictures.maps.where(pictures.usable[:, None, None], 0.0).contiguous()
    tops = peaks(values, pictures.highest * _BETA, radius)
    return tops.flatten(1).sum(dim=1).double().log1p()
