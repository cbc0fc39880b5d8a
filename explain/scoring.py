# SPDX-License-Identifier: Apache-2.0
"""The target's probability on other inputs, asked in passes of a fixed shape."""

from collections.abc import Callable

import torch
from torch import Tensor

from explain.chunking import in_pieces, per_pass
from explain.metrics.batch import target_probability


class TargetScorer:
    """Scores changed versions of a batch's items for their own target class.

    Attributes:
        halved: Whether a pass had to be halved for lack of memory.
    """

    def __init__(
        self, forward: Callable[[Tensor], Tensor], targets: Tensor, chunk: int
    ) -> None:
        self._forward = forward
        self._targets = targets
        # The shape of a pass depends on batch size and chunk alone.
        self._rows = len(targets) * per_pass(len(targets), chunk)
        self.halved = False

    def __call__(self, inputs: Tensor, items: Tensor) -> Tensor:
        """Return the softmax probability of each input's item's target.

        Shape: inputs (M, C, H, W), items (M,) int64, places in the batch -> (M,)
        float64.
        """
        values = torch.empty(len(inputs), dtype=torch.float64, device=inputs.device)
        targets = self._targets[items]

        def work(start: int, stop: int) -> None:
            logits = self._forward(inputs[start:stop])
            values[start:stop] = target_probability(logits, targets[start:stop])

        with torch.no_grad():
            self.halved |= in_pieces(len(inputs), self._rows, work)
        return values
