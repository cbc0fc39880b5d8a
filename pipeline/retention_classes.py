# SPDX-License-Identifier: Apache-2.0
"""The classes of retention: names for how long a run is kept after its end."""

from enum import StrEnum

#: Nothing is kept for less: logs of high-risk systems are kept for half a year.
FLOOR_DAYS = 183


class Retention(StrEnum):
    """How long a run is kept."""

    HALF_YEAR = "half_year"
    TWENTY_FIVE_MONTHS = "twenty_five_months"
    SIX_YEARS = "six_years"
    TEN_YEARS = "ten_years"


#: Days after the end of a run before it may be purged.
RETENTION_DAYS: dict[Retention, int] = {
    Retention.HALF_YEAR: FLOOR_DAYS,
    Retention.TWENTY_FIVE_MONTHS: 761,
    Retention.SIX_YEARS: 2192,
    Retention.TEN_YEARS: 3653,
}
