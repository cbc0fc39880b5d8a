# SPDX-License-Identifier: Apache-2.0
"""Ablation-CAM: a channel weighs what the score loses when it is set to zero.

    w_k = (y - y_k) / |y|,  y_k the logit with channel k of the layer set to zero
    map = ReLU(sum_k w_k A_k)

The paper divides by y, for classes whose score is positive; a negative score would
turn the map's meaning round, so the magnitude is taken. A score of exactly 0 is not
divided by. Only what comes after the layer runs once a channel (``head_replay``).

Source: Desai and Ramaswamy 2020, "Ablation-CAM: Visual Explanations for Deep
Convolutional Network via Gradient-free Localization", equations 3 and 5.
"""

import torch
from torch import Tensor, nn

from explain.architectures.tapped import TappedLayer
from explain.chunking import in_pieces
from explain.context import ItemContext
from explain.frozen import frozen
from explain.methods.head_replay import Head, head_of, noted_trunk, way_of
from explain.methods.method import Attribution, chosen_targets
from explain.methods.split_forward import split_forward


class AblationCam:
    """Ablation-CAM at one layer of one model."""

    name = "ablationcam"

    def __init__(self, model: nn.Module, layer: TappedLayer) -> None:
        self._model = model
        self._layer = layer

    @property
    def passes(self) -> float:
        """Two forward passes; the head's runs, one a channel, come on top.

        Where the head cannot run alone, it is a forward pass a channel.
        """
        return 2.0

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,
    ) -> Attribution:
        """Return the Ablation-CAM of each item's target; None means the predicted.

        All targets of an item share the passes. ``zero_gradient`` marks targets
        whose score no channel changes.

        Shape: inputs (N, C, H, W), targets (N,) or (N, T) int64.

        Raises:
            InvalidTargetError: a target class the model does not have.
            LayerError: the layer yields no map.
        """
        chunk = ItemContext.of(inputs, context).chunk
        with frozen(self._model):
            with noted_trunk(self._model, self._layer) as trunk:
                forward = split_forward(self._model, self._layer, inputs, graph=False)
            classes = chosen_targets(forward.logits, targets)
            table = classes[:, None] if classes.ndim == 1 else classes
            rooted = forward.root.detach()
            images = [inputs[item : item + 1].detach() for item in range(len(inputs))]
            outputs = [rooted[item : item + 1] for item in range(len(inputs))]
            way = way_of(
                self._model,
                self._layer,
                images[0],
                outputs[0],
                forward.logits[:1],
                trunk,
            )
            rows: list[Tensor] = []
            halved = False
            for image, output, wanted in zip(images, outputs, table, strict=True):
                with head_of(self._model, self._layer, image, trunk, way) as head:
                    scores, less = self._scores(head, output, wanted, chunk)
                rows.append(scores)
                halved |= less
        maps, blank = _maps(torch.stack(rows), forward.activation.float())
        single = classes.ndim == 1
        return Attribution(
            logits=forward.logits.float(),
            targets=classes,
            maps=maps[:, 0] if single else maps,
            zero_gradient=blank[:, 0] if single else blank,
            halved=halved,
        )

    def _scores(
        self, head: Head, output: Tensor, classes: Tensor, chunk: int
    ) -> tuple[Tensor, bool]:
        """Return the logits without a change and without each channel, (1 + C, T).

        The unchanged score comes from the same passes: a pass of another shape
        has other last bits, and the differences are small.
        """
        layout = self._layer.layout
        maps = layout.to_map(output)
        total = 1 + maps.shape[1]
        scores = torch.empty(
            (total, len(classes)), dtype=torch.float32, device=output.device
        )

        def ask(start: int, stop: int) -> None:
            like = output.repeat_interleave(stop - start, dim=0)
            changed = maps.repeat_interleave(stop - start, dim=0)
            first = max(start, 1)
            channels = torch.arange(first - 1, stop - 1, device=output.device)
            changed[channels + (1 - start), channels] = 0
            logits = head(layout.from_map(changed, like))
            scores[start:stop] = logits.float()[:, classes]

        return scores, in_pieces(total, min(chunk, total), ask)


def _maps(scores: Tensor, activation: Tensor) -> tuple[Tensor, Tensor]:
    """Return the maps (N, T, h, w) and which are blank (N, T).

    Shape: scores (N, 1 + C, T), activation (N, C, h, w).
    """
    intact = scores[:, :1]
    losses = intact - scores[:, 1:]
    weights = losses / torch.where(intact == 0, 1.0, intact.abs())
    maps = [
        (column[:, :, None, None] * activation).sum(dim=1).relu_()
        for column in weights.unbind(dim=2)
    ]
    return torch.stack(maps, dim=1), (losses == 0).all(dim=1)
