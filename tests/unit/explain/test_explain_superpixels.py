# SPDX-License-Identifier: Apache-2.0
"""LIME and KernelSHAP on superpixels, against slow and exhaustive definitions."""

import math
from collections.abc import Callable
from itertools import combinations, product

import numpy as np
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.metrics import pairwise_distances
from torch import Tensor, nn

from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.errors import InvalidInputError
from explain.methods import create_method
from explain.methods.coalitions import coalitions
from explain.methods.superpixels import Superpixels, part_baseline, superpixels

Builder = Callable[..., nn.Module]


def scenes(count: int, height: int = 24, width: int = 32, seed: int = 0) -> Tensor:
    """Return seeded images of smooth colour patches, as superpixels need."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(count, 3, 4, 5, generator=generator)
    return nn.functional.interpolate(coarse, size=(height, width), mode="nearest-exact")


class Linear(nn.Module):
    """Logits that are linear in the pixels."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(2)
        self.weight = nn.Parameter(torch.randn(4, 3, 24, 32, generator=generator) / 50)

    def forward(self, inputs: Tensor) -> Tensor:
        """Return w . x of each class."""
        return torch.einsum("nchw,kchw->nk", inputs, self.weight)


def composed(inputs: Tensor, baseline: Tensor, labels: Tensor, on: list[int]) -> Tensor:
    """Return one image (1, C, H, W) that shows the parts that are on."""
    shown = torch.isin(labels, torch.tensor(on, dtype=torch.int64))
    return torch.where(shown.view(inputs.shape[2:]), inputs, baseline)


# Superpixels


@pytest.mark.parametrize("algorithm", ["slic", "quickshift"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_superpixels_partition_every_image(algorithm: str, channels: int) -> None:
    """Labels run from 0 without a gap, whatever the number of channels."""
    inputs = scenes(2)[:, :1].expand(-1, channels, -1, -1)
    parts = superpixels(inputs, None, algorithm, 12)
    assert parts.labels.shape == (2, 24 * 32)
    for labels, count, areas in zip(
        parts.labels, parts.counts, parts.areas, strict=True
    ):
        assert labels.unique().tolist() == list(range(count))
        assert torch.equal(areas[:count], labels.bincount().double())


def test_noise_is_cut_into_about_the_asked_number() -> None:
    """Noise has no objects, and is still not one single part."""
    generator = torch.Generator().manual_seed(0)
    parts = superpixels(
        torch.randn(2, 3, 64, 64, generator=generator), None, "slic", 30
    )
    assert all(10 <= count <= 90 for count in parts.counts)


def test_superpixels_follow_the_picture_where_there_is_one() -> None:
    """The context's image decides, not the normalised input."""
    noise = torch.randn(1, 3, 24, 32, generator=torch.Generator().manual_seed(1))
    picture = (scenes(1) / 8 + 0.5).clamp(0, 1)
    on_picture = superpixels(noise, picture, "slic", 12)
    assert torch.equal(
        on_picture.labels, superpixels(picture, picture, "slic", 12).labels
    )
    assert not torch.equal(
        on_picture.labels, superpixels(noise, None, "slic", 12).labels
    )


def test_an_image_of_another_size_is_refused() -> None:
    """Superpixels of another picture would explain nothing."""
    with pytest.raises(InvalidInputError, match="Expected images of the inputs' count"):
        superpixels(scenes(1), scenes(1)[:, :, 1:], "slic", 12)


def test_broken_and_constant_images_are_cut_too() -> None:
    """NaN, infinity and a constant do not stop the batch."""
    inputs = scenes(3)
    inputs[0, 0, 3, 3] = torch.nan
    inputs[1, 1, 4, 4] = torch.inf
    inputs[2] = 0.5
    assert all(count >= 1 for count in superpixels(inputs, None, "slic", 9).counts)


def test_a_part_that_is_off_shows_its_own_mean_colour() -> None:
    """The mean is taken channel by channel over the pixels of the part."""
    inputs = scenes(2)
    parts = superpixels(inputs, None, "slic", 10)
    baseline = part_baseline(inputs, parts, "segment_mean")
    for item in range(2):
        for part in range(parts.counts[item]):
            inside = (parts.labels[item] == part).view(24, 32)
            mean = inputs[item][:, inside].mean(dim=1)
            shown = baseline[item][:, inside]
            assert torch.allclose(shown, mean[:, None].expand_as(shown), atol=1e-6)


# LIME


@pytest.mark.parametrize("baseline", ["segment_mean", "zero"])
def test_lime_equals_a_slow_loop_with_scikit_learn(
    tiny_net: Builder, baseline: str
) -> None:
    """The package's recipe: random switches, cosine kernel, ridge with intercept."""
    inputs, target = scenes(2), 3
    draws = ItemDraws(seed=1, indices=(4, 7))
    method = create_method(
        "lime", tiny_net(), samples=60, segments=8, baseline=baseline
    )
    context = ItemContext(draws=draws, chunk=16)
    ours = method.explain(inputs, torch.tensor([target, target]), context).maps
    parts = superpixels(inputs, None, "slic", 8)
    off = part_baseline(inputs, parts, baseline).double()
    slow = tiny_net().double()
    for item, count in enumerate(parts.counts):
        own = ItemDraws(seed=1, indices=(draws.indices[item],))
        rows = np.ones((60, count))
        rows[1:] = own.uniform(0, (59, count))[0].numpy() >= 0
        labels, x = parts.labels[item], inputs[item : item + 1].double()
        values = []
        for row in rows:
            on = np.flatnonzero(row).tolist()
            image = composed(x, off[item : item + 1], labels, on)
            values.append(float(slow(image).softmax(dim=1)[0, target].detach()))
        distances = pairwise_distances(rows, rows[:1], metric="cosine").ravel()
        weights = np.sqrt(np.exp(-(distances**2) / 0.25**2))
        fit = Ridge(alpha=1.0).fit(rows, np.array(values), sample_weight=weights)
        expected = torch.from_numpy(fit.coef_)[labels].view(24, 32)
        assert torch.allclose(ours[item].double(), expected, atol=2e-6)
        assert float(expected.abs().max()) > 1e-4


def test_the_sample_with_nothing_on_counts_as_distance_one() -> None:
    """0/0 in the cosine does not make a weight of NaN."""
    from explain.methods.lime import closeness

    rows = torch.tensor([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0]]).double()
    weights = closeness(rows, 0.25)
    expected = [math.exp(-8), 1.0, math.exp(-8 * (1 - math.sqrt(0.5)) ** 2)]
    assert weights.tolist() == pytest.approx(expected)


# KernelSHAP


def brute_force(value: Callable[[list[int]], float], parts: int) -> list[float]:
    """Return Shapley values from their definition over all subsets."""
    known = {
        subset: value(list(subset))
        for size in range(parts + 1)
        for subset in combinations(range(parts), size)
    }
    phi = []
    for player in range(parts):
        total = 0.0
        for subset, worth in known.items():
            if player in subset:
                continue
            joined = tuple(sorted((*subset, player)))
            share = math.factorial(len(subset)) * math.factorial(
                parts - len(subset) - 1
            )
            total += share / math.factorial(parts) * (known[joined] - worth)
        phi.append(total)
    return phi


@pytest.mark.parametrize("baseline", ["zero", "segment_mean"])
def test_kernelshap_equals_brute_force_where_all_coalitions_are_asked(
    tiny_net: Builder, baseline: str
) -> None:
    """On a network with kinks, exhaustive KernelSHAP gives the Shapley values."""
    inputs, target = scenes(2), 2
    method = create_method(
        "kernelshap", tiny_net(), samples=512, segments=6, baseline=baseline
    )
    result = method.explain(inputs, torch.tensor([target, target]))
    parts = superpixels(inputs, None, "slic", 6)
    assert all(3 <= count <= 9 for count in parts.counts)
    off = part_baseline(inputs, parts, baseline).double()
    slow = tiny_net().double()
    for item, count in enumerate(parts.counts):
        labels, x = parts.labels[item], inputs[item : item + 1].double()

        def worth(on: list[int], x: Tensor = x, item: int = item) -> float:
            image = composed(x, off[item : item + 1], parts.labels[item], on)
            return float(slow(image)[0, target].detach())

        phi = torch.tensor(brute_force(worth, count)).double()
        sums = torch.zeros(count).double()
        sums.scatter_add_(0, labels, result.maps[item].double().flatten())
        assert torch.allclose(sums, phi, atol=1e-5)
        assert result.output_change is not None
        change = worth(list(range(count))) - worth([])
        assert float(result.output_change[item]) == pytest.approx(change, abs=1e-5)


@pytest.mark.parametrize("samples", [100, 3])
def test_the_map_sums_to_the_change_of_the_output(
    tiny_net: Builder, samples: int
) -> None:
    """Efficiency holds exactly however few coalitions were asked."""
    inputs = scenes(3)
    method = create_method("kernelshap", tiny_net(), samples=samples, segments=20)
    targets = torch.tensor([[0, 1], [2, 3], [1, 0]])
    result = method.explain(inputs, targets)
    model = tiny_net()
    with torch.no_grad():
        change = model(inputs) - model(torch.zeros_like(inputs))
    expected = change.gather(1, targets).double()
    assert result.output_change is not None
    assert torch.allclose(result.output_change, expected, atol=1e-5)
    sums = result.maps.double().sum(dim=(2, 3))
    assert torch.allclose(sums, result.output_change, atol=1e-6)


def test_sampled_kernelshap_of_a_linear_model_is_exact() -> None:
    """An additive game is solved by any sufficient sample: phi = sum of w (x - b)."""
    model, inputs = Linear(), scenes(2)
    method = create_method("kernelshap", model, samples=200, segments=20)
    result = method.explain(inputs, torch.tensor([1, 2]))
    parts = superpixels(inputs, None, "slic", 20)
    assert min(parts.counts) > 9
    contribution = inputs * model.weight.detach()[torch.tensor([1, 2])]
    flat = contribution.sum(dim=1).flatten(1).double()
    for item in range(2):
        labels = parts.labels[item]
        sums = (
            torch.zeros(parts.counts[item]).double().scatter_add_(0, labels, flat[item])
        )
        expected = (sums / parts.areas[item, : parts.counts[item]])[labels]
        assert torch.allclose(result.maps[item].double().flatten(), expected, atol=1e-6)


@pytest.mark.parametrize(("parts", "samples"), [(2, 2), (3, 6), (5, 30), (6, 100)])
def test_all_coalitions_are_asked_once_where_they_fit(parts: int, samples: int) -> None:
    """Each subset but the empty and the full occurs once, with the Shapley kernel."""
    rows, weights = coalitions(parts, samples, torch.rand)
    found = {tuple(row) for row in rows.int().tolist()}
    everything = set(product((0, 1), repeat=parts))
    assert found == everything - {(0,) * parts, (1,) * parts}
    assert len(rows) == 2**parts - 2
    size = rows.sum(dim=1).tolist()
    kernel = [(parts - 1) / (math.comb(parts, s) * s * (parts - s)) for s in size]
    expected = torch.tensor(kernel).double()
    assert torch.allclose(weights, expected / expected.sum(), atol=1e-15)


@pytest.mark.parametrize(("parts", "samples"), [(10, 100), (11, 200), (50, 999)])
def test_sampled_coalitions_are_paired_and_weighted_without_bias(
    parts: int, samples: int
) -> None:
    """Every coalition comes with its complement; sizes weigh what the kernel says."""
    draws = ItemDraws.counted(1)
    rows, weights = coalitions(parts, samples, lambda shape: draws.uniform(0, shape)[0])
    assert len(rows) <= samples
    assert len(rows) >= samples - 1
    size = rows.sum(dim=1)
    assert int(size.min()) >= 1
    assert int(size.max()) < parts
    # Each part is on in exactly half of the weight.
    inside = (weights[:, None] * rows).sum(dim=0)
    assert torch.allclose(inside, torch.full((parts,), 0.5).double(), atol=1e-12)
    outermost = float(weights[(size == 1) | (size == parts - 1)].sum())
    total = sum(1 / (s * (parts - s)) for s in range(1, parts))
    assert outermost == pytest.approx(2 / (parts - 1) / total, abs=1e-12)


def test_a_single_part_has_no_coalition() -> None:
    """The whole change is its own, and nothing needs asking."""
    rows, weights = coalitions(1, 10, torch.rand)
    assert rows.shape == (0, 1)
    assert len(weights) == 0


def test_parts_know_which_pixels_are_visible() -> None:
    """A switch shows exactly the pixels of its part."""
    parts = Superpixels(
        labels=torch.tensor([[0, 1, 1, 2]]),
        counts=(3,),
        areas=torch.tensor([[1.0, 2.0, 1.0]]).double(),
        size=(2, 2),
    )
    on = torch.tensor([[[True, False, True], [False, True, False]]])
    visible = parts.visible(on)
    assert visible.tolist() == [
        [[[True, False], [False, True]], [[False, True], [True, False]]]
    ]
    spread = parts.spread(torch.tensor([[[5.0, 6.0, 7.0]]]))
    assert spread.tolist() == [[[[5.0, 6.0], [6.0, 7.0]]]]
