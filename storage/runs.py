# SPDX-License-Identifier: Apache-2.0
"""Runs as rows: made in one transaction, found, counted, stopped, resumed."""

from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.entries import Action
from storage.engine import epoch_now, reading, transaction
from storage.errors import StateConflictError, UnknownRunError
from storage.events import record
from storage.locks import Lock, hold
from storage.states import FINAL_RUN_STATES, OPEN_RUN_STATES, RunState, ShardState
from storage.subjects import new_token
from storage.suspects import forget_suspects
from storage.tables import AuditTable, RunTable, ShardTable


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is, counted from its shards."""

    shards: dict[str, int]
    items_total: int
    items_done: int
    oldest_pending_s: float | None
    not_before_s: float | None


def add_audit(
    session: Session, *, name: str, spec: dict[str, Any], spec_digest: str
) -> str:
    """Return the id of the audit with this name and spec, made if it is new.

    The digest leaves out where and when, so specs of one digest may differ; the report
    shows the whole spec, hence each has its own row.
    """
    found = _find_audit(session, name, spec, spec_digest)
    if found is None:
        hold(session, Lock.AUDIT, f"{name}/{spec_digest}")
        found = _find_audit(session, name, spec, spec_digest)
    if found is not None:
        return found
    audit_id = new_token()
    session.execute(
        sa.insert(AuditTable).values(
            id=audit_id,
            name=name,
            spec=spec,
            spec_digest=spec_digest,
            created_at=epoch_now(),
        )
    )
    return audit_id


def _find_audit(
    session: Session, name: str, spec: dict[str, Any], spec_digest: str
) -> str | None:
    rows = session.execute(
        sa.select(AuditTable.id, AuditTable.spec)
        .where(AuditTable.name == name, AuditTable.spec_digest == spec_digest)
        .order_by(AuditTable.created_at, AuditTable.id)
    )
    return next((row.id for row in rows if row.spec == spec), None)


def add_run(session: Session, values: dict[str, Any]) -> str:
    """Return the id of a new queued run; counts are filled in by `complete_plan`."""
    # 12 hexadecimal digits are typed by people; 48 bits do not collide here.
    run_id = new_token()[:12]
    session.execute(
        sa.insert(RunTable).values(
            id=run_id,
            state=RunState.QUEUED,
            created_at=epoch_now(),
            items_total=0,
            shards_total=0,
            manifest_digest="",
            not_comparable=False,
            finaliser_attempt=0,
            **values,
        )
    )
    return run_id


def complete_plan(
    session: Session,
    run_id: str,
    *,
    items_total: int,
    shard_size: int,
    max_attempts: int,
    manifest_digest: str,
    actor: str,
    details: dict[str, Any],
) -> None:
    """The run has its shards and its counts, and the ledger knows of it."""
    rows = [
        {
            "run_id": run_id,
            "shard_index": index,
            "first_item": first,
            "item_count": min(shard_size, items_total - first),
            "state": ShardState.PENDING.value,
            "attempt": 0,
            "max_attempts": max_attempts,
            "batches_done": 0,
        }
        for index, first in enumerate(range(0, items_total, shard_size))
    ]
    for start in range(0, len(rows), 1000):
        session.execute(sa.insert(ShardTable), rows[start : start + 1000])
    session.execute(
        sa.update(RunTable)
        .where(RunTable.id == run_id)
        .values(
            items_total=items_total,
            shards_total=len(rows),
            manifest_digest=manifest_digest,
        )
        .execution_options(synchronize_session=False)
    )
    record(
        session,
        Action.RUN_PLANNED,
        f"run/{run_id}",
        actor=actor,
        digest=manifest_digest,
        details={"items": items_total, "shards": len(rows), **details},
    )


def note_origin(session: Session, run_id: str, origin: dict[str, Any]) -> None:
    """The run says where it comes from."""
    session.execute(
        sa.update(RunTable)
        .where(RunTable.id == run_id)
        .values(origin=origin)
        .execution_options(synchronize_session=False)
    )


def get_run(engine: sa.Engine, prefix: str) -> RunTable:
    """Return the run whose id begins with the prefix; `latest` is the newest.

    Raises:
        UnknownRunError: no run matches, or several do.
    """
    run_id = find_run(engine, prefix)
    with reading(engine) as session:
        return session.get_one(RunTable, run_id)


def find_run(engine: sa.Engine, prefix: str) -> str:
    """Return the id of the run that begins with the prefix; `latest` is the newest.

    Raises:
        UnknownRunError: no run matches, or several do.
    """
    with reading(engine) as session:
        if prefix == "latest":
            query = sa.select(RunTable.id).order_by(RunTable.created_at.desc()).limit(1)
        else:
            query = (
                sa.select(RunTable.id)
                .where(RunTable.id.startswith(prefix, autoescape=True))
                .limit(2)
            )
        runs = list(session.scalars(query))
    if len(runs) == 1:
        return runs[0]
    if not runs:
        raise UnknownRunError(_unknown(prefix))
    raise UnknownRunError(
        f"Several runs begin with '{prefix}'; give more of the run's id."
    )


def _unknown(prefix: str) -> str:
    if prefix == "latest":
        return "There are no runs yet; start one with 'affidavit run SPEC'."
    return f"No run has the id '{prefix}'; 'affidavit status' lists the runs."


def list_runs(engine: sa.Engine, *, limit: int = 20) -> list[RunTable]:
    """Return the newest runs first."""
    with reading(engine) as session:
        return list(
            session.scalars(
                sa.select(RunTable).order_by(RunTable.created_at.desc()).limit(limit)
            )
        )


def list_shards(engine: sa.Engine, run_id: str) -> list[ShardTable]:
    """Return the shards of a run in order."""
    with reading(engine) as session:
        return list(
            session.scalars(
                sa.select(ShardTable)
                .where(ShardTable.run_id == run_id)
                .order_by(ShardTable.shard_index)
            )
        )


def get_progress(engine: sa.Engine, run: RunTable) -> Progress:
    """Return how far the run is."""
    with reading(engine) as session:
        through = ShardTable.batches_done * int(run.plan["batch_size"])
        whole = ShardTable.item_count
        rows = session.execute(
            sa.select(
                ShardTable.state,
                sa.func.count().label("shards"),
                sa.func.sum(ShardTable.item_count).label("items"),
                # The last batch of a shard may not be full.
                sa.func.sum(sa.case((through < whole, through), else_=whole)).label(
                    "through"
                ),
                sa.func.min(ShardTable.dispatched_at).label("oldest"),
                sa.func.min(ShardTable.not_before - epoch_now()).label("wait"),
            )
            .where(ShardTable.run_id == run.id)
            .group_by(ShardTable.state)
        ).all()
        now = session.scalar(sa.select(epoch_now())) or 0.0
    done = sum(int(row.items) for row in rows if row.state == ShardState.DONE)
    under_way = sum(int(row.through) for row in rows if row.state == ShardState.RUNNING)
    pending = [row for row in rows if row.state == ShardState.PENDING]
    oldest = min((row.oldest for row in pending if row.oldest), default=None)
    waits = [float(row.wait) for row in pending if row.wait is not None]
    return Progress(
        shards={row.state: int(row.shards) for row in rows},
        items_total=run.items_total,
        items_done=done + under_way,
        oldest_pending_s=None if oldest is None else now - oldest,
        not_before_s=min(waits, default=None),
    )


def stop_run(
    engine: sa.Engine, run_id: str, state: RunState, *, action: Action, actor: str
) -> None:
    """No more shards are claimed; running ones stop at their next heartbeat.

    A paused run can still be cancelled.

    Raises:
        StateConflictError: the run is already final, or its report is being written.
        UnknownRunError: there is no such run.
    """
    cancels = state == RunState.CANCELLED
    _move(
        engine,
        run_id,
        allowed=OPEN_RUN_STATES | ({RunState.PAUSED} if cancels else set()),
        state=state,
        action=action,
        actor=actor,
        verb="stopped",
    )


def resume_run(engine: sa.Engine, run_id: str, *, actor: str) -> None:
    """A stopped, paused or failed run is open again and goes on with what is left.

    Raises:
        StateConflictError: the run was not interrupted, paused, cancelled or failed.
        UnknownRunError: there is no such run.
    """
    _move(
        engine,
        run_id,
        allowed={
            RunState.INTERRUPTED,
            RunState.PAUSED,
            RunState.CANCELLED,
            RunState.FAILED,
        },
        state=RunState.QUEUED,
        action=Action.RUN_RESUMED,
        actor=actor,
        verb="resumed",
    )


def _move(
    engine: sa.Engine,
    run_id: str,
    *,
    allowed: set[RunState] | frozenset[RunState],
    state: RunState,
    action: Action,
    actor: str,
    verb: str,
) -> None:
    with transaction(engine) as session:
        moved = session.execute(
            sa.update(RunTable)
            .where(RunTable.id == run_id, RunTable.state.in_(allowed))
            .values(state=state, error=None)
            .returning(RunTable.id)
            .execution_options(synchronize_session=False)
        ).one_or_none()
        if moved is None:
            now = session.scalar(sa.select(RunTable.state).where(RunTable.id == run_id))
            if now is None:
                raise UnknownRunError(_unknown(run_id))
            raise StateConflictError(
                f"The run {run_id} is {now} and cannot be {verb}; that needs one of: "
                f"{', '.join(sorted(allowed))}."
            )
        record(session, action, f"run/{run_id}", actor=actor)


def retry_dead_shards(
    engine: sa.Engine, run_id: str, *, attempts: int, actor: str
) -> int:
    """Dead shards are pending again with fresh attempts; return how many.

    Raises:
        StateConflictError: the run has no dead shards, was stopped by its user, or is
            being finalised.
    """
    with transaction(engine) as session:
        state = lock_run(session, run_id)
        if state in {RunState.CANCELLED, RunState.INTERRUPTED, RunState.PAUSED}:
            # Opened again, it would go on with all that was stopped as well.
            raise StateConflictError(
                f"The run {run_id} is {state}; go on with it first: 'affidavit resume "
                f"{run_id}', then retry the shards that are dead."
            )
        if state == RunState.FINALISING:
            raise StateConflictError(
                f"The run {run_id} is finalising; retry its dead shards when its "
                "report is written."
            )
        revived = session.execute(
            sa.update(ShardTable)
            .where(ShardTable.run_id == run_id, ShardTable.state == ShardState.DEAD)
            .values(
                state=ShardState.PENDING,
                max_attempts=ShardTable.attempt + attempts,
                not_before=None,
                dispatched_at=None,
                hints=0,
                deaths=0,
                failures=0,
            )
            .returning(ShardTable.id)
            .execution_options(synchronize_session=False)
        ).all()
        forget_suspects(session, [row.id for row in revived])
        if not revived:
            raise StateConflictError(f"The run {run_id} has no dead shards to retry.")
        session.execute(
            sa.update(RunTable)
            .where(RunTable.id == run_id, RunTable.state.in_(FINAL_RUN_STATES))
            .values(state=RunState.QUEUED, error=None, finished_at=None)
            .execution_options(synchronize_session=False)
        )
        record(
            session,
            Action.RUN_RETRIED,
            f"run/{run_id}",
            actor=actor,
            details={"shards": len(revived)},
        )
    return len(revived)


def lock_run(session: Session, run_id: str) -> str | None:
    """Return the run's state, which nobody else changes until the transaction ends.

    Whoever decides about a run by looking at its shards takes this lock first: the
    next statement then sees all that the former holder did to them.
    """
    return session.scalar(
        sa.select(RunTable.state).where(RunTable.id == run_id).with_for_update()
    )
