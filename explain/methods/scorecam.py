# SPDX-License-Identifier: Apache-2.0
"""Score-CAM: a channel weighs what the class scores on the image seen through it.

    H_k = minmax(upsample(A_k))
    s_k = y_c(H_k * x + (1 - H_k) * baseline)
    w = softmax_k(s_k)
    map = ReLU(sum_k w_k A_k)

The score is the logit. The paper subtracts the baseline's own score from each s_k,
which the softmax cancels. Masks are upsampled with pixel centres at half-integers,
as everything here is. A channel that is the same everywhere masks everything.

Source: Wang et al. 2020, "Score-CAM: Score-Weighted Visual Explanations for
Convolutional Neural Networks", equations 5 to 8 and algorithm 1.
"""

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.chunking import in_pieces, per_pass
from explain.context import ItemContext
from explain.frozen import frozen
from explain.maps import upsample
from explain.methods.method import Attribution, chosen_targets
from explain.methods.split_forward import split_forward


class ScoreCam:
    """Score-CAM at one layer of one model."""

    name = "scorecam"

    def __init__(
        self,
        model: nn.Module,
        layer: TappedLayer,
        channels: int = 0,
        baseline: str = "zero",
    ) -> None:
        self._model = model
        self._layer = layer
        self._channels = channels
        self._baseline = baseline

    @property
    def passes(self) -> float:
        """One pass a channel and one more; infinite where the layer's are unknown."""
        shape = self._layer.shape
        known = shape[1] if shape else torch.inf
        return 1.0 + min(known, self._channels or torch.inf)

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,
    ) -> Attribution:
        """Return the Score-CAM of each item's target; None means the predicted class.

        All targets of an item share the forward passes. ``zero_gradient`` marks
        targets whose score no mask changes; their map is blank.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64.

        Raises:
            InvalidTargetError: a target class the model does not have.
            LayerError: the layer yields no map.
        """
        chunk = ItemContext.of(inputs, context).chunk
        with frozen(self._model):
            forward = split_forward(self._model, self._layer, inputs, graph=False)
            classes = chosen_targets(forward.logits, targets)
            with torch.no_grad():
                chosen = self._chosen(forward.activation.float())
                scores, halved = self._scores(inputs, chosen, _table(classes), chunk)
        logits = forward.logits.float()
        with torch.no_grad():
            intact = logits.gather(1, _table(classes))
            blank = (scores == intact[:, None]).all(dim=1)
            maps = _weighted(scores.softmax(dim=1), chosen, blank)
        return Attribution(
            logits=logits,
            targets=classes,
            maps=maps[:, 0] if classes.ndim == 1 else maps,
            zero_gradient=blank[:, 0] if classes.ndim == 1 else blank,
            halved=halved,
        )

    def _chosen(self, activation: Tensor) -> Tensor:
        """Return the channels to ask about, those of most energy, (N, k, h, w)."""
        if not 0 < self._channels < activation.shape[1]:
            return activation
        energy = activation.square().sum(dim=(2, 3))
        order = energy.sort(dim=1, descending=True, stable=True).indices
        places = order[:, : self._channels, None, None]
        return activation.take_along_dim(places, dim=1)

    def _scores(
        self, inputs: Tensor, channels: Tensor, table: Tensor, chunk: int
    ) -> tuple[Tensor, bool]:
        """Return the targets' logits behind each channel's mask, (N, k, T)."""
        items, count = channels.shape[:2]
        scores = channels.new_empty((items, count, table.shape[1]))
        hidden = inputs.float().mean(dim=(2, 3), keepdim=True)
        if self._baseline == "zero":
            hidden = torch.zeros_like(hidden)

        def ask(start: int, stop: int) -> None:
            masks = _masks(channels[:, start:stop], inputs.shape[2:])
            seen = (inputs - hidden)[:, None] * masks[:, :, None] + hidden[:, None]
            logits = self._model(seen.flatten(0, 1).to(inputs.dtype)).float()
            logits = logits.view(items, stop - start, -1)
            wanted = table[:, None].expand(-1, stop - start, -1)
            scores[:, start:stop] = logits.gather(2, wanted)

        return scores, in_pieces(count, per_pass(items, chunk), ask)


def _masks(channels: Tensor, size: torch.Size) -> Tensor:
    """Return the channels upsampled and scaled to [0, 1], (N, k, H, W)."""
    large = upsample(channels.flatten(0, 1), (size[0], size[1]))
    low = large.amin(dim=(1, 2), keepdim=True)
    span = large.amax(dim=(1, 2), keepdim=True) - low
    masks = torch.where(span == 0, 0.0, (large - low) / span)
    return masks.view(*channels.shape[:2], *size)


def _weighted(weights: Tensor, channels: Tensor, blank: Tensor) -> Tensor:
    """Return the rectified weighted sums, zero where blank, (N, T, h, w).

    One target at a time, so that each has the bits it has when asked alone.
    """
    maps = [
        (column[:, :, None, None] * channels).sum(dim=1).relu_()
        for column in weights.unbind(dim=2)
    ]
    return torch.where(blank[:, :, None, None], 0.0, torch.stack(maps, dim=1))


def _table(classes: Tensor) -> Tensor:
    """Return the targets as (N, T)."""
    return classes[:, None] if classes.ndim == 1 else classes
