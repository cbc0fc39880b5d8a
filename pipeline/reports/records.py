# SPDX-License-Identifier: Apache-2.0
"""What is declared of a model and its use, and the history of its versions."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pipeline.reports.abridging import abridged
from pipeline.reports.audit_facts import ThresholdPeriod
from pipeline.reports.inputs import ReportInputs

#: Longest histories in the document, the newest kept; what is left out is counted.
LISTED_VERSIONS = 50

#: Rules to which the sections of a report speak. Whether a rule is met is for people.
_PRODUCES_EVIDENCE_FOR: tuple[tuple[str, str, tuple[int, ...]], ...] = (
    (
        "GDPR Art. 15(1)(h) with Art. 22",
        "which procedure and parameters were actually applied, on which data",
        (3, 4, 5, 6),
    ),
    ("GDPR Art. 5(1)(e), 17, 25", "retention, erasure, pseudonyms", (12,)),
    (
        "GDPR Art. 30, 35",
        "what was processed, on which basis, with which limits",
        (2, 10, 12),
    ),
    (
        "HIPAA 45 CFR 164.312(b), (c)",
        "audit trail and integrity of the records",
        (13, 14),
    ),
    (
        "SR 26-2 (formerly SR 11-7)",
        "inventory, materiality tier, outcomes analysis, change, review",
        (2, 3, 6, 9, 11),
    ),
    (
        "EU AI Act Art. 12, 14, 15 (high-risk systems, once they apply)",
        "record keeping, human oversight, accuracy and robustness",
        (6, 7, 9, 13),
    ),
)


def use_part(inputs: ReportInputs) -> dict[str, Any]:
    """Return what the audit declares of the model's use and the legal basis."""
    record = _declared(inputs)
    privacy = inputs.spec.get("privacy")
    basis = privacy.get("legal_basis") if isinstance(privacy, Mapping) else None
    return {
        "owner": record.get("owner"),
        "tier": record.get("tier"),
        "intended_use": record.get("intended_use"),
        "not_intended": record.get("not_intended"),
        "reference": record.get("reference"),
        "legal_basis": basis,
        "produces_evidence_for": [
            {"rule": rule, "of": what, "sections": list(sections)}
            for rule, what, sections in _PRODUCES_EVIDENCE_FOR
        ],
    }


def _declared(inputs: ReportInputs) -> Mapping[str, Any]:
    model = inputs.spec.get("model")
    record = model.get("record") if isinstance(model, Mapping) else None
    return record if isinstance(record, Mapping) else {}


def model_record_part(inputs: ReportInputs) -> dict[str, Any]:
    """Return the model's line in an inventory: digest, versions, thresholds."""
    history = inputs.history
    models = history.models[-LISTED_VERSIONS:]
    thresholds = history.thresholds[-LISTED_VERSIONS:]
    return {
        "sha256": inputs.digests.model,
        "version": _declared(inputs).get("version"),
        "runs": history.runs,
        "runs_left_out": history.runs_left_out,
        "versions": [asdict(version) for version in models],
        "versions_left_out": len(history.models) - len(models),
        "thresholds": [_period(period) for period in thresholds],
        "thresholds_left_out": len(history.thresholds) - len(thresholds),
        "threshold_changes": max(0, len(history.thresholds) - 1),
        "changes_approved": sum(
            period.approval is not None for period in history.thresholds[1:]
        ),
        "approval_asked_for": history.has_principals,
    }


def _period(period: ThresholdPeriod) -> dict[str, Any]:
    return {
        "policy": period.policy,
        "parameters": abridged(period.parameters),
        "first_run": period.first_run,
        "first_at": period.first_at,
        "last_at": period.last_at,
        "runs": period.runs,
        "approval": None if period.approval is None else asdict(period.approval),
    }
