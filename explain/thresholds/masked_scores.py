# SPDX-License-Identifier: Apache-2.0
"""The score of inputs that show only what a mask keeps, many masks in one pass."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from explain.baselines import blurred
from explain.chunking import in_pieces, per_pass
from explain.errors import InvalidInputError
from explain.thresholds.policy import ThresholdContext

#: Most masked inputs in one call of the score.
_ROWS = 256


@dataclass(slots=True, eq=False)
class MaskedScores:
    """Scores of one batch's masked inputs; what is not kept is blurred.

    Attributes:
        inputs: (N, C, H, W).
        blurred: the same, blurred.
        score: of inputs (M, C, H, W) and the item of each, (M,).
        halved: whether a call had to be halved for lack of memory.
    """

    inputs: Tensor
    blurred: Tensor
    score: Callable[[Tensor, Tensor], Tensor]
    halved: bool = field(default=False, init=False)

    @classmethod
    def of(
        cls, policy: str, maps: Tensor, context: ThresholdContext, sigma: float
    ) -> "MaskedScores":
        """Return the scores of the context's inputs, blurring them once.

        Raises:
            InvalidInputError: the maps are not of the inputs' height and width.
        """
        inputs, score = context.inputs, context.score
        assert inputs is not None and score is not None  # noqa: S101, PT018 - checked
        if inputs.ndim != 4 or maps.shape != (len(inputs), *inputs.shape[2:]):
            raise InvalidInputError(
                f"Policy {policy!r} masks the inputs, so it expects maps (N, H, W) of"
                f" the size of its inputs {tuple(inputs.shape)}, got"
                f" {tuple(maps.shape)}; upsample them first."
            )
        inputs = inputs.detach().to(maps.device)
        return cls(inputs, blurred(inputs, sigma), score)

    def __call__(self, masks: Tensor) -> Tensor:
        """Return the score of each item under each of its masks.

        All masks go in one call, or in calls of as many masks an item as memory
        allows.

        Shape: masks (N, F, H, W) bool -> (N, F) float64.
        """
        items, several = masks.shape[:2]
        scores = torch.zeros(
            items, several, dtype=torch.float64, device=self.inputs.device
        )

        def work(start: int, stop: int) -> None:
            scores[:, start:stop] = self._scored(masks[:, start:stop])

        self.halved |= in_pieces(several, per_pass(items, _ROWS), work)
        return scores

    def _scored(self, masks: Tensor) -> Tensor:
        # Choosing, not blending: a product would carry a NaN through the mask.
        shown = torch.where(
            masks[:, :, None], self.inputs[:, None], self.blurred[:, None]
        ).flatten(0, 1)
        owners = torch.arange(len(masks), device=shown.device)
        with torch.no_grad():
            scores = self.score(shown, owners.repeat_interleave(masks.shape[1]))
        return scores.double().view(masks.shape[:2])
