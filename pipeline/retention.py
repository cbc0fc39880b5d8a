# SPDX-License-Identifier: Apache-2.0
"""How long a run is kept, and deleting it when its time is over.

What stays of a purged run are its row, its ledger entries and its digests: they say
that it was, and what came out, and nothing about any item.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.entries import Action
from pipeline.access.policy import RequestKind
from pipeline.access.second_word import require_second_word
from pipeline.deeds import record_deed
from pipeline.retention_classes import RETENTION_DAYS, Retention
from pipeline.services import Services
from pipeline.signing import seal
from storage.engine import epoch_now, reading, transaction
from storage.erasures import holds_on
from storage.errors import StateConflictError
from storage.events import record
from storage.retention import delete_rows, keep_as, kept_as, mark_purged, subjects_of
from storage.runs import get_run
from storage.scrubbing import scrub
from storage.states import FINAL_RUN_STATES
from storage.tables import ItemTable, LocationTable, RunTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """How long one run is kept.

    Attributes:
        run: The run's id.
        audit: Its audit's name.
        retention: Its class.
        due_at: When it may be purged; None while it is not final.
        held: Whether a legal hold keeps it beyond that.
        purged_at: When it was purged; None where it is there.
    """

    run: str
    audit: str
    retention: Retention
    due_at: float | None
    held: bool
    purged_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Purged:
    """What was deleted, or would be."""

    run: str
    items: int
    objects: int


def kept_run(session: Session, run: RunTable) -> Kept:
    """Return how long a run is kept, as its spec or a later decision says."""
    row = kept_as(session, run.id)
    spec = run.spec.get("privacy", {}).get("retention") or Retention.SIX_YEARS
    retention = Retention(row.retention if row and row.retention else spec)
    days = RETENTION_DAYS[retention]
    ended = run.finished_at if run.state in FINAL_RUN_STATES else None
    return Kept(
        run=run.id,
        audit=str(run.spec["audit"]),
        retention=retention,
        due_at=None if ended is None else ended + days * 86_400,
        held=bool(holds_on(session, [f"run/{run.id}"]))
        or bool(subjects_of(session, run.id, held=True)),
        purged_at=row.purged_at if row else None,
    )


def list_kept(services: Services) -> list[Kept]:
    """Return how long each run is kept, the oldest first; the reading is recorded."""
    record_deed(services, Action.RESULTS_READ, "retention")
    with reading(services.engine) as session:
        return [kept_run(session, run) for run in _runs(session)]


def _runs(session: Session) -> Iterator[RunTable]:
    yield from session.scalars(
        sa.select(RunTable).order_by(RunTable.created_at, RunTable.id)
    ).all()


def set_retention(services: Services, run_id: str, retention: Retention) -> Kept:
    """Return how long the run is kept from now on.

    Raises:
        AccessRefusedError: a second principal has not agreed yet.
        StateConflictError: the run is purged.
    """
    run = get_run(services.engine, run_id)
    with reading(services.engine) as session:
        before = kept_run(session, run)
    if before.purged_at is not None:
        raise StateConflictError(f"The run {run.id} is purged; nothing of it is kept.")
    obj = f"run/{run.id}"
    require_second_word(
        services, RequestKind.RETENTION, obj, {"retention": retention.value}
    )
    with transaction(services.engine) as session:
        keep_as(session, run.id, retention.value)
        record(
            session,
            Action.RETENTION_CHANGED,
            obj,
            actor=services.actor,
            details={"from": before.retention.value, "to": retention.value},
        )
        after = kept_run(session, run)
    seal(services)
    return after


def purge(
    services: Services, run_id: str | None = None, *, dry_run: bool = False
) -> list[Purged]:
    """Return the runs whose time is over, which are deleted unless this is a dry run.

    Args:
        services: Database and store.
        run_id: One run alone; None for all that are due.
        dry_run: Only say which.

    Raises:
        StateConflictError: the one run is not due yet, held, or purged already.
    """
    purged = []
    with reading(services.engine) as session:
        now = session.scalar(sa.select(epoch_now())) or 0.0
        runs = (
            [get_run(services.engine, run_id)]
            if run_id is not None
            else list(_runs(session))
        )
        kept = [kept_run(session, run) for run in runs]
    if run_id is not None:
        _require_due(kept[0], now)
    for run, facts in zip(runs, kept, strict=True):
        if facts.purged_at is not None:
            # What a crash left of an earlier purge.
            _delete_objects(services, run.id, dry_run=dry_run)
        elif facts.due_at is not None and facts.due_at <= now and not facts.held:
            purged.append(_purge_run(services, run, facts, dry_run=dry_run))
    if purged and not dry_run:
        scrub(services.engine, [ItemTable.__tablename__, LocationTable.__tablename__])
        seal(services)
    return purged


def _require_due(kept: Kept, now: float) -> None:
    import time  # noqa: PLC0415

    if kept.purged_at is not None:
        raise StateConflictError(f"The run {kept.run} is purged already.")
    if kept.due_at is None:
        raise StateConflictError(f"The run {kept.run} has not ended.")
    if kept.held:
        raise StateConflictError(
            f"The run {kept.run}, or a subject of it, is under a legal hold."
        )
    if kept.due_at > now:
        day = time.strftime("%Y-%m-%d", time.gmtime(kept.due_at))
        raise StateConflictError(
            f"The run {kept.run} is kept as '{kept.retention}' and may not be purged "
            f"before {day}."
        )


def _purge_run(
    services: Services, run: RunTable, kept: Kept, *, dry_run: bool
) -> Purged:
    """Return what is deleted: rows in one transaction, then every object's versions."""
    if dry_run:
        objects = _delete_objects(services, run.id, dry_run=True)
        return Purged(run=run.id, items=run.items_total, objects=objects)
    details: dict[str, Any] = {
        "retention": kept.retention.value,
        "items": run.items_total,
    }
    with transaction(services.engine) as session:
        # A hold may have come meanwhile.
        if kept_run(session, run).held:
            raise StateConflictError(f"The run {run.id} is under a legal hold now.")
        delete_rows(session, run.id)
        mark_purged(session, run.id)
        record(
            session,
            Action.RUN_PURGED,
            f"run/{run.id}",
            actor=services.actor,
            digest=run.result_digest,
            details=details,
        )
    objects = _delete_objects(services, run.id, dry_run=False)
    return Purged(run=run.id, items=run.items_total, objects=objects)


def _delete_objects(services: Services, run_id: str, *, dry_run: bool) -> int:
    keys = list(services.store.keys(f"runs/{run_id}/"))
    if not dry_run:
        for key in keys:
            services.store.erase(key)
    return len(keys)
