# SPDX-License-Identifier: Apache-2.0
"""A network of sequences behind gates.

The network takes values (N, T, F) and returns (N, K) logits. Where it also takes
``lengths`` ((N,) int64 on the CPU), sequences of different lengths go in together,
filled up with zeros behind their ends; where it does not, only sequences of one length
go in together, since it could not tell the filling from the sequence.
"""

import inspect
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from explain.errors import InvalidInputError
from explain.gates import GatedNetwork
from explain.sequences.choices import FEATURE
from explain.sequences.content import SequenceContent
from explain.sequences.recurrence import differentiable

#: The common length is a multiple of this many steps: matrix products over other
#: places in memory can have other last bits.
_FILL = 8


class GatedSequences(GatedNetwork):
    """A network that sees some sequences through their gates.

    Attributes:
        network: The network.
        per: What a unit is.
        lengths: Steps of each sequence, (N,) int64 on the CPU.
        steps: What all sequences are filled up to.
        takes_lengths: Whether the network does.
    """

    values: Tensor
    baseline: Tensor

    def __init__(self, network: nn.Module, contents: Sequence[SequenceContent]) -> None:
        """Take the sequences.

        Raises:
            InvalidInputError: they do not have the same features or the same units.
        """
        super().__init__([content.units for content in contents])
        if len({(one.per, one.values.shape[1]) for one in contents}) != 1:
            raise InvalidInputError(
                "Expected sequences with the same features and the same units."
            )
        self.network = network
        self.per = contents[0].per
        self.lengths = torch.tensor([len(one.values) for one in contents])
        self.steps = -(-int(self.lengths.max()) // _FILL) * _FILL
        values = torch.zeros(len(contents), self.steps, contents[0].values.shape[1])
        for row, content in zip(values, contents, strict=True):
            row[: len(content.values)] = torch.from_numpy(content.values)
        self.register_buffer("values", values)
        baselines = torch.from_numpy(np.stack([one.baseline for one in contents]))
        self.register_buffer("baseline", baselines)
        self.takes_lengths = "lengths" in inspect.signature(network.forward).parameters

    def forward(self, gates: Tensor) -> Tensor:
        """Return the logits of the sequences seen through the gates.

        Shape: gates (M, 1, h, w) -> (M, K).
        """
        items = self.item_of_rows(len(gates), gates.device)
        values = self._shown(gates, items)
        lengths = self.lengths[items.cpu()]
        parts = self.parts(items)
        with differentiable(self.network, values):
            if self.takes_lengths:
                logits: Tensor = self.network(values, lengths=lengths)
                return logits
            found: list[Tensor] = [
                self.network(values[rows, :steps]) for rows, steps in parts
            ]
        if len(found) == 1:
            return found[0]
        return torch.cat(found)[torch.cat([rows for rows, _ in parts]).argsort()]

    def parts(self, items: Tensor) -> list[tuple[Tensor, int]]:
        """Return the rows of each call of the network, and the steps that it sees.

        Args:
            items: The sequence of each row, (M,) int64.
        """
        if self.takes_lengths:
            return [(torch.arange(len(items), device=items.device), self.steps)]
        lengths = self.lengths.to(items.device)[items]
        return [
            ((lengths == steps).nonzero().flatten(), steps)
            for steps in sorted(set(lengths.tolist()))
        ]

    def _shown(self, gates: Tensor, items: Tensor) -> Tensor:
        """Return what the network is shown, (M, T, F)."""
        values = self.values[items]
        baseline = self.baseline[items][:, None].expand_as(values)
        if self.per == FEATURE:
            share = gates[:, 0, :, :1].transpose(1, 2)
        else:
            share = gates[:, 0].transpose(1, 2)
            behind = values.shape[1] - share.shape[1]
            share = nn.functional.pad(share, (0, 0, 0, behind))
        # Behind a sequence's end there is nothing, not its baseline.
        steps = torch.arange(values.shape[1], device=values.device)
        inside = steps < self.lengths.to(values.device)[items][:, None]
        # This form is exact at both ends.
        shown = torch.lerp(baseline, values, share.expand_as(values).to(values.dtype))
        return torch.where(inside[:, :, None], shown, 0)
