# SPDX-License-Identifier: Apache-2.0
"""Properties of an item, and the limits beyond which maps are known to fail."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.ndimage import sobel
from torch import Tensor

from explain.maps import quantise
from explain.metrics import MetricBatch, MetricColumn, create_metric
from tests.support.metric_case import ITEMS, SIZE, Case


def found(batch: MetricBatch, **given: Any) -> dict[str, MetricColumn]:
    """Return the columns of the metric."""
    return create_metric("failure_cases", **given).measure(batch)


def with_images(batch: MetricBatch, images: Tensor) -> MetricBatch:
    """Return the batch with images in 0 .. 1, normalised as the network takes them."""
    mean = torch.tensor([0.4, 0.5, 0.6])[:, None, None]
    scale = batch.input_range[:, None, None]
    return replace(batch, inputs=(images - mean) * scale)


def pictures() -> Tensor:
    """Return four pictures in 0 .. 1: two noisy ones, a slope, an even one."""
    images = torch.rand(
        ITEMS, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1)
    )
    images[2] = torch.linspace(0, 0.6, SIZE)[None, None, :]
    images[3] = 0.3
    return images


def test_texture_equals_scipy(case: Case) -> None:
    """The mean length of the Sobel gradient of the luminance, the border repeated."""
    images = pictures()
    values = found(with_images(case.batch, images))["case_texture"].values
    for item in range(ITEMS):
        red, green, blue = images[item].double().numpy()
        grey = 0.299 * red + 0.587 * green + 0.114 * blue
        across, down = (sobel(grey, axis=axis, mode="nearest") / 8 for axis in (1, 0))
        expected = float(((across**2 + down**2) ** 0.5).mean())
        assert math.isclose(float(values[item]), expected, abs_tol=1e-6)


def test_a_slope_has_its_own_steepness_and_nothing_has_none(case: Case) -> None:
    """0.04 a pixel, the last column aside; an even picture has neither property."""
    columns = found(with_images(case.batch, pictures()))
    inner = 0.6 / (SIZE - 1)
    # The frame repeats the border, where half of the slope is left.
    expected = inner * (SIZE - 1) / SIZE
    assert math.isclose(
        float(columns["case_texture"].values[2]), expected, rel_tol=1e-5
    )
    spread = torch.linspace(0, 0.6, SIZE).double().std(correction=0)
    assert math.isclose(
        float(columns["case_contrast"].values[2]), float(spread), rel_tol=1e-5
    )
    for key in ("case_texture", "case_contrast"):
        assert float(columns[key].values[3]) < 1e-7
    assert columns["case_contrast_flag"].values.tolist()[3] == 1.0
    assert columns["case_texture_flag"].values.tolist()[3] == 0.0


def test_brightness_changes_nothing(case: Case) -> None:
    """A lighter picture has the same texture and contrast."""
    dark, light = (
        found(with_images(case.batch, pictures() + offset)) for offset in (0.0, 0.2)
    )
    for key in ("case_texture", "case_contrast"):
        assert torch.allclose(dark[key].values, light[key].values, atol=1e-6)


def test_peaks_are_those_of_the_stored_map(case: Case) -> None:
    """Two far apart are two, one beside another is not, and a low one is none."""
    maps = torch.zeros(ITEMS, 7, 7)
    maps[:, 1, 1] = 1.0
    maps[1, 5, 5] = 0.6
    maps[2, 1, 2] = 0.9
    maps[3, 5, 5] = 0.4
    columns = found(replace(case.batch, stored=quantise(maps)))
    assert columns["case_peaks"].values.tolist() == [1.0, 2.0, 1.0, 1.0]
    assert columns["case_peaks_flag"].values.tolist() == [0.0, 1.0, 0.0, 0.0]


def test_the_margin_is_that_of_the_two_most_probable_classes(case: Case) -> None:
    """Whatever class is explained; one class alone is sure."""
    logits = torch.tensor([[2.0, 1.0, 0.0], [1.0, 1.0, 1.0]]).repeat(ITEMS // 2, 1)
    columns = found(replace(case.batch, logits=logits))
    weights = [math.exp(2.0), math.exp(1.0), 1.0]
    expected = (weights[0] - weights[1]) / sum(weights)
    assert math.isclose(float(columns["case_margin"].values[0]), expected)
    assert math.isclose(float(columns["case_margin"].values[1]), 0.0, abs_tol=1e-12)
    assert columns["case_margin_flag"].values.tolist() == [0.0, 1.0] * (ITEMS // 2)
    alone = found(replace(case.batch, logits=logits[:, :1]))
    assert alone["case_margin"].values.tolist() == [1.0] * ITEMS


@pytest.mark.parametrize("case_of", ["texture", "contrast", "margin"])
def test_a_flag_is_which_side_of_its_limit(case: Case, case_of: str) -> None:
    """At the value itself nothing is beyond; just inside of it, that item is."""
    batch = with_images(case.batch, pictures())
    value = float(found(batch)[f"case_{case_of}"].values[0])
    beyond = 0.999 if case_of == "texture" else 1.001
    at, past = (
        found(batch, **{case_of: min(1.0, value * factor)})[f"case_{case_of}_flag"]
        for factor in (1.0, beyond)
    )
    assert float(at.values[0]) == 0.0
    assert float(past.values[0]) == 1.0


def test_grey_inputs_are_their_own_luminance(case: Case) -> None:
    """One channel is taken as it is."""
    grey = pictures()[:, :1]
    batch = replace(case.batch, inputs=grey * 3.0, input_range=torch.tensor([3.0]))
    values = found(batch)["case_contrast"].values
    expected = grey.double().flatten(1).std(dim=1, correction=0)
    assert torch.allclose(values, expected, atol=1e-6)
