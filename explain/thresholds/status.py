# SPDX-License-Identifier: Apache-2.0
"""How a threshold went for one item."""

from enum import StrEnum


class ThresholdStatus(StrEnum):
    """Whether a map could be thresholded as asked, and if not, why."""

    #: The requested number of positions is kept.
    OK = "ok"
    #: Fewer positions than requested are positive; all of them are kept.
    INSUFFICIENT_SUPPORT = "insufficient_support"
    #: All positions are equal (all zero included), so none stands out; none is kept.
    CONSTANT_MAP = "constant_map"
    #: The map holds NaN or infinity; nothing is kept.
    NON_FINITE = "non_finite"
