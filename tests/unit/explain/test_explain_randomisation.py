# SPDX-License-Identifier: Apache-2.0
"""Randomisation explains copies of the network, which itself is never touched."""

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn

from explain.maps import dequantise, quantise, upsample
from explain.methods import Attribution
from explain.metrics import create_metric
from explain.metrics.correlation import spearman
from explain.metrics.random_networks import (
    RandomNetworks,
    drawn_weights,
    parameter_order,
)
from explain.metrics.randomisation import histogram_entropy
from tests.support.metric_case import ITEMS, SIZE, Case, as_explanation, measure

LAYERS = [
    ["head.weight", "head.bias"],
    ["body.0.weight", "body.0.bias"],
    ["stem.weight", "stem.bias"],
]


def networks(model: nn.Module) -> RandomNetworks[nn.Module]:
    """Return the cascade of a network, giving the copy itself."""
    return RandomNetworks(model, lambda copy: copy, torch.zeros(1, 3, SIZE, SIZE), 4)


def test_layers_are_taken_from_the_output_on(tiny_net: Callable[..., Any]) -> None:
    """The head first, the stem last, each with its own parameters."""
    example = torch.zeros(1, 3, SIZE, SIZE)
    assert parameter_order(tiny_net().eval(), example) == LAYERS


@pytest.mark.parametrize(
    ("stage", "stages", "random"),
    [(1, 3, 1), (2, 3, 2), (3, 3, 3), (1, 1, 3), (1, 9, 1)],
)
def test_a_stage_draws_its_share_of_the_layers(
    tiny_net: Callable[..., Any], stage: int, stages: int, random: int
) -> None:
    """So many layers have the drawn weights, the others those of the network."""
    model = tiny_net().eval()
    drawn = drawn_weights(model, 4)
    trained = dict(model.named_parameters())
    with networks(model).randomised(stage, stages) as copy:
        for place, names in enumerate(LAYERS):
            source = drawn if place < random else trained
            for name in names:
                assert torch.equal(copy.get_parameter(name), source[name]), name


def test_stages_can_be_asked_for_in_any_order(tiny_net: Callable[..., Any]) -> None:
    """Back from a wholly random network, the trained layers are trained again."""
    model = tiny_net().eval()
    cascade = networks(model)
    images = torch.randn(2, 3, SIZE, SIZE)
    found: dict[int, list[Tensor]] = {1: [], 2: [], 3: []}
    for stage in (1, 3, 2, 1, 2, 3):
        with cascade.randomised(stage, 3) as copy, torch.no_grad():
            found[stage].append(copy(images))
    for one, two in found.values():
        assert torch.equal(one, two)
    assert not torch.equal(found[1][0], found[3][0])


def test_the_network_itself_is_never_touched(tiny_net: Callable[..., Any]) -> None:
    """Weights, modes, hooks and gradients are what they were, also after a failure."""
    model = tiny_net().train()
    heard: list[int] = []
    hook = model.register_forward_hook(lambda *_: heard.append(1))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    cascade = networks(model)
    images = torch.randn(2, 3, SIZE, SIZE)
    with torch.no_grad():
        wanted = model(images)
    calls = len(heard)

    def fail() -> None:
        with cascade.randomised(2, 3) as copy:
            copy(torch.randn(1, 7, SIZE, SIZE))

    for _ in range(2):
        with pytest.raises(RuntimeError):
            fail()
    assert len(heard) == calls  # who listens to the network does not hear its copy
    assert model.training
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    with torch.no_grad():
        assert torch.equal(model(images), wanted)
    # And the copy goes on where it failed.
    with cascade.randomised(3, 3) as copy:
        drawn = drawn_weights(model, 4)
        assert all(torch.equal(copy.get_parameter(name), drawn[name]) for name in drawn)
    hook.remove()


@pytest.mark.parametrize("then", [1, 2, 3])
def test_a_copy_that_fails_halfway_is_set_right_at_the_next(
    tiny_net: Callable[..., Any], then: int
) -> None:
    """An interrupted change of weights leaves no layer in between for good."""
    model = tiny_net().eval()
    cascade = networks(model)
    with cascade.randomised(1, 3):
        pass
    kept = cascade._drawn["body.0.bias"]
    cascade._drawn["body.0.bias"] = torch.zeros(99)  # does not fit

    def whole() -> None:
        with cascade.randomised(3, 3):
            pass

    with pytest.raises(RuntimeError):
        whole()
    cascade._drawn["body.0.bias"] = kept
    drawn, trained = drawn_weights(model, 4), dict(model.named_parameters())
    with cascade.randomised(then, 3) as copy:
        for place, names in enumerate(LAYERS):
            source = drawn if place < then else trained
            for name in names:
                assert torch.equal(copy.get_parameter(name), source[name]), name


def test_drawn_weights_have_the_spread_of_the_trained_ones() -> None:
    """Mean and deviation stay, values do not; a parameter without spread gets some."""
    model = nn.Linear(200, 100)
    model.weight.data = model.weight.data * 3 + 0.5
    model.bias.data.zero_()
    drawn = drawn_weights(model, 1)
    ours, theirs = drawn["weight"], model.weight.detach()
    assert math.isclose(float(ours.mean()), float(theirs.mean()), abs_tol=0.01)
    assert math.isclose(float(ours.std()), float(theirs.std()), rel_tol=0.02)
    assert abs(float(spearman(ours[None], theirs[None])[0])) < 0.05
    assert 0 < float(drawn["bias"].std()) < 0.02
    assert torch.equal(drawn_weights(model, 1)["weight"], ours)
    assert not torch.equal(drawn_weights(model, 2)["weight"], ours)


# The metrics


def slow_spearman(one: Tensor, two: Tensor) -> float:
    """Return scipy's rank correlation of two maps."""
    found = spearmanr(one.flatten().numpy(), two.flatten().numpy())
    return float(found.statistic)


def test_rank_correlation_equals_scipy() -> None:
    """Also with ties; a constant or broken map has none."""
    one = (torch.randn(5, 6, 7) * 2).round()
    two = one + (torch.randn(5, 6, 7) * 2).round()
    found = spearman(one, two)
    for item in range(5):
        expected = slow_spearman(one[item], two[item])
        assert math.isclose(float(found[item]), expected, rel_tol=1e-9)
    one[0] = 3.0
    two[1, 0, 0] = torch.nan
    assert spearman(one, two).isnan().tolist() == [True, True, False, False, False]


def random_map(case: Case, stage: int, stages: int) -> Tensor:
    """Return the maps of the randomised copies, as they would be stored."""
    make = case.batch.randomised
    assert make is not None
    found = make(case.batch.inputs, case.batch.targets, stage, stages)
    return dequantise(quantise(found.maps))


def test_mprt_equals_a_slow_loop(case: Case) -> None:
    """The mean over the stages, without the network itself: a peer counts it in."""
    found = create_metric("mprt", stages=3).measure(case.batch)
    own = dequantise(case.batch.stored)
    for item in range(ITEMS):
        alike = [
            slow_spearman(own[item], random_map(case, stage, 3)[item])
            for stage in (1, 2, 3)
        ]
        mean, last = math.fsum(alike) / 3, alike[-1]
        assert math.isclose(float(found["mprt"].values[item]), mean, rel_tol=1e-6)
        full = float(found["mprt_full"].values[item])
        assert math.isclose(full, last, rel_tol=1e-6)
        assert not math.isclose(mean, (3 * mean + 1) / 4, rel_tol=1e-3)


def test_a_map_that_ignores_the_network_fails(case: Case) -> None:
    """An edge detector is wholly similar to itself, whatever the weights."""

    def edges(images: Tensor) -> Tensor:
        return images.diff(dim=2)[:, 0, :, :-1].abs()

    stub = as_explanation(edges)
    batch = replace(
        case.batch,
        stored=quantise(edges(case.batch.inputs)),
        explain=stub,
        randomised=lambda images, targets, *_: stub(images, targets),
    )
    for name in ("mprt", "smprt", "random_logit"):
        for values in create_metric(name).measure(batch).values():
            assert torch.allclose(values.values, torch.ones(ITEMS).double())
    assert create_metric("mprt", stages=1).measure(case.batch)["mprt"].values.max() < 1


def test_blank_stages_are_left_out_of_the_mean(case: Case) -> None:
    """A random network whose map shows nothing says nothing; all blank, a reason."""
    make = case.batch.randomised
    assert make is not None

    def sometimes(
        images: Tensor, targets: Tensor, stage: int, stages: int
    ) -> Attribution:
        found = make(images, targets, stage, stages)
        maps = found.maps.clone()
        maps[0] = 0.0
        if stage == stages:
            maps[1] = 0.0
        return replace(found, maps=maps)

    found = create_metric("mprt", stages=2).measure(
        replace(case.batch, randomised=sometimes)
    )
    assert found["mprt"].absent == ("blank_randomised", None, None, None)
    assert found["mprt_full"].absent == (
        "blank_randomised", "blank_randomised", None, None,
    )  # fmt: skip
    first = slow_spearman(dequantise(case.batch.stored)[1], random_map(case, 1, 2)[1])
    assert math.isclose(float(found["mprt"].values[1]), first, rel_tol=1e-6)


def test_smooth_mprt_equals_a_slow_loop(case: Case) -> None:
    """Maps averaged over the same noisy inputs, then compared."""
    from explain.metrics.batch import Draw

    batch = case.batch
    make = batch.randomised
    assert make is not None
    found = measure(create_metric("smprt", stages=2, samples=3, noise=0.1), batch)
    noisy = [
        batch.inputs
        + batch.draws.normal(Draw.SMOOTHING + sample, (3, SIZE, SIZE))
        * 0.1
        * batch.input_range[:, None, None]
        for sample in range(3)
    ]

    def averaged(explain: Callable[[Tensor], Attribution]) -> Tensor:
        maps = [dequantise(quantise(explain(one).maps)).double() for one in noisy]
        return sum(maps[1:], start=maps[0]) / 3

    own = averaged(lambda one: case.method.explain(one, batch.targets))
    stages = [
        averaged(lambda one, s=stage: make(one, batch.targets, s, 2))  # type: ignore[misc]
        for stage in (1, 2)
    ]
    for item in range(ITEMS):
        alike = [slow_spearman(own[item], other[item]) for other in stages]
        expected = math.fsum(alike) / 2
        assert math.isclose(float(found.values[item]), expected, rel_tol=1e-6)


def test_efficient_mprt_equals_a_slow_loop(case: Case) -> None:
    """The relative rise of a histogram's entropy, counted bin by bin."""
    found = measure(create_metric("emprt", bins=10), case.batch)
    random = upsample(random_map(case, 1, 1), (SIZE, SIZE))
    for item in range(ITEMS):
        entropies = []
        for maps in (case.batch.maps, random):
            flat = maps[item].abs().double().flatten()
            scaled = (flat - flat.min()) / (flat.max() - flat.min())
            counts = [0] * 10
            for value in scaled.tolist():
                counts[min(9, int(value * 10))] += 1
            shares = [count / len(flat) for count in counts if count]
            entropies.append(-math.fsum(share * math.log(share) for share in shares))
        expected = (entropies[1] - entropies[0]) / entropies[0]
        assert math.isclose(float(found.values[item]), expected, rel_tol=1e-9)


def test_a_constant_map_has_no_histogram() -> None:
    """NaN inside, which ends as a reason; two levels have ln 2 at most."""
    maps = torch.zeros(2, 4, 4)
    maps[1, :2] = 1.0
    found = histogram_entropy(maps, 10)
    assert math.isnan(float(found[0]))
    assert math.isclose(float(found[1]), math.log(2))


def test_random_logit_explains_another_class(case: Case) -> None:
    """Never the target; the similarity is that of the two classes' maps."""
    seen: list[Tensor] = []
    kept = case.batch.explain

    def explain(images: Tensor, targets: Tensor) -> Attribution:
        seen.append(targets)
        return kept(images, targets)

    batch = replace(case.batch, explain=explain)
    found = measure(create_metric("random_logit"), batch)
    (others,) = seen
    assert bool((others != batch.targets).all())
    assert int(others.min()) >= 0
    assert int(others.max()) < batch.logits.shape[1]
    maps = dequantise(quantise(case.method.explain(batch.inputs, others).maps))
    own = dequantise(batch.stored)
    for item in range(ITEMS):
        expected = slow_spearman(own[item], maps[item])
        assert math.isclose(float(found.values[item]), expected, rel_tol=1e-6)


def test_other_classes_are_drawn_evenly(case: Case) -> None:
    """Over many items every class but the target is drawn, none much more often."""
    from explain.draws import ItemDraws

    items, classes = 600, 4
    seen: list[Tensor] = []

    def explain(_images: Tensor, targets: Tensor) -> Attribution:
        seen.append(targets)
        return Attribution(
            torch.zeros(items, classes),
            targets,
            torch.rand(items, 2, 2),
            torch.zeros(items, dtype=torch.bool),
        )

    batch = replace(
        case.batch,
        inputs=torch.zeros(items, 3, 2, 2),
        targets=torch.zeros(items, dtype=torch.long),
        logits=torch.zeros(items, classes),
        stored=quantise(torch.rand(items, 2, 2)),
        maps=torch.rand(items, 2, 2),
        valid=torch.ones(items, dtype=torch.bool),
        draws=ItemDraws(0, tuple(range(items)), stream=0),
        explain=explain,
    )
    create_metric("random_logit").measure(batch)
    counts = seen[0].bincount(minlength=classes).tolist()
    assert counts[0] == 0
    assert all(150 < count < 250 for count in counts[1:])


def test_a_network_of_one_class_has_no_other(case: Case) -> None:
    """There is no random logit to take, which is a reason."""
    batch = replace(
        case.batch, logits=case.batch.logits[:, :1], targets=torch.zeros(ITEMS).long()
    )
    found = measure(create_metric("random_logit"), batch)
    assert found.absent == ("no_other_class",) * ITEMS
