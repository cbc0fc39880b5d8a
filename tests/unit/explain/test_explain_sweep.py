# SPDX-License-Identifier: Apache-2.0
"""One sort gives what a loop over masks and scikit-learn give, for all fractions."""

import math
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from explain.errors import InvalidInputError, InvalidParameterError
from explain.thresholds import FixedKeep, ThresholdStatus, sweep_fractions

FRACTIONS = (0.05, 0.1, 0.3, 0.5, 1.0)
cases = st.lists(
    st.tuples(
        st.lists(st.integers(-1, 4), min_size=12, max_size=12),
        st.lists(st.booleans(), min_size=12, max_size=12),
    ),
    min_size=1,
    max_size=3,
)


@pytest.fixture(scope="module")
def sklearn_metrics() -> Any:
    """R14: scikit-learn's metrics of masks and curves."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from sklearn import metrics
    return metrics


@settings(max_examples=12, deadline=None)
@given(case=cases)
def test_equals_a_loop_over_masks(
    sklearn_metrics: Any, case: list[tuple[list[int], list[bool]]]
) -> None:
    """R14: every fraction's numbers are those of its own mask, ties included."""
    maps = torch.tensor([row for row, _ in case], dtype=torch.float32)
    truth = torch.tensor([mask for _, mask in case])
    result = sweep_fractions(maps, truth, FRACTIONS)
    for place, keep in enumerate(FRACTIONS):
        single = FixedKeep(keep).apply(maps)
        assert torch.equal(result.kept[:, place], single.kept)
        assert torch.allclose(
            result.energy[:, place], single.energy_retained, rtol=1e-14, atol=0
        )
        for item in range(len(case)):
            if single.status[item] == ThresholdStatus.CONSTANT_MAP:
                assert math.isnan(float(result.iou[item, place]))
                continue
            mask, true = single.mask[item].numpy(), truth[item].numpy()
            for values, name, known in (
                (result.precision, "precision_score", mask.any()),
                (result.recall, "recall_score", true.any()),
                (result.f1, "f1_score", mask.any() or true.any()),
                (result.iou, "jaccard_score", mask.any() or true.any()),
            ):
                found = float(values[item, place])
                if known:
                    oracle = getattr(sklearn_metrics, name)
                    expected = oracle(true, mask, zero_division=0)
                    assert found == pytest.approx(expected, abs=1e-15)
                else:
                    assert math.isnan(found)


@settings(max_examples=25, deadline=None)
@given(case=cases)
def test_curves_equal_scikit_learns(
    sklearn_metrics: Any, case: list[tuple[list[int], list[bool]]]
) -> None:
    """R14: cuts, precision, recall and average precision, ties as one cut."""
    maps = torch.tensor([row for row, _ in case], dtype=torch.float32)
    truth = torch.tensor([mask for _, mask in case])
    result = sweep_fractions(maps, truth, FRACTIONS)
    averages = result.average_precision()
    for item, (row, true) in enumerate(case):
        if len(set(row)) == 1 or not any(true):
            assert math.isnan(float(averages[item]))
            continue
        scores = np.array(row, dtype=np.float32)
        curve = result.curve(item)
        expected = sklearn_metrics.precision_recall_curve(np.array(true), scores)
        for found, right in zip(
            (curve.precision, curve.recall, curve.cuts), expected, strict=True
        ):
            assert np.array_equal(found.numpy(), right)
        average = sklearn_metrics.average_precision_score(np.array(true), scores)
        assert float(averages[item]) == pytest.approx(average, abs=1e-14)


def test_large_maps_without_ties_equal_scikit_learn(sklearn_metrics: Any) -> None:
    """R14 on 5,000 distinct values: the same average precision, curve and IoU."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 50, 100, generator=generator)
    truth = maps + torch.rand(2, 50, 100, generator=generator) > 1.4
    result = sweep_fractions(maps, truth)
    assert result.fractions.tolist() == [percent / 100 for percent in range(1, 101)]
    for item in range(2):
        flat, true = maps[item].flatten().numpy(), truth[item].flatten().numpy()
        assert float(result.average_precision()[item]) == pytest.approx(
            sklearn_metrics.average_precision_score(true, flat), abs=1e-12
        )
        precision, recall, cuts = sklearn_metrics.precision_recall_curve(true, flat)
        curve = result.curve(item)
        assert np.array_equal(curve.cuts.numpy(), cuts)
        assert np.array_equal(curve.precision.numpy(), precision)
        assert np.array_equal(curve.recall.numpy(), recall)
        mask = FixedKeep(0.2).apply(maps).mask[item].flatten().numpy()
        assert float(result.iou[item, 19]) == pytest.approx(
            sklearn_metrics.jaccard_score(true, mask), abs=1e-15
        )


def test_a_perfect_map_reaches_one() -> None:
    """Where the map is the truth, all is 1 at the truth's own size."""
    truth = torch.zeros(1, 10, 10, dtype=torch.bool)
    truth[0, :2] = True
    result = sweep_fractions(truth.float(), truth, (0.1, 0.2, 0.4))
    assert result.iou.tolist() == [[0.5, 1.0, 1.0]]
    assert result.kept.tolist() == [[10, 20, 20]]
    assert result.average_precision().tolist() == [1.0]


def test_maps_and_truths_that_show_nothing() -> None:
    """What cannot be compared is NaN with a status, and neighbours do not notice."""
    rows = [[0.0] * 4, [math.nan, 1.0, 2.0, 3.0], [-1.0, -2.0, 0.0, -3.0]]
    maps = torch.tensor([*rows, [4.0, 3.0, 2.0, 1.0], [4.0, 3.0, 2.0, 1.0]])
    truth = torch.tensor([[True, False, False, True]] * 4 + [[False] * 4])
    result = sweep_fractions(maps, truth, (0.5,))
    codes = [
        ThresholdStatus.CONSTANT_MAP,
        ThresholdStatus.NON_FINITE,
        ThresholdStatus.INSUFFICIENT_SUPPORT,
        ThresholdStatus.OK,
        ThresholdStatus.OK,
    ]
    assert result.codes.tolist() == [status.code for status in codes]
    assert result.kept[:, 0].tolist() == [0, 0, 0, 2, 2]
    assert result.energy[:, 0].tolist() == [0.0, 0.0, 0.0, 0.7, 0.7]
    expected = torch.tensor([math.nan, math.nan, 0.0, 1 / 3, 0.0]).double()
    assert torch.allclose(result.iou[:, 0], expected, equal_nan=True)
    recall = torch.tensor([math.nan, math.nan, 0.0, 0.5, math.nan]).double()
    assert torch.allclose(result.recall[:, 0], recall, equal_nan=True)
    assert math.isnan(float(result.precision[2, 0]))
    averages = result.average_precision()
    assert averages.isnan().tolist() == [True, True, False, False, True]
    both = sweep_fractions(maps[2:3], truth[4:], (0.5,))
    assert bool(both.iou.isnan().all() and both.f1.isnan().all())


def test_without_truth_there_is_energy_alone() -> None:
    """Counts and energy need none; comparisons are NaN and curves an error."""
    maps = torch.tensor([[4.0, 3.0, 2.0, 1.0]])
    result = sweep_fractions(maps, None, (0.25, 0.5))
    assert result.energy.tolist() == [[0.4, 0.7]]
    assert bool(result.precision.isnan().all())
    with pytest.raises(InvalidInputError, match="Expected a truth"):
        result.average_precision()
    with pytest.raises(InvalidInputError, match="Expected a truth"):
        result.curve(0)


def test_items_keep_their_numbers_in_any_company() -> None:
    """The same bits for an item alone and in a batch, in another order."""
    generator = torch.Generator().manual_seed(9)
    maps = torch.randint(0, 9, (4, 30), generator=generator).float() / 7
    truth = torch.rand(4, 30, generator=generator) > 0.7
    whole = sweep_fractions(maps, truth)
    for order in ([2, 0, 3, 1], [1]):
        part = sweep_fractions(maps[order], truth[order])
        for name in ("kept", "energy", "iou", "precision", "recall", "f1", "values"):
            assert torch.equal(getattr(part, name), getattr(whole, name)[order])
        assert torch.equal(part.average_precision(), whole.average_precision()[order])


def test_energy_and_recall_never_fall() -> None:
    """A larger fraction holds at least what a smaller one holds."""
    generator = torch.Generator().manual_seed(2)
    maps = torch.rand(3, 500, generator=generator) - 0.3
    result = sweep_fractions(maps, maps > 0.4)
    for values in (result.kept, result.energy, result.recall):
        assert bool((values.diff(dim=1) >= 0).all())
    assert bool((result.energy[:, -1] == 1).all())


def test_the_sweep_waits_for_no_device() -> None:
    """Tensors without data can be swept: nothing is read back."""
    maps = torch.zeros(3, 6, 5, device="meta")
    result = sweep_fractions(maps, maps.bool())
    assert result.iou.shape == (3, 100)
    assert result.average_precision().shape == (3,)


def test_what_cannot_be_swept_is_refused() -> None:
    """A truth of another shape or type, or a fraction that is none, is an error."""
    maps = torch.rand(2, 4)
    for truth in (torch.zeros(2, 5, dtype=torch.bool), torch.zeros(2, 4)):
        with pytest.raises(InvalidInputError, match="Expected a truth of the maps"):
            sweep_fractions(maps, truth)
    with pytest.raises(InvalidParameterError, match="fraction above 0"):
        sweep_fractions(maps, None, (0.0,))
