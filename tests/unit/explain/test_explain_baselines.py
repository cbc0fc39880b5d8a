# SPDX-License-Identifier: Apache-2.0
"""What stands for nothing when parts of an input are taken away."""

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from explain.baselines import BASELINES, baseline_of, blurred
from explain.errors import InvalidParameterError
from explain.methods import METHODS


def images(count: int, height: int = 40, width: int = 56) -> Tensor:
    """Return seeded noise images."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, height, width, generator=generator)


@pytest.mark.parametrize("kind", BASELINES)
def test_a_baseline_is_like_its_item_and_knows_no_neighbour(kind: str) -> None:
    """Shape and type are the inputs', and each item's baseline is its own."""
    inputs = images(3).half()
    baseline = baseline_of(inputs, kind)
    assert baseline.shape == inputs.shape
    assert baseline.dtype == inputs.dtype
    moved = baseline_of(inputs.flip(0), kind).flip(0)
    assert torch.equal(baseline, moved)


def test_zero_and_mean_are_what_they_say() -> None:
    """Zero is zero everywhere; mean is each channel's mean over the item."""
    inputs = images(2)
    assert not bool(baseline_of(inputs, "zero").any())
    means = baseline_of(inputs, "mean")
    assert torch.allclose(means[:, :, 3, 4], inputs.mean(dim=(2, 3)), atol=1e-6)
    assert torch.equal(means[:, :, 0, 0], means[:, :, -1, -1])


def test_the_blur_is_a_gaussian() -> None:
    """Away from the border it equals scipy's, and it spreads a constant as itself."""
    inputs = images(1)
    ours = blurred(inputs, 2.0)[0, 0].numpy()
    oracle = gaussian_filter(
        inputs[0, 0].double().numpy(), sigma=2.0, truncate=8.0, mode="nearest"
    )
    assert np.abs(ours - oracle)[16:-16, 16:-16].max() < 1e-6
    constant = torch.full((1, 1, 9, 5), 0.7)
    assert torch.allclose(blurred(constant, 2.0), constant, atol=1e-7)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_the_blur_keeps_the_type(dtype: torch.dtype) -> None:
    """Inputs of any type are blurred in float64 and come back in their type."""
    result = blurred(torch.ones(1, 3, 8, 8, dtype=dtype), 2.0)
    assert result.dtype == dtype
    assert torch.allclose(result.float(), torch.ones(1), atol=1e-2)


def test_an_unknown_baseline_is_refused() -> None:
    """The error says which there are."""
    with pytest.raises(InvalidParameterError, match="zero, mean, blur"):
        baseline_of(images(1), "grey")


def test_the_cards_offer_the_baselines_that_exist() -> None:
    """A baseline that a card offers is known, and none is forgotten."""
    for card in METHODS.values():
        if not card.needs_layer and "baseline" in card.parameters:
            choices = set(card.parameters["baseline"].choices)
            assert choices - {"segment_mean"} == set(BASELINES)
