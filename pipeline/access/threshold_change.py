# SPDX-License-Identifier: Apache-2.0
"""A principal changes the threshold of an audit only with a second one's word."""

from typing import Any

import sqlalchemy as sa

from pipeline.access.policy import RequestKind
from pipeline.access.second_word import require_second_word
from pipeline.services import Services
from storage.engine import reading
from storage.tables import AuditTable, RunTable


def require_threshold_word(
    services: Services,
    audit: str,
    *,
    planned: dict[str, Any] | None = None,
    written: dict[str, Any] | None = None,
) -> None:
    """Nothing happens if the threshold is that of the audit's last run, or agreed to.

    The first run of an audit sets it, and changes nothing. Given is one of two:

    Args:
        services: Who is at work.
        audit: Name of the audit.
        planned: Policy and arguments as resolved, documents included.
        written: The spec's section, where nothing is resolved yet.

    Raises:
        AccessRefusedError: it is another one and nobody has agreed yet.
    """
    if services.principal is None:
        return
    with reading(services.engine) as session:
        row = session.execute(
            sa.select(RunTable.plan, AuditTable.spec)
            .join(AuditTable, AuditTable.id == RunTable.audit_id)
            .where(AuditTable.name == audit, RunTable.parent_run_id.is_(None))
            .order_by(RunTable.created_at.desc(), RunTable.id)
            .limit(1)
        ).first()
    if row is None:
        return
    if planned is not None:
        before = threshold_of(row.plan)
        now = planned
    else:
        before, now = row.spec["threshold"], written or {}
    if before != now:
        require_second_word(
            services,
            RequestKind.THRESHOLD,
            audit_object(audit),
            {"threshold": now},
        )


def threshold_of(plan: dict[str, Any]) -> dict[str, Any]:
    """Return the threshold of a plan."""
    return {"policy": plan["policy"], "arguments": plan["policy_arguments"]}


def audit_object(audit: str) -> str:
    """Return what the ledger calls the audit."""
    return f"audit/{audit.replace(' ', '_')}"
