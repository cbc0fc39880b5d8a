# SPDX-License-Identifier: Apache-2.0
"""Learn from recorded rewards which policy suits which kind of item. No torch here.

A contextual bandit: each record is an item's features, the arm that it got and the
reward. Which arm an item gets is decided by a table that is fixed within a run (see
the policy ``learned``); between runs the table is fitted anew on all records.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from explain.errors import InvalidInputError, UnknownNameError
from explain.optimise.arm import Arm
from explain.optimise.arm_records import ArmRecords
from explain.optimise.features import FEATURES
from explain.optimise.policy_table import FeatureScale, PolicyTable
from explain.optimise.posterior import posterior
from explain.optimise.reward import Reward

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]

#: Prior precisions tried, the firmest first: under it features count for nothing.
SHRINKAGES = (1e6, 1000.0, 300.0, 100.0, 30.0, 10.0, 3.0, 1.0)


def fit(
    features: npt.ArrayLike,
    chosen: npt.ArrayLike,
    rewards: npt.ArrayLike,
    *,
    arms: Sequence[Arm],
    names: Sequence[str] = tuple(FEATURES),
    reward: Reward | None = None,
    groups: Sequence[Any] | None = None,
) -> PolicyTable:
    """Return what records of one arm an item teach.

    Records whose reward or features are no numbers are left out and counted. Without
    any record the table holds the prior, which explores all arms alike.

    Args:
        features: (M, F), as ``item_features`` gives them.
        chosen: (M,) whole numbers, the place of each record's arm in ``arms``.
        rewards: (M,), as ``Reward.of`` gives them.
        arms: The policies to choose from.
        names: Of the features.
        reward: What the rewards weigh, for the document.
        groups: (M,), what each record belongs to where some are alike (frames of a
            film, pictures of a patient). How much the features count is then decided
            by groups that were left out; else by the evidence, which takes records
            for independent.

    Raises:
        InvalidInputError: shapes do not fit, there is but one group, or an arm's
            place is out of range.
        UnknownNameError: no such feature.
    """
    table = _table(features, names)
    places = np.asarray(chosen, dtype=np.int64)
    values = np.asarray(rewards, dtype=np.float64)
    owners = _groups(groups, len(table))
    if places.shape != (len(table),) or values.shape != (len(table),):
        raise InvalidInputError(
            f"Expected one arm and one reward for each of {len(table)} records, got"
            f" {places.shape} and {values.shape}."
        )
    if len(places) and (places.min() < 0 or places.max() >= len(arms)):
        raise InvalidInputError(
            f"Expected places of {len(arms)} arms, got {places.min()} to"
            f" {places.max()}."
        )
    known = np.isfinite(table).all(axis=1) & np.isfinite(values)
    centre = float(values[known].mean()) if known.any() else 0.0
    return _fitted(
        table[known],
        places[known],
        values[known] - centre,
        None if owners is None else owners[known],
        arms=tuple(arms),
        names=tuple(names),
        reward=reward or Reward(),
        centre=centre,
        paired=False,
        excluded=int((~known).sum()),
    )


def fit_every(
    features: npt.ArrayLike,
    rewards: npt.ArrayLike,
    *,
    arms: Sequence[Arm],
    names: Sequence[str] = tuple(FEATURES),
    reward: Reward | None = None,
    groups: Sequence[Any] | None = None,
) -> PolicyTable:
    """Return what items teach that were measured under every arm.

    Each item's mean over the arms is taken off first: it changes no choice, and how
    hard an item is no longer passes for a difference between arms. Items that lack a
    reward under some arm are left out and counted. Options are those of ``fit``.

    Shape: features (N, F), rewards (N, K), groups (N,).

    Raises:
        InvalidInputError: shapes do not fit.
        UnknownNameError: no such feature.
    """
    table = _table(features, names)
    values = np.asarray(rewards, dtype=np.float64)
    owners = _groups(groups, len(table))
    if values.shape != (len(table), len(arms)):
        raise InvalidInputError(
            f"Expected a reward for each of {len(table)} items under each of"
            f" {len(arms)} arms, got {values.shape}."
        )
    known = np.isfinite(table).all(axis=1) & np.isfinite(values).all(axis=1)
    values = values[known] - values[known].mean(axis=1, keepdims=True)
    items = int(known.sum())
    return _fitted(
        np.repeat(table[known], len(arms), axis=0),
        np.tile(np.arange(len(arms)), items),
        values.reshape(-1),
        None if owners is None else np.repeat(owners[known], len(arms)),
        arms=tuple(arms),
        names=tuple(names),
        reward=reward or Reward(),
        centre=0.0,
        paired=True,
        excluded=int((~known).sum()),
    )


def _table(features: npt.ArrayLike, names: Sequence[str]) -> Floats:
    """Return the features as one table, refusing what is none."""
    for name in names:
        if name not in FEATURES:
            raise UnknownNameError("feature", name, FEATURES)
    table = np.asarray(features, dtype=np.float64)
    if table.ndim != 2 or table.shape[1] != len(names):
        raise InvalidInputError(
            f"Expected {len(names)} features ({', '.join(names)}) a record, got shape"
            f" {table.shape}."
        )
    return table


def _groups(groups: Sequence[Any] | None, records: int) -> Whole | None:
    """Return the groups as numbers, or None where every record stands alone."""
    if groups is None:
        return None
    numbers = {group: place for place, group in enumerate(dict.fromkeys(groups))}
    if len(groups) != records or len(numbers) < 2:
        raise InvalidInputError(
            f"Expected a group for each of {records} records and at least two"
            f" groups, got {len(groups)} records of {len(numbers)} groups."
        )
    return np.array([numbers[group] for group in groups], dtype=np.int64)


def _fitted(  # noqa: PLR0913 - the two fits differ in all of these
    table: Floats,
    places: Whole,
    values: Floats,
    owners: Whole | None,
    *,
    arms: tuple[Arm, ...],
    names: tuple[str, ...],
    reward: Reward,
    centre: float,
    paired: bool,
    excluded: int,
) -> PolicyTable:
    """Return the table of centred rewards, with the shrinkage that serves best."""
    features = tuple(
        _scale(name, column) for name, column in zip(names, table.T, strict=True)
    )
    spread = float(values.std()) if len(values) else 0.0
    unit = spread if spread > 0 else 1.0
    design = np.ones((len(table), len(names) + 1))
    for place, scale in enumerate(features):
        design[:, place + 1] = (table[:, place] - scale.centre) / scale.scale
    rows = [
        ArmRecords(
            design[places == arm],
            values[places == arm] / unit,
            None if owners is None else owners[places == arm],
        )
        for arm in range(len(arms))
    ]
    shrinkage = max(
        # Of equals max takes the first, the firmest.
        SHRINKAGES if names else SHRINKAGES[:1],
        key=lambda tried: sum(one.merit(tried) for one in rows),
    )
    return PolicyTable(
        arms=arms,
        features=features,
        posteriors=tuple(
            posterior(one.design, one.values, shrinkage)[0] for one in rows
        ),
        shrinkage=shrinkage,
        reward=reward,
        reward_centre=centre,
        reward_scale=unit,
        paired=paired,
        grouped=owners is not None,
        excluded=excluded,
    )


def _scale(name: str, column: Floats) -> FeatureScale:
    """Return how a feature enters, found on the records."""
    if not len(column):
        return FeatureScale(name=name, centre=0.0, scale=1.0, low=0.0, high=0.0)
    low, high, spread = float(column.min()), float(column.max()), float(column.std())
    return FeatureScale(
        name=name,
        centre=float(column.mean()),
        # The spread of equal numbers may come out as a rounding error.
        scale=spread if high > low and spread > 0 else 1.0,
        low=low,
        high=high,
    )
