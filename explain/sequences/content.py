# SPDX-License-Identifier: Apache-2.0
"""One sequence as numbers, and what its units are. No torch here."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from explain.sequences.choices import FEATURE, MEAN, STEP, ZERO


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SequenceContent:
    """One sequence.

    Attributes:
        values: As the network takes them, normalised.
        per: What a unit is, of ``PER``.
        baseline: What a closed gate shows of each feature, at every step.

    Shape: values (T, F) float32, baseline (F,) float32.
    """

    values: npt.NDArray[np.float32]
    per: str
    baseline: npt.NDArray[np.float32]

    @property
    def units(self) -> tuple[int, int]:
        """(1, T), (F, 1) or (F, T), as ``per`` says."""
        steps, features = self.values.shape
        rows = 1 if self.per == STEP else features
        return rows, 1 if self.per == FEATURE else steps

    @classmethod
    def of(
        cls,
        values: npt.NDArray[np.float32],
        *,
        per: str = STEP,
        baseline: str = ZERO,
    ) -> "SequenceContent":
        """Return the content of normalised values.

        Shape: values (T, F), neither of them 0.
        """
        shown = np.zeros(values.shape[1], dtype=np.float32)
        if baseline == MEAN:
            shown = values.mean(axis=0, dtype=np.float64).astype(np.float32)
        return cls(values=values, per=per, baseline=shown)
