# SPDX-License-Identifier: Apache-2.0
"""Average sensitivity, relative stability and threshold stability."""

import math
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explain.maps import dequantise, quantise
from explain.metrics import create_metric
from explain.metrics.representation import Representation
from explain.metrics.sensitivity import nearby_inputs
from explain.metrics.stability import EPSILON
from tests.support.metric_case import ITEMS, SIZE, Case, as_explanation, measure


def test_average_sensitivity_equals_a_slow_loop(case: Case) -> None:
    """The mean relative change over the draws, each map taken as stored."""
    batch = case.batch
    found = measure(create_metric("avg_sensitivity", samples=4), batch)
    original = dequantise(batch.stored).double().numpy()
    for item in range(ITEMS):
        ratios = []
        for draw in range(4):
            moved = nearby_inputs(batch, 0.02, draw)
            maps = case.method.explain(moved, batch.targets).maps
            other = dequantise(quantise(maps)).double().numpy()[item]
            change = np.linalg.norm(other - original[item])
            ratios.append(float(change / np.linalg.norm(original[item])))
        expected = math.fsum(ratios) / 4
        assert math.isclose(float(found.values[item]), expected, rel_tol=1e-9)


def test_the_largest_change_is_at_least_the_mean(case: Case) -> None:
    """Both look at the same draws, and make them once."""
    most = measure(create_metric("max_sensitivity"), case.batch).values
    mean = measure(create_metric("avg_sensitivity"), case.batch).values
    assert bool((most >= mean).all())
    assert case.explains == [ITEMS] * 10


def slow_change(one: Tensor, two: Tensor, floor: float) -> float:
    """Return the norm of the elementwise relative change, by its definition."""
    first, second = one.flatten().double().tolist(), two.flatten().double().tolist()
    least = floor * max(abs(value) for value in first)
    return math.sqrt(
        math.fsum(
            ((a - b) / max(abs(a), least)) ** 2
            for a, b in zip(first, second, strict=True)
        )
    )


def test_relative_stability_equals_a_slow_loop(case: Case) -> None:
    """Equations 2, 3 and 5 over the draws that keep the prediction."""
    batch, samples, floor = case.batch, 5, 0.05
    metric = create_metric("relative_stability", samples=samples, floor=floor)
    found = metric.measure(batch)
    listen = Representation(case.model)
    with torch.no_grad():
        here, heard = listen(batch.inputs)
    assert heard is not None
    native = dequantise(batch.stored)
    for item in range(ITEMS):
        largest = [0.0, 0.0, 0.0]
        for draw in range(samples):
            moved = nearby_inputs(batch, 0.02, draw)
            maps = dequantise(quantise(case.method.explain(moved, batch.targets).maps))
            with torch.no_grad():
                there, hears = listen(moved)
            assert hears is not None
            if int(here[item].argmax()) != int(there[item].argmax()):
                continue
            above = slow_change(native[item], maps[item], floor)
            below = [
                slow_change(batch.inputs[item], moved[item], floor),
                float((here[item].double() - there[item].double()).norm()),
                slow_change(heard[item], hears[item], floor),
            ]
            for place, change in enumerate(below):
                largest[place] = max(largest[place], above / max(change, EPSILON))
        for place, what in enumerate(("input", "output", "representation")):
            value = float(found[f"relative_stability_{what}"].values[item])
            assert math.isclose(value, largest[place], rel_tol=1e-6), what


def test_a_map_that_stands_still_is_stable(case: Case) -> None:
    """The same map again has ratio 0, whatever else moves."""
    fixed = dequantise(case.batch.stored)
    batch = replace(case.batch, explain=as_explanation(lambda _images: fixed))
    for values in create_metric("relative_stability").measure(batch).values():
        assert values.values.tolist() == [0.0] * ITEMS


def test_a_draw_that_changes_the_class_does_not_count(case: Case) -> None:
    """If no draw keeps the prediction there is a reason, and no ratio."""
    calls = iter(range(100))

    def represent(images: Tensor) -> tuple[Tensor, Tensor]:
        logits = torch.zeros(len(images), 4)
        logits[:, 0 if next(calls) == 0 else 1] = 1.0
        return logits, torch.ones(len(images), 2)

    batch = replace(case.batch, represent=represent)
    for values in create_metric("relative_stability").measure(batch).values():
        assert values.absent == ("class_changed",) * ITEMS


def test_a_network_without_a_linear_layer_has_no_representation(case: Case) -> None:
    """The other two ratios are there all the same."""
    kept = case.batch.represent
    assert kept is not None
    batch = replace(case.batch, represent=lambda images: (kept(images)[0], None))
    found = create_metric("relative_stability").measure(batch)
    assert found["relative_stability_representation"].absent == (
        ("no_representation",) * ITEMS
    )
    assert found["relative_stability_input"].absent == (None,) * ITEMS


def test_the_representation_is_what_the_last_linear_layer_gets(
    tiny_net: Callable[..., nn.Module],
) -> None:
    """The pooled features, flattened; and no hook stays, also when a pass fails."""
    model = tiny_net().eval()
    inputs = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        logits, heard = Representation(model)(inputs)
        assert heard is not None
        assert torch.equal(model.head(heard), logits)
    with pytest.raises(RuntimeError):
        Representation(model)(torch.randn(2, 5, SIZE, SIZE))
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert Representation(nn.Conv2d(3, 4, SIZE))(inputs)[1] is None


def test_thresholds_of_a_map_with_support_have_a_fixed_overlap(case: Case) -> None:
    """Nested masks: the ratio of their sizes, and nothing about the map."""
    maps = torch.rand(ITEMS, 20, 20) + 0.1
    batch = replace(case.batch, maps=maps)
    found = measure(create_metric("threshold_stability"), batch)
    expected = (4 / 20 + 20 / 40 + 40 / 80) / 3
    assert torch.allclose(found.values, torch.full((ITEMS,), expected).double())


def test_thresholds_meet_where_a_map_has_no_more_support(case: Case) -> None:
    """With positive values for 1 % only, all masks are the same; with none, absent."""
    maps = torch.zeros(ITEMS, 20, 20)
    maps[:, 0, :3] = 1.0
    maps[1] -= 2.0
    found = measure(
        create_metric("threshold_stability"), replace(case.batch, maps=maps)
    )
    assert found.values[0] == 1.0
    assert found.absent == (None, "empty_mask", None, None)
