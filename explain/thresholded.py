# SPDX-License-Identifier: Apache-2.0
"""One batch through the whole engine: explain, store, enlarge, cut.

What the pipeline does with the batches of a run, for whoever has one batch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor, nn

from explain.architectures import resolve_layer
from explain.context import DEFAULT_CHUNK, ItemContext
from explain.draws import ItemDraws
from explain.errors import UnknownNameError
from explain.frozen import frozen
from explain.maps import dequantise, pool_to_grid, quantise, upsample
from explain.methods import METHODS, Attribution, create_method
from explain.metrics import target_probability
from explain.scoring import TargetScorer
from explain.thresholds import ThresholdContext, ThresholdResult, create_policy


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Thresholded:
    """The explanations of one batch.

    Attributes:
        attribution: Logits, targets and raw maps.
        maps: (N, h, w) float32, as the stored form gives them back.
        threshold: The masks, at the input's size.
        layer: Dotted name of the tapped layer, None for methods that tap none.
    """

    attribution: Attribution
    maps: Tensor
    threshold: ThresholdResult
    layer: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """How a batch is explained and cut; the defaults are Grad-CAM and its top 10 %.

    Attributes:
        method: A name of ``METHODS``.
        parameters: The method's own parameters.
        layer: Dotted name of the layer to tap, or ``auto``.
        policy: A name of ``POLICIES``.
        threshold: The policy's own parameters.
        grid: Side to which maps of pixel resolution are pooled.
        seed: Decides every random draw.
        chunk: Most images in one forward pass.
    """

    method: str = "gradcam"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    layer: str = "auto"
    policy: str = "fixed"
    threshold: Mapping[str, Any] = field(default_factory=dict)
    grid: int = 28
    seed: int = 0
    chunk: int = DEFAULT_CHUNK


def explain_thresholded(
    model: nn.Module,
    inputs: Tensor,
    recipe: Recipe,
    *,
    targets: Tensor | None = None,
    images: Tensor | None = None,
) -> Thresholded:
    """Return the batch's explanations, thresholded; the model is left as it was.

    Shape: inputs (N, C, H, W), targets (N,) int64, images (N, C, H, W) in [0, 1].

    Raises:
        ExplainError: model, layer, targets or parameters are of no use.
    """
    rule = create_policy(recipe.policy, **recipe.threshold)
    if recipe.method not in METHODS:
        raise UnknownNameError("method", recipe.method, METHODS)
    card = METHODS[recipe.method]
    context = ItemContext(
        draws=ItemDraws.counted(len(inputs), recipe.seed),
        images=images,
        chunk=recipe.chunk,
    )
    with frozen(model):
        tapped = (
            resolve_layer(model, recipe.layer, inputs[:1]) if card.needs_layer else None
        )
        method = create_method(recipe.method, model, tapped, **recipe.parameters)
        attribution = method.explain(inputs, targets, context)
        native = attribution.maps
        if card.pixel_resolution:
            native = pool_to_grid(native, recipe.grid)
        maps = dequantise(quantise(native))
        size = (int(inputs.shape[2]), int(inputs.shape[3]))
        classes = attribution.targets
        result = rule.apply(
            upsample(maps, size),
            ThresholdContext(
                inputs=inputs,
                images=images,
                targets=classes,
                probabilities=target_probability(attribution.logits, classes),
                score=TargetScorer(model, classes, recipe.chunk),
            ),
        )
    return Thresholded(
        attribution=attribution,
        maps=maps,
        threshold=result,
        layer=tapped.name if tapped is not None else None,
    )
