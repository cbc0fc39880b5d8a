# SPDX-License-Identifier: Apache-2.0
"""Faithfulness metrics equal slow loops, and closed forms on a linear network."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from explain.draws import ItemDraws
from explain.maps import StoredMaps
from explain.metrics import METRICS, Direction, MetricBatch, create_metric
from explain.metrics.attribution_sums import Infidelity, cell_of_pixel
from explain.metrics.batch import Draw
from explain.metrics.curves import removed_scores
from tests.support.metric_case import (
    ITEMS,
    SIZE,
    Case,
    LinearNet,
    linear_batch,
    measure,
    slow_logits,
    slow_order,
    slow_pearson,
    slow_probability,
)

PIXELS = SIZE * SIZE


def without(image: Tensor, positions: list[int]) -> Tensor:
    """Return the image with those pixels at zero."""
    gone = image.clone().flatten(1)
    gone[:, positions] = 0.0
    return gone.reshape(image.shape)


# Pixel flipping


@pytest.mark.parametrize(("steps", "fraction"), [(20, 0.2), (3, 1.0), (7, 0.35)])
def test_pixel_flipping_equals_a_slow_loop(
    case: Case, steps: int, fraction: float
) -> None:
    """The mean drop over L + 1 points, the first of them no drop at all."""
    batch = case.batch
    metric = create_metric("pixel_flipping", steps=steps, fraction=fraction)
    found = measure(metric, batch)
    for item in range(ITEMS):
        order, target = slow_order(batch, item), int(batch.targets[item])
        whole = slow_probability(case.model, batch.inputs[item], target)
        drops = [0.0]
        for step in range(1, steps + 1):
            gone = order[: int(step * fraction * PIXELS / steps + 0.5)]
            image = without(batch.inputs[item], gone)
            drops.append(whole - slow_probability(case.model, image, target))
        expected = math.fsum(drops) / len(drops)
        assert math.isclose(float(found.values[item]), expected, abs_tol=1e-6)


def test_flipping_a_linear_network_is_a_sum(case: Case) -> None:
    """Without the top k the logit is what it was less their attributions."""
    model = LinearNet()
    batch = linear_batch(case.batch, model)
    counts = [1, 10, PIXELS]
    found = removed_scores(batch, counts, "zero", "logit")
    for item in range(ITEMS):
        order, flat = slow_order(batch, item), batch.maps[item].flatten().tolist()
        whole = float(batch.full_scores("logit")[item])
        for place, count in enumerate(counts):
            expected = whole - math.fsum(flat[index] for index in order[:count])
            assert math.isclose(float(found[place, item]), expected, abs_tol=1e-4)


# Faithfulness correlation and estimate


def test_correlation_equals_a_slow_loop(case: Case) -> None:
    """Sets of cells drawn by lowest keys, sums and effects one image at a time."""
    batch, samples, grid = case.batch, 6, 4
    metric = create_metric(
        "faithfulness_correlation", samples=samples, grid=grid, share=0.25
    )
    found = measure(metric, batch)
    for item in range(ITEMS):
        target = int(batch.targets[item])
        keys = ItemDraws(0, (item,), stream=0).uniform(
            Draw.SUBSETS, (samples, grid * grid)
        )[0]
        flat = batch.maps[item].flatten().tolist()
        whole = slow_logits(case.model, batch.inputs[item])[target]
        sums, effects = [], []
        for sample in range(samples):
            order = np.argsort(keys[sample].numpy(), kind="stable")
            cells = set(order[:4].tolist())
            gone = [
                row * SIZE + column
                for row in range(SIZE)
                for column in range(SIZE)
                if (row // 4) * grid + column // 4 in cells
            ]
            sums.append(math.fsum(flat[index] for index in gone))
            image = without(batch.inputs[item], gone)
            effects.append(whole - slow_logits(case.model, image)[target])
        expected = slow_pearson(sums, effects)
        assert math.isclose(float(found.values[item]), expected, abs_tol=1e-4)


def test_estimate_equals_a_slow_loop(case: Case) -> None:
    """Groups of equal rank, each removed from the whole image."""
    batch, steps = case.batch, 6
    found = measure(create_metric("faithfulness_estimate", steps=steps), batch)
    for item in range(ITEMS):
        order, target = slow_order(batch, item), int(batch.targets[item])
        flat = batch.maps[item].flatten().tolist()
        whole = slow_logits(case.model, batch.inputs[item])[target]
        sums, effects = [], []
        for step in range(steps):
            gone = [
                index
                for rank, index in enumerate(order)
                if rank * steps // PIXELS == step
            ]
            sums.append(math.fsum(flat[index] for index in gone))
            image = without(batch.inputs[item], gone)
            effects.append(whole - slow_logits(case.model, image)[target])
        expected = slow_pearson(sums, effects)
        assert math.isclose(float(found.values[item]), expected, abs_tol=1e-4)


@pytest.mark.parametrize("name", ["faithfulness_correlation", "faithfulness_estimate"])
def test_the_exact_map_of_a_linear_network_correlates_fully(
    case: Case, name: str
) -> None:
    """With w x as the map both are 1 by default, and -1 with its opposite."""
    batch = linear_batch(case.batch, LinearNet())
    found = measure(create_metric(name), batch).values
    assert torch.allclose(found, torch.ones(ITEMS).double(), atol=1e-9)
    opposite = measure(create_metric(name), replace(batch, maps=-batch.maps)).values
    assert torch.allclose(opposite, -torch.ones(ITEMS).double(), atol=1e-9)


@pytest.mark.parametrize(
    "name", ["faithfulness_correlation", "faithfulness_estimate", "infidelity"]
)
def test_the_probability_is_not_linear(case: Case, name: str) -> None:
    """On probabilities the same map is not perfect: the score's name matters."""
    batch = linear_batch(case.batch, LinearNet())
    logit = measure(create_metric(name), batch).values
    other = measure(create_metric(name, score="probability"), batch).values
    assert not torch.allclose(logit, other, atol=1e-3)


@pytest.mark.parametrize("name", ["faithfulness_correlation", "faithfulness_estimate"])
def test_an_indifferent_network_correlates_with_nothing(case: Case, name: str) -> None:
    """Without any effect there is a reason, and last bits do not count as effect."""
    batch = replace(
        case.batch,
        forward=lambda images: (
            3.0 + 1e-8 * torch.randn(len(images), 4, dtype=torch.float64)
        ),
    )
    assert measure(create_metric(name), batch).absent == ("zero_change",) * ITEMS


def test_sets_that_hold_the_same_attribution_correlate_with_nothing(
    case: Case,
) -> None:
    """A map that differs within its cells only gives every set the same sum."""
    board = torch.ones(SIZE, SIZE)
    board[::2, ::2] = 5.0
    batch = replace(case.batch, maps=board.repeat(ITEMS, 1, 1))
    metric = create_metric("faithfulness_correlation", grid=8)
    assert measure(metric, batch).absent == ("no_variation",) * ITEMS


def test_cells_are_equal_parts_of_sides_that_do_not_divide(case: Case) -> None:
    """Sixteen pixels in five cells: three or four a cell, in order."""
    cells = cell_of_pixel(case.batch, 5)
    assert cells[:, 0].div(5, rounding_mode="floor").bincount().tolist() == [
        4, 3, 3, 3, 3,
    ]  # fmt: skip
    assert cells.max() == 24
    assert cell_of_pixel(case.batch, 99).flatten().tolist() == list(range(PIXELS))


# Infidelity


@pytest.mark.parametrize("perturbation", ["square", "noise"])
@pytest.mark.parametrize("normalise", [True, False])
def test_infidelity_equals_a_slow_loop(
    case: Case, perturbation: str, *, normalise: bool
) -> None:
    """The definition, one perturbation and one image at a time."""
    batch, samples = case.batch, 5
    metric = create_metric(
        "infidelity", samples=samples, perturbation=perturbation, normalise=normalise
    )
    found = measure(metric, batch)
    for item in range(ITEMS):
        draws = ItemDraws(0, (item,), stream=0)
        target, image = int(batch.targets[item]), batch.inputs[item]
        whole = slow_logits(case.model, image)[target]
        map_ = batch.maps[item].double()
        said, effect = [], []
        corners = draws.uniform(Draw.PERTURBATIONS, (samples, 2))[0]
        for sample in range(samples):
            changed = image.clone()
            if perturbation == "square":
                top, left = (int((u + 1) / 2 * 13) for u in corners[sample].tolist())
                changed[:, top : top + 4, left : left + 4] = 0.0
                said.append(float(map_[top : top + 4, left : left + 4].sum()))
            else:
                grain = draws.normal(Draw.PERTURBATIONS + sample, (3, SIZE, SIZE))[0]
                changed -= grain * 0.2
                said.append(float((grain.double() * 0.2 * map_).sum()))
            effect.append(whole - slow_logits(case.model, changed)[target])
        beta = 1.0
        if normalise:
            beta = math.fsum(a * b for a, b in zip(said, effect, strict=True))
            beta /= math.fsum(a * a for a in said)
        errors = [(beta * a - b) ** 2 for a, b in zip(said, effect, strict=True)]
        expected = math.fsum(errors) / samples
        assert math.isclose(float(found.values[item]), expected, rel_tol=1e-3)


@pytest.mark.parametrize("normalise", [True, False])
def test_the_exact_map_of_a_linear_network_has_no_infidelity(
    case: Case, *, normalise: bool
) -> None:
    """Squares: the map w x predicts each effect; any other map does not."""
    batch = linear_batch(case.batch, LinearNet())
    metric = create_metric("infidelity", normalise=normalise)
    assert float(measure(metric, batch).values.max()) < 1e-9
    other = replace(batch, maps=batch.maps.flip(1))
    assert float(measure(metric, other).values.min()) > 1.0


def grey_linear(batch: MetricBatch) -> tuple[MetricBatch, LinearNet]:
    """Return a batch of one channel whose map is the gradient of a linear network."""
    model = LinearNet(channels=1).double()
    inputs = batch.inputs[:, :1].double()
    weights = model.weights.detach()[batch.targets, 0]
    grey = replace(
        batch,
        inputs=inputs,
        maps=weights.float(),
        logits=model(inputs).detach(),
        forward=lambda images: model(images.double()),
    )
    return grey, model


def test_the_gradient_of_a_linear_network_has_no_infidelity_to_noise(
    case: Case,
) -> None:
    """R8: noise and the raw gradient, without scaling: zero up to rounding."""
    batch, _model = grey_linear(case.batch)
    metric = Infidelity(perturbation="noise", normalise=False, samples=10)
    assert float(measure(metric, batch).values.max()) < 1e-9


@pytest.mark.parametrize("normalise", [False, True])
def test_infidelity_equals_captum(
    case: Case, captum_infidelity: Any, *, normalise: bool
) -> None:
    """R8: captum's number over the same injected noise and a wrong map is ours."""
    batch, model = grey_linear(case.batch)
    batch = replace(batch, maps=batch.maps.flip(2))
    samples = 6
    draws = iter(range(samples))

    def perturb(images: Tensor) -> tuple[Tensor, Tensor]:
        grain = torch.cat(
            [
                ItemDraws(0, (item,), stream=0)
                .normal(Draw.PERTURBATIONS + sample, (1, SIZE, SIZE))
                .double()
                * 0.2
                for item in range(ITEMS)
                for sample in range(samples)
            ]
        )
        assert next(draws) == 0
        return grain, images - grain

    oracle = captum_infidelity(
        model,
        perturb,
        batch.inputs,
        batch.maps[:, None].double(),
        target=batch.targets,
        n_perturb_samples=samples,
        normalize=normalise,
    )
    metric = Infidelity(perturbation="noise", normalise=normalise, samples=samples)
    found = measure(metric, batch).values
    assert torch.allclose(found, oracle.double(), rtol=1e-6)


def test_squares_that_miss_the_map_have_no_scale(case: Case) -> None:
    """If no perturbation touches the map, there is no beta: a reason, not NaN."""
    maps = torch.zeros(ITEMS, SIZE, SIZE)
    maps[:, 0, 0] = 1.0
    batch = replace(case.batch, maps=maps)
    metric = Infidelity(samples=2, side=0.1)
    assert measure(metric, batch).absent == ("no_variation",) * ITEMS


# Sufficiency and comprehensiveness


def test_sufficiency_and_comprehensiveness_equal_slow_differences(case: Case) -> None:
    """What is lost with the mask alone, and what is lost without it."""
    batch = case.batch
    sufficient = measure(create_metric("sufficiency"), batch)
    needed = measure(create_metric("comprehensiveness"), batch)
    for item in range(ITEMS):
        image, mask = batch.inputs[item], batch.mask[item]
        target = int(batch.targets[item])
        whole = slow_probability(case.model, image, target)
        alone = slow_probability(case.model, image * mask, target)
        without_it = slow_probability(case.model, image * ~mask, target)
        assert math.isclose(float(sufficient.values[item]), whole - alone, abs_tol=1e-6)
        assert math.isclose(
            float(needed.values[item]), whole - without_it, abs_tol=1e-6
        )


def test_the_mask_of_everything_is_wholly_sufficient(case: Case) -> None:
    """Keeping all loses nothing; taking all away leaves the baseline."""
    full = replace(case.batch, mask=torch.ones_like(case.batch.mask))
    lost = measure(create_metric("sufficiency"), full).values
    assert torch.allclose(lost, torch.zeros(ITEMS).double(), atol=1e-7)
    zero = case.batch.score(torch.zeros_like(case.batch.inputs))
    needed = measure(create_metric("comprehensiveness"), full).values
    assert torch.allclose(needed, case.batch.full_scores() - zero, atol=1e-7)


@pytest.mark.parametrize(
    "name", ["confidence_retained", "sufficiency", "comprehensiveness"]
)
def test_an_empty_mask_is_a_reason(case: Case, name: str) -> None:
    """Nothing kept says nothing, and is counted as such."""
    mask = case.batch.mask.clone()
    mask[2] = False
    found = measure(create_metric(name), replace(case.batch, mask=mask))
    assert found.absent == (None, None, "empty_mask", None)


# Completeness


def test_the_exact_map_of_a_linear_network_is_complete(case: Case) -> None:
    """Every item's residual is rounding alone: peers say that none is complete."""
    batch = linear_batch(case.batch, LinearNet())
    batch = replace(
        batch,
        stored=StoredMaps(batch.maps, torch.ones(ITEMS)),  # as fine as the input
        output_change=batch.full_scores("logit"),
    )
    found = create_metric("completeness").measure(batch)
    assert float(found["completeness_residual"].values.max()) < 1e-4
    assert float(found["completeness_residual_relative"].values.max()) < 1e-3
    off = replace(batch, output_change=batch.full_scores("logit") + 2.0)
    moved = create_metric("completeness").measure(off)["completeness_residual"]
    assert torch.allclose(moved.values, torch.full((ITEMS,), 2.0).double(), atol=1e-4)


def test_a_true_map_is_more_faithful_than_its_opposite(case: Case) -> None:
    """On a linear network each metric ranks the exact map above the opposite one."""
    batch = linear_batch(case.batch, LinearNet())
    opposite = replace(batch, maps=-batch.maps)
    for name in (
        "deletion",
        "insertion",
        "pixel_flipping",
        "faithfulness_correlation",
        "faithfulness_estimate",
        "road",
    ):
        metric = create_metric(name)
        ours, theirs = metric.measure(batch), metric.measure(opposite)
        for key in ours:
            gain = float((ours[key].values - theirs[key].values).mean())
            if METRICS[name].direction_of(key) is Direction.LOWER:
                gain = -gain
            assert gain > 0.01, key
