# SPDX-License-Identifier: Apache-2.0
"""One batch through the whole engine: explain, store, enlarge, cut.

A run does this with each of its batches, and the public API with the one it is given.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from torch import Tensor, nn

from explain.context import DEFAULT_CHUNK, ItemContext
from explain.draws import ItemDraws
from explain.errors import InvalidTargetError, UnknownNameError
from explain.frozen import frozen
from explain.maps import StoredMaps, dequantise, pool_to_grid, quantise, upsample
from explain.methods import (
    METHODS,
    Attribution,
    Method,
    create_method,
    resolve_tap,
)
from explain.metrics import target_probability
from explain.scoring import TargetScorer
from explain.thresholds import (
    ThresholdContext,
    ThresholdPolicy,
    ThresholdResult,
    create_policy,
)

#: Streams of random draws, so that no two users of randomness share a number.
METRICS_STREAM, METHOD_STREAM, POLICY_STREAM = 0, 1, 2


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Thresholded:
    """The explanations of one batch.

    Attributes:
        attribution: Logits, targets and raw maps at the stored resolution.
        probabilities: (N,) float64, softmax probability of the targets.
        stored: The maps as they are written.
        maps: (N, H, W) float32, what is written, enlarged to the input's size.
        threshold: The masks, at the input's size.
        halved: Whether a pass was halved for lack of memory, which changes last bits.
    """

    attribution: Attribution
    probabilities: Tensor
    stored: StoredMaps
    maps: Tensor
    threshold: ThresholdResult
    halved: bool


class Explainer:
    """One method and one policy on one model, for many batches."""

    def __init__(
        self, model: nn.Module, method: Method, policy: ThresholdPolicy, *, grid: int
    ) -> None:
        """Take the parts.

        Args:
            model: The network, held by ``frozen`` while batches are explained.
            method: What makes the maps.
            policy: What cuts them.
            grid: Side to which maps of pixel resolution are pooled; 0 pools none.
        """
        self._model = model
        self._method = method
        self._policy = policy
        self._grid = grid

    def explain(
        self, inputs: Tensor, targets: Tensor | None, context: ItemContext
    ) -> Attribution:
        """Return the attribution at the resolution at which it is stored."""
        attribution = self._method.explain(inputs, targets, context)
        if not self._grid:
            return attribution
        return replace(attribution, maps=pool_to_grid(attribution.maps, self._grid))

    def __call__(
        self, inputs: Tensor, targets: Tensor | None, context: ItemContext
    ) -> Thresholded:
        """Return the batch explained and cut; the cut starts from what is stored.

        Shape: inputs (N, C, H, W), targets (N,) int64 or None for the predicted.
        """
        return self.cut(self.explain(inputs, targets, context), inputs, context)

    def cut(
        self, attribution: Attribution, inputs: Tensor, context: ItemContext
    ) -> Thresholded:
        """Return an attribution at its stored resolution cut, from what is stored.

        Shape: inputs (N, C, H, W), those that were explained.
        """
        probabilities = target_probability(attribution.logits, attribution.targets)
        stored = quantise(attribution.maps)
        maps = upsample(dequantise(stored), (inputs.shape[2], inputs.shape[3]))
        score = TargetScorer(self._model, attribution.targets, context.chunk)
        threshold = self._policy.apply(
            maps,
            ThresholdContext(
                inputs=inputs,
                images=context.images,
                regions=context.regions,
                neighbours=context.neighbours,
                targets=attribution.targets,
                probabilities=probabilities,
                score=score,
                draws=replace(context.draws, stream=POLICY_STREAM),
            ),
        )
        return Thresholded(
            attribution=attribution,
            probabilities=probabilities,
            stored=stored,
            maps=maps,
            threshold=threshold,
            halved=attribution.halved or threshold.halved or score.halved,
        )


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
    regions: Tensor | None = None,
) -> tuple[Thresholded, str | None]:
    """Return the batch's explanations and the tapped layer's name.

    The model is left as it was. The name is None for methods that tap no layer.

    Shape: inputs (N, C, H, W), targets (N,) int64, images (N, C, H, W) in [0, 1],
    regions (N, H, W) int64.

    Raises:
        ExplainError: model, layer, targets or parameters are of no use.
    """
    if targets is not None and targets.ndim != 1:
        raise InvalidTargetError(
            f"Expected one target for each of {len(inputs)} items, got shape"
            f" {tuple(targets.shape)}; call once for each target."
        )
    if recipe.method not in METHODS:
        raise UnknownNameError("method", recipe.method, METHODS)
    card = METHODS[recipe.method]
    policy = create_policy(recipe.policy, **recipe.threshold)
    context = ItemContext(
        draws=ItemDraws(recipe.seed, tuple(range(len(inputs))), METHOD_STREAM),
        images=images,
        regions=regions,
        chunk=recipe.chunk,
    )
    with frozen(model):
        tapped = resolve_tap(recipe.method, model, recipe.layer, inputs[:1])
        method = create_method(recipe.method, model, tapped, **recipe.parameters)
        grid = recipe.grid if card.pixel_resolution else 0
        explainer = Explainer(model, method, policy, grid=grid)
        found = explainer(inputs, targets, context)
    return found, tapped.name if tapped is not None else None
