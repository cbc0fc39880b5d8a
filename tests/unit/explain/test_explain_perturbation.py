# SPDX-License-Identifier: Apache-2.0
"""Occlusion and RISE: equal to slow loops from the papers and to closed forms."""

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.errors import InvalidParameterError
from explain.methods import create_method

Builder = Callable[..., nn.Module]


def images(count: int, height: int = 12, width: int = 18, seed: int = 0) -> Tensor:
    """Return seeded noise images."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, height, width, generator=generator)


@pytest.fixture(scope="module")
def captum_occlusion() -> Any:
    """Captum's occlusion."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from captum.attr import Occlusion
    return Occlusion


class LinearProbability(nn.Module):
    """Two classes whose softmax probabilities are linear in the pixels."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return log p and log (1 - p), p = 1/2 + w . x."""
        p = 0.5 + torch.einsum("nchw,chw->n", inputs.double(), self.weight.double())
        return torch.stack([p.log(), (-p).log1p()], dim=1)


def small_weight(height: int = 12, width: int = 18) -> Tensor:
    """Return weights that keep p within (0, 1)."""
    generator = torch.Generator().manual_seed(3)
    return torch.randn(3, height, width, generator=generator) * 3e-3


# Occlusion


@pytest.mark.parametrize(("window", "stride"), [(4, 2), (5, 3), (6, 6), (7, 5), (5, 5)])
def test_occlusion_equals_captum(
    captum_occlusion: Any, tiny_net: Builder, window: int, stride: int
) -> None:
    """With the softmax appended, captum's occlusion gives the same pixel map."""
    model, inputs, targets = tiny_net(), images(2), torch.tensor([1, 3])
    ours = create_method("occlusion", model, window=window, stride=stride)
    maps = ours.explain(inputs, targets).maps
    oracle = captum_occlusion(lambda x: model(x).softmax(dim=1)).attribute(
        inputs,
        sliding_window_shapes=(3, window, window),
        strides=(3, stride, stride),
        target=targets,
    )
    oracle = oracle.detach().mean(dim=1)
    if window == stride == 6:
        # Windows that tile the input give one value each, captum's at its pixels.
        assert maps.shape == (2, 2, 3)
        maps = maps.repeat_interleave(6, dim=1).repeat_interleave(6, dim=2)
    assert maps.shape == (2, 12, 18)
    assert torch.allclose(maps, oracle, atol=1e-6)
    assert float(maps.abs().max()) > 1e-4


@pytest.mark.parametrize("baseline", ["zero", "mean", "blur"])
def test_occlusion_equals_a_slow_float64_loop(tiny_net: Builder, baseline: str) -> None:
    """One window at a time in float64, each pixel's mean over what covered it."""
    from explain.baselines import baseline_of

    inputs, target = images(1), 2
    method = create_method(
        "occlusion", tiny_net(), window=5, stride=4, baseline=baseline
    )
    ours = method.explain(inputs, torch.tensor([target])).maps[0].double()
    slow = tiny_net().double()
    x = inputs.double()
    b = baseline_of(x, baseline)
    whole = slow(x).softmax(1)[0, target]
    sums, counts = torch.zeros(12, 18).double(), torch.zeros(12, 18).double()
    for top in (0, 4, 8):
        for left in (0, 4, 8, 12, 16):
            covered = x.clone()
            place = (slice(top, top + 5), slice(left, left + 5))
            covered[0, :, place[0], place[1]] = b[0, :, place[0], place[1]]
            sums[place] += (whole - slow(covered).softmax(1)[0, target]).detach()
            counts[place] += 1
    assert float(counts.min()) >= 1
    assert torch.allclose(ours, sums / counts, atol=1e-6)


def test_occlusion_of_a_linear_probability_sums_what_was_covered() -> None:
    """In closed form the fall is the sum of w x over the window."""
    model, inputs = LinearProbability(small_weight()), images(2)
    method = create_method("occlusion", model, window=6, stride=6)
    result = method.explain(inputs, torch.tensor([[0, 1], [0, 1]]))
    contribution = (inputs * model.weight.detach()).sum(dim=1)
    expected = contribution.view(2, 2, 6, 3, 6).sum(dim=(2, 4))
    assert torch.allclose(result.maps[:, 0], expected, atol=1e-6)
    # What speaks for one of two classes speaks against the other: the map is signed.
    assert torch.allclose(result.maps[:, 1], -expected, atol=1e-6)


def test_occlusion_defaults_follow_the_input() -> None:
    """Unnamed, the window is a seventh of the shorter side and moves by its half."""
    model = LinearProbability(small_weight(28, 28))
    auto = create_method("occlusion", model)
    named = create_method("occlusion", model, window=4, stride=2)
    inputs = images(1, 28, 28)
    assert torch.equal(
        auto.explain(inputs, None).maps, named.explain(inputs, None).maps
    )
    assert auto.passes == 1 + 13 * 13


@pytest.mark.parametrize("options", [{"window": 13}, {"window": 4, "stride": 5}])
def test_a_window_that_does_not_fit_is_refused(
    tiny_net: Builder, options: dict[str, int]
) -> None:
    """Too large a window, or one that leaves gaps, is an error, not a strange map."""
    method = create_method("occlusion", tiny_net(), **options)
    with pytest.raises(InvalidParameterError, match="stride <= window <= the input"):
        method.explain(images(1), None)


# RISE


def slow_masks(
    draws: ItemDraws, count: int, grid: int, keep: float, size: tuple[int, int]
) -> Tensor:
    """Return RISE's masks one by one, from the paper's recipe, (count, H, W)."""
    cells = [math.ceil(side / grid) for side in size]
    masks = []
    for number in range(count):
        noise = (draws.shared_uniform(number, (grid * grid + 2,)).double() + 1) / 2
        coarse = (noise[2:] < keep).double().view(1, 1, grid, grid)
        large = interpolate(
            coarse,
            size=((grid + 1) * cells[0], (grid + 1) * cells[1]),
            mode="bilinear",
            align_corners=False,
        )[0, 0]
        down, right = int(noise[0] * cells[0]), int(noise[1] * cells[1])
        masks.append(large[down : down + size[0], right : right + size[1]])
    return torch.stack(masks)


def test_rise_equals_a_slow_float64_loop(tiny_net: Builder) -> None:
    """Equation 6, one mask at a time in float64."""
    inputs, target = images(2), 1
    draws = ItemDraws(seed=3, indices=(5, 6))
    method = create_method("rise", tiny_net(), masks=21, grid=5, keep_probability=0.4)
    context = ItemContext(draws=draws, chunk=8)
    ours = method.explain(inputs, torch.tensor([target, target]), context)
    slow = tiny_net().double()
    expected = torch.zeros(2, 12, 18, dtype=torch.float64)
    for mask in slow_masks(draws, 21, 5, 0.4, (12, 18)):
        score = slow(inputs.double() * mask).softmax(dim=1)[:, target].detach()
        expected += score[:, None, None] * mask / (0.4 * 21)
    assert torch.allclose(ours.maps.double(), expected, atol=1e-5)


@pytest.mark.parametrize("keep", [0.1, 0.5, 0.8])
def test_masks_keep_the_asked_share_everywhere(keep: float) -> None:
    """E[M] is the keep probability at every pixel, which equation 6 divides by.

    A network whose probability is constant but for the last bits gives the mean
    mask, so the map is 1/2 everywhere up to sampling error.
    """
    weight = torch.zeros(3, 12, 18)
    weight[0, 0, 0] = 1e-6
    method = create_method(
        "rise", LinearProbability(weight), masks=4000, grid=3, keep_probability=keep
    )
    context = ItemContext(draws=ItemDraws.counted(1), chunk=1000)
    maps = method.explain(images(1), torch.tensor([0]), context).maps
    error = 4 * math.sqrt((1 - keep) / keep / 4000)
    assert float((maps - 0.5).abs().max()) < 0.5 * error


def test_rise_ranks_the_region_that_matters_first() -> None:
    """A network that looks at one corner alone gets its maximum there."""
    weight = torch.zeros(3, 24, 24)
    weight[:, 4:10, 14:20] = 2e-3
    inputs = torch.ones(1, 3, 24, 24)
    method = create_method("rise", LinearProbability(weight), masks=4000, grid=6)
    context = ItemContext(draws=ItemDraws.counted(1), chunk=1000)
    maps = method.explain(inputs, torch.tensor([0]), context).maps[0]
    best = int(maps.argmax())
    assert 4 <= best // 24 < 10
    assert 14 <= best % 24 < 20
    # The masks are soft, so the region's near surroundings shine as well.
    far = torch.ones(24, 24, dtype=torch.bool)
    far[0:14, 10:24] = False
    assert float(maps[4:10, 14:20].mean()) > float(maps[far].max())


def test_all_items_of_a_run_see_the_same_masks(tiny_net: Builder) -> None:
    """An item's map does not depend on its index, and does depend on the seed."""
    inputs = images(1).expand(2, -1, -1, -1).clone()
    method = create_method("rise", tiny_net(), masks=20, grid=4)

    def maps(seed: int, indices: tuple[int, ...]) -> Tensor:
        context = ItemContext(draws=ItemDraws(seed, indices))
        return method.explain(inputs, None, context).maps

    first = maps(0, (3, 900))
    assert torch.equal(first[0], first[1])
    assert torch.equal(first, maps(0, (1, 2)))
    assert not torch.equal(first, maps(1, (1, 2)))
