# SPDX-License-Identifier: Apache-2.0
"""A calibration finds the best fraction of each class and can be told apart."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from explain.errors import InvalidInputError, InvalidParameterError, MissingContextError
from explain.thresholds import (
    Calibration,
    FixedKeep,
    ThresholdContext,
    create_policy,
    fit,
    fit_table,
    sweep_fractions,
)

FRACTIONS = (0.1, 0.2, 0.5)


def table(
    *rows: tuple[float, float, float],
) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return IoUs of items at the three fractions."""
    return np.array(rows, dtype=np.float64)


def small() -> Calibration:
    """Return a calibration of class 3 at 0.1 and class 8 at 0.5, pooled at 0.2."""
    iou = table(*[(0.8, 0.6, 0.1)] * 4, *[(0.1, 0.5, 0.6)] * 4, (0.2, 0.3, 0.1))
    return fit_table(
        iou, [3] * 4 + [8] * 4 + [5], FRACTIONS, min_items=2, replicates=50
    )


def test_each_class_gets_its_best_fraction() -> None:
    """The fraction of the highest mean IoU; a class of one item has none of its own."""
    calibration = small()
    assert [row.target for row in calibration.classes] == [3, 8]
    assert [row.keep for row in calibration.classes] == [0.1, 0.5]
    assert [row.items for row in calibration.classes] == [4, 4]
    assert calibration.pooled.keep == 0.2
    assert calibration.pooled.items == 9
    assert calibration.classes[0].iou == pytest.approx(0.8)
    assert calibration.pooled.iou == pytest.approx((0.6 * 4 + 0.5 * 4 + 0.3) / 9)


def test_equal_items_have_intervals_of_no_width() -> None:
    """Where every item says the same, every replicate does."""
    row = small().classes[0]
    assert (row.keep_low, row.keep_high) == (0.1, 0.1)
    assert row.iou_low == pytest.approx(0.8)
    assert row.iou_high == pytest.approx(0.8)


def test_intervals_hold_what_a_slow_bootstrap_holds() -> None:
    """On 40 uneven items the bounds are near those of an independent bootstrap."""
    generator = np.random.default_rng(0)
    iou = generator.uniform(0, 1, (40, 3)) * [0.9, 1.0, 0.95]
    pooled = fit_table(iou, [1] * 40, FRACTIONS).pooled
    means = np.array(
        [iou[generator.integers(0, 40, 40)].mean(axis=0) for _ in range(4000)]
    )
    best = iou.mean(axis=0).argmax()
    low, high = np.percentile(means[:, best], [2.5, 97.5])
    assert pooled.iou_low == pytest.approx(low, abs=0.02)
    assert pooled.iou_high == pytest.approx(high, abs=0.02)
    assert pooled.iou_low < pooled.iou < pooled.iou_high
    assert {pooled.keep_low, pooled.keep, pooled.keep_high} <= set(FRACTIONS)


def test_the_same_items_give_the_same_digest() -> None:
    """Fitting is repeatable; another seed or item gives another digest."""
    iou = np.random.default_rng(1).uniform(0, 1, (12, 3))
    first = fit_table(iou, [1] * 12, FRACTIONS, replicates=40)
    again = fit_table(iou, [1] * 12, FRACTIONS, replicates=40)
    assert first.digest == again.digest
    assert len(first.digest) == 64
    assert first.digest != fit_table(iou, [1] * 12, FRACTIONS, seed=1).digest
    assert first.digest != replace(first, excluded=1).digest


def test_a_class_does_not_depend_on_the_others() -> None:
    """A class has the same row whatever other classes were fitted with it."""
    iou = np.random.default_rng(2).uniform(0, 1, (20, 3))
    alone = fit_table(iou[:10], [4] * 10, FRACTIONS, replicates=60)
    among = fit_table(iou, [4] * 10 + [2] * 10, FRACTIONS, replicates=60)
    assert among.classes[1] == alone.classes[0]


def test_a_calibration_survives_its_document() -> None:
    """Through JSON and back it is equal and has the same digest."""
    calibration = small()
    text = json.dumps(calibration.document(), allow_nan=False)
    restored = Calibration.from_document(json.loads(text))
    assert restored == calibration
    assert restored.digest == calibration.digest


@pytest.mark.parametrize("change", [{"schema": "other/1"}, {"extra": 1}, {"pooled": 3}])
def test_what_is_no_calibration_is_refused(change: dict[str, object]) -> None:
    """A document of another kind is an error that says so."""
    with pytest.raises(InvalidInputError, match="Expected a calibration"):
        Calibration.from_document({**small().document(), **change})
    with pytest.raises(InvalidInputError, match="Expected a calibration"):
        Calibration.from_document({})


def test_items_without_a_measure_are_left_out_and_counted() -> None:
    """NaN is no IoU: neither zero nor one."""
    iou = table((0.1, 0.9, 0.2), (math.nan, math.nan, math.nan))
    calibration = fit_table(iou, [1, 1], FRACTIONS, min_items=1, replicates=5)
    assert calibration.excluded == 1
    assert calibration.pooled.iou == pytest.approx(0.9)
    with pytest.raises(InvalidInputError, match="at least one item with a mask"):
        fit_table(iou[1:], [1], FRACTIONS)


def test_what_cannot_be_fitted_is_refused() -> None:
    """Shapes must agree, fractions ascend and numbers be positive."""
    with pytest.raises(InvalidInputError, match="IoU for each of 2 items"):
        fit_table(table((0.1, 0.2, 0.3)), [1, 2], FRACTIONS)
    for options in ({"min_items": 0}, {"replicates": 0}):
        with pytest.raises(InvalidParameterError, match="ascending fractions"):
            fit_table(table((0.1, 0.2, 0.3)), [1], FRACTIONS, **options)
    with pytest.raises(InvalidParameterError, match="ascending fractions"):
        fit_table(table((0.1, 0.2, 0.3)), [1], (0.5, 0.2, 0.1))


def test_maps_are_fitted_by_their_sweep() -> None:
    """The chosen fraction is the object's size, blank maps and truths left out."""
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(6, 10, 10, generator=generator)
    truths = maps >= maps.flatten(1).kthvalue(71, dim=1).values[:, None, None]
    maps[4], truths[5] = 0.0, False
    calibration = fit(maps, truths, torch.full((6,), 9), min_items=2, replicates=20)
    assert calibration.excluded == 2
    assert calibration.classes[0].target == 9
    assert calibration.classes[0].keep == 0.3
    assert calibration.classes[0].iou == 1.0
    iou = sweep_fractions(maps[:4], truths[:4]).iou.numpy()
    direct = fit_table(iou, [9] * 4, calibration.fractions, min_items=2, replicates=20)
    assert direct.classes == calibration.classes


def test_items_get_the_fraction_of_their_class() -> None:
    """Known classes their own, unknown ones the pooled one, exactly counted."""
    maps = torch.arange(1.0, 101.0).repeat(3, 1)
    policy = create_policy("calibrated", calibration=small())
    targets = torch.tensor([8, 3, 77])
    result = policy.apply(maps, ThresholdContext(targets=targets))
    assert result.kept.tolist() == [50, 10, 20]
    assert result.requested.tolist() == [0.5, 0.1, 0.2]
    for item, keep in enumerate((0.5, 0.1, 0.2)):
        assert torch.equal(result.mask[item], FixedKeep(keep).apply(maps).mask[item])
    assert policy.apply(
        torch.zeros(3, 4, device="meta"),
        ThresholdContext(targets=torch.zeros(3, dtype=torch.int64, device="meta")),
    ).mask.shape == (3, 4)


def test_what_the_calibrated_policy_needs_is_demanded() -> None:
    """A calibration to be created, targets to be applied."""
    with pytest.raises(InvalidParameterError, match="needs calibration"):
        create_policy("calibrated")
    with pytest.raises(InvalidParameterError, match="expects a Calibration, got dict"):
        create_policy("calibrated", calibration={})
    with pytest.raises(InvalidParameterError, match="has no parameter 'keep'"):
        create_policy("calibrated", calibration=small(), keep=0.1)
    policy = create_policy("calibrated", calibration=small())
    with pytest.raises(MissingContextError, match="needs to know targets"):
        policy.apply(torch.rand(1, 4))
    with pytest.raises(InvalidInputError, match="one target for each"):
        policy.apply(torch.rand(2, 4), ThresholdContext(targets=torch.tensor([1])))
