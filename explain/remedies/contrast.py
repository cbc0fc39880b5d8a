# SPDX-License-Identifier: Apache-2.0
"""The map of an input whose local contrast was raised.

Logits and targets stay those of the plain input, so that an audit's scores do not
depend on whether the remedy is on.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from explain.context import ItemContext
from explain.errors import InvalidParameterError
from explain.frozen import frozen
from explain.methods.method import Attribution, Method, chosen_targets
from explain.remedies.clahe import equalised


class ContrastEnhanced:
    """A method that looks at inputs after CLAHE."""

    def __init__(
        self,
        method: Method,
        *,
        mean: Sequence[float],
        std: Sequence[float],
        model: nn.Module | None = None,
        clip: float = 0.01,
        tiles: int = 8,
    ) -> None:
        """Take the method and the normalisation of its inputs, (image - mean) / std.

        With the model, the plain logits cost one forward pass; without it, one more
        explanation.
        """
        if len(mean) != len(std) or not mean or min(std) <= 0:
            raise InvalidParameterError(
                f"Contrast enhancement needs the mean and the standard deviation above"
                f" 0 of each channel, got {tuple(mean)} and {tuple(std)}."
            )
        self._method = method
        self._model = model
        self._mean, self._std = tuple(mean), tuple(std)
        self._clip, self._tiles = clip, tiles

    @property
    def name(self) -> str:
        """The method's name with the remedy's behind it."""
        return f"{self._method.name}+contrast"

    @property
    def passes(self) -> float:
        """The method's cost and that of the plain logits."""
        plain = self._method.passes if self._model is None else 1.0
        return self._method.passes + plain

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,
    ) -> Attribution:
        """Return the maps of the enhanced inputs with the plain logits and targets.

        What a person sees is taken from the context, or else the normalisation is
        undone. Without targets, on a GPU, the map waits for the predicted ones.

        Shape: inputs (N, C, H, W), C as many as there are means.
        """
        given = ItemContext.of(inputs, context)
        logits, classes = self._plain(inputs, targets, given)
        enhanced, images = self._enhanced(inputs, given.images)
        checked = classes.cpu() if targets is None else targets
        result = self._method.explain(enhanced, checked, replace(given, images=images))
        return replace(result, logits=logits, targets=classes)

    def _plain(
        self, inputs: Tensor, targets: Tensor | None, context: ItemContext
    ) -> tuple[Tensor, Tensor]:
        """Return the logits of the inputs as they are, and the target classes."""
        if self._model is None:
            plain = self._method.explain(inputs, targets, context)
            return plain.logits, plain.targets
        with frozen(self._model), torch.no_grad():
            logits = self._model(inputs).float()
        return logits, chosen_targets(logits, targets)

    def _enhanced(self, inputs: Tensor, images: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the enhanced inputs, normalised in their type, and the images."""
        if inputs.ndim != 4 or inputs.shape[1] != len(self._mean):
            raise InvalidParameterError(
                f"Expected inputs (N, {len(self._mean)}, H, W), as many channels as"
                f" means, got {tuple(inputs.shape)}."
            )
        mean = inputs.new_tensor(self._mean, dtype=torch.float32)[:, None, None]
        std = inputs.new_tensor(self._std, dtype=torch.float32)[:, None, None]
        with torch.no_grad():
            if images is None:
                images = inputs.detach().float() * std + mean
            images = images.to(inputs.device).float().clamp(0, 1)
            seen = equalised(images, self._clip, self._tiles)
            return ((seen - mean) / std).to(inputs.dtype), seen
