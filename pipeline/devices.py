# SPDX-License-Identifier: Apache-2.0
"""Which device does the work: what was asked for, offered and is there."""

import torch

from pipeline.errors import InfrastructureError


def best_device() -> str:
    """Return the kind of the best device of this machine: cuda, mps or cpu."""
    if torch.cuda.is_available():
        return "cuda"
    if torch.backends.mps.is_available():
        return "mps"
    return "cpu"


def pick_device(asked: str, offered: str = "auto") -> torch.device:
    """Return the device to work on.

    Args:
        asked: `run.device` of the spec.
        offered: The installation's `AFFIDAVIT_DEVICE`.

    Raises:
        InfrastructureError: the device asked for is not on this machine.
    """
    name = offered if asked == "auto" else asked
    if name == "auto":
        name = best_device()
    kind = name.partition(":")[0]
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(kind, False):
        raise InfrastructureError(
            f"The device '{name}' is not on this machine; it has "
            f"'{best_device()}'. Set run.device to auto or to that."
        )
    if kind == "cuda" and ":" in name and int(name[5:]) >= torch.cuda.device_count():
        raise InfrastructureError(
            f"The device '{name}' is not on this machine; it has "
            f"{torch.cuda.device_count()} CUDA devices, counted from 0."
        )
    return torch.device(name)
