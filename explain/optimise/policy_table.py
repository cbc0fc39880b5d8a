# SPDX-License-Identifier: Apache-2.0
"""What was learned of policies and items, as a document with a digest. No torch here.

A run names the table that it used by its digest; nothing in the run changes the table,
so that its results depend on no finishing order.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from explain.errors import ExplainError, InvalidInputError
from explain.optimise.arm import Arm
from explain.optimise.digest import digest_of
from explain.optimise.features import FEATURES
from explain.optimise.posterior import Posterior
from explain.optimise.reward import Reward

_SCHEMA = "affidavit.policy-table/1"


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureScale:
    """How one feature enters the regression: (clipped x - centre) / scale.

    Attributes:
        name: As in ``FEATURES``.
        centre: Mean over the records.
        scale: Standard deviation over the records, 1 for a constant.
        low: Least value seen; smaller ones count as it, so that no line is followed
            beyond the records.
        high: Greatest value seen.
    """

    name: str
    centre: float
    scale: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyTable:
    """What is believed of each arm's reward, given an item's features.

    Attributes:
        arms: The policies to choose from.
        features: What the choice depends on; none for the best arm of all.
        posteriors: Of each arm, of rewards less ``reward_centre`` in units of
            ``reward_scale``.
        shrinkage: Prior precision of the features' weights.
        reward: What the rewards weigh.
        reward_centre: In units of the reward; 0 where each item's mean was taken off.
        reward_scale: In units of the reward.
        paired: Whether every item had a reward under every arm, and each item's mean
            was taken off.
        grouped: Whether the shrinkage was chosen by groups that were left out, and
            not by the evidence.
        excluded: Records left out: no reward or no features.
    """

    arms: tuple[Arm, ...]
    features: tuple[FeatureScale, ...]
    posteriors: tuple[Posterior, ...]
    shrinkage: float
    reward: Reward
    reward_centre: float
    reward_scale: float
    paired: bool
    grouped: bool
    excluded: int

    def __post_init__(self) -> None:
        width = len(self.features) + 1
        numbers = [self.shrinkage, self.reward_centre, self.reward_scale]
        for scale in self.features:
            numbers += [scale.centre, scale.scale, scale.low, scale.high]
        fine = len(self.arms) == len(self.posteriors) > 0
        fine &= len(set(self.arms)) == len(self.arms)
        fine &= all(scale.name in FEATURES for scale in self.features)
        fine &= all(scale.scale > 0 for scale in self.features)
        for belief in self.posteriors:
            covariance = np.asarray(belief.covariance, dtype=np.float64)
            fine &= len(belief.mean) == width and covariance.shape == (width, width)
            numbers += [belief.noise, *belief.mean, *covariance.ravel().tolist()]
        if not fine or not all(math.isfinite(number) for number in numbers):
            raise InvalidInputError(
                f"Expected known features and, for each of {len(self.arms)} different"
                f" arms, a finite posterior over {width} weights, got something else;"
                f" make tables with fit or fit_every."
            )

    def document(self) -> dict[str, Any]:
        """Return the table as plain values."""
        return {
            "schema": _SCHEMA,
            "arms": [arm.document() for arm in self.arms],
            "features": [asdict(scale) for scale in self.features],
            "posteriors": [_plain(belief) for belief in self.posteriors],
            "shrinkage": self.shrinkage,
            "reward": asdict(self.reward),
            "reward_centre": self.reward_centre,
            "reward_scale": self.reward_scale,
            "paired": self.paired,
            "grouped": self.grouped,
            "excluded": self.excluded,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "PolicyTable":
        """Return the table that a document holds.

        Raises:
            InvalidInputError: it is no table.
        """
        try:
            body = dict(document)
            if body.pop("schema") != _SCHEMA:
                raise InvalidInputError(
                    f"Expected a policy table of schema {_SCHEMA}, got"
                    f" {document['schema']!r}."
                )
            body["arms"] = tuple(Arm.from_document(one) for one in body["arms"])
            body["features"] = tuple(FeatureScale(**one) for one in body["features"])
            body["posteriors"] = tuple(_belief(one) for one in body["posteriors"])
            body["reward"] = Reward(**body["reward"])
            return cls(**body)
        except ExplainError as error:
            raise InvalidInputError(
                f"Expected a policy table document of schema {_SCHEMA}: {error}"
            ) from error
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"Expected a policy table document of schema {_SCHEMA}, got one that"
                f" lacks fields or has others; write it with `affidavit learn`."
            ) from error

    @property
    def digest(self) -> str:
        """SHA-256 of the document as JSON with sorted keys, in hexadecimal."""
        return digest_of(self.document())


def _plain(belief: Posterior) -> dict[str, Any]:
    return {
        "records": belief.records,
        "mean": list(belief.mean),
        "covariance": [list(row) for row in belief.covariance],
        "noise": belief.noise,
    }


def _belief(document: Mapping[str, Any]) -> Posterior:
    body = dict(document)
    body["mean"] = tuple(float(part) for part in body["mean"])
    body["covariance"] = tuple(
        tuple(float(part) for part in row) for row in body["covariance"]
    )
    return Posterior(**body)
