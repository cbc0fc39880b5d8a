# SPDX-License-Identifier: Apache-2.0
"""Searching the batch size: by pace on the CPU, by halving from large on a GPU."""

import platform
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch
from torch import nn

from pipeline.engine import Engine
from pipeline.run_plan import RunPlan
from pipeline.trial_batches import noise, on_trial, trial_batch

#: Tried on the CPU, where caches decide and memory does not.
CPU_SIZES = (4, 8, 16, 32)
#: Tried first on a GPU, unless so many inputs are larger than this.
GPU_FIRST = 512
GPU_FIRST_BYTES = 2 * 1024**3
#: Batches that are on the device beside the one in work, because they are copied ahead.
BATCHES_BESIDE = 2
#: A smaller batch that is nearly as fast is taken: it wastes less at the end.
NEARLY = 0.97
#: Timing of one size ends after so many batches, or after so long.
MOST_BATCHES = 5
SIZE_S = 3.0
#: Methods of more passes an item fill the device whatever the batch; trying them would
#: take minutes.
MOST_PASSES = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchChoice:
    """A batch size and where it comes from.

    Attributes:
        batch_size: It.
        source: `spec`, `search`, `earlier search` or `default`.
        trials: Items a second by batch size, as text.
    """

    batch_size: int
    source: str
    trials: dict[str, float] = field(default_factory=dict)


def search_batch_size(
    plan: RunPlan, network: nn.Module, device: torch.device
) -> BatchChoice:
    """Return the batch size to take for the plan on this device.

    Args:
        plan: The plan but for its batch size.
        network: On the device, as it will be used.
        device: Where the work is done.
    """
    engine = Engine(plan, network, device)
    with on_trial(plan, network):
        if device.type == "cuda":
            paces = _by_halving(plan, engine, device)
        else:
            paces = {
                size: _pace(plan, engine, device, size, MOST_BATCHES)
                for size in CPU_SIZES
            }
    best = max(paces.values())
    chosen = min(size for size, pace in paces.items() if pace >= NEARLY * best)
    return BatchChoice(
        batch_size=chosen,
        source="search",
        trials={str(size): round(pace, 3) for size, pace in sorted(paces.items())},
    )


def _by_halving(
    plan: RunPlan, engine: Engine, device: torch.device
) -> dict[int, float]:
    """Return the pace of the largest size that fits and of the next two below it."""
    bytes_each = 4
    for side in plan.input_shape:
        bytes_each *= side
    size = GPU_FIRST
    while size > 1 and size * bytes_each > GPU_FIRST_BYTES:
        size //= 2
    paces: dict[int, float] = {}
    while size >= 1 and len(paces) < 3:
        try:
            beside = torch.empty(
                (BATCHES_BESIDE, size, *plan.input_shape), device=device
            )
            paces[size] = _pace(plan, engine, device, size, MOST_BATCHES)
            del beside
        except torch.OutOfMemoryError:
            if size == 1:
                raise
        torch.cuda.empty_cache()
        size //= 2
    return paces


def _pace(
    plan: RunPlan, engine: Engine, device: torch.device, size: int, batches: int
) -> float:
    """Return the items a second of the fastest batch, one warm-up left out."""
    batch = trial_batch(noise(plan, size), device)
    engine.measure(batch)
    fastest, began = float("inf"), time.perf_counter()
    for _ in range(batches):
        started = time.perf_counter()
        measured = engine.measure(batch)
        # Fetching something waits for the device.
        measured.stored.scale.tolist()
        fastest = min(fastest, time.perf_counter() - started)
        if time.perf_counter() - began > SIZE_S:
            break
    if measured.halved:
        raise torch.OutOfMemoryError("A pass of the batch had to be halved.")
    return size / fastest


@lru_cache(maxsize=8)
def device_name(device: torch.device) -> str:
    """Return the name of the very device: two of a name are equally fast."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()[:200]
    return (platform.processor() or platform.machine())[:200]
