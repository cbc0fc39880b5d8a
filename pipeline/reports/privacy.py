# SPDX-License-Identifier: Apache-2.0
"""Privacy in a report: identifiers removed, time of keeping, and erasures."""

from collections.abc import Mapping
from typing import Any

from pipeline.errors import Reason
from pipeline.reports.inputs import ReportInputs
from pipeline.retention_classes import RETENTION_DAYS, Retention


def privacy_part(inputs: ReportInputs) -> dict[str, Any]:
    """Return what the audit's spec and the run's counts say of persons."""
    columns = _section(_section(inputs.spec, "data"), "columns")
    retention = Retention(
        _section(inputs.spec, "privacy").get("retention") or Retention.SIX_YEARS
    )
    named = columns.get("subject") is not None
    return {
        "subjects_named": named,
        "removed": _removed(columns) if named else [],
        "gallery": inputs.gallery_mode,
        "retention": retention.value,
        "retention_days": RETENTION_DAYS[retention],
        "erased_items": inputs.counts.failures.get(Reason.SUBJECT_ERASED, 0),
        "erased_since": 0,
    }


def _removed(columns: Mapping[str, Any]) -> list[str]:
    removed = [
        "the subject, replaced by a random token",
        "file names and addresses, replaced by random tokens",
        "digests of inputs, salted in artifacts",
    ]
    if columns.get("groups"):
        removed.append("values of group columns, replaced by random tokens")
    return removed


def _section(value: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = value.get(name)
    return part if isinstance(part, Mapping) else {}
