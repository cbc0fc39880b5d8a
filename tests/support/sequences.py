# SPDX-License-Identifier: Apache-2.0
"""Small networks of sequences, one of them with a closed form, and their items."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from explain.sequences.content import SequenceContent
from explain.sequences.network import GatedSequences
from pipeline.models import recurrent
from pipeline.models.recurrent import RecurrentClassifier

FEATURES, CLASSES = 3, 4


def network(kind: str = "lstm", *, layers: int = 1, seed: int = 3) -> nn.Module:
    """Return a seeded classifier of the registered kind, in eval mode."""
    torch.manual_seed(seed)
    build: Any = getattr(recurrent, kind).build
    module: nn.Module = build(
        features=FEATURES, hidden=7, classes=CLASSES, layers=layers
    )
    for parameter in module.parameters():
        parameter.data.mul_(1.5)
    return module.eval()


def contents(
    *lengths: int, seed: int = 0, features: int = FEATURES, **options: Any
) -> list[SequenceContent]:
    """Return a seeded sequence of each length."""
    random = np.random.default_rng(seed)
    return [
        SequenceContent.of(
            random.standard_normal((length, features)).astype(np.float32), **options
        )
        for length in lengths
    ]


def gated(model: nn.Module, items: Sequence[SequenceContent]) -> GatedSequences:
    """Return the network that sees the items through gates."""
    return GatedSequences(model, items)


def tensor(item: SequenceContent) -> Tensor:
    """Return an item as a batch of one, (1, T, F)."""
    return torch.from_numpy(item.values.copy())[None]


def latch() -> RecurrentClassifier:
    """Return an LSTM that takes in the step whose first feature is 1, and keeps it.

    Its input gate is shut at other steps, its forget gate and output gate are open
    throughout, and no state reaches a gate. The first class's logit is tanh(c) of what
    it took in, the second class's is its negative.
    """
    module = RecurrentClassifier(nn.LSTM, features=2, hidden=1, classes=2)
    layer = module.recurrent
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.zero_()
        # Rows: input gate, forget gate, what is new, output gate.
        layer.weight_ih_l0.copy_(torch.tensor([[40.0, 0], [0, 0], [0, 1.0], [0, 0]]))
        layer.bias_ih_l0.copy_(torch.tensor([-20.0, 20.0, 0.0, 20.0]))
        module.head.weight.copy_(torch.tensor([[1.0], [-1.0]]))
    return module.eval()


def marked_at(step: int, steps: int, seed: int = 1) -> SequenceContent:
    """Return a sequence for `latch` that is marked at one step alone."""
    random = np.random.default_rng(seed)
    values = np.zeros((steps, 2), dtype=np.float32)
    values[:, 1] = random.uniform(0.5, 1.5, steps)
    values[step, 0] = 1
    return SequenceContent.of(values)
