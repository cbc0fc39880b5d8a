# SPDX-License-Identifier: Apache-2.0
"""Maps of one input at several sizes, made one.

    m_s = map of the input resized by s
    map = max|m_1| * mean over s of up(m_s / max|m_s|)

Texture that excites the network at one size only loses weight, and what it finds
at all sizes stays. Each map counts alike, and the result has the magnitude of the
plain one.

Source: the rule is our own; the founding paper names multi-scale fusion as the
remedy for dense texture and gives no formula.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional

from explain.chunking import in_pieces
from explain.context import ItemContext
from explain.errors import InvalidParameterError, LayerError, UnsupportedModelError
from explain.maps import upsample
from explain.methods.method import Attribution, Method


class MultiScale:
    """A method whose maps are fused over several sizes of the input."""

    def __init__(
        self, method: Method, scales: Sequence[float] = (0.75, 1.0, 1.5)
    ) -> None:
        if 1.0 not in scales or len(set(scales)) != len(scales) or min(scales) <= 0:
            raise InvalidParameterError(
                f"Expected different scales above 0, 1 among them, got {tuple(scales)};"
                f" logits and targets are those of scale 1."
            )
        self._method = method
        self._scales = tuple(scales)

    @property
    def name(self) -> str:
        """The method's name with the remedy's behind it."""
        return f"{self._method.name}+fusion"

    @property
    def passes(self) -> float:
        """The method's cost for each scale, by area."""
        return self._method.passes * sum(scale**2 for scale in self._scales)

    def explain(
        self,
        inputs: Tensor,
        targets: Tensor | None,
        context: ItemContext | None = None,
    ) -> Attribution:
        """Return the fused maps; logits, targets and flags are those of scale 1.

        Scale 1 alone gives the method's own result. A blank map at scale 1 stays
        blank. Maps no longer sum to the change of the output, which is left out.
        Without targets, on a GPU, each further scale waits for the predicted ones.

        Shape: inputs (N, C, H, W) -> maps (N, h, w) or (N, T, h, w) on the largest
        native grid of all scales.

        Raises:
            UnsupportedModelError: the network takes images of one size only.
        """
        given = ItemContext.of(inputs, context)
        plain = self._method.explain(inputs, targets, given)
        if len(self._scales) == 1:
            return plain
        classes = plain.targets.cpu() if targets is None else targets
        maps, halved = [], plain.halved
        for scale in self._scales:
            if scale == 1.0:
                maps.append(plain.maps)
                continue
            scaled, cut = self._at_scale(inputs, classes, given, scale)
            maps.append(scaled)
            halved |= cut
        return replace(
            plain, maps=fused(maps, plain.maps), output_change=None, halved=halved
        )

    def _at_scale(
        self, inputs: Tensor, targets: Tensor, context: ItemContext, scale: float
    ) -> tuple[Tensor, bool]:
        """Return the maps of the resized inputs, and whether the batch was halved."""
        size = tuple(max(1, round(side * scale)) for side in inputs.shape[2:])
        resized = _resized(inputs, size)
        images = None if context.images is None else _resized(context.images, size)
        parts: list[Tensor] = []
        cut = False

        def work(start: int, stop: int) -> None:
            nonlocal cut
            here = slice(start, stop)
            draws = replace(context.draws, indices=context.draws.indices[here])
            part = replace(
                context, draws=draws, images=None if images is None else images[here]
            )
            result = self._method.explain(resized[here], targets[here], part)
            cut |= result.halved
            parts.append(result.maps)

        try:
            halved = in_pieces(len(inputs), len(inputs), work)
        except torch.OutOfMemoryError:
            raise
        except (AssertionError, LayerError, RuntimeError, ValueError) as error:
            raise UnsupportedModelError(
                f"Multi-scale fusion needs a network that takes images of other sizes;"
                f" this one failed at {size[0]} x {size[1]} ({type(error).__name__})."
                f" Leave fusion out for networks of a fixed input size."
            ) from error
        return torch.cat(parts), halved or cut


def fused(maps: Sequence[Tensor], plain: Tensor) -> Tensor:
    """Return the mean of the maps, each over its maximum, at the plain magnitude.

    The mean is taken in float64 and in the order given. A map without magnitude
    counts as zero; one that is not finite makes the result NaN.

    Shape: maps (N, h_s, w_s) or (N, T, h_s, w_s) each -> (N, h, w) or (N, T, h, w),
    h and w the largest of all.
    """
    size = (max(m.shape[-2] for m in maps), max(m.shape[-1] for m in maps))
    total = torch.zeros((*plain.shape[:-2], *size), device=plain.device).double()
    for scaled in maps:
        relative = scaled / _magnitude(scaled, blank=1.0)
        flat = upsample(relative.flatten(0, -3), size)
        total += flat.view(total.shape)
    return (total / len(maps) * _magnitude(plain, blank=0.0)).float()


def _magnitude(maps: Tensor, blank: float) -> Tensor:
    """Return the largest magnitude of each map, (..., 1, 1); ``blank`` for none."""
    largest = maps.abs().amax(dim=(-2, -1), keepdim=True)
    return torch.where(largest == 0, blank, largest)


def _resized(images: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return the images resized bilinearly, with antialiasing where they shrink."""
    resized = functional.interpolate(
        images.float(), size=size, mode="bilinear", antialias=True
    )
    return resized.to(images.dtype)
