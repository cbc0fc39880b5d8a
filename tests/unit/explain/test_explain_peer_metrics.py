# SPDX-License-Identifier: Apache-2.0
"""Our numbers are Quantus' where it is right, and are not where it is wrong.

R10, R11 and R13, and R12 of torch-cam. Quantus' values are in
``fixtures/quantus_values.json`` with the program that wrote them beside it.
"""

import json
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from explain.draws import ItemDraws
from explain.maps import StoredMaps
from explain.metrics import MetricBatch, create_metric
from explain.metrics.curves import removed_scores
from tests.support.metric_case import measure
from tests.unit.explain.fixtures import quantus_cases as cases

VALUES: dict[str, Any] = json.loads(
    (Path(__file__).parent / "fixtures" / "quantus_values.json").read_text("utf-8")
)["values"]
PIXELS = cases.SIDE**2


def make_batch(model: torch.nn.Module, maps: Tensor | None = None) -> MetricBatch:
    """Return the cases' batch, its maps as fine as the images."""
    inputs = torch.from_numpy(cases.images())
    maps = torch.from_numpy(cases.maps())[:, 0] if maps is None else maps
    targets = torch.from_numpy(cases.targets())
    with torch.no_grad():
        logits = model(inputs)
    truth = torch.from_numpy(cases.truths())[:, 0].bool()

    def refused(*_: Any) -> Any:
        raise AssertionError

    return MetricBatch(
        inputs=inputs,
        targets=targets,
        logits=logits,
        stored=StoredMaps(maps, torch.ones(len(maps))),
        maps=maps,
        mask=maps > maps.mean(),
        ground_truth=truth,
        has_truth=torch.ones(len(maps), dtype=torch.bool),
        valid=torch.ones(len(maps), dtype=torch.bool),
        forward=model,
        explain=refused,
        draws=ItemDraws.counted(len(maps)),
        input_range=torch.ones(1),
    )


@pytest.fixture
def batch() -> MetricBatch:
    """The cases' batch with the curved network."""
    return make_batch(cases.Twice())


@pytest.fixture
def linear() -> MetricBatch:
    """The cases' batch with the linear network and its exact maps w x."""
    layer = cases.linear()
    model = torch.nn.Sequential(torch.nn.Flatten(), layer)
    weights = layer.weight.detach()[torch.from_numpy(cases.targets())]
    shaped = weights.view(-1, cases.SIDE, cases.SIDE)
    return make_batch(model, shaped * torch.from_numpy(cases.images())[:, 0])


def recorded(name: str) -> Tensor:
    """Return Quantus' value of each image, float64."""
    return torch.tensor(VALUES[name], dtype=torch.float64)


def test_the_flipping_curve_is_that_of_quantus(batch: MetricBatch) -> None:
    """R11: its curve is ours without the first point, the unchanged image."""
    counts = list(range(0, PIXELS + 1, cases.STEP))
    ours = removed_scores(batch, counts, "zero", "logit").T
    assert torch.allclose(ours[:, 1:], recorded("pixel_flipping"), atol=1e-5)
    assert torch.allclose(ours[:, 0], batch.full_scores("logit"), atol=1e-6)


class Given:
    """Stands for torch-cam's extractor and gives it our maps."""

    def __init__(self, batch: MetricBatch, model: torch.nn.Module) -> None:
        """Hold the maps of the batch."""
        self.model = model
        self._maps = batch.maps

    def __call__(self, _classes: Any, _scores: Any) -> list[Tensor]:
        """Return the only map."""
        return [self._maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        """Return it again."""
        return cams[0]

    @contextmanager
    def _hooks_off(self) -> Iterator[None]:
        yield


@pytest.mark.parametrize("at_once", [3, 1000])
def test_both_curves_are_those_of_torch_cam(batch: MetricBatch, at_once: int) -> None:
    """R12: fractions with both ends, trapezoid; steps that divide the pixels."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from torchcam.metrics import DeletionInsertionMetric
    model = batch.forward
    assert isinstance(model, torch.nn.Module)
    steps = PIXELS // cases.STEP
    theirs = DeletionInsertionMetric(
        Given(batch, model),
        lambda logits: logits.softmax(dim=1),
        steps=steps,
        batch_size=at_once,
    )
    theirs.update(batch.inputs, batch.targets.tolist())
    for key, value in theirs.summary().items():
        metric = create_metric(key.removesuffix("_auc"), steps=steps)
        ours = float(measure(metric, batch).values.mean())
        assert abs(ours - value) < 1e-5, key


def test_the_faithfulness_estimate_is_that_of_quantus(batch: MetricBatch) -> None:
    """Groups of the ranking, each removed alone."""
    metric = create_metric("faithfulness_estimate", steps=PIXELS // cases.STEP)
    ours = measure(metric, batch).values
    assert torch.allclose(ours, recorded("faithfulness_estimate"), atol=1e-4)


def test_a_linear_network_correlates_fully_for_both(linear: MetricBatch) -> None:
    """R10: 1 with the exact attribution; by our defaults, not only by special ones."""
    ours = measure(create_metric("faithfulness_correlation"), linear).values
    assert torch.allclose(ours, torch.ones(cases.IMAGES).double(), atol=1e-6)
    assert torch.allclose(ours, recorded("faithfulness_correlation_linear"), atol=1e-6)


@pytest.mark.parametrize(
    ("name", "theirs", "given"),
    [
        ("relevance_mass", "relevance_mass", {}),
        ("relevance_rank", "relevance_rank", {}),
        ("top_k_intersection", "top_k_intersection", {"k": cases.TOP_K}),
        ("pointing_game", "pointing_game", {}),
        ("sparseness", "sparseness", {}),
        ("entropy", "complexity", {}),
    ],
)
def test_maps_are_judged_as_quantus_does(
    batch: MetricBatch, name: str, theirs: str, given: dict[str, Any]
) -> None:
    """R13: maps without ties, truths that are not empty, one image a call."""
    ours = measure(create_metric(name, **given), batch).values
    assert torch.allclose(ours, recorded(theirs), atol=1e-6)


def test_effective_complexity_is_a_share_of_what_quantus_counts(
    batch: MetricBatch,
) -> None:
    """R13: its absolute epsilon is ours times the largest magnitude."""
    for item in range(cases.IMAGES):
        largest = float(batch.maps[item].max())
        metric = create_metric("effective_complexity", epsilon=cases.EPSILON / largest)
        share = float(measure(metric, batch).values[item])
        assert share * PIXELS == pytest.approx(VALUES["effective_complexity"][item])


# Where it is wrong


def test_exact_attributions_are_complete(linear: MetricBatch) -> None:
    """Quantus calls none of them complete; the residual is a rounding error."""
    assert VALUES["fault_completeness_linear"] == [False] * cases.IMAGES
    batch = replace(linear, output_change=linear.full_scores("logit"))
    found = create_metric("completeness").measure(batch)["completeness_residual"]
    assert float(found.values.max()) < 1e-5


def test_an_empty_truth_is_no_hit(batch: MetricBatch) -> None:
    """Quantus counts a hit where there is nothing to hit."""
    assert VALUES["fault_pointing_game_empty"] == [True] * cases.IMAGES
    assert batch.ground_truth is not None
    empty = replace(batch, ground_truth=torch.zeros_like(batch.ground_truth))
    found = measure(create_metric("pointing_game"), empty)
    assert found.absent == ("empty_ground_truth",) * cases.IMAGES


def test_a_constant_map_is_no_hit(batch: MetricBatch) -> None:
    """Quantus lets a map that is the same everywhere always hit."""
    assert VALUES["fault_pointing_game_constant"] == [True]
    level = torch.full_like(batch.maps, 0.5)
    found = measure(create_metric("pointing_game"), replace(batch, maps=level))
    assert found.absent == ("constant_map",) * cases.IMAGES


def test_a_tied_maximum_is_one_position(batch: MetricBatch) -> None:
    """Of two equal highest positions the first counts, not whichever hits."""
    maps = batch.maps.clone()
    maps[:, 2, 2] = maps[:, 7, 7] = 9.0
    truth = torch.zeros_like(batch.mask)
    truth[:, 7, 7] = True
    tied = replace(batch, maps=maps, ground_truth=truth)
    assert measure(create_metric("pointing_game"), tied).values.sum() == 0
    tied = replace(tied, ground_truth=truth.flip(1, 2).roll((-2, -2), (1, 2)))
    assert measure(create_metric("pointing_game"), tied).values.sum() == cases.IMAGES


def test_a_zero_map_has_no_mass_and_no_entropy(batch: MetricBatch) -> None:
    """There NaN and a tie's 0.25; here reasons, also when all the batch is zero."""
    for rows in ([0], list(range(cases.IMAGES))):
        maps = batch.maps.clone()
        maps[rows] = 0.0
        for name in ("relevance_mass", "relevance_rank", "entropy", "sparseness"):
            found = measure(create_metric(name), replace(batch, maps=maps))
            assert [found.absent[row] for row in rows] == ["constant_map"] * len(rows)


def test_each_image_is_scaled_by_itself(batch: MetricBatch) -> None:
    """A map a thousand times as large elsewhere in the batch changes nothing."""
    maps = batch.maps.clone()
    maps[0] *= 1000.0
    for name in ("pxap", "max_box_acc", "effective_complexity", "sparseness"):
        plain = create_metric(name).measure(batch)
        beside = create_metric(name).measure(replace(batch, maps=maps))
        for key, values in plain.items():
            assert torch.allclose(values.values, beside[key].values, atol=1e-6), key


def test_the_map_is_left_as_it_was(batch: MetricBatch) -> None:
    """Quantus' sparseness adds 1e-7 to the caller's map."""
    before = batch.maps.clone()
    create_metric("sparseness").measure(batch)
    assert torch.equal(batch.maps, before)
