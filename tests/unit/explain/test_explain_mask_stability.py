# SPDX-License-Identifier: Apache-2.0
"""Masks of nearby inputs, and masks of every keep-fraction against the truth."""

import math
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from explain.maps import dequantise, quantise, upsample
from explain.metrics import create_metric
from explain.metrics.card import KEPT_PERCENTAGES
from explain.metrics.sensitivity import nearby_inputs
from explain.thresholds import FixedKeep
from tests.support.metric_case import (
    ITEMS,
    SIZE,
    Case,
    as_explanation,
    slow_order,
    slow_pearson,
)

Score = Callable[..., float]


@pytest.fixture(scope="module")
def average_precision_score() -> Score:
    """R14: scikit-learn's average precision."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sklearn.metrics import average_precision_score as oracle
    return oracle


def slow_mask(flat: list[float], count: int) -> list[bool]:
    """Return the highest positive positions, ties by lowest index."""
    order = sorted(range(len(flat)), key=lambda place: (-flat[place], place))
    kept = {place for place in order[:count] if flat[place] > 0}
    return [place in kept for place in range(len(flat))]


def test_mask_stability_equals_a_slow_loop(
    case: Case, average_precision_score: Score
) -> None:
    """IoU, average precision and correlation of each draw, averaged."""
    batch, samples = case.batch, 3
    found = create_metric("mask_stability", samples=samples, radius=0.3).measure(batch)
    for item in range(ITEMS):
        flat = batch.maps[item].flatten().tolist()
        own = slow_mask(flat, int(batch.mask[item].sum()))
        sums = [0.0, 0.0, 0.0]
        for draw in range(samples):
            moved = nearby_inputs(batch, 0.3, draw)
            native = case.method.explain(moved, batch.targets).maps
            maps = upsample(dequantise(quantise(native)), (SIZE, SIZE))
            other = maps[item].flatten().tolist()
            theirs = slow_mask(other, int(batch.mask[item].sum()))
            pairs = list(zip(own, theirs, strict=True))
            sums[0] += sum(a and b for a, b in pairs) / sum(a or b for a, b in pairs)
            sums[1] += average_precision_score(own, other)
            sums[2] += slow_pearson(flat, other)
        for total, what in zip(sums, ("iou", "precision", "correlation"), strict=True):
            value = float(found[f"mask_stability_{what}"].values[item])
            assert math.isclose(value, total / samples, rel_tol=1e-6), what


def test_the_noise_of_this_test_moves_masks(case: Case) -> None:
    """More noise, less overlap: the slow loop above compares with something."""
    calm, rough = (
        create_metric("mask_stability", radius=radius).measure(case.batch)
        for radius in (0.001, 0.5)
    )
    for key, values in calm.items():
        assert float(values.values.mean()) > float(rough[key].values.mean()), key


def test_a_map_that_stands_still_keeps_its_mask(case: Case) -> None:
    """The same map again has overlap, precision and correlation 1."""
    fixed = dequantise(case.batch.stored)
    batch = replace(case.batch, explain=as_explanation(lambda _images: fixed))
    for values in create_metric("mask_stability").measure(batch).values():
        assert torch.allclose(values.values, torch.ones(ITEMS).double(), atol=1e-9)


def test_a_mask_that_is_not_the_highest_positions_is_not_held_against_the_map(
    case: Case,
) -> None:
    """Only the size of the policy's mask counts; none at all is a reason."""
    fixed = dequantise(case.batch.stored)
    lowest = FixedKeep(0.2).apply(-case.batch.maps + 100).mask
    lowest[1] = False
    batch = replace(
        case.batch, mask=lowest, explain=as_explanation(lambda _images: fixed)
    )
    for values in create_metric("mask_stability").measure(batch).values():
        assert values.absent == (None, "empty_mask", None, None)
        assert math.isclose(float(values.values[0]), 1.0, abs_tol=1e-9)


def test_a_map_that_vanishes_overlaps_with_nothing(case: Case) -> None:
    """IoU 0, the precision of chance, and no correlation rather than a made-up one."""
    blank = as_explanation(lambda images: torch.zeros(len(images), 4, 4))
    batch = replace(case.batch, explain=blank)
    found = create_metric("mask_stability").measure(batch)
    assert found["mask_stability_iou"].values.tolist() == [0.0] * ITEMS
    share = (batch.mask & (batch.maps > 0)).flatten(1).double().mean(dim=1)
    assert torch.allclose(found["mask_stability_precision"].values, share)
    absent = found["mask_stability_correlation"].absent
    assert absent == ("no_variation",) * ITEMS


def test_mask_stability_shares_its_explanations(case: Case) -> None:
    """Beside max-sensitivity of the same radius and draws it costs nothing."""
    for name in ("max_sensitivity", "mask_stability"):
        create_metric(name).measure(case.batch)
    assert case.explains == [ITEMS] * 10


def test_threshold_curves_equal_slow_sets(case: Case) -> None:
    """Precision, recall and IoU of sets of positions, one by one."""
    found = create_metric("threshold_curves").measure(case.batch)
    truth = case.batch.ground_truth
    assert truth is not None
    for item in range(ITEMS - 1):
        order = slow_order(case.batch, item)
        flat = case.batch.maps[item].flatten().tolist()
        marked = set(truth[item].flatten().nonzero().flatten().tolist())
        for percent in KEPT_PERCENTAGES:
            count = math.ceil(percent * len(order) / 100)
            kept = {place for place in order[:count] if flat[place] > 0}
            for what, expected in (
                ("precision", len(kept & marked) / len(kept)),
                ("recall", len(kept & marked) / len(marked)),
                ("iou", len(kept & marked) / len(kept | marked)),
            ):
                value = found[f"threshold_{what}_{percent}"].values[item]
                assert math.isclose(float(value), expected), (what, percent)


def test_the_curve_meets_the_mask_of_that_size(case: Case) -> None:
    """At 20 % it is the localisation of the fixed policy's mask."""
    curves = create_metric("threshold_curves").measure(case.batch)
    masks = create_metric("localisation").measure(case.batch)
    for what in ("precision", "recall", "iou"):
        one = curves[f"threshold_{what}_20"].values
        assert torch.allclose(
            one, masks[f"localisation_{what}"].values, equal_nan=True
        ), what


def test_a_map_without_a_positive_place_keeps_nothing(case: Case) -> None:
    """Its recall and IoU are 0; a precision of nothing is absent."""
    maps: Tensor = case.batch.maps.clone()
    maps[0] = -torch.arange(1.0, SIZE * SIZE + 1).view(SIZE, SIZE)
    found: dict[str, Any] = create_metric("threshold_curves").measure(
        replace(case.batch, maps=maps)
    )
    assert found["threshold_precision_50"].absent[0] == "empty_mask"
    assert float(found["threshold_recall_50"].values[0]) == 0.0
    assert float(found["threshold_iou_1"].values[0]) == 0.0
