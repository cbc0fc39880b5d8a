# SPDX-License-Identifier: Apache-2.0
"""Classifiers of sequences: LSTM, GRU and BiLSTM under a linear head.

Weights are named as in the plain network that they are: ``recurrent`` is an `nn.LSTM`
or `nn.GRU` with ``batch_first``, ``head`` an `nn.Linear` on its last states, both
directions side by side.
"""

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from explain.sequences.recurrence import recurrent_states
from pipeline.errors import ModelError
from pipeline.models.architecture import Architecture


class RecurrentClassifier(nn.Module):
    """A recurrent network that reads a sequence and then says its class."""

    def __init__(
        self,
        kind: type[nn.LSTM] | type[nn.GRU],
        *,
        features: int,
        hidden: int,
        classes: int,
        layers: int = 1,
        bidirectional: bool = False,
    ) -> None:
        super().__init__()
        self.recurrent = kind(
            features, hidden, layers, batch_first=True, bidirectional=bidirectional
        )
        self.head = nn.Linear(hidden * (2 if bidirectional else 1), classes)

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return the logits.

        Args:
            values: The sequences, filled up behind their ends.
            lengths: Of each, int64; None where all are as long as the values.

        Shape: values (N, T, F), lengths (N,) -> (N, K).
        """
        if lengths is None:
            lengths = torch.full((len(values),), values.shape[1])
        _, last = recurrent_states(self.recurrent, values, lengths)
        logits: Tensor = self.head(last)
        return logits


def _build(
    kind: type[nn.LSTM] | type[nn.GRU],
    *,
    features: int | None = None,
    hidden: int | None = None,
    classes: int | None = None,
    layers: int = 1,
    bidirectional: bool = False,
) -> RecurrentClassifier:
    """Return the network with weights that mean nothing yet.

    Raises:
        ModelError: a size is missing or below 1.
    """
    sizes: dict[str, Any] = {
        "features": features,
        "hidden": hidden,
        "classes": classes,
        "layers": layers,
    }
    for name, size in sizes.items():
        if isinstance(size, bool) or not isinstance(size, int) or size < 1:
            given = "nothing" if size is None else repr(size)
            raise ModelError(
                f"model.arguments.{name}: a recurrent network needs a whole number of"
                f" at least 1, got {given}."
            )
    return RecurrentClassifier(kind, bidirectional=bool(bidirectional), **sizes)


lstm = Architecture(build=partial(_build, nn.LSTM))
gru = Architecture(build=partial(_build, nn.GRU))
bilstm = Architecture(build=partial(_build, nn.LSTM, bidirectional=True))
