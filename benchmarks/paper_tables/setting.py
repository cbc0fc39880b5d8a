# SPDX-License-Identifier: Apache-2.0
"""What every table starts from: real frames with masks and a pretrained network."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import torch
from optimise import SCALE, network, pictures, tensors
from torch import Tensor, nn

from explain.architectures import TappedLayer, resolve_layer
from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.methods import METHODS, Attribution, Method, create_method
from explain.metrics import MetricBatch, create_metric
from explain.thresholded import METHOD_STREAM, METRICS_STREAM, Explainer, Thresholded
from explain.thresholds import create_policy

SIZE = (224, 224)
BATCH = 8
#: Side to which maps of the input's resolution are pooled, as in an audit.
GRID = 28
Columns = dict[str, list[float]]


@dataclass(frozen=True, slots=True, eq=False)
class Setting:
    """The frames and the network.

    Shape: inputs and images (N, 3, H, W), truth (N, H, W) bool.

    Attributes:
        layer: The tapped layer.
        sequences: What each frame is of; frames of one are alike.
        known: Passes and maps that were made once and are not made again: only the
            cut differs between thresholds.
    """

    model: nn.Module
    layer: TappedLayer
    inputs: Tensor
    images: Tensor
    truth: Tensor
    sequences: tuple[str, ...]
    known: dict[tuple[Any, ...], Any] = field(default_factory=dict)

    def parts(self) -> list[slice]:
        """Return the batches."""
        return [slice(s, s + BATCH) for s in range(0, len(self.inputs), BATCH)]

    def spread(self, most: int) -> "Setting":
        """Return so many frames, evenly over all of them."""
        step = max(1, len(self.inputs) // most)
        chosen = range(0, len(self.inputs), step)[:most]
        rows = torch.tensor(chosen)
        return replace(
            self,
            inputs=self.inputs[rows],
            images=self.images[rows],
            truth=self.truth[rows],
            sequences=tuple(self.sequences[row] for row in chosen),
            known={},
        )

    def method(self, name: str, parameters: Mapping[str, Any]) -> Method:
        """Return a method of the network."""
        layer = self.layer if METHODS[name].needs_layer else None
        return create_method(name, self.model, layer, **parameters)

    def once(self, key: tuple[Any, ...], make: Callable[[], Any]) -> Any:
        """Return what was made under the key, making it the first time."""
        if key not in self.known:
            self.known[key] = make()
        return self.known[key]


def setting(data: Path) -> Setting:
    """Return the frames of the data folder, or the demo's photographs without it."""
    if not (data / "images" / "davis").is_dir():
        print(
            f"No frames in {data / 'images' / 'davis'}: the demo's few photographs and"
            " their outlines are used; name the folder with --data to use frames."
        )
    items = list(pictures(data))
    inputs, images, truth = tensors(items, SIZE)
    model = network()
    return Setting(
        model=model,
        layer=resolve_layer(model, example=inputs[:1]),
        inputs=inputs,
        images=images,
        truth=truth,
        sequences=tuple(item.group for item in items),
    )


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A batch of frames, explained by a method and cut by a policy."""

    given: Setting
    place: slice
    key: tuple[str, str]
    explainer: Explainer
    context: ItemContext
    found: Thresholded

    def measured(self, metrics: Mapping[str, Mapping[str, Any]]) -> Columns:
        """Return the values of metrics with their parameters, NaN for an absence."""
        batch = self._batch()
        columns: Columns = {}
        for name, parameters in metrics.items():
            for key, column in create_metric(name, **parameters).measure(batch).items():
                columns[key] = column.values.tolist()
        return columns

    def _batch(self) -> MetricBatch:
        given, found = self.given, self.found
        inputs = given.inputs[self.place]
        everyone = torch.ones(len(inputs), dtype=torch.bool)

        def again(moved: Tensor, targets: Tensor) -> Attribution:
            made: Attribution = given.once(
                ("map", *self.key, _digest(moved, targets)),
                lambda: self.explainer.explain(moved, targets, self.context),
            )
            return made

        def forward(changed: Tensor) -> Tensor:
            logits: Tensor = given.once(
                ("logits", _digest(changed)), lambda: given.model(changed)
            )
            return logits

        return MetricBatch(
            inputs=inputs,
            targets=found.attribution.targets,
            logits=found.attribution.logits,
            stored=found.stored,
            maps=found.maps,
            mask=found.threshold.mask,
            ground_truth=given.truth[self.place],
            has_truth=everyone,
            valid=everyone,
            output_change=found.attribution.output_change,
            forward=forward,
            explain=again,
            draws=replace(self.context.draws, stream=METRICS_STREAM),
            input_range=torch.full((3,), 1 / SCALE),
        )


def explained(
    given: Setting,
    place: slice,
    *,
    method: str = "gradcam",
    parameters: Mapping[str, Any] | None = None,
    policy: str = "fixed",
    threshold: Mapping[str, Any] | None = None,
    fresh: bool = False,
) -> Part:
    """Return a batch explained for its predicted classes and cut.

    Args:
        given: Frames and network.
        place: Which frames.
        method: Of the explanation.
        parameters: Of the method.
        policy: Of the threshold.
        threshold: Its parameters.
        fresh: Make the map even when it is known, as clocks need.
    """
    made = given.method(method, parameters or {})
    rule = create_policy(policy, **(threshold or {}))
    grid = GRID if METHODS[method].pixel_resolution else 0
    explainer = Explainer(given.model, made, rule, grid=grid)
    numbers = tuple(range(len(given.inputs))[place])
    context = ItemContext(
        draws=ItemDraws(0, numbers, METHOD_STREAM), images=given.images[place]
    )
    inputs = given.inputs[place]
    key = (method, repr(sorted((parameters or {}).items())))

    def explain() -> Attribution:
        return explainer.explain(inputs, None, context)

    name = ("batch", *key, place.start, place.stop)
    attribution = explain() if fresh else given.once(name, explain)
    found = explainer.cut(attribution, inputs, context)
    return Part(given, place, key, explainer, context, found)


def gathered(
    given: Setting,
    metrics: Mapping[str, Mapping[str, Any]],
    **how: Any,
) -> Columns:
    """Return metrics over all frames, with ``kept``, the fraction that was achieved.

    Args:
        given: Frames and network.
        metrics: Their parameters by name.
        how: As :func:`explained` takes it.
    """
    columns: Columns = {}
    for place in given.parts():
        part = explained(given, place, **how)
        found = part.measured(metrics)
        found["kept"] = part.found.threshold.achieved.tolist()
        for key, values in found.items():
            columns.setdefault(key, []).extend(values)
    return columns


def _digest(*parts: Tensor) -> bytes:
    """Return what tells tensors of one shape apart."""
    state = blake2b(digest_size=16)
    for part in parts:
        state.update(part.contiguous().numpy().tobytes())
    return state.digest()


def share_of(truth: Tensor) -> Sequence[float]:
    """Return the share of each frame that its object covers.

    Shape: truth (N, H, W) bool.
    """
    shares: Sequence[float] = truth.float().mean(dim=(1, 2)).tolist()
    return shares
