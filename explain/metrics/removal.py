# SPDX-License-Identifier: Apache-2.0
"""Taking parts of an input away: what stands there instead."""

from functools import partial

import torch
from torch import Tensor

from explain.baselines import baseline_of
from explain.metrics.batch import SCORES, Draw, MetricBatch
from explain.metrics.imputation import imputed

#: Deviation of the noise on imputed pixels, in normalised space, as in the ROAD paper.
IMPUTATION_NOISE = 0.01


class Removal:
    """Removes parts of a batch's inputs.

    Attributes:
        kind: What stands for removed pixels, of ``explain.metrics.card.REMOVALS``.
    """

    def __init__(self, batch: MetricBatch, kind: str) -> None:
        self._batch = batch
        self._fill = None if kind == "imputation" else _fill(batch, kind)
        self._room: Tensor | None = None
        self.kind = kind

    @classmethod
    def of(cls, batch: MetricBatch, kind: str) -> "Removal":
        """Return the batch's removal of that kind, made once."""
        return batch.once(f"removal {kind}", partial(cls, batch, kind))

    def keep_only(self, kept: Tensor) -> Tensor:
        """Return copies of the inputs with only the kept pixels.

        They stand until the next call, which may write into the same memory.

        Shape: kept (k, N, H, W) bool -> (k, N, C, H, W).
        """
        if self._fill is None:
            return imputed_copies(
                self._batch, kept, IMPUTATION_NOISE, [Draw.IMPUTATION] * len(kept)
            )
        # Multiplying would carry a NaN or infinity of the input through a mask.
        inputs, shown = self._batch.inputs, kept[:, :, None]
        if inputs.device.type != "cpu":
            return torch.where(shown, inputs, self._fill)
        # Fresh memory of this size costs four times what is written into it.
        if self._room is None or len(self._room) < len(kept):
            self._room = inputs.new_empty((len(kept), *inputs.shape))
        room = self._room[: len(kept)]
        return torch.where(shown, inputs, self._fill, out=room)

    def nothing(self) -> Tensor:
        """Return the inputs with everything removed, (N, C, H, W)."""
        if self._fill is None:
            return baseline_of(self._batch.inputs, "mean")
        return self._fill

    def nothing_scores(self, kind: str = "probability") -> Tensor:
        """Return the target's score with everything removed, (N,) float64.

        The pass is made once, whatever metrics ask and whatever score they take.
        """
        batch = self._batch

        def asked() -> dict[str, Tensor]:
            with torch.no_grad():
                logits = batch.forward(self.nothing())
            return {"logits": logits}

        found = batch.once(f"baseline {self.kind}", asked)
        return SCORES[kind](found["logits"], batch.targets)


def _fill(batch: MetricBatch, kind: str) -> Tensor:
    """Return what stands where pixels were, (N, C, H, W)."""
    if kind == "noise":
        shape = tuple(batch.inputs.shape[1:])
        return batch.draws.normal(Draw.FILL, shape).to(batch.inputs)
    return baseline_of(batch.inputs, kind)


def imputed_copies(
    batch: MetricBatch, kept: Tensor, noise: float, draws: list[int]
) -> Tensor:
    """Return copies of the inputs with what is not kept imputed, and noise on that.

    Args:
        batch: Its inputs.
        kept: What each copy keeps of each item.
        noise: Deviation, in normalised space.
        draws: The number of each copy's draw.

    Shape: kept (k, N, H, W) bool -> (k, N, C, H, W).
    """
    copies = len(kept)
    inputs = batch.inputs.expand(copies, *batch.inputs.shape)
    filled = imputed(inputs.flatten(0, 1), kept.flatten(0, 1)).view_as(inputs)
    if noise == 0:
        return filled
    shape = tuple(batch.inputs.shape[1:])
    grains = {
        draw: batch.draws.normal(draw, shape).to(batch.inputs) * noise
        for draw in sorted(set(draws))
    }
    for copy, draw in enumerate(draws):
        filled[copy] += torch.where(kept[copy][:, None], 0.0, grains[draw])
    return filled
