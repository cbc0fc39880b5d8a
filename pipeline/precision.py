# SPDX-License-Identifier: Apache-2.0
"""Whether the network in another type, or compiled, still explains the same.

The network as planned is held against itself in float32, not compiled: on seeded noise
and on the first items that can be read. Maps are compared after each is scaled to a
maximum of 1, masks by their intersection over union, both for the class that float32
predicts. What was found is part of the plan, the ledger and the report.

A worker repeats the half with noise when it loads the network, since another machine
may have other kernels.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import torch
from torch import Tensor, nn

from pipeline.batch_rows import MeasuredBatch
from pipeline.batch_search import device_name
from pipeline.engine import BatchInputs, Engine
from pipeline.errors import ModelError
from pipeline.networks import as_planned
from pipeline.run_plan import RunPlan
from pipeline.trial_batches import noise, on_trial, trial_batch

#: Items of each kind that are compared.
COMPARED = 16


class PrecisionError(ModelError):
    """The network as planned explains otherwise than in float32."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What comparing some items found.

    Attributes:
        compared: Items with a map in float32; others cannot be compared.
        map_difference: Largest of all places and items, of maps scaled to 1.
        mask_iou: Mean over the items.
        same_class: Items whose predicted class is the same.
    """

    compared: int
    map_difference: float
    mask_iou: float
    same_class: int

    def is_within(self, tolerance: float) -> bool:
        """Whether maps and masks are the same up to the tolerance."""
        return self.map_difference <= tolerance and 1 - self.mask_iou <= tolerance


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionCheck:
    """What was found on noise and on items; None where none could be read."""

    tolerance: float
    device_name: str
    noise: Comparison
    items: Comparison | None

    @property
    def passed(self) -> bool:
        """Whether the network may be used as planned."""
        found = [self.noise] if self.items is None else [self.noise, self.items]
        return all(each.is_within(self.tolerance) for each in found)

    def to_json(self) -> dict[str, object]:
        """Return what was found as JSON values."""
        return asdict(self) | {"passed": self.passed}

    def in_words(self) -> str:
        """Return what was found, for a sentence."""
        parts = []
        for name, found in (("noise", self.noise), ("the first items", self.items)):
            if found is not None:
                parts.append(
                    f"on {name} ({found.compared}) maps differ by up to "
                    f"{found.map_difference:.3g} and masks overlap by "
                    f"{found.mask_iou:.3g}"
                )
        return f"{'; '.join(parts)} (tolerance {self.tolerance:g})"


def check_precision(
    plan: RunPlan,
    engine: Engine,
    network: nn.Module,
    device: torch.device,
    *,
    tolerance: float,
    pixels: Sequence[Tensor] = (),
) -> PrecisionCheck:
    """Return how far the network as planned is from float32; it is as planned then.

    Args:
        plan: The plan, its batch size included.
        engine: Of the plan and the network, made while the network is plain.
        network: On the device, in float32 and not compiled; changed in place.
        device: Where the work is done.
        tolerance: What may differ.
        pixels: (C, H, W) each, of the first items.
    """
    count = min(COMPARED, plan.batch_size)
    batches = [_padded(plan, list(noise(plan, count)), device)]
    for start in range(0, len(pixels), plan.batch_size):
        part = list(pixels[start : start + plan.batch_size])
        batches.append(_padded(plan, part, device))
    with on_trial(plan, network):
        before = [engine.measure(batch) for batch in batches]
        as_planned(plan, network, device)
        # For the class of float32, so that a near tie does not count as a difference.
        after = [
            engine.measure(replace(batch, targets=found.attribution.targets.cpu()))
            for batch, found in zip(batches, before, strict=True)
        ]
    pairs = list(zip(batches, before, after, strict=True))
    return PrecisionCheck(
        tolerance=tolerance,
        device_name=device_name(device),
        noise=_compared(pairs[:1]),
        items=_compared(pairs[1:]) if pixels else None,
    )


def require_precision(
    plan: RunPlan, engine: Engine, network: nn.Module, device: torch.device
) -> None:
    """The network is as planned, and explains noise as in float32.

    Raises:
        PrecisionError: it does not on this machine.
    """
    said = plan.precision or {}
    tolerance = float(said.get("tolerance", 0.0))
    check = check_precision(plan, engine, network, device, tolerance=tolerance)
    if not check.passed:
        raise PrecisionError(
            f"On this machine the network in {in_words(plan)} explains otherwise than "
            f"in float32: {check.in_words()}."
        )


def in_words(plan: RunPlan) -> str:
    """Return how the plan has the network computed."""
    return f"{plan.dtype}{', compiled' if plan.compiled else ''}"


def _padded(plan: RunPlan, pixels: list[Tensor], device: torch.device) -> BatchInputs:
    """Return a whole batch: compiled code is made for one shape."""
    inputs = torch.zeros((plan.batch_size, *plan.input_shape))
    for place, each in enumerate(pixels):
        inputs[place] = each
    valid = [place < len(pixels) for place in range(plan.batch_size)]
    return trial_batch(inputs, device, valid=valid)


def _compared(
    pairs: Sequence[tuple[BatchInputs, MeasuredBatch, MeasuredBatch]],
) -> Comparison:
    differences: list[float] = []
    overlaps: list[float] = []
    same = 0
    for batch, before, after in pairs:
        usable = batch.valid & ~before.attribution.zero_gradient.cpu()
        first, second = (_scaled(each.attribution.maps) for each in (before, after))
        gaps = (first - second).abs().flatten(1).amax(dim=1)
        masks = [each.threshold.mask.cpu().flatten(1) for each in (before, after)]
        union = (masks[0] | masks[1]).sum(dim=1)
        both = (masks[0] & masks[1]).sum(dim=1)
        for place in usable.nonzero().flatten().tolist():
            # A map that is not finite differs as much as can be.
            gap = float(gaps[place])
            differences.append(gap if gap == gap else 1.0)  # noqa: PLR0124
            whole = int(union[place])
            overlaps.append(int(both[place]) / whole if whole else 1.0)
        classes = [
            each.attribution.logits.argmax(dim=1).cpu() for each in (before, after)
        ]
        same += int((classes[0] == classes[1])[usable].sum())
    if not differences:
        # Nothing was compared, so nothing speaks for the network as planned.
        return Comparison(compared=0, map_difference=1.0, mask_iou=0.0, same_class=0)
    return Comparison(
        compared=len(differences),
        map_difference=max(differences),
        mask_iou=sum(overlaps) / len(overlaps),
        same_class=same,
    )


def _scaled(maps: Tensor) -> Tensor:
    """Return the maps with a largest absolute value of 1 each, on the CPU."""
    plain = maps.detach().double().cpu()
    largest = plain.abs().flatten(1).amax(dim=1)
    return plain / largest.clamp_min(1e-300)[:, None, None]
