# SPDX-License-Identifier: Apache-2.0
"""The records of an audit up to one of its runs, drawn from the database for a report.

What came after the run was planned is of no concern to its report, but for reviews and
re-verifications of earlier runs: these are told as they are when it is written.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import sqlalchemy as sa

from ledger.checkpoint import read_unverified
from ledger.errors import BrokenLedgerError, LedgerError
from pipeline.access.authentication import has_principals
from pipeline.access.second_word import approvals_of
from pipeline.access.threshold_change import audit_object
from pipeline.digests import document_digest
from pipeline.reports.audit_facts import (
    Approval,
    AuditHistory,
    ModelVersion,
    ReverificationFact,
    SignOffFact,
    ThresholdPeriod,
)
from pipeline.services import Services
from storage.engine import reading
from storage.ledger_writer import latest_checkpoint, ledger_size
from storage.reviews import audit_reverifications, audit_sign_offs
from storage.tables import AuditTable, ChangeRequestTable, RunTable

#: Runs of the audit that are looked at, the newest.
MOST_RUNS = 1000
#: Sign-offs and re-verifications that are looked at, the newest.
MOST_REVIEWS = 1000


class _Run(NamedTuple):
    """What a history needs of one run."""

    id: str
    created_at: float
    model_digest: str
    model: dict[str, Any]
    threshold: dict[str, Any]
    policy: str
    policy_arguments: dict[str, Any]


def audit_history(services: Services, run: RunTable) -> AuditHistory:
    """Return what the records say of the run's audit, up to this run.

    Raises:
        StorageError: the database failed.
    """
    audit = str(run.spec["audit"])
    runs = _runs(services, audit, run.created_at)
    left_out = len(runs) > MOST_RUNS
    runs = runs[-MOST_RUNS:]
    approvals = approvals_of(services, audit_object(audit))
    signed = audit_sign_offs(services.engine, audit, most=MOST_REVIEWS)
    again = audit_reverifications(services.engine, audit, most=MOST_REVIEWS)
    return AuditHistory(
        runs=len(runs),
        runs_left_out=left_out,
        models=_models(runs),
        thresholds=_thresholds(audit, runs, approvals),
        sign_offs=[
            SignOffFact(
                run=row.run_id,
                verdict=row.verdict,
                report_verdict=row.report_verdict,
                report_sha256=row.report_sha256,
                signed_by=row.signed_by,
                signed_at=row.signed_at,
                run_finished_at=finished,
            )
            for row, finished in signed
        ],
        reverifications=[
            ReverificationFact(
                run=row.run_id,
                verdict=row.verdict,
                made_by=row.made_by,
                made_at=row.made_at,
                facts=row.facts,
            )
            for row in again
        ],
        has_principals=has_principals(services),
        ledger_size=_ledger_size(services),
        signed_size=_signed_size(services),
    )


def _runs(services: Services, audit: str, until: float) -> list[_Run]:
    """Return the runs of the audit, the oldest first, one more than are looked at.

    Runs over the failed items of another have its spec and say nothing new.
    """
    with reading(services.engine) as session:
        rows = session.execute(
            sa.select(
                RunTable.id,
                RunTable.created_at,
                RunTable.model_digest,
                AuditTable.spec["model"],
                AuditTable.spec["threshold"],
                RunTable.plan["policy"].as_string(),
                RunTable.plan["policy_arguments"],
            )
            .join(AuditTable, AuditTable.id == RunTable.audit_id)
            .where(
                AuditTable.name == audit,
                RunTable.created_at <= until,
                RunTable.parent_run_id.is_(None),
            )
            .order_by(RunTable.created_at.desc(), RunTable.id.desc())
            .limit(MOST_RUNS + 1)
        ).all()
    return [
        _Run(id_, at, digest, model or {}, threshold or {}, policy, arguments)
        for id_, at, digest, model, threshold, policy, arguments in reversed(rows)
    ]


def _models(runs: Sequence[_Run]) -> list[ModelVersion]:
    """Return the weights that the runs had, by their first run."""
    found: dict[str, ModelVersion] = {}
    for run in runs:
        declared = (run.model.get("record") or {}).get("version")
        known = found.get(run.model_digest)
        found[run.model_digest] = (
            ModelVersion(
                sha256=run.model_digest,
                source=str(run.model.get("source", "")),
                version=declared,
                first_run=run.id,
                first_at=run.created_at,
                last_at=run.created_at,
                runs=1,
            )
            if known is None
            else replace(
                known,
                version=declared or known.version,
                last_at=run.created_at,
                runs=known.runs + 1,
            )
        )
    return list(found.values())


def _thresholds(
    audit: str, runs: Sequence[_Run], approvals: Sequence[ChangeRequestTable]
) -> list[ThresholdPeriod]:
    """Return the periods of one threshold, each change with who agreed to it."""
    periods: list[ThresholdPeriod] = []
    for run in runs:
        last = periods[-1] if periods else None
        now = (run.policy, run.policy_arguments)
        if last is not None and (last.policy, last.parameters) == now:
            periods[-1] = replace(last, last_at=run.created_at, runs=last.runs + 1)
            continue
        periods.append(
            ThresholdPeriod(
                policy=run.policy,
                parameters=run.policy_arguments,
                first_run=run.id,
                first_at=run.created_at,
                last_at=run.created_at,
                runs=1,
                approval=None if last is None else _approval(audit, run, approvals),
            )
        )
    return periods


def _approval(
    audit: str, run: _Run, approvals: Sequence[ChangeRequestTable]
) -> Approval | None:
    """Return the last word that was given for exactly this threshold before the run.

    What is agreed to is the threshold as resolved, or that of a schedule as written.
    """
    planned = {"policy": run.policy, "arguments": run.policy_arguments}
    digests = {
        document_digest({"object": audit_object(audit), "change": {"threshold": said}})
        for said in (planned, run.threshold)
    }
    given = [
        row
        for row in approvals
        if row.digest in digests
        and row.decided_by is not None
        and (row.decided_at or 0.0) <= run.created_at
    ]
    if not given:
        return None
    last = given[-1]
    return Approval(
        request=last.id,
        requested_by=last.requested_by,
        approved_by=str(last.decided_by),
        approved_at=last.decided_at,
    )


def _ledger_size(services: Services) -> int | None:
    """Return the ledger's length; one that is broken is for `verify` to name."""
    try:
        return ledger_size(services.engine)
    except BrokenLedgerError:
        return None


def _signed_size(services: Services) -> int | None:
    """Return how many entries the newest checkpoint covers, None without one."""
    note = latest_checkpoint(services.engine)
    if note is None:
        return None
    try:
        return read_unverified(note).size
    except LedgerError:
        return None
