# SPDX-License-Identifier: Apache-2.0
"""A small network with a batch of its explanations, and slow oracles over it."""

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from explain.architectures import resolve_layer
from explain.draws import ItemDraws
from explain.frozen import frozen
from explain.maps import dequantise, quantise, upsample
from explain.methods import Attribution, Method, create_method
from explain.metrics import MetricBatch, MetricColumn
from explain.metrics.metric import Metric
from explain.metrics.random_networks import RandomNetworks
from explain.metrics.representation import Representation
from explain.thresholds import FixedKeep

SIZE = 16
ITEMS = 4


@dataclass
class Case:
    """A network, a batch of its explanations, and a count of its passes.

    Attributes:
        forwards: Images in each forward pass that metrics asked for.
        explains: Images in each explanation that they asked for.
    """

    model: nn.Module
    method: Method
    batch: MetricBatch
    forwards: list[int] = field(default_factory=list)
    explains: list[int] = field(default_factory=list)

    @property
    def passes_per_item(self) -> tuple[float, float]:
        """Forward passes and explanations that an item took so far."""
        items = len(self.batch.inputs)
        return sum(self.forwards) / items, sum(self.explains) / items


def make_case(
    model: nn.Module, *, items: int = ITEMS, order: list[int] | None = None
) -> Case:
    """Return explained items, the ground truth of every fourth missing.

    Args:
        model: Takes (N, 3, 16, 16) and has at least four classes.
        items: How many; the first ones are the same whatever their number.
        order: Which items, in which places; all in order if None.
    """
    order = list(range(items)) if order is None else order
    model = model.eval()
    inputs = torch.stack([_item(7, index, (3, SIZE, SIZE)) for index in order])
    truth = torch.stack([_item(8, index, (SIZE, SIZE)) > 0.25 for index in order])
    layer = resolve_layer(model, example=inputs)
    method = create_method("gradcam", model, layer)
    targets = torch.tensor([index % 3 for index in order])
    attribution = method.explain(inputs, targets)
    stored = quantise(attribution.maps)
    maps = upsample(dequantise(stored), (SIZE, SIZE))
    made = Case(model=model, method=method, batch=None)  # type: ignore[arg-type]
    networks = RandomNetworks(
        model,
        lambda network: create_method("gradcam", network, resolve_layer(network)),
        inputs[:1],
        seed=3,
    )
    listen = Representation(model)

    def forward(images: Tensor) -> Tensor:
        made.forwards.append(len(images))
        return model(images)

    def explain(images: Tensor, classes: Tensor) -> Attribution:
        made.explains.append(len(images))
        return method.explain(images, classes)

    def represent(images: Tensor) -> tuple[Tensor, Tensor | None]:
        made.forwards.append(len(images))
        return listen(images)

    def at_random(
        images: Tensor, classes: Tensor, stage: int, stages: int
    ) -> Attribution:
        made.explains.append(len(images))
        with frozen(model), networks.randomised(stage, stages) as random:
            return random.explain(images, classes)

    made.batch = MetricBatch(
        inputs=inputs,
        targets=targets,
        logits=attribution.logits,
        stored=stored,
        maps=maps,
        mask=FixedKeep(0.2).apply(maps).mask,
        ground_truth=truth,
        has_truth=torch.tensor([index % 4 != 3 for index in order]),
        valid=torch.ones(len(order), dtype=torch.bool),
        forward=forward,
        explain=explain,
        draws=ItemDraws(0, tuple(order), stream=0),
        input_range=torch.tensor([2.0, 4.0, 5.0]),
        represent=represent,
        randomised=at_random,
    )
    return made


def _item(seed: int, index: int, shape: tuple[int, ...]) -> Tensor:
    """Return normal numbers that are an item's own."""
    return ItemDraws(seed, (index,), stream=9).normal(0, shape)[0]


def measure(metric: Metric, batch: MetricBatch) -> MetricColumn:
    """Return the only column of the metric."""
    (only,) = metric.measure(batch).values()
    return only


def slow_logits(model: nn.Module, image: Tensor) -> list[float]:
    """Return the logits of one image, in float64."""
    with torch.no_grad():
        logits = copy.deepcopy(model).double()(image.double()[None])
    found: list[float] = logits[0].tolist()
    return found


def slow_probability(model: nn.Module, image: Tensor, target: int) -> float:
    """Return the softmax probability, one image at a time in float64."""
    logits = slow_logits(model, image)
    top = max(logits)
    weights = [math.exp(logit - top) for logit in logits]
    return weights[target] / sum(weights)


def slow_order(batch: MetricBatch, item: int) -> list[int]:
    """Return the positions of an item from the highest, ties by lowest index."""
    flat = batch.maps[item].flatten().tolist()
    return sorted(range(len(flat)), key=lambda index: (-flat[index], index))


def slow_pearson(one: list[float], two: list[float]) -> float:
    """Return the correlation of two lists, by its definition."""
    mean_one, mean_two = math.fsum(one) / len(one), math.fsum(two) / len(two)
    first = [value - mean_one for value in one]
    second = [value - mean_two for value in two]
    product = math.fsum(a * b for a, b in zip(first, second, strict=True))
    spread = math.fsum(a * a for a in first) * math.fsum(b * b for b in second)
    return product / math.sqrt(spread)


def as_explanation(
    maps: Callable[[Tensor], Tensor],
) -> Callable[[Tensor, Tensor], Attribution]:
    """Return an explanation that is a function of the input alone."""

    def explain(images: Tensor, targets: Tensor) -> Attribution:
        flags = torch.zeros(len(images), dtype=torch.bool)
        return Attribution(torch.zeros(len(images), 2), targets, maps(images), flags)

    return explain


class LinearNet(nn.Module):
    """Logits that are linear in the pixels: the closed form of many metrics."""

    def __init__(self, channels: int = 3, classes: int = 4, seed: int = 5) -> None:
        super().__init__()
        shape = (classes, channels, SIZE, SIZE)
        self.weights = nn.Parameter(_item(seed, 0, shape))

    def forward(self, images: Tensor) -> Tensor:
        """Return the class logits."""
        return images.flatten(1) @ self.weights.flatten(1).T


def linear_batch(batch: MetricBatch, model: LinearNet) -> MetricBatch:
    """Return the batch as explained exactly: a_i = sum over channels of w_i x_i.

    The maps are as fine as the input and are not rounded to what is stored, so that
    little but the metric's own arithmetic is left.
    """
    model = model.double()
    inputs = batch.inputs.double()
    with torch.no_grad():
        maps = (model.weights[batch.targets] * inputs).sum(dim=1)
        logits = model(inputs)
    return replace(
        batch,
        inputs=inputs,
        maps=maps.float(),
        logits=logits,
        forward=lambda images: model(images.double()),
    )
