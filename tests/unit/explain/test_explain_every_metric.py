# SPDX-License-Identifier: Apache-2.0
"""What holds for every metric of the registry, whatever it measures."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from explain.errors import InvalidParameterError, MissingContextError
from explain.maps import dequantise, quantise, upsample
from explain.metrics import METRICS, PROFILES, MetricColumn, create_metric
from explain.metrics.cards import cost_of, profile
from explain.metrics.registry import _CLASSES
from explain.thresholds import FixedKeep
from tests.support.metric_case import ITEMS, SIZE, Case, make_case

Columns = dict[str, MetricColumn]

#: What each metric can be set to beside its defaults, for the costs that follow.
CHANGED: dict[str, dict[str, Any]] = {
    "deletion": {"steps": 7, "baseline": "blur"},
    "insertion": {"steps": 3, "baseline": "noise"},
    "pixel_flipping": {"steps": 4, "fraction": 0.5, "baseline": "mean"},
    "faithfulness_correlation": {"samples": 11, "grid": 5, "score": "probability"},
    "faithfulness_estimate": {"steps": 5},
    "infidelity": {"samples": 9, "perturbation": "noise", "normalise": False},
    "road": {"percentages": (0.2, 0.6), "noise": 0.0, "score": "accuracy"},
    "confidence_retained": {"baseline": "imputation"},
    "sufficiency": {"baseline": "mean"},
    "comprehensiveness": {"baseline": "noise"},
    "fidelity_plus": {"baseline": "mean"},
    "fidelity_minus": {"baseline": "blur"},
    "max_sensitivity": {"radius": 0.05, "samples": 3},
    "avg_sensitivity": {"radius": 0.05, "samples": 2},
    "relative_stability": {"samples": 2, "floor": 0.1},
    "mask_stability": {"radius": 0.05, "samples": 2},
    "failure_cases": {"texture": 0.1, "contrast": 0.5, "peaks": 1, "margin": 0.9},
    "boundary_f1": {"tolerance": 0.05},
    "pointing_game": {"tolerance": 2},
    "top_k_intersection": {"k": 10},
    "pxap": {"thresholds": 10},
    "max_box_acc": {"iou": 0.3, "thresholds": 5},
    "effective_complexity": {"epsilon": 0.5},
    "mprt": {"stages": 2},
    "smprt": {"stages": 2, "samples": 2, "noise": 0.1},
    "emprt": {"bins": 7},
}


def assert_close(
    one: Columns, two: Columns, rows: list[int], others: list[int]
) -> None:
    """Nothing happens if those rows say the same, up to a network's last bits."""
    assert one.keys() == two.keys()
    for key, first in one.items():
        second = two[key]
        assert [first.absent[row] for row in rows] == [
            second.absent[row] for row in others
        ], key
        assert torch.allclose(
            first.values[rows],
            second.values[others],
            rtol=1e-3,
            atol=1e-5,
            equal_nan=True,
        ), key


@pytest.mark.parametrize("name", METRICS)
def test_what_the_card_says_is_what_the_metric_does(case: Case, name: str) -> None:
    """Keys, ranges and passes are those on the card, with default parameters."""
    card, metric = METRICS[name], create_metric(name)
    found = metric.measure(case.batch)
    assert metric.name == card.name == name
    assert tuple(found) == card.values
    cost = cost_of({name: {}})
    assert case.passes_per_item == (cost.forwards, cost.explanations)
    assert card.forwards_per_item == cost.forwards + cost.explanations
    for key, values in found.items():
        low, high = card.range_of(key)
        present = values.values[~values.values.isnan()]
        assert len(present) >= 3, key
        assert values.values.dtype == torch.float64
        assert values.values.device.type == "cpu"
        assert low is None or bool((present >= low).all())
        assert high is None or bool((present <= high).all())


@pytest.mark.parametrize("name", CHANGED)
def test_the_stated_cost_follows_the_parameters(case: Case, name: str) -> None:
    """Forward passes and explanations counted are those that a plan states."""
    given = CHANGED[name]
    assert set(given) <= set(METRICS[name].parameters)
    create_metric(name, **given).measure(case.batch)
    cost = cost_of({name: given})
    assert case.passes_per_item == (cost.forwards, cost.explanations)


def test_every_parameter_is_tried() -> None:
    """No metric takes a parameter that the tests above leave alone."""
    taken = {name for name, card in METRICS.items() if card.parameters}
    assert taken == set(CHANGED)


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("truth", [True, False])
def test_a_profile_costs_what_its_plan_says(
    case: Case, name: str, *, truth: bool
) -> None:
    """Metrics of one batch share passes, and the sum counts those once."""
    chosen = profile(name, truth=truth)
    for metric, given in chosen.items():
        create_metric(metric, **given).measure(case.batch)
    cost = cost_of(chosen)
    assert case.passes_per_item == (cost.forwards, cost.explanations)
    if name == "quick":
        assert cost.forwards <= 12
        assert cost.explanations == 0


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("order", [[0], [3, 2, 1, 0, 4, 5, 6]])
def test_neither_batch_size_nor_place_changes_a_number(
    tiny_net: Callable[..., nn.Module], case: Case, name: str, order: list[int]
) -> None:
    """An item alone, or elsewhere among others, has the same value and reason."""
    expected = create_metric(name).measure(case.batch)
    found = create_metric(name).measure(make_case(tiny_net(seed=2), order=order).batch)
    shared = [place for place, index in enumerate(order) if index < ITEMS]
    assert_close(found, expected, shared, [order[place] for place in shared])


@pytest.mark.parametrize("chunk", [1, 10_000])
@pytest.mark.parametrize("name", METRICS)
def test_the_size_of_a_pass_changes_nothing(case: Case, name: str, chunk: int) -> None:
    """One step at a time or all at once: the same value, and as many images."""
    expected = create_metric(name).measure(case.batch)
    before, made = case.passes_per_item, len(case.forwards)
    found = create_metric(name).measure(replace(case.batch, chunk=chunk))
    assert_close(found, expected, list(range(ITEMS)), list(range(ITEMS)))
    both = case.passes_per_item
    assert both == (2 * before[0], 2 * before[1])
    assert max(case.forwards[made:], default=0) <= max(chunk, ITEMS)


@pytest.mark.parametrize("name", METRICS)
def test_an_invalid_item_is_absent_and_disturbs_nobody(case: Case, name: str) -> None:
    """Padding and failures go along, come out absent and leave the others' bits."""
    expected = create_metric(name).measure(case.batch)
    valid = torch.tensor([True, False, True, True])
    inputs = case.batch.inputs.clone()
    inputs[1] = torch.nan
    found = create_metric(name).measure(replace(case.batch, valid=valid, inputs=inputs))
    others = [0, 2, 3]
    for key, values in found.items():
        assert values.absent[1] == "invalid_item"
        assert torch.equal(
            values.values[others].nan_to_num(-1.0),
            expected[key].values[others].nan_to_num(-1.0),
        )
        assert [values.absent[i] for i in others] == [
            expected[key].absent[i] for i in others
        ]


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("bad", [torch.nan, torch.inf])
def test_a_broken_map_never_becomes_a_number(case: Case, name: str, bad: float) -> None:
    """NaN and infinity in a map end as a reason in every metric."""
    native = dequantise(case.batch.stored)
    native[0, 0, 0] = bad
    stored = quantise(native)
    maps = upsample(dequantise(stored), (SIZE, SIZE))
    mask = FixedKeep(0.2).apply(maps).mask
    batch = replace(case.batch, stored=stored, maps=maps, mask=mask)
    for key, values in create_metric(name).measure(batch).items():
        needs_map = name != "failure_cases" or "peaks" in key
        assert values.absent[0] == ("non_finite" if needs_map else None)
        assert values.absent[1] is None


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_constant_map_says_nothing(case: Case, name: str, level: float) -> None:
    """Index order is no explanation: a blank map gets a reason, not a number."""
    native = dequantise(case.batch.stored)
    native[0] = level
    stored = quantise(native)
    maps = upsample(dequantise(stored), (SIZE, SIZE))
    mask = FixedKeep(0.2).apply(maps).mask
    batch = replace(case.batch, stored=stored, maps=maps, mask=mask)
    for key, values in create_metric(name).measure(batch).items():
        reason = values.absent[0]
        if "sensitivity" in name or name == "relative_stability":
            # A map that is the same everywhere can still move.
            assert reason == ("zero_norm" if level == 0 else None), key
        elif name == "failure_cases" and "peaks" not in key:
            # What the picture and the network's output say needs no map.
            assert reason is None, key
        elif level == 0 and name in {"completeness", "retention"}:
            assert reason == "zero_energy", key
        else:
            assert reason == "constant_map", key
        assert values.absent[1] is None


@pytest.mark.parametrize("name", METRICS)
def test_a_network_that_breaks_gives_reasons(case: Case, name: str) -> None:
    """NaN logits and NaN maps of changed inputs never pass for a measurement."""

    def broken(found: Any) -> Any:
        return replace(found, maps=torch.full_like(found.maps, torch.nan))

    def forward(images: Tensor) -> Tensor:
        return torch.full((len(images), 4), torch.nan)

    kept = case.batch
    batch = replace(
        kept,
        forward=forward,
        explain=lambda images, targets: broken(kept.explain(images, targets)),
        represent=lambda images: (forward(images), torch.zeros(len(images), 3)),
        randomised=lambda images, targets, *_: broken(kept.explain(images, targets)),
    )
    costs = METRICS[name].forwards_per_item
    for values in create_metric(name).measure(batch).values():
        if costs:
            assert set(values.absent) <= {"non_finite", "blank_randomised"}
        else:
            assert values.absent[0] is None


@pytest.mark.parametrize("name", [n for n, c in METRICS.items() if c.needs_truth])
def test_without_a_truth_there_is_no_comparison(case: Case, name: str) -> None:
    """No truth and an empty truth are two reasons, never 0 and never a hit."""
    truth = case.batch.ground_truth
    assert truth is not None
    truth = truth.clone()
    truth[0] = False
    for found in (
        create_metric(name).measure(replace(case.batch, ground_truth=truth)),
    ):
        for values in found.values():
            assert values.absent[0] == "empty_ground_truth"
            assert values.absent[3] == "no_ground_truth"
    none = create_metric(name).measure(replace(case.batch, ground_truth=None))
    for values in none.values():
        assert values.absent == ("no_ground_truth",) * ITEMS


@pytest.mark.parametrize("name", METRICS)
def test_nothing_given_is_changed(case: Case, name: str) -> None:
    """Inputs, maps, masks and weights are after a metric what they were before."""
    batch = case.batch
    watched = {
        "inputs": batch.inputs,
        "maps": batch.maps,
        "mask": batch.mask,
        "truth": batch.ground_truth,
        "stored": batch.stored.values,
        "logits": batch.logits,
        **dict(case.model.named_parameters()),
    }
    before = {key: value.clone() for key, value in watched.items() if value is not None}
    create_metric(name).measure(batch)
    for key, value in before.items():
        assert torch.equal(watched[key], value), key  # type: ignore[arg-type]


def test_metrics_do_not_depend_on_their_order(tiny_net: Callable[..., Any]) -> None:
    """What metrics share does not depend on who asks first."""
    forth, back = (make_case(tiny_net(seed=2)).batch for _ in range(2))
    first = {name: create_metric(name).measure(forth) for name in METRICS}
    second = {name: create_metric(name).measure(back) for name in reversed(METRICS)}
    for name in METRICS:
        for key, values in first[name].items():
            assert torch.equal(
                values.values.nan_to_num(-9.0),
                second[name][key].values.nan_to_num(-9.0),
            )


def test_registry_and_cards_name_the_same_metrics() -> None:
    """Each card has its class, and each value belongs to one metric."""
    assert list(_CLASSES) == list(METRICS)
    values = [
        value for card in METRICS.values() for value in card.values_for(complete=True)
    ]
    assert len(values) == len(set(values))


@pytest.mark.parametrize("name", METRICS)
def test_a_card_tells_everything(name: str) -> None:
    """Formula, source, units and what it does not show are there; ranges hold 0."""
    card = METRICS[name]
    for text in (card.formula, card.source, card.units, card.does_not_show):
        assert len(text) > 2
    for key, parameter in card.parameters.items():
        assert parameter.checked(name, key, parameter.default) == parameter.default
    document = card.document()
    assert document["defaults"].keys() == {*card.conventions, *card.parameters}
    assert set(document["directions"]) == set(card.values_for(complete=True))


def test_the_baseline_is_named_as_it_was_set() -> None:
    """The document says what really stood for removed pixels, and what it cost."""
    card = METRICS["deletion"]
    assert "mean colour of the training" in card.document()["baseline"]
    document = card.document({"baseline": "blur", "steps": 7})
    assert document["baseline"].startswith("the item blurred")
    assert document["defaults"]["steps"] == 7
    assert document["forwards_per_item"] == 7


@pytest.mark.parametrize(
    ("name", "given", "message"),
    [
        ("max_sensitivity", {"radius": 0}, "radius to be a number above 0"),
        ("max_sensitivity", {"sample": 3}, "did you mean 'samples'"),
        ("deletion", {"baseline": "grey"}, "one of zero, mean, blur"),
        ("deletion", {"steps": 2.5}, "a whole number"),
        ("completeness", {"steps": 2}, "it takes none"),
    ],
)
def test_a_wrong_parameter_is_refused(
    name: str, given: dict[str, Any], message: str
) -> None:
    """The sentence says what the parameter may be."""
    with pytest.raises(InvalidParameterError, match=message):
        create_metric(name, **given)


@pytest.mark.parametrize("name", ["mprt", "smprt", "emprt", "relative_stability"])
def test_a_batch_without_the_means_is_refused(case: Case, name: str) -> None:
    """A metric that needs more than the batch has says so instead of a number."""
    batch = replace(case.batch, randomised=None, represent=None)
    with pytest.raises(MissingContextError):
        create_metric(name).measure(batch)


def test_a_pass_that_had_to_be_halved_is_noted(case: Case) -> None:
    """Too little memory gives the same numbers from smaller passes, and is told."""
    expected = create_metric("deletion").measure(case.batch)
    kept, sizes = case.batch.forward, []

    def forward(images: Tensor) -> Tensor:
        sizes.append(len(images))
        if len(images) > 2 * ITEMS:
            raise torch.OutOfMemoryError
        return kept(images)

    batch = replace(case.batch, forward=forward)
    found = create_metric("deletion").measure(batch)
    assert batch.halved
    assert not case.batch.halved
    assert max(sizes) > 2 * ITEMS
    assert_close(found, expected, list(range(ITEMS)), list(range(ITEMS)))


@pytest.mark.parametrize(
    ("one", "two"), list(itertools.pairwise(["zero", "mean", "blur", "noise"]))
)
def test_baselines_differ(case: Case, one: str, two: str) -> None:
    """Another baseline is another number."""
    found = [
        create_metric("deletion", baseline=kind).measure(case.batch)["deletion_auc"]
        for kind in (one, two)
    ]
    assert not torch.allclose(found[0].values, found[1].values, atol=1e-6)
