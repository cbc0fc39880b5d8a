# SPDX-License-Identifier: Apache-2.0
"""Batches that are computed to learn something, and whose results are dropped."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from explain.frozen import frozen
from pipeline.engine import BatchInputs
from pipeline.run_plan import RunPlan


@contextmanager
def on_trial(plan: RunPlan, network: nn.Module) -> Iterator[None]:
    """The network is held as in a run: frozen, with the plan's threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(plan.threads)
    try:
        with frozen(network):
            yield
    finally:
        torch.set_num_threads(before)


def noise(plan: RunPlan, count: int) -> Tensor:
    """Return seeded noise on the CPU, normalised like an input.

    Shape: (count, C, H, W).
    """
    pixels = torch.rand(
        (count, *plan.input_shape), generator=torch.Generator().manual_seed(0)
    )
    mean = torch.tensor(plan.mean)[:, None, None]
    std = torch.tensor(plan.std)[:, None, None]
    return (pixels - mean) / std


def trial_batch(
    inputs: Tensor, device: torch.device, *, valid: Sequence[bool] | None = None
) -> BatchInputs:
    """Return a batch whose classes are the predicted ones and whose object is central.

    Args:
        inputs: (N, C, H, W) on the CPU.
        device: Where it is computed.
        valid: Whether each place is an item; None means all.
    """
    count, _channels, height, width = inputs.shape
    truth = torch.zeros((count, height, width), dtype=torch.bool)
    truth[
        :, height // 4 : -(height // 4) or None, width // 4 : -(width // 4) or None
    ] = 1
    return BatchInputs(
        inputs=inputs.to(device),
        targets=None,
        ground_truth=truth.to(device),
        has_truth=torch.ones(count, dtype=torch.bool),
        valid=torch.tensor(list(valid) if valid is not None else [True] * count),
        indices=tuple(range(count)),
    )
