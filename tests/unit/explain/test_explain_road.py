# SPDX-License-Identifier: Apache-2.0
"""Noisy linear imputation equals a direct solve, and ROAD what follows from it."""

import math
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch
from scipy.sparse import csc_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor

from explain.draws import ItemDraws
from explain.errors import InvalidInputError
from explain.metrics import create_metric
from explain.metrics.batch import Draw
from explain.metrics.imputation import imputed
from tests.support.metric_case import ITEMS, SIZE, Case, slow_order, slow_probability

Floats = npt.NDArray[np.float64]


def direct(image: Tensor, kept: Tensor) -> Floats:
    """Return the imputed image by a sparse direct solve in float64, pixel by pixel."""
    pixels, mask = image.double().numpy(), kept.numpy()
    channels, height, width = pixels.shape
    unknown = [tuple(place) for place in np.argwhere(~mask).tolist()]
    number = {place: row for row, place in enumerate(unknown)}
    rows, columns, values = [], [], []
    right = np.zeros((len(unknown), channels))
    for row, (y, x) in enumerate(unknown):
        total = 0.0
        for down, across in np.argwhere(np.ones((3, 3))).tolist():
            v, u = y + down - 1, x + across - 1
            if (v, u) == (y, x) or not (0 <= v < height and 0 <= u < width):
                continue
            weight = 1 / 6 if v == y or u == x else 1 / 12
            total += weight
            if mask[v, u]:
                right[row] += weight * pixels[:, v, u]
            else:
                rows.append(row)
                columns.append(number[v, u])
                values.append(-weight)
        rows.append(row)
        columns.append(row)
        values.append(total)
    solved = spsolve(csc_matrix((values, (rows, columns))), right)
    result = pixels.copy()
    for row, (y, x) in enumerate(unknown):
        result[:, y, x] = solved[row]
    return result


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("size", [(16, 16), (33, 47), (5, 40), (3, 3)])
@pytest.mark.parametrize("blob", [True, False])
def test_imputation_equals_a_direct_solve(
    size: tuple[int, int], share: float, *, blob: bool
) -> None:
    """Scattered pixels and whole regions, odd sides and thin images."""
    generator = torch.Generator().manual_seed(3)
    images = torch.randn(2, 3, *size, generator=generator)
    ranking = torch.rand(2, *size, generator=generator)
    if blob:
        rows, columns = torch.arange(size[0]), torch.arange(size[1])
        ranking = -((rows[:, None] - 2.0) ** 2 + (columns - 1.0) ** 2).repeat(2, 1, 1)
    count = max(1, int(share * size[0] * size[1]))
    order = ranking.flatten(1).argsort(dim=1, descending=True)
    kept = torch.ones(2, size[0] * size[1], dtype=torch.bool)
    kept = kept.scatter(1, order[:, :count], False).view(2, *size)
    found = imputed(images, kept)
    for item in range(2):
        expected = direct(images[item], kept[item])
        assert np.abs(found[item].numpy() - expected).max() < 1e-3
    assert torch.equal(found[kept[:, None].expand_as(found)],
                       images[kept[:, None].expand_as(found)])  # fmt: skip


def test_a_constant_or_a_slope_is_imputed_exactly() -> None:
    """What is harmonic already comes back: a constant, and a slope inside."""
    slope = torch.arange(20.0).expand(20, 20)
    images = torch.stack([torch.full((20, 20), 2.5), slope])[None]
    kept = torch.ones(1, 20, 20, dtype=torch.bool)
    kept[:, 5:15, 4:16] = False
    assert torch.allclose(imputed(images, kept), images, atol=1e-3)


def test_nothing_removed_and_everything_removed_are_no_systems() -> None:
    """The image itself, and its mean colour."""
    images = torch.randn(2, 3, 9, 9)
    kept = torch.stack([torch.ones(9, 9), torch.zeros(9, 9)]).bool()
    found = imputed(images, kept)
    assert torch.equal(found[0], images[0])
    mean = images[1].mean(dim=(1, 2), keepdim=True).expand(3, 9, 9)
    assert torch.allclose(found[1], mean, atol=1e-6)


def test_an_image_does_not_depend_on_its_neighbours() -> None:
    """Systems converge apart: alone or among harder ones, the same bits."""
    images = torch.randn(6, 3, 32, 32)
    kept = torch.rand(6, 32, 32) > torch.linspace(0.1, 0.95, 6)[:, None, None]
    together = imputed(images, kept)
    for item in range(6):
        alone = imputed(images[item : item + 1], kept[item : item + 1])
        assert torch.allclose(alone[0], together[item], atol=1e-5)


def test_a_broken_image_does_not_spoil_the_others() -> None:
    """A NaN stays within its own image, and is not passed off as imputed."""
    images = torch.randn(2, 1, 12, 12)
    kept = torch.rand(2, 12, 12) > 0.5
    clean = imputed(images, kept)
    broken = images.clone()
    broken[0] = torch.nan
    found = imputed(broken, kept)
    assert torch.equal(found[1], clean[1])
    assert bool(found[0].isnan().any())


def test_a_mask_of_another_size_is_refused() -> None:
    """The mask must be of the inputs' height and width."""
    with pytest.raises(InvalidInputError, match=r"mask \(N, H, W\)"):
        imputed(torch.zeros(2, 3, 4, 4), torch.ones(2, 4, 5, dtype=torch.bool))


def test_road_equals_a_slow_loop(case: Case) -> None:
    """Direct solves, an item's own noise, one image at a time."""
    batch, shares = case.batch, (0.2, 0.7)
    found = create_metric("road", percentages=shares, noise=0.05).measure(batch)
    for item in range(ITEMS):
        order, target = slow_order(batch, item), int(batch.targets[item])
        scores = []
        for copy in range(4):
            count = int(shares[copy % 2] * len(order) + 0.5)
            gone = order[:count] if copy < 2 else order[-count:]
            kept = torch.ones(len(order), dtype=torch.bool)
            kept[gone] = False
            kept = kept.view(SIZE, SIZE)
            image = torch.from_numpy(direct(batch.inputs[item], kept))
            grain = ItemDraws(0, (item,), stream=0).normal(
                Draw.IMPUTATION + 1 + copy, (3, SIZE, SIZE)
            )[0]
            image += grain.double() * 0.05 * ~kept
            scores.append(slow_probability(case.model, image, target))
        most, least = sum(scores[:2]) / 2, sum(scores[2:]) / 2
        for key, expected in (
            ("road_morf", most),
            ("road_lerf", least),
            ("road_gap", least - most),
        ):
            assert math.isclose(float(found[key].values[item]), expected, abs_tol=1e-4)


def test_road_counts_each_item_of_each_batch(case: Case) -> None:
    """Accuracy is an item's own, on colour images: peers take the first batch only."""
    batch = case.batch
    everyone = create_metric("road", score="accuracy").measure(batch)
    lerf = everyone["road_lerf"].values
    assert len(lerf) == ITEMS
    # Where the target is not predicted to begin with, accuracy is low; not elsewhere.
    predicted = batch.logits.argmax(dim=1)
    own = replace(batch, targets=predicted)
    right = create_metric("road", score="accuracy").measure(own)["road_lerf"].values
    assert bool((right >= lerf).all())
    assert float(right.mean()) > float(lerf.mean())


def test_noise_is_on_imputed_pixels_only(case: Case) -> None:
    """Kept pixels stay what they are; without noise nothing else differs."""
    from explain.metrics.removal import imputed_copies

    kept = torch.rand(1, ITEMS, SIZE, SIZE) > 0.5
    calm = imputed_copies(case.batch, kept, 0.0, [7])
    rough = imputed_copies(case.batch, kept, 0.1, [7])
    here = kept[:, :, None].expand_as(calm)
    assert torch.equal(calm[here], rough[here])
    spread = float((rough - calm)[~here].std())
    assert 0.09 < spread < 0.11


def test_nearly_uniform_maps_lose_no_more_than_was_asked(case: Case) -> None:
    """A map that is mostly zero loses its share; by a quantile it loses everything."""
    maps = torch.zeros(ITEMS, SIZE, SIZE)
    maps[:, :4, :8] = 1.0  # an eighth of the positions
    asked: list[float] = []

    def forward(images: Tensor) -> Tensor:
        asked.append(float((images == 9.0).flatten(1).float().mean()))
        return torch.zeros(len(images), 4)

    batch = replace(
        case.batch,
        maps=maps,
        inputs=torch.full_like(case.batch.inputs, 9.0),
        forward=forward,
        chunk=1,
    )
    create_metric("road", percentages=(0.2,), noise=1.0).measure(batch)
    # Noise marks what was imputed; kept pixels are exactly 9.
    assert [round(share, 2) for share in asked] == [0.8, 0.8]
