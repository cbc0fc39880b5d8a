# SPDX-License-Identifier: Apache-2.0
"""The front is what nothing dominates, and a search finds and repeats it."""

import sys
from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import pytest

from explain.errors import (
    ExplainError,
    InvalidInputError,
    InvalidParameterError,
    LayerError,
    UnknownNameError,
)
from explain.optimise import (
    BYTES,
    QUALITY,
    TIME,
    Arm,
    Choice,
    Objective,
    ParetoFront,
    PolicySpace,
    Range,
    Space,
    hypervolume,
    non_dominated,
    search,
)

FIXED = PolicySpace(policy="fixed", parameters={"keep": (0.05, 0.1, 0.2)})
SPACE = Space(methods=("gradcam", "rise"), policies=(FIXED,))


def dominates(first: list[float], second: list[float]) -> bool:
    """Say whether the first is nowhere worse and somewhere better, word by word."""
    pairs = list(zip(first, second, strict=True))
    return all(a >= b for a, b in pairs) and any(a > b for a, b in pairs)


@pytest.mark.parametrize("dimensions", [1, 2, 3, 4])
def test_the_front_is_what_brute_force_leaves(dimensions: int) -> None:
    """Coarse points, with ties and doubles, are judged pair by pair."""
    random = np.random.default_rng(dimensions)
    points = random.integers(0, 5, size=(60, dimensions)).astype(float)
    rows = points.tolist()
    expected = [not any(dominates(other, row) for other in rows) for row in rows]
    assert non_dominated(points).tolist() == expected


@pytest.mark.parametrize(
    ("points", "volume"),
    [
        ([[3.0]], 3.0),
        ([[1.0, 2.0]], 2.0),
        ([[1.0, 3.0], [2.0, 2.0], [3.0, 1.0]], 6.0),
        ([[2.0, 2.0], [1.0, 1.0], [2.0, 2.0]], 4.0),
        ([[1.0, 1.0, 1.0], [0.5, 0.5, 2.0]], 1.25),
        ([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0], [2.0, 2.0, 2.0]], 12.0),
        ([[-1.0, 5.0], [2.0, 1.0]], 2.0),
        ([[0.0, 7.0, 7.0]], 0.0),
    ],
)
def test_hypervolumes_worked_out_by_hand(
    points: list[list[float]], volume: float
) -> None:
    """Staircases and stacked boxes have the volume that a pencil finds."""
    assert hypervolume(points) == pytest.approx(volume, abs=1e-12)


@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_hypervolume_is_what_random_darts_say(dimensions: int) -> None:
    """The share of the unit box that some point dominates, within three deviations."""
    random = np.random.default_rng(7)
    points = random.random((12, dimensions))
    darts = random.random((40_000, dimensions))
    hit = (darts[:, None] <= points[None]).all(axis=2).any(axis=1).mean()
    volume = hypervolume(points)
    assert abs(hit - volume) < 3 * np.sqrt(volume * (1 - volume) / len(darts))


def test_no_points_cover_nothing_and_nan_is_refused() -> None:
    """An empty front has volume 0; what is no number is never ranked."""
    assert hypervolume(np.empty((0, 2))) == 0
    with pytest.raises(InvalidInputError, match="1 that are none"):
        non_dominated([[1.0, float("nan")]])
    with pytest.raises(InvalidInputError, match="row of gains"):
        hypervolume([1.0, 2.0])


def test_gains_run_from_worst_to_best() -> None:
    """Ends are 0 and 1 whichever is higher, and logarithms halve a decade's way."""
    assert QUALITY.gain(0.25) == 0.25
    cost = Objective(name="cost", best=1.0, worst=100.0, log=True)
    assert cost.gain(10.0) == pytest.approx(0.5)
    assert cost.gain(1.0) == 1.0
    assert cost.gain(1000.0) == pytest.approx(-0.5)
    assert np.isnan(cost.gain(0.0))
    assert np.isnan(QUALITY.gain(float("inf")))
    with pytest.raises(InvalidParameterError, match="two different finite ends"):
        Objective(name="cost", best=0.0, worst=1.0, log=True)


def values_of(choice: Choice) -> tuple[float, float, float]:
    """Return made-up values in which RISE is better and dearer."""
    keep = float(dict(choice.policy.parameters)["keep"])  # type: ignore[arg-type]
    better = choice.method == "rise"
    return 0.5 + 0.2 * better - abs(keep - 0.1), 100.0 if better else 1.1, 110.0


def test_a_search_of_a_small_space_finds_its_front() -> None:
    """The front of six choices is that of all six, each measured once."""
    seen: list[Choice] = []

    def evaluate(choice: Choice) -> tuple[float, float, float]:
        seen.append(choice)
        return values_of(choice)

    front = search(SPACE, evaluate, trials=40)
    assert len(seen) == len(set(seen)) == 6
    assert [(p.choice.method, p.choice.policy) for p in front.points] == [
        ("rise", Arm.of("fixed", keep=0.1)),
        ("gradcam", Arm.of("fixed", keep=0.1)),
    ]
    assert front.points[0].choice.layer is None
    assert front.points[1].choice.layer == "auto"
    best, cheap = (
        [one.gain(v) for one, v in zip((QUALITY, TIME, BYTES), p.values, strict=True)]
        for p in front.points
    )
    by_hand = best[2] * (best[0] * best[1] + cheap[0] * (cheap[1] - best[1]))
    assert front.hypervolume == pytest.approx(by_hand)


def test_a_search_is_repeated_by_its_seed() -> None:
    """The same seed proposes the same choices, another seed others."""
    space = replace(
        SPACE,
        policies=(
            PolicySpace(
                policy="fixed", parameters={"keep": Range(low=0.01, high=0.5, log=True)}
            ),
        ),
    )

    def tried(seed: int) -> ParetoFront:
        return search(space, values_of, trials=12, seed=seed)

    first = tried(1)
    assert first == tried(1)
    assert first.digest == tried(1).digest
    assert first.evaluated != tried(2).evaluated
    for point in first.evaluated:
        keep = dict(point.choice.policy.parameters)["keep"]
        assert isinstance(keep, float)
        assert 0.01 <= keep <= 0.5
        assert keep == float(f"{keep:.3g}")


def test_what_cannot_be_measured_is_refused_and_the_rest_goes_on() -> None:
    """An error of the engine, or a value that is no number, is a reasoned refusal."""

    def evaluate(choice: Choice) -> tuple[float, float, float]:
        if choice.method == "rise":
            raise LayerError("No such layer here.")
        keep = dict(choice.policy.parameters)["keep"]
        return (float("nan") if keep == 0.2 else 0.5, 1.0, 100.0)

    front = search(SPACE, evaluate, trials=40)
    assert {point.choice.method for point in front.evaluated} == {"gradcam"}
    assert sorted({one.reason for one in front.refused}) == [
        "Its quality is no number.",
        "No such layer here.",
    ]
    assert len(front.refused) == 4

    def never(_choice: Choice) -> tuple[float, float, float]:
        raise LayerError("No such layer here.")

    with pytest.raises(ExplainError, match=r"None of .* No such layer here"):
        search(SPACE, never, trials=3)


def test_values_must_be_one_an_objective() -> None:
    """Too few values are an error of the caller, not a refusal."""
    with pytest.raises(InvalidInputError, match="quality, time, bytes"):
        search(SPACE, lambda _choice: (1.0,), trials=1)
    with pytest.raises(InvalidParameterError, match="at least 1 trial"):
        search(SPACE, values_of, trials=0)


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without Optuna the message says what to install."""
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(InvalidParameterError, match=r"affidavit\[optimise\]"):
        search(SPACE, values_of, trials=1)


def test_optuna_is_left_as_talkative_as_it_was() -> None:
    """The global verbosity is restored after a search, a failed one included."""
    import optuna

    before = optuna.logging.get_verbosity()
    with pytest.raises(InvalidInputError):
        search(SPACE, lambda _choice: (1.0,), trials=1)
    assert optuna.logging.get_verbosity() == before


def test_a_choice_has_a_digest_of_all_its_fields() -> None:
    """Any other field gives another digest."""
    choice = Choice(
        method="gradcam", layer="auto", policy=Arm.of("otsu"), size=(224, 224)
    )
    others: list[dict[str, Any]] = [
        {"method": "layercam"},
        {"layer": "layer3"},
        {"policy": Arm.of("otsu", floor=0.1)},
        {"size": (224, 192)},
        {"precision": "bfloat16"},
    ]
    digests = {choice.digest, *(replace(choice, **other).digest for other in others)}
    assert len(digests) == 1 + len(others)


@pytest.mark.parametrize(
    ("fields", "error", "message"),
    [
        ({"method": "gradcm"}, UnknownNameError, "Did you mean 'gradcam'"),
        ({"layer": None}, InvalidParameterError, "a layer where the method taps one"),
        ({"method": "rise"}, InvalidParameterError, "None elsewhere"),
        ({"size": (0, 4)}, InvalidParameterError, "a size"),
        ({"precision": "float16"}, InvalidParameterError, "float32 or bfloat16"),
    ],
)
def test_an_impossible_choice_is_refused(
    fields: dict[str, Any], error: type[Exception], message: str
) -> None:
    """A choice can be run, or cannot be made."""
    choice = Choice(
        method="gradcam", layer="auto", policy=Arm.of("otsu"), size=(224, 224)
    )
    with pytest.raises(error, match=message):
        replace(choice, **fields)


def test_a_space_lists_only_what_exists() -> None:
    """Unknown names, values out of range and doubles are found before the search."""
    with pytest.raises(UnknownNameError, match="fixed"):
        PolicySpace(policy="fxed")
    for low, high in product([0.0, 0.1], [0.5, 1.5]):
        if (low, high) == (0.1, 0.5):
            PolicySpace(policy="fixed", parameters={"keep": Range(low=low, high=high)})
            continue
        with pytest.raises(InvalidParameterError, match="above 0 and up to 1"):
            PolicySpace(policy="fixed", parameters={"keep": Range(low=low, high=high)})
    with pytest.raises(InvalidParameterError, match="none twice"):
        replace(SPACE, layers=("auto", "auto"))
    with pytest.raises(InvalidParameterError, match="fitted object"):
        PolicySpace(policy="calibrated")
