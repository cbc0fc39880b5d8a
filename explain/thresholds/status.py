# SPDX-License-Identifier: Apache-2.0
"""How a threshold went for one item."""

from enum import StrEnum


class ThresholdStatus(StrEnum):
    """Whether a map could be thresholded as asked, and if not, why."""

    #: The map holds NaN or infinity; nothing is kept.
    NON_FINITE = "non_finite"
    #: All positions are equal (all zero included), so none stands out; none is kept.
    CONSTANT_MAP = "constant_map"
    #: Fewer positions than requested are positive; all of them are kept.
    INSUFFICIENT_SUPPORT = "insufficient_support"
    #: No mask kept the asked share of the confidence; the best one is kept.
    Q_NOT_REACHED = "q_not_reached"
    #: The mask is what was asked for.
    OK = "ok"

    @property
    def code(self) -> int:
        """The status as a number, as it travels on a device."""
        return _CODES[self]


#: In the order of the enumeration: a code is a place in it.
STATUSES: tuple[ThresholdStatus, ...] = tuple(ThresholdStatus)
_CODES = {status: code for code, status in enumerate(STATUSES)}
