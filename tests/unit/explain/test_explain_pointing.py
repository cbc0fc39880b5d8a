# SPDX-License-Identifier: Apache-2.0
"""Localisation of outlines, positions, cuts and boxes equals slow loops and oracles."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.ndimage import binary_erosion, distance_transform_edt
from sklearn.metrics import average_precision_score
from torch import Tensor

from explain.metrics import create_metric
from explain.metrics.boundaries import boundary, grown
from explain.metrics.boxes import box_ious
from explain.metrics.pixel_precision import precision_area, threshold_counts
from tests.support.metric_case import ITEMS, SIZE, Case, measure, slow_order

WITH_TRUTH = 3


def truth_of(case: Case) -> Tensor:
    """Return the ground truth of the case."""
    assert case.batch.ground_truth is not None
    return case.batch.ground_truth


# Boundary F1


@pytest.mark.parametrize("tolerance", [0.0, 0.02, 0.05])
def test_boundary_f1_equals_distance_transforms(case: Case, tolerance: float) -> None:
    """R14: outlines by erosion, distances by scipy's exact transform."""
    batch = replace(case.batch, ground_truth=case.batch.mask.roll((2, 3), (1, 2)))
    found = measure(create_metric("boundary_f1", tolerance=tolerance), batch)
    reach = tolerance * math.hypot(SIZE, SIZE)
    truth = batch.ground_truth
    assert truth is not None
    for item in range(WITH_TRUTH):
        mask, marked = (
            region & ~binary_erosion(region, border_value=0)
            for region in (batch.mask[item].numpy(), truth[item].numpy())
        )
        precision = (distance_transform_edt(~marked)[mask] <= reach).mean()
        recall = (distance_transform_edt(~mask)[marked] <= reach).mean()
        expected = 0.0
        if precision + recall:
            expected = 2 * precision * recall / (precision + recall)
        assert math.isclose(float(found.values[item]), expected, abs_tol=1e-12)


@pytest.mark.parametrize("reach", [0.0, 1.0, 1.5, 2.9, 5.0, 40.0])
def test_growing_reaches_every_pixel_within_the_distance(reach: float) -> None:
    """A disc in Euclidean distance, cut off at the image's border."""
    marks = torch.rand(2, 21, 17) > 0.97
    marks[:, 0, 0] = True
    found = grown(marks, reach)
    for item in range(2):
        expected = distance_transform_edt(~marks[item].numpy()) <= reach
        assert np.array_equal(found[item].numpy(), expected)


def test_the_outline_of_everything_is_the_border(case: Case) -> None:
    """Beyond the image is outside, so a full mask has an outline."""
    full = torch.ones(1, 5, 6, dtype=torch.bool)
    assert int(boundary(full).sum()) == 5 * 6 - 3 * 4
    batch = replace(case.batch, ground_truth=case.batch.mask)
    found = measure(create_metric("boundary_f1"), batch)
    assert found.values[:WITH_TRUTH].tolist() == [1.0] * WITH_TRUTH


def test_an_empty_mask_has_no_outline_in_common(case: Case) -> None:
    """It scores 0, as IoU and Dice do."""
    batch = replace(case.batch, mask=torch.zeros_like(case.batch.mask))
    found = measure(create_metric("boundary_f1"), batch)
    assert found.values[:WITH_TRUTH].tolist() == [0.0] * WITH_TRUTH


# Positions


def test_pointing_mass_rank_and_top_k_equal_slow_loops(case: Case) -> None:
    """Positions in order of the map, ties by lowest index, against the truth."""
    batch, truth = case.batch, truth_of(case)
    pointing = measure(create_metric("pointing_game"), batch).values
    mass = measure(create_metric("relevance_mass"), batch).values
    rank = measure(create_metric("relevance_rank"), batch).values
    top = measure(create_metric("top_k_intersection", k=30), batch).values
    for item in range(WITH_TRUTH):
        marked = truth[item].flatten().tolist()
        flat = batch.maps[item].flatten().tolist()
        order, size = slow_order(batch, item), sum(marked)
        assert float(pointing[item]) == float(marked[order[0]])
        inside = math.fsum(v for v, m in zip(flat, marked, strict=True) if m)
        assert math.isclose(float(mass[item]), inside / math.fsum(flat), rel_tol=1e-6)
        hits = sum(marked[index] for index in order[:size])
        assert math.isclose(float(rank[item]), hits / size, rel_tol=1e-12)
        hits = sum(marked[index] for index in order[:30])
        assert math.isclose(float(top[item]), hits / 30, rel_tol=1e-12)


def test_a_near_miss_counts_within_the_tolerance(case: Case) -> None:
    """Three pixels off: a miss at 2, a hit at 3."""
    maps = torch.zeros(ITEMS, SIZE, SIZE)
    maps[:, 8, 8] = 1.0
    truth = torch.zeros(ITEMS, SIZE, SIZE, dtype=torch.bool)
    truth[:, 8, 11:14] = True
    batch = replace(case.batch, maps=maps, ground_truth=truth)
    for tolerance, hit in ((0, 0.0), (2, 0.0), (3, 1.0)):
        metric = create_metric("pointing_game", tolerance=tolerance)
        assert float(measure(metric, batch).values[0]) == hit


def test_more_positions_than_there_are_count_all(case: Case) -> None:
    """K beyond the picture is the picture, and the share that of the object."""
    found = measure(create_metric("top_k_intersection", k=10**6), case.batch)
    share = truth_of(case).flatten(1).double().mean(dim=1)
    assert torch.allclose(found.values[:WITH_TRUTH], share[:WITH_TRUTH])


def test_mass_needs_a_positive_part(case: Case) -> None:
    """A map without one has no mass to share out, which is a reason."""
    maps = case.batch.maps.clone()
    maps[1] = -maps[1] - 1.0
    found = measure(create_metric("relevance_mass"), replace(case.batch, maps=maps))
    assert found.absent[:3] == (None, "zero_energy", None)


# Cuts


def test_average_precision_equals_sklearn(case: Case) -> None:
    """R14: also with tied values, and values below zero."""
    truth = truth_of(case)
    tied = (case.batch.maps * 40).round() - 20
    for maps in (case.batch.maps, tied):
        found = measure(
            create_metric("average_precision"), replace(case.batch, maps=maps)
        )
        for item in range(WITH_TRUTH):
            expected = average_precision_score(
                truth[item].flatten().numpy(), maps[item].flatten().numpy()
            )
            assert math.isclose(float(found.values[item]), expected, rel_tol=1e-9)


@pytest.mark.parametrize("thresholds", [2, 10, 1000])
def test_pxap_equals_a_slow_loop(case: Case, thresholds: int) -> None:
    """Precision and recall counted anew at every threshold of the scaled map."""
    batch, truth = case.batch, truth_of(case)
    found = measure(create_metric("pxap", thresholds=thresholds), batch)
    for item in range(WITH_TRUTH):
        flat = batch.maps[item].double().flatten()
        scaled = (flat - flat.min()) / (flat.max() - flat.min()) * thresholds
        marked, area, before = truth[item].flatten(), 0.0, 0.0
        for step in range(thresholds, -1, -1):
            above = scaled >= step
            hits = float((above & marked).sum())
            recall = hits / float(marked.sum())
            if above.any():
                area += hits / float(above.sum()) * (recall - before)
            before = recall
        assert math.isclose(float(found.values[item]), area, rel_tol=1e-9)


def test_pxap_of_a_hand_made_map() -> None:
    """Two of three object pixels at the top, one at the bottom: 2/3 + 1/3 * 3/8."""
    maps = torch.tensor([[[1.0, 1.0, 0.6, 0.6], [0.6, 0.6, 0.6, 0.0]]])
    truth = torch.tensor([[[1, 1, 0, 0], [0, 0, 0, 1]]]).bool()
    reached, true = threshold_counts(maps, truth, 10)
    area = float(precision_area(reached, true)[0])
    assert math.isclose(area, 2 / 3 + 1 / 3 * 3 / 8)
    # Counts add up over images, which is how the paper pools them.
    pooled = precision_area(reached * 2, true * 2)
    assert math.isclose(float(pooled[0]), area)


# Boxes


def slow_box(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return the box around the largest part, found by flooding."""
    left = {tuple(place) for place in np.argwhere(mask).tolist()}
    largest: list[tuple[int, int]] = []
    while left:
        part, queue = [], [min(left)]
        left.discard(queue[0])
        while queue:
            y, x = queue.pop()
            part.append((y, x))
            for place in [(y + a, x + b) for a in (-1, 0, 1) for b in (-1, 0, 1)]:
                if place in left:
                    left.discard(place)
                    queue.append(place)
        if len(part) > len(largest):
            largest = part
    rows, columns = [y for y, _ in largest], [x for _, x in largest]
    return min(rows), max(rows), min(columns), max(columns)


def slow_iou(one: tuple[int, ...], two: tuple[int, ...]) -> float:
    """Return the IoU of boxes by counting pixels."""
    sets = [
        {(y, x) for y in range(a, b + 1) for x in range(c, d + 1)}
        for a, b, c, d in (one, two)
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def test_box_accuracy_equals_a_slow_loop(case: Case) -> None:
    """Parts by flooding, boxes by counting, every threshold on its own."""
    maps = torch.rand(ITEMS, SIZE, SIZE, generator=torch.Generator().manual_seed(4))
    batch = replace(case.batch, maps=maps)
    truth = truth_of(case)
    found = create_metric("max_box_acc", thresholds=8, iou=0.4).measure(batch)
    for item in range(WITH_TRUTH):
        scores = maps[item].double().numpy()
        scores = (scores - scores.min()) / (scores.max() - scores.min())
        places = np.argwhere(truth[item].numpy())
        low, high = places.min(axis=0).tolist(), places.max(axis=0).tolist()
        wanted = (low[0], high[0], low[1], high[1])
        best = max(slow_iou(slow_box(scores >= t / 8), wanted) for t in range(8))
        assert math.isclose(float(found["max_box_iou"].values[item]), best)
        assert float(found["max_box_acc"].values[item]) == float(best >= 0.4)


def test_boxes_of_a_hand_made_map() -> None:
    """A blob in a frame of noise: at low cuts the whole picture, at high ones it."""
    scores = np.full((8, 8), 0.1)
    scores[2:5, 3:6] = 1.0
    scores[7, 7] = 0.9  # a part of its own
    truth = np.zeros((8, 8), dtype=np.bool_)
    truth[2:5, 3:6] = True
    found = box_ious(scores, truth, 10)
    assert found.tolist() == [9 / 64, 9 / 64, *[1.0] * 8]
