# SPDX-License-Identifier: Apache-2.0
"""Incidents: the clock that awareness starts, and whom they affect."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa

from ledger.entries import Action
from pipeline.deeds import record_deed
from pipeline.errors import SpecError
from pipeline.services import Services
from pipeline.signing import seal
from storage.engine import epoch_now, reading, transaction
from storage.errors import UnknownRequestError
from storage.events import record
from storage.privacy_states import IncidentKind
from storage.runs import get_run
from storage.subjects import new_token
from storage.tables import IncidentTable, LocationTable


def open_incident(
    services: Services, kind: IncidentKind, *, aware_at: str | None = None
) -> dict[str, Any]:
    """Return the incident, whose clock runs since somebody became aware of it.

    Args:
        services: The database.
        kind: What may have happened.
        aware_at: RFC 3339; None for now.

    Raises:
        SpecError: the moment is none, or lies ahead.
    """
    with transaction(services.engine) as session:
        now = session.scalar(sa.select(epoch_now())) or 0.0
        aware = now if aware_at is None else _moment(aware_at)
        if aware > now + 60:
            raise SpecError("--aware-at lies ahead; nobody is aware of it yet.")
        row = IncidentTable(
            id=new_token()[:12],
            kind=kind.value,
            aware_at=aware,
            deadline_at=aware + services.settings.breach_hours * 3600,
            opened_by=services.actor,
        )
        session.add(row)
        record(
            session,
            Action.INCIDENT_OPENED,
            f"incident/{row.id}",
            actor=services.actor,
            details={"kind": kind.value, "hours": services.settings.breach_hours},
        )
    seal(services)
    return _document(row, now)


def close_incident(services: Services, incident: str) -> dict[str, Any]:
    """Return the incident, which was told to the authority and is closed.

    Raises:
        UnknownRequestError: there is none with that id.
    """
    with transaction(services.engine) as session:
        row = session.get(IncidentTable, incident)
        if row is None:
            raise UnknownRequestError(
                f"No incident has the id '{incident}'; 'affidavit incident list' shows "
                "all."
            )
        now = session.scalar(sa.select(epoch_now())) or 0.0
        row.notified_at, row.closed_at = now, now
        record(
            session,
            Action.INCIDENT_CLOSED,
            f"incident/{row.id}",
            actor=services.actor,
            details={"in_time": now <= row.deadline_at},
        )
    seal(services)
    return _document(row, now)


def list_incidents(services: Services) -> list[dict[str, Any]]:
    """Return all incidents, the newest first; that they were read is recorded."""
    record_deed(services, Action.INCIDENT_READ, "incidents")
    with reading(services.engine) as session:
        now = session.scalar(sa.select(epoch_now())) or 0.0
        rows = session.scalars(
            sa.select(IncidentTable).order_by(IncidentTable.aware_at.desc())
        ).all()
    return [_document(row, now) for row in rows]


def affected(services: Services, runs: Sequence[str]) -> dict[str, Any]:
    """Return whom the runs are about, by tokens; that it was asked is recorded.

    Raises:
        UnknownRunError: there is no such run.
    """
    ids = [get_run(services.engine, run).id for run in runs]
    record_deed(
        services, Action.INCIDENT_READ, "incidents/affected", details={"runs": ids}
    )
    with reading(services.engine) as session:
        rows = session.execute(
            sa.select(LocationTable.subject_token, sa.func.count())
            .where(
                LocationTable.run_id.in_(ids),
                LocationTable.subject_token.is_not(None),
                LocationTable.erased_place.is_(None),
            )
            .group_by(LocationTable.subject_token)
            .order_by(LocationTable.subject_token)
        ).all()
    return {
        "runs": ids,
        "subjects": [{"subject": row[0], "items": int(row[1])} for row in rows],
        "count": len(rows),
    }


def _moment(text: str) -> float:
    try:
        found = datetime.fromisoformat(text)
    except ValueError as exc:
        raise SpecError(
            "--aware-at is no moment, such as 2026-01-31T09:00:00Z."
        ) from exc
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _document(row: IncidentTable, now: float) -> dict[str, Any]:
    return {
        "incident": row.id,
        "kind": row.kind,
        "aware_at": row.aware_at,
        "deadline_at": row.deadline_at,
        "hours_left": None
        if row.closed_at is not None
        else round((row.deadline_at - now) / 3600, 2),
        "overdue": row.closed_at is None and now > row.deadline_at,
        "closed_at": row.closed_at,
    }
