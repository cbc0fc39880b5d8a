# SPDX-License-Identifier: Apache-2.0
"""Searches by confidence and mixed scores find what a slow search finds."""

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from torch import Tensor

from explain.errors import (
    InvalidInputError,
    InvalidParameterError,
    MissingContextError,
)
from explain.numpy_maps import kept_count
from explain.thresholds import (
    FixedKeep,
    ThresholdContext,
    ThresholdStatus,
    create_policy,
)
from explain.thresholds.compactness import compactness
from explain.thresholds.confidence_search import BISECTIONS, FRACTIONS

SIZE = 20


@dataclass(eq=False)
class Scorer:
    """A score of the share of the input that is shown, recording its calls."""

    curve: Callable[[float], float]
    calls: list[tuple[int, ...]] = field(default_factory=list)
    items: list[list[int]] = field(default_factory=list)

    def __call__(self, inputs: Tensor, items: Tensor) -> Tensor:
        """Return the curve's value at the share shown."""
        self.calls.append(tuple(inputs.shape))
        self.items.append(items.tolist())
        # The blur of alternating signs is about zero, the shown input is 1 or -1.
        shown = (inputs[:, 0].abs() > 0.9).flatten(1).double().mean(dim=1)
        return torch.tensor(
            [self.curve(share) for share in shown.tolist()], dtype=torch.float64
        )


def chequered(items: int) -> Tensor:
    """Return inputs that a blur turns to about zero, (N, 2, SIZE, SIZE)."""
    rows = torch.arange(SIZE)
    board = 1.0 - 2.0 * ((rows[:, None] + rows) % 2)
    return board.expand(items, 2, SIZE, SIZE).contiguous()


def context_of(scorer: Scorer, whole: list[float]) -> ThresholdContext:
    """Return a context of so many items with their whole probabilities."""
    return ThresholdContext(
        inputs=chequered(len(whole)),
        probabilities=torch.tensor(whole, dtype=torch.float64),
        score=scorer,
    )


def ramps(items: int) -> Tensor:
    """Return maps in which every position has its own positive value."""
    generator = torch.Generator().manual_seed(4)
    rows = [torch.randperm(SIZE * SIZE, generator=generator) for _ in range(items)]
    return (torch.stack(rows) + 1).float().view(items, SIZE, SIZE)


def slow_search(curve: Callable[[float], float], goal: float) -> tuple[int, bool]:
    """Return the count and whether the goal was reached, by the rule's words."""
    positions = SIZE * SIZE
    counts = [kept_count(fraction, positions) for fraction in FRACTIONS]
    scores = [curve(count / positions) for count in counts]
    passing = [place for place, score in enumerate(scores) if score >= goal]
    if not passing:
        return counts[scores.index(max(scores))], False
    high = counts[passing[0]]
    low = counts[passing[0] - 1] if passing[0] else 0
    for _ in range(BISECTIONS):
        middle = math.ceil((low + high) / 2)
        if curve(middle / positions) >= goal:
            high = middle
        else:
            low = middle
    return high, True


CURVES: dict[str, Callable[[float], float]] = {
    "rising": lambda share: share,
    "early": lambda share: 1 - math.exp(-60 * share),
    "humped": lambda share: 0.95 if 0.27 <= share <= 0.42 or share > 0.9 else 0.2,
    "never": lambda share: 0.4 + 0.1 * math.sin(20 * share),
}


@pytest.mark.parametrize("name", CURVES)
def test_the_search_is_that_of_the_rule(name: str) -> None:
    """The first passing of ten fractions, refined three times, from the small end."""
    curve = CURVES[name]
    scorer = Scorer(curve)
    policy = create_policy("dynamic", by="confidence", q=0.9)
    result = policy.apply(ramps(2), context_of(scorer, [1.0, 0.5]))
    for item, whole in enumerate([1.0, 0.5]):
        count, reached = slow_search(curve, 0.9 * whole)
        assert int(result.kept[item]) == count
        expected = ThresholdStatus.OK if reached else ThresholdStatus.Q_NOT_REACHED
        assert result.status[item] == expected
        assert torch.equal(
            result.mask[item],
            FixedKeep(count / SIZE**2).apply(ramps(2)).mask[item],
        )
    assert result.requested.tolist() == result.achieved.tolist()


def test_the_passes_are_what_the_policy_says() -> None:
    """One call of ten fractions and three of one, at most 14 passes an item."""
    scorer = Scorer(CURVES["rising"])
    policy = create_policy("dynamic", by="confidence")
    policy.apply(ramps(3), context_of(scorer, [1.0, 0.9, 0.8]))
    assert [call[0] for call in scorer.calls] == [30, 3, 3, 3]
    assert policy.passes == sum(call[0] for call in scorer.calls) / 3 <= 14
    assert scorer.items[0] == [item for item in range(3) for _ in range(10)]
    assert scorer.items[1] == [0, 1, 2]


def test_many_items_are_scored_in_bounded_calls() -> None:
    """A call holds at most 256 masked inputs, and the masks do not depend on it."""
    scorer = Scorer(CURVES["rising"])
    policy = create_policy("dynamic", by="confidence")
    many = policy.apply(ramps(60), context_of(scorer, [1.0] * 60))
    assert max(call[0] for call in scorer.calls) <= 256
    assert sum(call[0] for call in scorer.calls) == 60 * 13
    few = policy.apply(ramps(60)[:2], context_of(scorer, [1.0] * 2))
    assert torch.equal(few.mask, many.mask[:2])


def test_a_search_goes_on_when_memory_is_short() -> None:
    """A call that does not fit is halved, the result is the same and says so."""

    class Small(Scorer):
        def __call__(self, inputs: Tensor, items: Tensor) -> Tensor:
            """Return the scores of a few inputs, or run out of memory."""
            if len(inputs) > 8:
                raise torch.OutOfMemoryError("too much")
            return super().__call__(inputs, items)

    policy = create_policy("dynamic", by="confidence")
    whole = policy.apply(ramps(2), context_of(Scorer(CURVES["early"]), [1.0, 1.0]))
    halved = policy.apply(ramps(2), context_of(Small(CURVES["early"]), [1.0, 1.0]))
    assert torch.equal(whole.mask, halved.mask)
    assert halved.halved
    assert not whole.halved


def test_masks_of_a_search_hold_positive_positions_only() -> None:
    """Fractions beyond the support are the support; unusable maps keep nothing."""
    maps = torch.zeros(4, SIZE, SIZE)
    maps[0, :2] = torch.arange(1.0, 2 * SIZE + 1).view(2, SIZE)
    maps[1] = 0.5
    maps[2, 0, 0] = math.nan
    maps[3] = -1.0
    maps[3, 0, 0] = -2.0
    scorer = Scorer(lambda share: 0.3 + share)
    policy = create_policy("dynamic", by="confidence")
    result = policy.apply(maps, context_of(scorer, [0.9] * 4))
    assert result.status == [
        ThresholdStatus.Q_NOT_REACHED,
        ThresholdStatus.CONSTANT_MAP,
        ThresholdStatus.NON_FINITE,
        ThresholdStatus.INSUFFICIENT_SUPPORT,
    ]
    assert result.kept.tolist() == [2 * SIZE, 0, 0, 0]


def test_a_score_that_is_no_number_passes_nothing() -> None:
    """NaN from the network ends in a status, not in a mask that claims success."""
    scorer = Scorer(lambda share: math.nan if share < 0.35 else 0.6)
    policy = create_policy("dynamic", by="confidence")
    result = policy.apply(ramps(1), context_of(scorer, [0.9]))
    assert result.status == [ThresholdStatus.Q_NOT_REACHED]
    assert int(result.kept[0]) == kept_count(0.4, SIZE**2)


def test_what_the_search_needs_is_demanded() -> None:
    """Inputs and a score must be there, and maps must have the inputs' size."""
    policy = create_policy("dynamic", by="confidence")
    with pytest.raises(MissingContextError, match="inputs, probabilities, score"):
        policy.apply(ramps(1))
    with pytest.raises(InvalidInputError, match="size of its inputs"):
        policy.apply(torch.rand(1, 7, 7), context_of(Scorer(CURVES["rising"]), [1.0]))
    with pytest.raises(InvalidParameterError, match="by to be one of energy"):
        create_policy("dynamic", by="area")


def test_the_default_search_is_the_papers_and_costs_nothing() -> None:
    """By energy, a fifth of the mass, without any context."""
    policy = create_policy("dynamic")
    assert policy.passes == 0
    assert policy.needs == frozenset()
    result = policy.apply(torch.tensor([[5.0, 4.0, 4.0, 4.0, 4.0, 4.0]]))
    assert result.kept.tolist() == [1]


@pytest.mark.parametrize(
    ("mask", "expected"),
    [
        (torch.ones(4, 4), 1.0),
        (torch.zeros(4, 4), 0.0),
        (torch.eye(3), 16 * 3 / 12**2),
        (torch.tensor([[1.0, 1.0, 0.0]]), 16 * 2 / 6**2),
        (torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 1.0]), 1 / 3),
        (torch.tensor([0.0, 1.0, 1.0]), 1.0),
    ],
)
def test_compactness_of_plain_shapes(mask: Tensor, expected: float) -> None:
    """A square is 1, what is ragged or parted less, nothing is 0."""
    assert float(compactness(mask.bool()[None])) == pytest.approx(expected)


def slow_hybrid(row: Tensor, weights: tuple[float, float, float]) -> int:
    """Return the count of the best candidate, each scored from its own mask."""
    best, count = -math.inf, 0
    for keep in (0.01, 0.02, 0.05, 0.10, 0.15, 0.20, 0.30, 0.40, 0.50):
        one = FixedKeep(keep).apply(row[None])
        score = (
            weights[0] * float(one.energy_retained)
            + weights[1] * (1 - float(one.achieved))
            + weights[2] * float(compactness(one.mask))
        )
        if score > best + 1e-12:
            best, count = score, int(one.kept)
    return count


@pytest.mark.parametrize("weights", [(1.0, 1.0, 0.5), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0)])
def test_hybrid_takes_the_best_candidate(weights: tuple[float, float, float]) -> None:
    """Its count is that of scoring every candidate's mask by the formula."""
    generator = torch.Generator().manual_seed(6)
    maps = torch.rand(4, 15, 10, generator=generator).pow(4) - 0.05
    energy, sparsity, compact = weights
    policy = create_policy("hybrid", energy=energy, sparsity=sparsity, compact=compact)
    result = policy.apply(maps)
    assert result.kept.tolist() == [slow_hybrid(row, weights) for row in maps]
    tokens = policy.apply(maps[0][None].flatten(1))
    assert tokens.mask.shape == (1, 150)


def test_hybrid_can_ask_the_network() -> None:
    """With a weight on confidence alone, the candidate that keeps most of it wins."""
    scorer = Scorer(lambda share: 0.9 if 0.12 < share < 0.18 else 0.1)
    policy = create_policy(
        "hybrid", energy=0.0, sparsity=0.0, compact=0.0, confidence=1.0
    )
    assert policy.passes == 9
    result = policy.apply(ramps(2), context_of(scorer, [0.9, 0.9]))
    assert result.kept.tolist() == [kept_count(0.15, SIZE**2)] * 2
    with pytest.raises(MissingContextError, match="needs to know"):
        policy.apply(ramps(1))


def test_hybrid_takes_pictures_and_sequences() -> None:
    """A volume has no outline."""
    with pytest.raises(InvalidInputError, match="judges shapes"):
        create_policy("hybrid").apply(torch.rand(1, 3, 3, 3))
