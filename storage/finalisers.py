# SPDX-License-Identifier: Apache-2.0
"""The finaliser's lease on a run: claimed, renewed, given back, ended under its fence.

It works as a shard's lease does: each claim counts an attempt, that number is the
fence, and whatever a finaliser writes later is written only where the row still
carries it.
"""

from typing import Any

import sqlalchemy as sa

from ledger.entries import Action
from storage.engine import epoch_now, reading, transaction
from storage.errors import FencedOutError
from storage.events import record
from storage.runs import lock_run
from storage.states import OPEN_RUN_STATES, RunState, ShardState
from storage.tables import RunTable, ShardTable


def finalisable_runs(engine: sa.Engine) -> list[str]:
    """Return the runs whose shards are all final but which are not."""
    with reading(engine) as session:
        return list(
            session.scalars(
                sa.select(RunTable.id).where(
                    RunTable.state.in_([*OPEN_RUN_STATES, RunState.FINALISING]),
                    ~_unfinished(),
                )
            )
        )


def claim_finaliser(engine: sa.Engine, run_id: str, *, lease_s: float) -> int | None:
    """Return the finaliser's fence if every shard is final, else None."""
    free = sa.or_(
        RunTable.state.in_(OPEN_RUN_STATES),
        sa.and_(
            RunTable.state == RunState.FINALISING,
            RunTable.finaliser_lease_until < epoch_now(),
        ),
    )
    with transaction(engine) as session:
        lock_run(session, run_id)
        return session.execute(
            sa.update(RunTable)
            .where(RunTable.id == run_id, free, ~_unfinished())
            .values(
                state=RunState.FINALISING,
                finaliser_lease_until=epoch_now() + lease_s,
                finaliser_attempt=RunTable.finaliser_attempt + 1,
            )
            .returning(RunTable.finaliser_attempt)
            .execution_options(synchronize_session=False)
        ).scalar_one_or_none()


def _unfinished() -> sa.Exists:
    return (
        sa.select(ShardTable.id)
        .where(
            ShardTable.run_id == RunTable.id,
            ShardTable.state.in_([ShardState.PENDING, ShardState.RUNNING]),
        )
        .exists()
    )


def _owned(run_id: str, fence: int) -> sa.ColumnElement[bool]:
    return sa.and_(
        RunTable.id == run_id,
        RunTable.state == RunState.FINALISING,
        RunTable.finaliser_attempt == fence,
    )


def renew_finaliser(
    engine: sa.Engine, run_id: str, *, fence: int, lease_s: float
) -> None:
    """The finaliser's lease ends that many seconds from now.

    Raises:
        FencedOutError: another finaliser has taken over.
    """
    with transaction(engine) as session:
        row = session.execute(
            sa.update(RunTable)
            .where(_owned(run_id, fence))
            .values(finaliser_lease_until=epoch_now() + lease_s)
            .returning(RunTable.id)
            .execution_options(synchronize_session=False)
        ).one_or_none()
    if row is None:
        raise FencedOutError(f"Another finaliser owns run {run_id}.")


def finish_run(
    engine: sa.Engine,
    run_id: str,
    *,
    fence: int,
    state: RunState,
    result_digest: str | None,
    summary: dict[str, Any],
    report: dict[str, Any],
    actor: str,
) -> None:
    """The run is final, with its digest, summary and ledger entries, all at once.

    Raises:
        FencedOutError: another finaliser has taken over; nothing was written.
    """
    with transaction(engine) as session:
        row = session.execute(
            sa.update(RunTable)
            .where(_owned(run_id, fence))
            .values(
                state=state,
                finished_at=epoch_now(),
                finaliser_lease_until=None,
                result_digest=result_digest,
                summary=summary,
            )
            .returning(RunTable.id)
            .execution_options(synchronize_session=False)
        ).one_or_none()
        if row is None:
            raise FencedOutError(f"Another finaliser owns run {run_id}.")
        record(
            session,
            Action.REPORT_WRITTEN,
            f"run/{run_id}",
            actor=actor,
            digest=report["json_sha256"],
            details=report,
        )
        record(
            session,
            Action.RUN_FINALISED,
            f"run/{run_id}",
            actor=actor,
            digest=result_digest,
            details={"state": state.value},
        )


def fail_run(
    engine: sa.Engine, run_id: str, *, fence: int, error: str, actor: str
) -> bool:
    """The run is failed, with one sentence that says why; return whether it is.

    A run that is final, or that another finaliser has taken over, stays as it is.

    Args:
        engine: The database.
        run_id: The run.
        fence: Of the finaliser that failed.
        error: A sentence of this program, without personal data.
        actor: Who found out.
    """
    with transaction(engine) as session:
        failed = session.execute(
            sa.update(RunTable)
            .where(_owned(run_id, fence))
            .values(
                state=RunState.FAILED,
                error=error,
                finished_at=epoch_now(),
                finaliser_lease_until=None,
            )
            .returning(RunTable.id)
            .execution_options(synchronize_session=False)
        ).one_or_none()
        if failed is not None:
            record(session, Action.RUN_FAILED, f"run/{run_id}", actor=actor)
    return failed is not None
