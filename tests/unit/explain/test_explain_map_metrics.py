# SPDX-License-Identifier: Apache-2.0
"""Metrics of the map alone: retention and complexity."""

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from explain.metrics import create_metric
from explain.thresholds import FixedKeep
from tests.support.metric_case import ITEMS, Case, measure


def with_maps(case: Case, maps: Tensor) -> Case:
    """Return the case with other maps."""
    return replace(case, batch=replace(case.batch, maps=maps))


def signed(case: Case) -> Case:
    """Return the case with maps that have values below zero."""
    maps = case.batch.maps - case.batch.maps.mean(dim=(1, 2), keepdim=True)
    return with_maps(case, maps)


def test_retention_equals_a_slow_sum(case: Case) -> None:
    """Running sums of the sorted positive part, and the trapezoid under them."""
    case = signed(case)
    found = create_metric("retention").measure(case.batch)
    for item in range(ITEMS):
        flat = sorted(
            (max(0.0, value) for value in case.batch.maps[item].flatten().tolist()),
            reverse=True,
        )
        total = math.fsum(flat)
        curve = [math.fsum(flat[:count]) / total for count in range(len(flat) + 1)]
        area = sum((a + b) / 2 for a, b in itertools.pairwise(curve))
        auc = float(found["retention_auc"].values[item])
        assert math.isclose(auc, area / len(flat), rel_tol=1e-9)
        for percent in (1, 5, 10, 20, 50):
            count = math.ceil(percent * len(flat) / 100)
            value = float(found[f"retention_{percent}"].values[item])
            assert math.isclose(value, curve[count], rel_tol=1e-9)


def test_retention_is_what_the_mask_of_that_size_keeps(case: Case) -> None:
    """At 20 % it is the energy that the fixed policy reports."""
    reported = FixedKeep(0.2).apply(case.batch.maps).energy_retained
    found = create_metric("retention").measure(case.batch)["retention_20"].values
    assert torch.allclose(found, reported, rtol=1e-9)


def test_retention_of_one_pixel_and_of_a_slope(case: Case) -> None:
    """All of the energy at once; and the closed form of 1, 2, .. n."""
    maps = torch.zeros(ITEMS, 10, 10)
    maps[:, 3, 3] = 2.0
    maps[1] = torch.arange(1.0, 101.0).view(10, 10)
    found = create_metric("retention").measure(with_maps(case, maps).batch)
    assert float(found["retention_1"].values[0]) == 1.0
    assert math.isclose(float(found["retention_auc"].values[0]), 0.995)
    assert math.isclose(
        float(found["retention_10"].values[1]), sum(range(91, 101)) / 5050
    )
    assert math.isclose(float(found["retention_auc"].values[1]), 2 / 3, abs_tol=0.01)


def test_sparseness_equals_the_mean_difference(case: Case) -> None:
    """The Gini index: mean absolute difference of all pairs over twice the mean."""
    case = signed(case)
    found = measure(create_metric("sparseness"), case.batch)
    for item in range(ITEMS):
        values = case.batch.maps[item].flatten().double().abs()
        pairs = (values[:, None] - values[None, :]).abs().mean()
        expected = float(pairs / (2 * values.mean()))
        assert math.isclose(float(found.values[item]), expected, rel_tol=1e-9)


def test_one_pixel_is_sparsest(case: Case) -> None:
    """1 - 1/n for a single pixel, near 0 for an almost even map."""
    maps = torch.zeros(ITEMS, 10, 10)
    maps[:, 5, 5] = -3.0
    maps[1] = 1.0
    maps[1, 0, 0] = 1.0001
    found = measure(create_metric("sparseness"), with_maps(case, maps).batch)
    assert math.isclose(float(found.values[0]), 0.99)
    assert 0 <= float(found.values[1]) < 1e-5


def test_entropy_equals_a_slow_sum(case: Case) -> None:
    """Shares of the magnitudes, nothing taken as 0 ln 0."""
    case = signed(case)
    found = measure(create_metric("entropy"), case.batch)
    for item in range(ITEMS):
        sizes = [abs(value) for value in case.batch.maps[item].flatten().tolist()]
        total = math.fsum(sizes)
        expected = -math.fsum(
            size / total * math.log(size / total) for size in sizes if size
        )
        assert math.isclose(float(found.values[item]), expected, rel_tol=1e-6)


@pytest.mark.parametrize(("pixels", "expected"), [(1, 0.0), (2, math.log(2))])
def test_entropy_of_equal_pixels_is_their_logarithm(
    case: Case, pixels: int, expected: float
) -> None:
    """K equal pixels have ln k: a single one has none, and no NaN."""
    maps = torch.zeros(ITEMS, 10, 10)
    maps.flatten(1)[:, :pixels] = 7.0
    found = measure(create_metric("entropy"), with_maps(case, maps).batch)
    assert found.absent == (None,) * ITEMS
    assert torch.allclose(found.values, torch.full((ITEMS,), expected).double())


@pytest.mark.parametrize(("epsilon", "expected"), [(0.0, 0.99), (0.5, 0.5), (1.0, 0.0)])
def test_effective_complexity_counts_what_exceeds(
    case: Case, epsilon: float, expected: float
) -> None:
    """Of 0 .. 99, those above the share of the largest, whatever their sign."""
    maps = torch.arange(100.0).view(1, 10, 10).repeat(ITEMS, 1, 1)
    maps[1] = -maps[1]
    metric = create_metric("effective_complexity", epsilon=epsilon)
    found = measure(metric, with_maps(case, maps).batch)
    assert torch.allclose(found.values, torch.full((ITEMS,), expected).double())


def test_the_scale_of_a_map_changes_nothing(case: Case) -> None:
    """Magnitudes down to 1e-15 are what raw maps have."""
    small = with_maps(case, case.batch.maps * 1e-15)
    for name in ("retention", "sparseness", "entropy", "effective_complexity"):
        one = create_metric(name).measure(case.batch)
        two = create_metric(name).measure(small.batch)
        for key in one:
            assert torch.allclose(one[key].values, two[key].values, rtol=1e-5), key
