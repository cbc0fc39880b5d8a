# SPDX-License-Identifier: Apache-2.0
"""Metrics equal slow loops, closed forms and oracles, and gaps have reasons."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, jaccard_score, precision_score, recall_score
from torch import Tensor, nn

from explain.architectures import resolve_layer
from explain.draws import ItemDraws
from explain.errors import (
    InvalidInputError,
    InvalidParameterError,
    UnknownNameError,
)
from explain.maps import dequantise, quantise, upsample
from explain.methods import create_method
from explain.metrics import (
    AbsenceReason,
    MetricBatch,
    MetricColumn,
    create_metric,
    target_probability,
)
from explain.metrics.column import column
from explain.metrics.curves import Deletion, Insertion
from explain.metrics.sensitivity import MaxSensitivity
from explain.thresholds import FixedKeep
from tests.support.metric_case import (
    ITEMS,
    SIZE,
    Case,
    as_explanation,
    measure,
    slow_order,
    slow_probability,
)

# Slow oracles: loops in float64 over single images.


def slow_curve(case: Case, item: int, steps: int, *, insert: bool) -> float:
    """Return the area under the curve by moving pixels one image at a time."""
    batch = case.batch
    order = slow_order(batch, item)
    scores = []
    for step in range(steps + 1):
        moved = math.floor(step * len(order) / steps + 0.5)
        image = batch.inputs[item].clone().flatten(1)
        removed = order[moved:] if insert else order[:moved]
        image[:, removed] = 0.0
        image = image.reshape(batch.inputs[item].shape)
        scores.append(slow_probability(case.model, image, int(batch.targets[item])))
    return sum((a + b) / 2 for a, b in itertools.pairwise(scores)) / steps


# Deletion and insertion


@pytest.mark.parametrize("steps", [20, 7, 1])
@pytest.mark.parametrize(("metric", "insert"), [(Deletion, False), (Insertion, True)])
def test_curves_equal_a_slow_loop(
    case: Case, metric: type, insert: bool, steps: int
) -> None:
    """Areas equal those of a float64 loop, also where steps do not divide pixels."""
    found = measure(metric(steps), case.batch)
    for item in range(ITEMS):
        expected = slow_curve(case, item, steps, insert=insert)
        assert math.isclose(float(found.values[item]), expected, abs_tol=1e-6)
    assert found.absent == (None,) * ITEMS


def one_pixel_model(index: int) -> Callable[[Tensor], Tensor]:
    """Return a model that is certain of class 1 as long as one pixel is not zero."""

    def forward(images: Tensor) -> Tensor:
        present = (images[:, 0].flatten(1)[:, index] != 0).float()
        return torch.stack([torch.full_like(present, 0.5), present], dim=1) * 2000

    return forward


@pytest.mark.parametrize(
    ("rank", "deletion", "insertion"), [(0, 1 / 40, 39 / 40), (255, 39 / 40, 1 / 40)]
)
def test_curves_of_a_one_pixel_model_are_steps(
    case: Case, rank: int, deletion: float, insertion: float
) -> None:
    """The best map loses at once and gains at once; the worst does so at the end."""
    maps = torch.arange(256.0, 0.0, -1.0).reshape(1, SIZE, SIZE).repeat(ITEMS, 1, 1)
    batch = replace(
        case.batch,
        inputs=case.batch.inputs.abs() + 0.1,
        maps=maps,
        targets=torch.ones(ITEMS, dtype=torch.long),
        logits=torch.tensor([[0.0, 2000.0]]).repeat(ITEMS, 1),
        forward=one_pixel_model(rank),
    )
    assert measure(create_metric("deletion"), batch).values.tolist() == [deletion] * 4
    assert measure(create_metric("insertion"), batch).values.tolist() == [insertion] * 4


def test_curves_of_an_indifferent_model_are_flat(case: Case) -> None:
    """If pixels do not matter, both areas are the probability itself."""
    logits = torch.tensor([0.0, 1.0, 2.0, 3.0])
    constant = target_probability(logits.expand(ITEMS, 4), case.batch.targets)
    batch = replace(
        case.batch,
        forward=lambda images: logits.expand(len(images), 4),
        logits=logits.expand(ITEMS, 4),
    )
    for name in ("deletion", "insertion"):
        found = measure(create_metric(name), batch).values
        assert torch.allclose(found, constant, atol=1e-15)


def test_equal_values_are_moved_by_index(case: Case) -> None:
    """On a map of two levels, the first pixels of the upper level go first."""
    maps = torch.zeros(ITEMS, SIZE, SIZE)
    maps[:, SIZE // 2 :] = 1.0
    batch = replace(case.batch, maps=maps)
    first = [SIZE * SIZE // 2, SIZE * SIZE // 2 + 1]
    ranks = batch.ranks.flatten(1)
    assert ranks[0, first].tolist() == [0, 1]
    assert ranks[0, [0, 1]].tolist() == [128, 129]


def test_deleting_from_the_back_is_inserting_from_the_front(case: Case) -> None:
    """Removing the lowest fraction leaves the highest, so the areas are equal."""
    order = torch.randperm(SIZE * SIZE, generator=torch.Generator().manual_seed(0))
    maps = (order + 1.0).reshape(1, SIZE, SIZE).repeat(ITEMS, 1, 1)
    deleted = measure(Deletion(8), replace(case.batch, maps=-maps)).values
    inserted = measure(Insertion(8), replace(case.batch, maps=maps)).values
    assert torch.allclose(deleted, inserted, atol=1e-12)


def test_both_curves_share_their_end_points(case: Case) -> None:
    """Two curves of 21 points cost 39 forward passes an item."""
    create_metric("deletion").measure(case.batch)
    assert sum(case.forwards) == 20 * ITEMS
    create_metric("insertion").measure(case.batch)
    assert sum(case.forwards) == 39 * ITEMS


def test_curves_prefer_the_true_map(lite0: nn.Module, coffee: Tensor) -> None:
    """On the real network, Grad-CAM finds the cup, its inverse does not."""
    method = create_method("gradcam", lite0, resolve_layer(lite0))
    attribution = method.explain(coffee, None)
    stored = quantise(attribution.maps)
    maps = upsample(dequantise(stored), (224, 224))
    batch = MetricBatch(
        inputs=coffee,
        targets=attribution.targets,
        logits=attribution.logits,
        stored=stored,
        maps=maps,
        mask=FixedKeep(0.1).apply(maps).mask,
        ground_truth=None,
        has_truth=torch.tensor([False]),
        valid=torch.tensor([True]),
        forward=lite0,
        explain=method.explain,
        draws=ItemDraws(0, (0,), stream=0),
        input_range=torch.full((3,), 255 / 128),
    )
    assert attribution.targets.tolist() == [967]  # espresso
    inverse = replace(batch, maps=maps.amax() - maps)
    for metric, better in ((Deletion(8), -1), (Insertion(8), 1)):
        ours = float(measure(metric, batch).values[0])
        other = float(measure(metric, inverse).values[0])
        assert better * (ours - other) > 0.3
    moved = measure(MaxSensitivity(samples=2), batch)
    assert 0 < float(moved.values[0]) < 1


def test_a_curve_needs_a_step() -> None:
    """No steps, no area."""
    with pytest.raises(InvalidParameterError, match="at least one step"):
        Deletion(0)
    with pytest.raises(InvalidParameterError, match="at least one step"):
        Insertion(0)


# Confidence retained


def test_confidence_equals_a_slow_ratio(case: Case) -> None:
    """The ratio of the masked to the whole image's probability, in float64."""
    found = measure(create_metric("confidence_retained"), case.batch)
    for item in range(ITEMS):
        image, target = case.batch.inputs[item], int(case.batch.targets[item])
        kept = slow_probability(case.model, image * case.batch.mask[item], target)
        whole = slow_probability(case.model, image, target)
        assert math.isclose(float(found.values[item]), kept / whole, abs_tol=1e-6)


def test_keeping_everything_retains_everything(case: Case) -> None:
    """With a full mask the ratio is exactly 1."""
    batch = replace(case.batch, mask=torch.ones_like(case.batch.mask))
    found = measure(create_metric("confidence_retained"), batch)
    assert found.values.tolist() == [1.0] * ITEMS


def test_confidence_needs_a_mask_and_a_probability(case: Case) -> None:
    """An empty mask and a probability of zero are reasons, not 0 or infinity."""
    mask, logits = case.batch.mask.clone(), case.batch.logits.clone()
    mask[0] = False
    logits[1, case.batch.targets[1]] = -2000.0
    batch = replace(case.batch, mask=mask, logits=logits)
    found = measure(create_metric("confidence_retained"), batch)
    assert found.absent == ("empty_mask", "zero_probability", None, None)


# Completeness


def test_completeness_equals_a_slow_sum(case: Case) -> None:
    """The masked over the whole sum of the positive part, summed exactly."""
    found = measure(create_metric("completeness"), case.batch)
    for item in range(ITEMS):
        values = case.batch.maps[item].flatten().tolist()
        inside = case.batch.mask[item].flatten().tolist()
        kept = math.fsum(v for v, m in zip(values, inside, strict=True) if m and v > 0)
        total = math.fsum(v for v in values if v > 0)
        assert math.isclose(float(found.values[item]), kept / total, rel_tol=1e-12)


def test_completeness_equals_what_the_threshold_reports(case: Case) -> None:
    """Metric and threshold give the same number up to the order of the sum."""
    reported = FixedKeep(0.2).apply(case.batch.maps).energy_retained
    found = measure(create_metric("completeness"), case.batch).values
    assert torch.allclose(found, reported, rtol=1e-14, atol=0)


def test_a_map_without_energy_has_no_completeness(case: Case) -> None:
    """Zero over zero is a reason."""
    maps = case.batch.maps.clone()
    maps[0], maps[1] = 0.0, -maps[1]
    found = measure(create_metric("completeness"), replace(case.batch, maps=maps))
    assert found.absent == ("zero_energy", "zero_energy", None, None)


# Max-sensitivity


def test_sensitivity_equals_a_slow_loop(case: Case) -> None:
    """The largest relative change over the draws, each map taken as stored."""
    found = measure(create_metric("max_sensitivity"), case.batch)
    batch = case.batch
    original = dequantise(batch.stored).double().numpy()
    largest = np.zeros(ITEMS)
    for draw in range(10):
        shift = batch.noise(draw) * 0.02 * batch.input_range[:, None, None]
        maps = case.method.explain(batch.inputs + shift, batch.targets).maps
        moved = dequantise(quantise(maps)).double().numpy()
        for item in range(ITEMS):
            change = np.linalg.norm(moved[item] - original[item])
            ratio = change / np.linalg.norm(original[item])
            largest[item] = max(largest[item], ratio)
    assert np.allclose(found.values.numpy(), largest, rtol=1e-9)
    assert largest.min() > 0
    assert case.explains == [ITEMS] * 10


def test_sensitivity_equals_captum(case: Case, sensitivity_max: Any) -> None:
    """R9: captum's maximum over the same injected draws is the same."""
    batch, draws = case.batch, iter(range(10))

    def explain(images: tuple[Tensor, ...] | Tensor) -> tuple[Tensor]:
        (only,) = images if isinstance(images, tuple) else (images,)
        return (dequantise(quantise(case.method.explain(only, batch.targets).maps)),)

    def perturb(images: Tensor, _radius: float) -> Tensor:
        shift = batch.noise(next(draws)) * 0.02 * batch.input_range[:, None, None]
        return images + shift

    # One draw a call, since captum otherwise stacks draws into a bigger batch.
    oracle = torch.stack(
        [
            sensitivity_max(
                explain, batch.inputs, perturb_func=perturb, n_perturb_samples=1
            )
            for _ in range(10)
        ]
    ).amax(dim=0)
    found = measure(create_metric("max_sensitivity"), batch)
    assert torch.allclose(found.values, oracle.double(), rtol=1e-5)


def test_an_explanation_that_ignores_the_input_is_perfectly_stable(case: Case) -> None:
    """The same map again and again has sensitivity 0."""
    fixed = dequantise(case.batch.stored)
    batch = replace(case.batch, explain=as_explanation(lambda _images: fixed))
    found = measure(create_metric("max_sensitivity"), batch)
    assert found.values.tolist() == [0.0] * ITEMS


def test_an_explanation_that_is_the_input_moves_by_the_noise(case: Case) -> None:
    """Closed form: ||d|| / ||x|| of the first channel, up to float16."""
    channel = case.batch.inputs[:, 0]
    batch = replace(
        case.batch,
        stored=quantise(channel),
        explain=as_explanation(lambda images: images[:, 0]),
    )
    found = measure(create_metric("max_sensitivity"), batch).values
    moves = torch.stack([batch.noise(draw)[:, 0] for draw in range(10)])
    shifts = moves * 0.02 * 2.0
    expected = (shifts.norm(dim=(2, 3)) / channel.norm(dim=(1, 2))).amax(dim=0)
    assert torch.allclose(found, expected.double(), rtol=0.02)


def test_sensitivity_needs_a_norm_and_finite_draws(case: Case) -> None:
    """A zero map, a broken map and a broken draw each have their reason."""
    stored = quantise(
        dequantise(case.batch.stored) * torch.tensor([0, 1, 1, 1])[:, None, None]
    )
    stored.scale[1] = torch.nan
    broken = dequantise(case.batch.stored).clone()
    broken[2] = torch.nan
    batch = replace(
        case.batch, stored=stored, explain=as_explanation(lambda _images: broken)
    )
    found = measure(create_metric("max_sensitivity"), batch)
    assert found.absent == ("zero_norm", "non_finite", "non_finite", None)


@pytest.mark.parametrize("options", [{"samples": 0}, {"radius": 0.0}])
def test_sensitivity_needs_a_draw_and_a_radius(options: dict[str, Any]) -> None:
    """Nothing moved, nothing measured."""
    with pytest.raises(InvalidParameterError):
        MaxSensitivity(**options)


# Localisation


def test_localisation_equals_sklearn(case: Case) -> None:
    """Per image, the four numbers are scikit-learn's; without truth, absent."""
    found = create_metric("localisation").measure(case.batch)
    oracles = {
        "localisation_iou": jaccard_score,
        "localisation_dice": f1_score,
        "localisation_precision": precision_score,
        "localisation_recall": recall_score,
    }
    truth = case.batch.ground_truth
    assert truth is not None
    for key, oracle in oracles.items():
        for item in range(3):
            expected = oracle(
                truth[item].flatten().numpy(), case.batch.mask[item].flatten().numpy()
            )
            assert math.isclose(float(found[key].values[item]), expected, rel_tol=1e-12)
        assert found[key].absent == (None, None, None, "no_ground_truth")


def test_a_batch_without_any_truth_is_absent_throughout(case: Case) -> None:
    """No masks at all is the same as none for each item."""
    batch = replace(case.batch, ground_truth=None)
    for found in create_metric("localisation").measure(batch).values():
        assert found.absent == ("no_ground_truth",) * ITEMS


def test_perfect_and_disjoint_masks_score_one_and_zero(case: Case) -> None:
    """The same mask scores 1 everywhere, the opposite one 0."""
    truth = case.batch.mask.clone()
    truth[1] = ~truth[1]
    batch = replace(case.batch, ground_truth=truth)
    for found in create_metric("localisation").measure(batch).values():
        assert found.values[:3].tolist() == [1.0, 0.0, 1.0]


def test_nothing_marked_or_nothing_kept_is_no_fake_hit(case: Case) -> None:
    """An empty truth is absent; an empty mask scores 0 and has no precision."""
    assert case.batch.ground_truth is not None
    truth, mask = case.batch.ground_truth.clone(), case.batch.mask.clone()
    truth[0] = False
    mask[1] = False
    batch = replace(case.batch, ground_truth=truth, mask=mask)
    found = create_metric("localisation").measure(batch)
    for key, values in found.items():
        assert values.absent[0] == "empty_ground_truth"
        if key == "localisation_precision":
            assert values.absent[1] == "empty_mask"
        else:
            assert float(values.values[1]) == 0.0


# What metrics are made of


def test_a_model_that_breaks_on_masked_inputs_has_no_number(case: Case) -> None:
    """A NaN score in the middle of a curve is a reason."""
    batch = replace(
        case.batch, forward=lambda images: torch.full((len(images), 4), torch.nan)
    )
    for name in ("deletion", "insertion", "confidence_retained"):
        found = measure(create_metric(name), batch)
        assert found.absent == ("non_finite",) * ITEMS


def test_scores_are_taken_without_a_graph(case: Case) -> None:
    """A metric holds no graph, whatever the forward that it was given does."""
    assert not case.batch.score(case.batch.inputs).requires_grad


def test_small_probabilities_survive() -> None:
    """The softmax is float64: a logit gap of 200 is not zero."""
    logits = torch.tensor([[0.0, 200.0]])
    found = target_probability(logits, torch.tensor([0]))
    assert math.isclose(float(found[0]), math.exp(-200), rel_tol=1e-12)


def test_a_column_has_a_number_or_a_reason() -> None:
    """A NaN without a reason, or a number with one, cannot be built."""
    with pytest.raises(InvalidInputError, match="for every item"):
        MetricColumn(torch.tensor([torch.nan]).double(), (None,))
    with pytest.raises(InvalidInputError, match="for every item"):
        MetricColumn(torch.tensor([1.0]).double(), ("zero_norm",))


def test_the_first_reason_is_given() -> None:
    """Reasons are ordered; what is left over and not finite says so."""
    yes, no = torch.tensor([True, False, False]), torch.tensor([True, True, False])
    found = column(
        torch.tensor([1.0, 2.0, torch.inf]),
        [(AbsenceReason.INVALID_ITEM, yes), (AbsenceReason.ZERO_NORM, no)],
    )
    assert found.absent == ("invalid_item", "zero_norm", "non_finite")
    assert bool(found.values.isnan().all())


def test_an_unknown_metric_names_the_nearest() -> None:
    """A misspelt name is answered with the right one."""
    with pytest.raises(UnknownNameError, match="Did you mean 'deletion'"):
        create_metric("deletoin")
