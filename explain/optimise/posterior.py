# SPDX-License-Identifier: Apache-2.0
"""Bayesian linear regression: what is believed of an arm's reward, and how firmly.

With rows x of the design (a one, then the standardised features):

    y = x w + e,  e ~ N(0, s^2),  w ~ N(0, s^2 P^-1),  s^2 ~ IG(a, b)
    P_n = P + X'X,  m_n = P_n^-1 X'y
    a_n = a + n / 2,  b_n = b + (y'y - m_n'P_n m_n) / 2

P is 1 for the intercept and the shrinkage for each feature. The evidence (the marginal
likelihood) says how well a shrinkage fits the records, up to one under which features
count for nothing.

Source: Bishop 2006, Pattern Recognition and Machine Learning, section 3.5 and
exercise 3.12; Riquelme, Tucker and Snoek 2018, "Deep Bayesian bandits showdown",
section 3 (linear methods).
"""

from dataclasses import dataclass
from math import lgamma, log, pi

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

#: Shape and scale of the prior of the noise: a variance of 1 (the rewards are scaled
#: to it) that four records outweigh.
_SHAPE, _SCALE = 2.0, 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Posterior:
    """Belief about one arm's reward, Gaussian and linear in the features.

    Attributes:
        records: How many rewards it was fitted on.
        mean: Of the weights, (F + 1,), the intercept first.
        covariance: Of the weights, (F + 1, F + 1), at the expected noise.
        noise: Expected variance of a reward about its line.
    """

    records: int
    mean: tuple[float, ...]
    covariance: tuple[tuple[float, ...], ...]
    noise: float


def posterior(
    design: Floats, rewards: Floats, shrinkage: float
) -> tuple[Posterior, float]:
    """Return the belief after the records, and the logarithm of their evidence.

    No records give the prior, and an evidence of 0.

    Shape: design (M, F + 1), rewards (M,).
    """
    records, width = design.shape
    prior = np.full(width, shrinkage)
    prior[0] = 1.0
    precision = np.diag(prior) + design.T @ design
    mean = np.linalg.solve(precision, design.T @ rewards)
    residual = float(rewards @ rewards - mean @ precision @ mean)
    shape, scale = _SHAPE + records / 2, _SCALE + max(residual, 0.0) / 2
    noise = scale / (shape - 1)
    inverse = np.linalg.inv(precision)
    covariance = noise * (inverse + inverse.T) / 2
    evidence = (
        -records / 2 * log(2 * pi)
        + (np.log(prior).sum() - np.linalg.slogdet(precision)[1]) / 2
        + _SHAPE * log(_SCALE)
        - shape * log(scale)
        + lgamma(shape)
        - lgamma(_SHAPE)
    )
    belief = Posterior(
        records=records,
        mean=tuple(float(part) for part in mean),
        covariance=tuple(tuple(float(part) for part in row) for row in covariance),
        noise=float(noise),
    )
    return belief, float(evidence)
