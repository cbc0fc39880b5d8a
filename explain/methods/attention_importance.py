# SPDX-License-Identifier: Apache-2.0
"""Which heads and which blocks of a transformer a class score depends on.

    importance of a head = sum over queries and keys of A dy/dA

To first order, what the score would lose if the head were shut: positive heads speak
for the class, negative ones against it. The sum equals that of the head's mixed values
times their slope, so fused attention needs no weights for it.

Source: Michel, Levy and Neubig 2019, "Are Sixteen Heads Really Better than One?",
NeurIPS, equation 2 (whose magnitude, averaged over data, ranks heads for pruning).
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explain.architectures.attention import TappedAttention
from explain.attention_calls import AttentionCall, wide
from explain.frozen import frozen
from explain.methods.attention_forward import attention_forward
from explain.methods.method import chosen_targets


@dataclass(frozen=True, slots=True, eq=False)
class AttentionImportance:
    """The importance of every head for one target an item.

    Attributes:
        targets: (N,) int64.
        heads: (N, L, H), signed, of block l and head h.
    """

    targets: Tensor
    heads: Tensor

    @property
    def blocks(self) -> Tensor:
        """The importance of each block, (N, L): the sum of its heads' magnitudes."""
        return self.heads.abs().sum(dim=2)


def attention_importance(
    model: nn.Module,
    layer: TappedAttention,
    inputs: Tensor,
    targets: Tensor | None = None,
) -> AttentionImportance:
    """Return the importance of every head; None as targets means the predicted class.

    Costs a forward and a backward pass. The model is given back as it was.

    Shape: inputs (N, C, H, W), targets (N,) int64.

    Raises:
        InvalidTargetError: a target class the model does not have.
        LayerError: the attention is not that which was resolved, or no score depends
            on it.
    """
    with frozen(model):
        forward = attention_forward(model, layer, inputs, graph=True)
        classes = chosen_targets(forward.logits, targets)
        slopes = forward.slopes(classes)
    with torch.no_grad():
        rows = [
            _by_head(call, slope, len(inputs))
            for call, slope in zip(forward.calls, slopes, strict=True)
        ]
        return AttentionImportance(classes, torch.stack(rows, dim=1).float())


def _by_head(call: AttentionCall, slope: Tensor, items: int) -> Tensor:
    """Return the sum of result times slope of each head, (N, H)."""
    products = wide(call.result) * wide(slope)
    return products.view(items, -1, *products.shape[-2:]).sum(dim=(2, 3))
