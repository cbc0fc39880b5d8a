# SPDX-License-Identifier: Apache-2.0
"""Human review in a report: what reviewers said of the audit's earlier reports.

A report cannot hold its own signature: it is signed once it is written.
"""

from collections.abc import Sequence
from dataclasses import asdict
from statistics import median
from typing import Any

from pipeline.reports.audit_facts import SignOffFact
from pipeline.reports.inputs import ReportInputs

#: Sign-offs and re-verifications that a report lists, the newest; the rest is counted.
LISTED_REVIEWS = 20

#: What a reviewer would say who agrees with the report's own verdict.
_AGREES = {"pass": "accept", "fail": "reject"}


def review_part(inputs: ReportInputs) -> dict[str, Any]:
    """Return agreement, overrides and time of the sign-offs of earlier reports."""
    said = inputs.history.sign_offs
    decided = [fact for fact in said if fact.report_verdict in _AGREES]
    agreed = sum(fact.verdict == _AGREES[fact.report_verdict] for fact in decided)
    return {
        "count": len(said),
        "accepted": sum(fact.verdict == "accept" for fact in said),
        "rejected": sum(fact.verdict == "reject" for fact in said),
        "with_verdict": len(decided),
        "agreed": agreed,
        "overrides": len(decided) - agreed,
        "median_hours": _median_hours(said),
        "listed": [
            {**asdict(fact), "hours": _hours(fact)} for fact in said[:LISTED_REVIEWS]
        ],
        "single_results": None,
    }


def _hours(fact: SignOffFact) -> float | None:
    if fact.run_finished_at is None:
        return None
    return max(0.0, fact.signed_at - fact.run_finished_at) / 3600


def _median_hours(said: Sequence[SignOffFact]) -> float | None:
    hours = [value for fact in said if (value := _hours(fact)) is not None]
    return median(hours) if hours else None


def reverified_part(inputs: ReportInputs) -> dict[str, Any]:
    """Return what came out when parts of earlier runs were computed again."""
    made = inputs.history.reverifications
    return {
        "count": len(made),
        "listed": [
            {
                "run": fact.run,
                "verdict": fact.verdict,
                "made_by": fact.made_by,
                "made_at": fact.made_at,
                "items": fact.facts["items"],
                "same": fact.facts["same"],
                "differing": fact.facts["differing"],
                "not_computed": fact.facts["not_computed"],
            }
            for fact in made[:LISTED_REVIEWS]
        ],
    }


def signatures_part(inputs: ReportInputs) -> dict[str, Any]:
    """Return how this report is signed, and that it was not when it was written."""
    return {
        "recorded": [],
        "signed_object": "the SHA-256 of the canonical JSON report",
        "command": f"affidavit sign-off {inputs.run_id} --verdict accept",
        "shown_by": f"affidavit verify {inputs.run_id}",
    }
