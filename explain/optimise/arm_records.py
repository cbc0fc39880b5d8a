# SPDX-License-Identifier: Apache-2.0
"""One arm's records, and how well a shrinkage serves them. No torch here."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from explain.optimise.posterior import posterior

Floats = npt.NDArray[np.float64]
Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class ArmRecords:
    """Design and rewards of the items that got an arm, and the groups they are of.

    Shape: design (M, F + 1), values (M,), owners (M,) or None.
    """

    design: Floats
    values: Floats
    owners: Whole | None

    def merit(self, shrinkage: float) -> float:
        """Return how well a shrinkage serves: the evidence, or minus an error.

        The error is that of each group's rewards as the other groups foretell them.
        """
        if self.owners is None:
            return posterior(self.design, self.values, shrinkage)[1]
        error = 0.0
        for group in np.unique(self.owners):
            out = self.owners == group
            others = posterior(self.design[~out], self.values[~out], shrinkage)[0]
            missed = self.values[out] - self.design[out] @ np.array(others.mean)
            error += float(missed @ missed)
        return -error
