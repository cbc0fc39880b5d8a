# SPDX-License-Identifier: Apache-2.0
"""Search the choices that no other beats in quality, time and bytes together."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from explain.errors import ExplainError, InvalidInputError, InvalidParameterError
from explain.methods.cards import METHODS
from explain.optimise.arm import Arm
from explain.optimise.front import ParetoFront, Point, Refusal, gains_of
from explain.optimise.objectives import OBJECTIVES, Objective
from explain.optimise.pareto import non_dominated
from explain.optimise.space import Choice, PolicySpace, Range, Space

#: Trials asked for each that is wanted: a small space repeats itself, and ends.
_PATIENCE = 5
#: Trials drawn at random before the sampler models what is good.
_RANDOM_TRIALS = 10


def search(
    space: Space,
    evaluate: Callable[[Choice], Sequence[float]],
    trials: int = 50,
    seed: int = 0,
    objectives: Sequence[Objective] = OBJECTIVES,
) -> ParetoFront:
    """Return the front of up to so many different choices.

    A tree-structured Parzen estimator proposes them one after the other. A choice
    that comes up again is not measured again; a space of fewer choices is measured
    about whole. A choice whose measurement raises an ``ExplainError`` or gives a value
    that is no number is refused, and the search goes on.

    Args:
        space: What may be chosen.
        evaluate: Measures a choice; values in the order of the objectives.
        trials: Most choices to measure.
        seed: Of the sampler. The same seed and values give the same front.
        objectives: What the values mean.

    Raises:
        InvalidParameterError: there are no trials or objectives, or Optuna is not
            installed.
        InvalidInputError: the values are not one an objective.
        ExplainError: not a single choice could be measured.

    Source: Bergstra et al. 2011, "Algorithms for hyper-parameter optimization"; Ozaki
    et al. 2020, "Multiobjective tree-structured Parzen estimator for computationally
    expensive optimization problems".
    """
    if trials < 1 or not objectives or seed < 0:
        raise InvalidParameterError(
            f"Expected at least 1 trial and 1 objective and a seed of at least 0, got"
            f" {trials} trials, {len(objectives)} objectives and seed {seed}."
        )
    points: dict[Choice, Point] = {}
    refused: dict[Choice, Refusal] = {}
    with _quiet(_optuna()) as optuna:
        study = optuna.create_study(
            directions=["maximize"] * len(objectives),
            sampler=optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=_RANDOM_TRIALS
            ),
        )
        for _ in range(trials * _PATIENCE):
            if len(points) + len(refused) == trials:
                break
            trial = study.ask()
            choice = _proposed(trial, space)
            if choice not in points and choice not in refused:
                outcome = _measured(choice, evaluate, objectives)
                if isinstance(outcome, Point):
                    points[choice] = outcome
                else:
                    refused[choice] = outcome
            if choice in points:
                study.tell(trial, gains_of(objectives, points[choice].values))
            else:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
    if not points:
        reason = next(iter(refused.values())).reason
        raise ExplainError(
            f"None of {len(refused)} choices could be measured; the first: {reason}"
        )
    evaluated = tuple(points.values())
    return ParetoFront(
        points=_front(evaluated, objectives),
        evaluated=evaluated,
        refused=tuple(refused.values()),
        objectives=tuple(objectives),
        space=space,
        trials=trials,
        seed=seed,
    )


def _measured(
    choice: Choice,
    evaluate: Callable[[Choice], Sequence[float]],
    objectives: Sequence[Objective],
) -> Point | Refusal:
    """Return the values of a choice, or why there are none."""
    try:
        values = tuple(float(value) for value in evaluate(choice))
    except ExplainError as error:
        return Refusal(choice, str(error))
    if len(values) != len(objectives):
        raise InvalidInputError(
            f"Expected {len(objectives)} values"
            f" ({', '.join(one.name for one in objectives)}) of a choice, got"
            f" {len(values)}."
        )
    for objective, gain in zip(objectives, gains_of(objectives, values), strict=True):
        if gain != gain:  # noqa: PLR0124 - NaN is what differs from itself
            return Refusal(choice, f"Its {objective.name} is no number.")
    return Point(choice, values)


def _front(
    evaluated: Sequence[Point], objectives: Sequence[Objective]
) -> tuple[Point, ...]:
    """Return the points that no other dominates, in an order of their own."""
    gains = [gains_of(objectives, point.values) for point in evaluated]
    stays = non_dominated(gains)
    order = sorted(
        (place for place in range(len(evaluated)) if stays[place]),
        key=lambda place: ([-gain for gain in gains[place]], place),
    )
    return tuple(evaluated[place] for place in order)


def _proposed(trial: Any, space: Space) -> Choice:
    """Return the choice of a trial; parameters belong to their policy."""
    method = str(_one_of(trial, "method", space.methods))
    taps = METHODS[method].needs_layer
    policies = {one.policy: one for one in space.policies}
    policy = policies[_one_of(trial, "policy", tuple(policies))]
    return Choice(
        method=method,
        layer=str(_one_of(trial, "layer", space.layers)) if taps else None,
        policy=_arm(trial, policy),
        size=_one_of(trial, "size", space.sizes),
        precision=str(_one_of(trial, "precision", space.precisions)),
    )


def _arm(trial: Any, policy: PolicySpace) -> Arm:
    """Return a policy with the parameters that a trial proposes."""
    values: dict[str, Any] = {}
    for name, allowed in policy.parameters.items():
        owner = f"{policy.policy}.{name}"
        if isinstance(allowed, Range):
            value = trial.suggest_float(
                owner, allowed.low, allowed.high, log=allowed.log
            )
            values[name] = allowed.rounded(value)
        else:
            values[name] = _one_of(trial, owner, allowed)
    return Arm.of(policy.policy, **values)


def _one_of(trial: Any, name: str, values: Sequence[Any]) -> Any:
    """Return one of the values; their places stand for them, which are plain."""
    return values[trial.suggest_categorical(name, list(range(len(values))))]


def _optuna() -> Any:
    """Return Optuna, importing it now.

    Raises:
        InvalidParameterError: it is not installed; says what to install.
    """
    try:
        return import_module("optuna")
    except ImportError as error:
        raise InvalidParameterError(
            "A search needs Optuna, which is not installed; install the extra"
            " 'optimise': pip install 'affidavit[optimise]'."
        ) from error


@contextmanager
def _quiet(optuna: Any) -> Iterator[Any]:
    """Hold Optuna's own messages back, and leave its setting as it was."""
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        yield optuna
    finally:
        optuna.logging.set_verbosity(before)
