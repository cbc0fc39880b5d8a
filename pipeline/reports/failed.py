# SPDX-License-Identifier: Apache-2.0
"""Which items failed, as the report lists them."""

from typing import Any

from pipeline.reports.inputs import ReportInputs
from pipeline.reports.wording import reason_sentence

#: Failed items that a report lists; the rest are counted.
LISTED_FAILED = 100


def failed_part(inputs: ReportInputs) -> dict[str, Any]:
    """Return the first failed items in manifest order; the rest are counted."""
    listed = inputs.failed_items[:LISTED_FAILED]
    return {
        "listed": [
            {
                "item_index": item.item_index,
                "item_id": item.item_id,
                "name": item.name,
                "reason": item.reason,
                "sentence": reason_sentence(item.reason),
            }
            for item in listed
        ],
        "more": inputs.counts.failed - len(listed),
    }
