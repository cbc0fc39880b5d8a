# SPDX-License-Identifier: Apache-2.0
"""The bandit learns which policy suits which item, and its table decides alone."""

import json
import math
import subprocess
import sys
from copy import deepcopy
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from explain.draws import ItemDraws
from explain.errors import (
    InvalidInputError,
    InvalidParameterError,
    MissingContextError,
    UnknownNameError,
)
from explain.optimise import Arm, PolicyTable, Reward, fit, fit_every
from explain.optimise.features import FEATURES
from explain.optimise.item_features import item_features
from explain.optimise.posterior import posterior
from explain.optimise.scores import arm_scores, best_arms
from explain.thresholds import (
    FixedKeep,
    ThresholdContext,
    ThresholdStatus,
    create_policy,
)
from explain.thresholds.learned import Learned, exploring_noise
from explain.thresholds.policy import Need

Floats = npt.NDArray[np.float64]

SMALL, LARGE = Arm.of("fixed", keep=0.05), Arm.of("fixed", keep=0.4)
ARMS = (SMALL, LARGE, Arm.of("otsu"))
NAMES = ("probability", "concentration")


def world(items: int, seed: int) -> tuple[Floats, Floats]:
    """Return features and expected rewards: the best arm depends on the first feature.

    The third arm is never best, but better on the whole than either of the others.
    """
    features = np.random.default_rng(seed).random((items, len(NAMES)))
    tilt = features[:, 0] - 0.5
    means = np.stack([0.5 + tilt, 0.5 - tilt, np.full(items, 0.52)], axis=1)
    means[:, 2] = np.minimum(means[:, 2], means[:, :2].max(axis=1) - 0.01)
    return features, means


def table_of() -> PolicyTable:
    """Return a table under which the first arm suits sure items, the second others."""
    features, means = world(60, 0)
    return fit_every(features, means, arms=ARMS, names=NAMES)


def batch(items: int) -> tuple[Tensor, ThresholdContext]:
    """Return maps with distinct values and probabilities from sure to unsure."""
    generator = torch.Generator().manual_seed(3)
    maps = torch.rand(items, 12, 10, generator=generator)
    sure = torch.linspace(0.95, 0.05, items, dtype=torch.float64)
    draws = ItemDraws(seed=5, indices=tuple(range(items)), stream=2)
    return maps, ThresholdContext(probabilities=sure, draws=draws)


def rows_of(context: ThresholdContext, rows: list[int]) -> ThresholdContext:
    """Return the context of some items, in another order."""
    assert context.probabilities is not None
    assert context.draws is not None
    indices = tuple(context.draws.indices[row] for row in rows)
    return ThresholdContext(
        probabilities=context.probabilities[rows],
        draws=ItemDraws(seed=5, indices=indices, stream=2),
    )


# The posterior


def test_the_posterior_is_bayes_rule_worked_out_on_a_grid() -> None:
    """Mean, spread and evidence agree with numerical integration over weight and noise.

    One weight (the intercept) and the noise's variance on a fine grid, the prior and
    likelihood multiplied out.
    """
    rewards = np.array([0.3, 1.1, 0.7])
    belief, evidence = posterior(np.ones((3, 1)), rewards, 5.0)
    weight = np.linspace(-6, 7, 1301)[:, None]
    variance = np.exp(np.linspace(-5, 6, 1600))[None]
    step = (weight[1, 0] - weight[0, 0]) * np.log(variance[0, 1] / variance[0, 0])
    prior = np.exp(-(weight**2) / (2 * variance)) / np.sqrt(2 * math.pi * variance)
    prior = prior * variance**-3.0 * np.exp(-1 / variance)
    joint = prior * variance * step
    for reward in rewards:
        joint = joint * np.exp(-((reward - weight) ** 2) / (2 * variance))
        joint = joint / np.sqrt(2 * math.pi * variance)
    mass = joint.sum()
    mean = (joint * weight).sum() / mass
    assert belief.mean[0] == pytest.approx(mean, abs=1e-4)
    spread = (joint * (weight - mean) ** 2).sum() / mass
    assert belief.covariance[0][0] == pytest.approx(spread, rel=1e-2)
    assert belief.noise == pytest.approx((joint * variance).sum() / mass, rel=1e-2)
    assert evidence == pytest.approx(math.log(mass), abs=1e-3)


def test_the_posterior_is_ridge_regression() -> None:
    """Its mean is that of least squares with the shrinkage on all but the intercept."""
    random = np.random.default_rng(1)
    design = np.c_[np.ones(20), random.normal(size=(20, 2))]
    rewards = random.normal(size=20)
    belief, _ = posterior(design, rewards, 30.0)
    stacked = np.vstack([design, np.diag(np.sqrt([1.0, 30.0, 30.0]))])
    expected = np.linalg.lstsq(stacked, np.r_[rewards, 0.0, 0.0, 0.0], rcond=None)[0]
    np.testing.assert_allclose(belief.mean, expected, atol=1e-12)


def test_features_that_say_nothing_are_shrunk_away() -> None:
    """Where rewards follow no feature, the evidence takes the firmest prior."""
    random = np.random.default_rng(0)
    features = random.random((40, 2))
    rewards = np.array([0.6, 0.4, 0.5]) + 0.1 * random.normal(size=(40, 3))
    table = fit_every(features, rewards, arms=ARMS, names=NAMES)
    assert table.shrinkage >= 300
    chosen = best_arms(arm_scores(table, torch.from_numpy(features)))
    assert chosen.tolist() == [0] * 40


def test_groups_tell_a_feature_of_the_group_from_one_of_the_item() -> None:
    """Six films of twenty frames are six records of what differs between films.

    Where a film's frames share a feature and a mood, the evidence believes in the
    feature; films that are left out do not bear it out. An effect that all films
    share is learned either way.
    """
    random = np.random.default_rng(4)
    films = np.repeat(np.arange(6), 20)
    features = random.random((6, 2))[films] + 0.01 * random.random((120, 2))
    moods = random.normal(size=(6, 3))[films]
    rewards = moods + 0.1 * random.normal(size=(120, 3))
    alone = fit_every(features, rewards, arms=ARMS, names=NAMES)
    grouped = fit_every(
        features, rewards, arms=ARMS, names=NAMES, groups=films.tolist()
    )
    assert alone.shrinkage < 100 <= grouped.shrinkage
    assert grouped.grouped
    assert not alone.grouped
    features, means = world(120, 1)
    shared = fit_every(features, means, arms=ARMS, names=NAMES, groups=films.tolist())
    assert shared.shrinkage < 30
    with pytest.raises(InvalidInputError, match="at least two groups"):
        fit_every(features, means, arms=ARMS, names=NAMES, groups=["a"] * 120)
    with pytest.raises(InvalidInputError, match="got 2 records"):
        fit_every(features, means, arms=ARMS, names=NAMES, groups=["a", "b"])


# The bandit


def test_the_bandit_learns_and_regrets_less_than_the_best_fixed_arm() -> None:
    """Run by run, with one reward an item, it comes to choose by the context.

    Its regret over all runs, learning included, is below that of the arm that is best
    on the whole, and its last table finds nearly every item's best arm.
    """
    seen: list[tuple[Floats, npt.NDArray[np.int64], Floats]] = []
    regret, fixed_regret = 0.0, 0.0
    table = fit(np.empty((0, 2)), [], [], arms=ARMS, names=NAMES)
    for run in range(8):
        features, means = world(80, run)
        indices = tuple(range(80 * run, 80 * run + 80))
        noise = exploring_noise(ItemDraws(1, indices, 2), 80, len(ARMS))
        chosen = best_arms(arm_scores(table, torch.from_numpy(features), noise)).numpy()
        earned = means[np.arange(80), chosen]
        rewards = earned + 0.1 * np.random.default_rng(99 + run).normal(size=80)
        seen.append((features, chosen, rewards))
        regret += float((means.max(axis=1) - earned).sum())
        best = means.sum(axis=0).argmax()
        fixed_regret += float((means.max(axis=1) - means[:, best]).sum())
        stacked = [np.concatenate(part) for part in zip(*seen, strict=True)]
        table = fit(*stacked, arms=ARMS, names=NAMES)
    assert regret < 0.6 * fixed_regret
    features, means = world(200, 1234)
    chosen = best_arms(arm_scores(table, torch.from_numpy(features))).numpy()
    lost = means.max(axis=1) - means[np.arange(200), chosen]
    assert lost.mean() < 0.01
    assert table.shrinkage < 300


def test_drawn_scores_have_the_beliefs_mean_and_spread() -> None:
    """Thompson's draws are normal about the mean with the line's own deviation."""
    table = table_of()
    features = torch.tensor([[0.2, 0.9]], dtype=torch.float64).expand(4000, 2)
    draws = ItemDraws.counted(4000)
    noise = exploring_noise(draws, 4000, len(ARMS))
    drawn = arm_scores(table, features, noise)
    mean = arm_scores(table, features)[0]
    x = np.array(
        [1.0]
        + [
            (value - scale.centre) / scale.scale
            for value, scale in zip((0.2, 0.9), table.features, strict=True)
        ]
    )
    for arm, belief in enumerate(table.posteriors):
        deviation = table.reward_scale * math.sqrt(x @ np.array(belief.covariance) @ x)
        assert float(drawn[:, arm].mean() - mean[arm]) == pytest.approx(
            0, abs=4 * deviation / math.sqrt(4000)
        )
        assert float(drawn[:, arm].std()) == pytest.approx(deviation, rel=0.05)


def test_unmeasured_records_are_left_out_and_counted() -> None:
    """A reward or feature that is no number teaches nothing."""
    features, means = world(20, 0)
    whole = fit_every(features[2:], means[2:], arms=ARMS, names=NAMES)
    features[0, 0], means[1, 2] = np.nan, np.nan
    parted = fit_every(features, means, arms=ARMS, names=NAMES)
    assert parted.excluded == 2
    assert parted.posteriors == whole.posteriors
    single = fit(features, np.zeros(20), means[:, 2], arms=ARMS, names=NAMES)
    assert single.excluded == 2
    assert [belief.records for belief in single.posteriors] == [18, 0, 0]


def test_how_hard_an_item_is_changes_no_choice() -> None:
    """What is added to all of an item's rewards alike leaves the table as it was."""
    features, means = world(30, 0)
    hard = np.random.default_rng(2).normal(size=(30, 1))
    first = fit_every(features, means, arms=ARMS, names=NAMES)
    second = fit_every(features, means + hard, arms=ARMS, names=NAMES)
    for one, other in zip(first.posteriors, second.posteriors, strict=True):
        np.testing.assert_allclose(one.mean, other.mean, atol=1e-9)


def test_bad_records_are_refused() -> None:
    """Shapes, places and names that do not fit are named."""
    features, means = world(4, 0)
    with pytest.raises(InvalidInputError, match="a reward for each of 4 items"):
        fit_every(features, means[:, :2], arms=ARMS, names=NAMES)
    with pytest.raises(InvalidInputError, match="one arm and one reward"):
        fit(features, [0, 1], means[:, 0], arms=ARMS, names=NAMES)
    with pytest.raises(InvalidInputError, match="places of 3 arms, got 0 to 3"):
        fit(features, [0, 1, 2, 3], means[:, 0], arms=ARMS, names=NAMES)
    with pytest.raises(InvalidInputError, match="Expected 5 features"):
        fit_every(features, means, arms=ARMS)
    with pytest.raises(UnknownNameError, match="Did you mean 'edges'"):
        fit_every(features, means, arms=ARMS, names=("edgs", "peaks"))


def test_the_reward_is_quality_less_logarithms_of_costs() -> None:
    """Each term by hand; a cost of nothing is refused, absent quality stays absent."""
    reward = Reward(quality=2.0, time=0.1, size=0.2, time_unit=1.0, size_unit=100.0)
    found = reward.of([0.5, np.nan], [math.e, 1.0], 100.0 * math.e**2)
    assert found[0] == pytest.approx(2 * 0.5 - 0.1 - 0.2 * 2)
    assert np.isnan(found[1])
    for time, size in ((0.0, 1.0), (1.0, -1.0), (np.inf, 1.0)):
        with pytest.raises(InvalidInputError, match="above 0"):
            reward.of(0.5, time, size)
    with pytest.raises(InvalidParameterError, match="weights of at least 0"):
        Reward(time=-1.0)


# The document


def test_a_table_comes_back_from_its_document() -> None:
    """Written as JSON and read again it is the same, digest included."""
    table = table_of()
    again = PolicyTable.from_document(json.loads(json.dumps(table.document())))
    assert again == table
    assert again.digest == table.digest
    assert len(table.digest) == 64


def changed(document: Any) -> Any:
    """Yield copies of a document with one leaf changed."""

    def places(node: Any, path: tuple[Any, ...]) -> Any:
        if isinstance(node, dict | list):
            keys = node if isinstance(node, dict) else range(len(node))
            for key in keys:
                yield from places(node[key], (*path, key))
        else:
            yield path

    for path in places(document, ()):
        copy = deepcopy(document)
        node = copy
        for key in path[:-1]:
            node = node[key]
        value = node[path[-1]]
        if isinstance(value, str):
            continue
        if isinstance(value, bool):
            node[path[-1]] = not value
        else:
            node[path[-1]] = value + (1 if isinstance(value, int) else 1 / 64)
        yield copy


def test_any_other_number_gives_another_digest() -> None:
    """No number of a table can change without its digest."""
    table = table_of()
    digests = {table.digest}
    count = 1
    for document in changed(table.document()):
        digests.add(PolicyTable.from_document(document).digest)
        count += 1
    assert len(digests) == count > 40


@pytest.mark.parametrize(
    "spoil",
    [
        lambda document: document.pop("arms"),
        lambda document: document.update(schema="other/1"),
        lambda document: document.update(more=1),
        lambda document: document["arms"].pop(),
        lambda document: document["arms"][0].update(policy="fxed"),
        lambda document: document["arms"][2]["parameters"].clear(),
        lambda document: document["posteriors"][0]["mean"].pop(),
        lambda document: document["features"][0].update(scale=0.0),
        lambda document: document["features"][0].update(name="colour"),
        lambda document: document.update(reward_scale=float("nan")),
    ],
)
def test_a_spoilt_document_is_refused(spoil: Any) -> None:
    """A document that is no table is one kind of error, whatever is wrong with it."""
    document = deepcopy(table_of().document())
    spoil(document)
    with pytest.raises(InvalidInputError, match="Expected a policy table"):
        PolicyTable.from_document(document)


def test_arms_write_their_defaults_out() -> None:
    """An arm names every parameter, so that a changed default changes no table."""
    assert Arm.of("fixed") == Arm.of("fixed", keep=0.1)
    assert Arm.of("fixed").document()["parameters"] == {"keep": 0.1}
    assert Arm.of("fixed").label == "fixed keep 0.1"
    with pytest.raises(InvalidParameterError, match=r"Arm\.of"):
        Arm("otsu", ())
    for fitted in ("calibrated", "learned"):
        with pytest.raises(InvalidParameterError, match="fitted object"):
            Arm.of(fitted)


def test_tables_load_without_torch(pytestconfig: pytest.Config) -> None:
    """Who fits or checks a table needs no network."""
    code = (
        "import sys\nimport explain.optimise\n"
        "sys.exit('torch' in sys.modules or 'optuna' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, cwd=pytestconfig.rootpath
    )
    assert done.returncode == 0


# The policy


def test_each_item_gets_its_own_arms_mask() -> None:
    """Every field is that of the arm alone on the same batch."""
    maps, context = batch(8)
    policy = Learned(table_of())
    chosen = policy.choose(maps, context).tolist()
    assert set(chosen) == {0, 1}
    assert chosen[0] == 0
    assert chosen[-1] == 1
    result = policy.apply(maps, context)
    alone = [FixedKeep(0.05).apply(maps), FixedKeep(0.4).apply(maps)]
    for item, arm in enumerate(chosen):
        for name in ("mask", "requested", "achieved", "cut", "kept", "codes"):
            assert torch.equal(
                getattr(result, name)[item], getattr(alone[arm], name)[item]
            )
        assert result.energy_retained[item] == alone[arm].energy_retained[item]


@pytest.mark.parametrize("explore", [False, True])
def test_order_and_neighbours_change_nothing(explore: bool) -> None:
    """Items in another order, and with others beside them, keep arm and mask."""
    maps, context = batch(9)
    policy = Learned(table_of(), explore=explore)
    whole = policy.apply(maps, context)
    order = [4, 8, 0, 2, 6, 1, 7, 3, 5]
    shuffled = policy.apply(maps[order], rows_of(context, order))
    assert torch.equal(shuffled.mask, whole.mask[order])
    assert torch.equal(shuffled.cut, whole.cut[order])
    for some in ([3], [0, 8], [5, 1, 2]):
        few = policy.apply(maps[some], rows_of(context, some))
        assert torch.equal(few.mask, whole.mask[some])
        chosen = policy.choose(maps[some], rows_of(context, some))
        assert torch.equal(chosen, policy.choose(maps, context)[some])


def test_exploring_tries_arms_that_are_not_the_best() -> None:
    """A belief of few records leads to different arms for equal items."""
    table = fit([[0.5, 0.5]], [0], [1.0], arms=ARMS, names=NAMES)
    maps, context = batch(1)
    maps = maps.expand(60, -1, -1).contiguous()
    draws = ItemDraws(seed=5, indices=tuple(range(60)), stream=2)
    context = ThresholdContext(
        probabilities=torch.full((60,), 0.5, dtype=torch.float64), draws=draws
    )
    chosen = Learned(table, explore=True).choose(maps, context)
    assert set(chosen.tolist()) == {0, 1, 2}
    assert len(set(Learned(table).choose(maps, context).tolist())) == 1


def test_the_policy_needs_what_its_features_and_arms_need() -> None:
    """Needs, cost and whether masks are cuts follow from the table."""
    table = table_of()
    assert Learned(table).needs == {Need.PROBABILITIES}
    assert Learned(table, explore=True).needs == {Need.PROBABILITIES, Need.DRAWS}
    assert Learned(table).cut_based
    assert Learned(table).passes == 0
    arms = (Arm.of("multi_peak"), Arm.of("dynamic", by="confidence"))
    other = fit_every([[0.1], [0.2]], np.eye(2), arms=arms, names=("entropy",))
    assert Learned(other).needs == {
        Need.IMAGES,
        Need.INPUTS,
        Need.PROBABILITIES,
        Need.SCORE,
    }
    assert not Learned(other).cut_based
    assert Learned(other).passes == 13
    with pytest.raises(MissingContextError, match="probabilities"):
        Learned(table).apply(torch.rand(1, 3, 3))


def test_it_is_created_by_name() -> None:
    """The registry hands the table on, and names it where it is missing."""
    table = table_of()
    assert create_policy("learned", table=table) == Learned(table)
    assert create_policy("learned", table=table, explore=True).needs >= {Need.DRAWS}
    with pytest.raises(InvalidParameterError, match="needs table"):
        create_policy("learned")
    with pytest.raises(InvalidParameterError, match=r"PolicyTable\.from_document"):
        create_policy("learned", table={"arms": []})


def test_maps_that_show_nothing_keep_nothing() -> None:
    """Blank, constant and broken maps come out typed, and spoil no neighbour."""
    maps, context = batch(5)
    fine = Learned(table_of()).apply(maps, context)
    maps[0], maps[1] = 0.0, 0.7
    maps[2, 3, 3], maps[3, 0, 0] = float("nan"), float("inf")
    result = Learned(table_of()).apply(maps, context)
    assert result.status[:4] == [
        ThresholdStatus.CONSTANT_MAP,
        ThresholdStatus.CONSTANT_MAP,
        ThresholdStatus.NON_FINITE,
        ThresholdStatus.NON_FINITE,
    ]
    assert not result.mask[:4].any()
    assert torch.equal(result.mask[4], fine.mask[4])
    assert torch.isfinite(result.requested).all()


def test_a_probability_that_is_no_number_still_gets_an_arm() -> None:
    """A choice is always made, from what is known."""
    maps, _ = batch(2)
    sure = torch.tensor([float("nan"), 0.5], dtype=torch.float64)
    chosen = Learned(table_of()).choose(maps, ThresholdContext(probabilities=sure))
    assert all(0 <= arm < len(ARMS) for arm in chosen.tolist())


def test_features_beyond_the_records_count_as_the_farthest_record() -> None:
    """A line is not followed to where nothing was seen."""
    table = table_of()
    low, high = table.features[0].low, table.features[0].high
    inside = torch.tensor([[low, 0.5], [high, 0.5]], dtype=torch.float64)
    outside = torch.tensor([[-9.0, 0.5], [9.0, 0.5]], dtype=torch.float64)
    assert torch.equal(arm_scores(table, inside), arm_scores(table, outside))


def test_features_are_those_of_their_words() -> None:
    """Concentration and peaks of maps made by hand, entropy of a plain picture."""
    maps = torch.zeros(3, 20, 20)
    maps[0, 4, 4] = maps[0, 15, 15] = 2.0
    maps[1] = torch.arange(400.0).view(20, 20)
    images = torch.zeros(3, 3, 20, 20)
    images[1, :, :, 10:] = 1.0
    context = ThresholdContext(
        images=images, probabilities=torch.tensor([0.1, 0.2, 0.3])
    )
    found = item_features(tuple(FEATURES), maps, context)
    assert found.shape == (3, 5)
    assert found[:, 0].tolist() == pytest.approx([0.0, 1 / 8, 0.0])
    assert found[:, 1].tolist() == pytest.approx([0.0, 2 / 20, 0.0])
    assert found[:, 2].tolist() == pytest.approx([0.1, 0.2, 0.3])
    top = sum(range(360, 400)) / sum(range(400))
    assert found[:, 3].tolist() == pytest.approx([1.0, top, 0.0])
    assert found[:, 4].tolist() == pytest.approx([math.log(3), math.log(2), 0.0])
    with pytest.raises(InvalidInputError, match="images for each of 3 maps"):
        item_features(("entropy",), maps, ThresholdContext())
