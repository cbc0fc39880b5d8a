# SPDX-License-Identifier: Apache-2.0
"""From the module itself: its family, what to tap, by which method, and why."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from explain.architectures.attention import (
    TappedAttention,
    mixing_events,
    resolve_attention,
)
from explain.architectures.family import Family, family_of, require_image_classifier
from explain.architectures.layouts import ChannelsLast, Tokens
from explain.architectures.resolve import resolve_layer
from explain.architectures.tapped import TappedLayer
from explain.architectures.trace import example_for, trace_layers
from explain.errors import ExplainError


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided of a network.

    Attributes:
        family: Its kind.
        classes: How many scores it gives.
        input_shape: Of the example that it was asked with, (C, H, W).
        layer: What ``auto`` taps.
        attention: What methods of attention weights read; None where they are not
            defined.
        method: The method to begin with.
        baseline: What stands for "nothing there" where a method needs it.
        reasons: Why, a sentence each.
        warnings: What may be wrong with the network as it is, a sentence each.
    """

    family: Family
    classes: int
    input_shape: tuple[int, ...]
    layer: TappedLayer
    attention: TappedAttention | None
    method: str
    baseline: str
    reasons: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def layout(self) -> str:
        """How the tapped layer lays out its map, in words."""
        return self.layer.layout.in_words()


def decide(model: nn.Module, example: Tensor | None = None) -> Decision:
    """Return what is explained of an image classifier, and how, with the reasons.

    Without an example, a grey 224 x 224 image stands in, as for ``resolve_layer``.

    Raises:
        UnsupportedModelError: a detector, a segmenter, a network of another kind of
            data, or one that gives no class scores.
        LayerError: no layer of it can be tapped.
    """
    require_image_classifier(model)
    image = (example_for(model) if example is None else example)[:1]
    layer = resolve_layer(model, example=image)
    events = mixing_events(model, image)
    attends = [event.call for event in events if event.call is not None]
    attention: TappedAttention | None = None
    refusal = ""
    try:
        attention = resolve_attention(model, example=image)
    except ExplainError as error:
        refusal = str(error)
    whole = attention is not None and attention.first == 0
    family = family_of(model, attends=bool(attends), whole=whole)
    with torch.no_grad():
        logits = trace_layers(model, image).output
    return Decision(
        family=family,
        classes=int(logits.shape[1]),
        input_shape=tuple(image.shape[1:]),
        layer=layer,
        attention=attention,
        method="gradcam",
        baseline="zero",
        reasons=tuple(_reasons(family, layer, len(attends), attention, refusal)),
        warnings=tuple(_warnings(model, image, logits)),
    )


def _reasons(
    family: Family,
    layer: TappedLayer,
    attentions: int,
    attention: TappedAttention | None,
    refusal: str,
) -> list[str]:
    """Return the reasoning, a sentence each."""
    seen = (
        f"{attentions} computations of attention were seen in one forward pass"
        if attentions
        else "convolutions and no attention were seen in one forward pass"
    )
    where = "its channels come first"
    if isinstance(layer.layout, ChannelsLast):
        where = "its channels come last"
    if isinstance(layer.layout, Tokens):
        before = layer.layout.prefix
        left_out = f", of which {before} before the places are left out" * bool(before)
        where = (
            f"its tokens lie on a grid of {layer.layout.height} x"
            f" {layer.layout.width}{left_out}"
        )
    found = [
        f"It is a {family.value}: {seen}.",
        f"Layer '{layer.name}' is tapped, the {layer.reason}; {where}.",
        "Method 'gradcam' tells classes apart for little more than the prediction.",
        "Baseline 'zero' is the training data's mean colour, as inputs are normalised.",
    ]
    if attention is not None:
        readers = len(attention.readers)
        tokens = "1 token" if readers == 1 else f"{readers} tokens"
        found.append(
            f"Methods of attention weights are defined: {attention.reason}; the head"
            f" reads {tokens}."
        )
    elif attentions:
        found.append(f"Methods of attention weights are not defined: {refusal}")
    return found


def _warnings(model: nn.Module, image: Tensor, logits: Tensor) -> list[str]:
    """Return what looks wrong with the scores, a sentence each."""
    found: list[str] = []
    values = logits.detach().float()
    sums = values.sum(dim=1)
    chances = bool((values >= 0).all()) and bool(((sums - 1).abs() < 1e-3).all())
    if chances and values.shape[1] > 1:
        found.append(
            "The scores look like probabilities; gradients of a certain prediction"
            " vanish behind a softmax, so return the logits instead."
        )
    records = trace_layers(model, image).layers.values()
    shape = tuple(logits.shape)
    linear = any(
        isinstance(record.module, nn.Linear | nn.Conv2d)
        and record.shape is not None
        and record.shape[:2] == shape
        for record in records
    )
    if not linear:
        found.append(
            f"No linear layer or convolution gives the {shape[1]} scores; if these are"
            f" features and no class scores, put the classifier back."
        )
    if shape[1] == 1:
        found.append("There is one score only, so no two classes can be compared.")
    return found
