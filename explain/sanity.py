# SPDX-License-Identifier: Apache-2.0
"""What an explanation must differ from: random networks, random maps, edges.

Source: Adebayo et al. 2018, "Sanity Checks for Saliency Maps", NeurIPS: a map that
stays as it is when the network's weights are drawn anew explains the picture and not
the network.
"""

import copy
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, conv2d, pad

from explain.draws import ItemDraws
from explain.metrics.random_networks import Example, run_once

#: The gate's stream of random draws; the others are metrics, methods and policies.
SANITY_STREAM = 7


def top_layer(model: nn.Module, example: Example) -> str:
    """Return the name of the last module with parameters that a forward pass calls.

    Args:
        model: The network.
        example: An input of one item, (1, C, H, W), or what runs the network once.
    """
    called: list[str] = []
    hooks = [
        module.register_forward_hook(lambda *_, name=name: called.append(name))
        for name, module in model.named_modules()
        if any(True for _ in module.parameters(recurse=False))
    ]
    try:
        with torch.no_grad():
            run_once(model, example)
    finally:
        for hook in hooks:
            hook.remove()
    return called[-1]


def randomised(model: nn.Module, seed: int, *, only: str | None = None) -> nn.Module:
    """Return a copy whose parameters are drawn anew, each with the spread it had.

    Buffers, such as the statistics of normalisation, stay as they are.

    Args:
        model: The trained network, which stays as it is.
        seed: Decides the draws, which are the same on every device.
        only: The module whose own parameters are drawn; None draws all.
    """
    again = copy.deepcopy(model)
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in again.named_parameters():
        if only is not None and name.rpartition(".")[0] != only:
            continue
        values = parameter.detach()
        spread = float(values.double().std(correction=0)) or 1e-2
        drawn = torch.randn(values.shape, generator=generator) * spread
        with torch.no_grad():
            parameter.copy_(drawn.to(values.device, values.dtype))
    return again


def rank_correlations(one: Tensor, two: Tensor) -> list[float | None]:
    """Return Spearman's correlation of each pair of maps, ties at their mean rank.

    None where a map is the same everywhere or not finite.

    Shape: (N, h, w) each.
    """
    from scipy.stats import rankdata  # noqa: PLC0415 - a slow import

    found: list[float | None] = []
    for first, second in zip(one.flatten(1), two.flatten(1), strict=True):
        pair = torch.stack([first, second]).double().cpu().numpy()
        if not np.isfinite(pair).all() or (np.ptp(pair, axis=1) == 0).any():
            found.append(None)
            continue
        ranks: Any = rankdata(pair, axis=1)
        found.append(float(np.corrcoef(ranks)[0, 1]))
    return found


def edge_maps(inputs: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the strength of edges, which needs no network, at the maps' resolution.

    Sobel's gradient of the channels' mean, pooled.

    Shape: (N, C, H, W) -> (N, h, w) float32.
    """
    grey = inputs.mean(dim=1, keepdim=True)
    slope = torch.tensor(
        [[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]], device=inputs.device
    )
    framed = pad(grey, (1, 1, 1, 1), mode="replicate")
    across = conv2d(framed, slope[None, None])
    down = conv2d(framed, slope.T[None, None])
    strength = torch.sqrt(across**2 + down**2)
    return adaptive_avg_pool2d(strength, size).squeeze(1)


def random_maps(draws: ItemDraws, size: tuple[int, int]) -> Tensor:
    """Return maps that know nothing, the same for an item in whatever batch.

    Shape: (N, h, w) float32 in [0, 1), on the CPU.
    """
    return (draws.uniform(0, size) + 1) / 2
