# SPDX-License-Identifier: Apache-2.0
"""The lease protocol of shards: claim, heartbeat, finish under fence, give back.

The shard row is the truth and a queue message only a hint. A claim counts an attempt
and that number is the fence: whatever a worker writes later is written only where the
row still carries it. All moments come from the database's clock.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.entries import Action
from ledger.merkle import root_of
from storage.bulk import insert_rows
from storage.engine import epoch_now, reading, transaction
from storage.errors import FencedOutError
from storage.events import record
from storage.states import OPEN_RUN_STATES, RunState, ShardState
from storage.suspects import (
    BROKE_COMPUTATION,
    KILLED_WORKER,
    condemned_items,
    needs_single_steps,
    strike,
)
from storage.tables import ItemTable, RunTable, ShardTable
from storage.turns import open_runs, turn_of

#: Seconds, times the attempts so far, before a failed shard may be claimed again.
BACKOFF_S = 5.0

#: What ended an attempt that was silent for too long.
LEASE_EXPIRED = "lease_expired"


class Blame(Enum):
    """Whose doing it was that an attempt failed."""

    #: A server, a store, a disk: trying again may do.
    NOBODY = "nobody"
    #: Something in the shard, nobody knows what.
    SHARD = "shard"
    #: The item in work, alone in its batch.
    ITEM = "item"


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to work on one shard, until the lease ends."""

    shard_id: int
    run_id: str
    shard_index: int
    first_item: int
    item_count: int
    attempt: int
    worker: str
    #: Whether each item is tried alone first, because attempts ended badly.
    single_steps: bool = False
    #: Items that are left out, with the reason of each.
    condemned: Mapping[int, str] = field(default_factory=dict)

    @property
    def object_name(self) -> str:
        """The shard's name in the ledger."""
        return f"run/{self.run_id}/shard/{self.shard_index}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """The object that a shard left in the store."""

    key: str
    sha256: str
    size_bytes: int


def claim_shard(
    engine: sa.Engine, shard_id: int, *, worker: str, lease_s: float
) -> Claim | None:
    """Return the claim on a shard, or None when there is nothing to do about it."""
    with transaction(engine) as session:
        # A row that somebody else has locked is waited for: the dispatcher holds it
        # for a moment only, and a hint not followed would come again much later.
        candidate = sa.select(ShardTable).where(ShardTable.id == shard_id, _claimable())
        return _claim(session, candidate.with_for_update(), worker, lease_s)


def claim_next(
    engine: sa.Engine,
    run_id: str,
    *,
    worker: str,
    lease_s: float,
    untried: bool = False,
) -> Claim | None:
    """Return the claim on the run's first claimable shard, or None.

    Args:
        engine: The database.
        run_id: The run.
        worker: Who claims.
        lease_s: Seconds until the lease ends.
        untried: Whether only shards will do that lose nothing by one lost attempt.
    """
    with transaction(engine) as session:
        candidate = (
            sa.select(ShardTable)
            .where(ShardTable.run_id == run_id, _claimable(), _may_wait(untried))
            .order_by(ShardTable.shard_index)
            .limit(1)
            .with_for_update(skip_locked=True)
        )
        return _claim(session, candidate, worker, lease_s)


def claim_ahead(
    engine: sa.Engine,
    queue: str,
    *,
    worker: str,
    lease_s: float,
    takes: Callable[[Mapping[str, str]], bool] = lambda _versions: True,
    untried: bool = False,
) -> Claim | None:
    """Return the claim on the queue's next shard that nobody was hinted at, or None.

    A shard that was hinted at is left to whoever gets the hint, or that were in vain.

    Args:
        engine: The database.
        queue: The queue that the worker works for.
        worker: Who claims.
        lease_s: Seconds until the lease ends.
        takes: Whether the worker may work on a run planned with these versions.
        untried: Whether only shards will do that lose nothing by one lost attempt.
    """
    # A shard whose lease ran out was claimed before: its hint is used up.
    unhinted = sa.or_(
        ShardTable.state == ShardState.RUNNING, ShardTable.dispatched_at.is_(None)
    )
    with transaction(engine) as session:
        runs = open_runs(session, queue, ShardTable.dispatched_at.is_not(None))
        for turn in sorted(turn_of(run) for run in runs if takes(run.versions or {})):
            candidate = (
                sa.select(ShardTable)
                .where(
                    ShardTable.run_id == turn.run_id,
                    _claimable(),
                    unhinted,
                    _may_wait(untried),
                )
                .order_by(ShardTable.shard_index)
                .limit(1)
                .with_for_update(skip_locked=True)
            )
            claim = _claim(session, candidate, worker, lease_s)
            if claim is not None:
                return claim
    return None


def _claimable() -> sa.ColumnElement[bool]:
    waiting = sa.and_(
        ShardTable.state == ShardState.PENDING,
        sa.or_(ShardTable.not_before.is_(None), ShardTable.not_before <= epoch_now()),
    )
    run_is_open = (
        sa.select(RunTable.id)
        .where(RunTable.id == ShardTable.run_id, RunTable.state.in_(OPEN_RUN_STATES))
        .exists()
    )
    return sa.and_(
        ShardTable.attempt < ShardTable.max_attempts,
        sa.or_(waiting, _expired()),
        run_is_open,
    )


def _may_wait(untried: bool) -> sa.ColumnElement[bool]:
    """Return which shards may be claimed for later.

    A worker that is killed loses what it had claimed for later too. That may cost a
    shard its first attempt, but no second one, and never its last.
    """
    if not untried:
        return sa.true()
    return sa.and_(ShardTable.attempt == 0, ShardTable.max_attempts > 1)


def _claim(
    session: Session, candidate: sa.Select[ShardTable], worker: str, lease_s: float
) -> Claim | None:
    shard = session.scalar(candidate)
    if shard is None:
        return None
    extra = 0
    if shard.state == ShardState.RUNNING:
        # Taken over before a sweep: how the former attempt ended is told all the same.
        _record_end(session, Action.SHARD_EXPIRED, shard, LEASE_EXPIRED, actor=worker)
        extra = strike(session, shard, reason=KILLED_WORKER, actor=worker)
        shard.deaths += 1
    claim = Claim(
        shard_id=shard.id,
        run_id=shard.run_id,
        shard_index=shard.shard_index,
        first_item=shard.first_item,
        item_count=shard.item_count,
        attempt=shard.attempt + 1,
        worker=worker,
        single_steps=needs_single_steps(shard),
        condemned=condemned_items(session, shard.id),
    )
    session.execute(
        sa.update(ShardTable)
        .where(ShardTable.id == claim.shard_id)
        .values(
            state=ShardState.RUNNING,
            attempt=claim.attempt,
            lease_until=epoch_now() + lease_s,
            started_at=epoch_now(),
            worker=worker,
            batches_done=0,
            hints=0,
            error=None,
            deaths=shard.deaths,
            current_item=None,
            max_attempts=shard.max_attempts + extra,
        )
        .execution_options(synchronize_session=False)
    )
    _start_run(session, claim)
    record(
        session,
        Action.SHARD_CLAIMED,
        claim.object_name,
        actor=worker,
        details={"attempt": claim.attempt},
    )
    return claim


def _start_run(session: Session, claim: Claim) -> None:
    started = session.execute(
        sa.update(RunTable)
        .where(RunTable.id == claim.run_id, RunTable.state == RunState.QUEUED)
        .values(
            state=RunState.RUNNING,
            started_at=sa.func.coalesce(RunTable.started_at, epoch_now()),
        )
        .returning(RunTable.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if started is not None:
        record(session, Action.RUN_STARTED, f"run/{claim.run_id}", actor=claim.worker)


def _owned(claim: Claim) -> sa.ColumnElement[bool]:
    return sa.and_(
        ShardTable.id == claim.shard_id,
        ShardTable.attempt == claim.attempt,
        ShardTable.state == ShardState.RUNNING,
    )


def heartbeat(
    engine: sa.Engine, claim: Claim, *, lease_s: float, batches_done: int
) -> bool:
    """The lease is renewed; return whether the run still wants the work.

    Raises:
        FencedOutError: another attempt owns the shard.
    """
    with transaction(engine) as session:
        row = session.execute(
            sa.update(ShardTable)
            .where(_owned(claim))
            .values(lease_until=epoch_now() + lease_s, batches_done=batches_done)
            .returning(ShardTable.id)
            .execution_options(synchronize_session=False)
        ).one_or_none()
        if row is None:
            raise FencedOutError(f"The lease of {claim.object_name} is lost.")
        state = session.scalar(
            sa.select(RunTable.state).where(RunTable.id == claim.run_id)
        )
    return state in OPEN_RUN_STATES


def finish_shard(
    engine: sa.Engine,
    claim: Claim,
    *,
    artifact: Artifact,
    items: list[dict[str, Any]],
    counts: dict[str, int],
    not_comparable: bool = False,
    leaves: Sequence[bytes] = (),
    work_s: float | None = None,
) -> None:
    """The shard is done, with its rows and its ledger entry, in one transaction.

    Args:
        engine: The database.
        claim: The fence.
        artifact: The object, already in the store.
        items: One dict a row of `ItemTable`.
        counts: Items by status, for the ledger.
        not_comparable: Whether a batch had to be halved.
        leaves: Hashes of the items' leaves; the entry states their Merkle root.
        work_s: Seconds that the work took at its steady pace.

    Raises:
        FencedOutError: another attempt owns the shard; nothing was written.
    """
    with transaction(engine) as session:
        row = session.execute(
            sa.update(ShardTable)
            .where(_owned(claim))
            .values(
                state=ShardState.DONE,
                lease_until=None,
                finished_at=epoch_now(),
                object_key=artifact.key,
                sha256=artifact.sha256,
                size_bytes=artifact.size_bytes,
                item_leaves=b"".join(leaves) if leaves else None,
                work_s=work_s,
            )
            .returning(ShardTable.id)
            .execution_options(synchronize_session=False)
        ).one_or_none()
        if row is None:
            raise FencedOutError(f"The lease of {claim.object_name} is lost.")
        insert_rows(session, ItemTable, items)
        if not_comparable:
            session.execute(
                sa.update(RunTable)
                .where(RunTable.id == claim.run_id)
                .values(not_comparable=True)
                .execution_options(synchronize_session=False)
            )
        record(
            session,
            Action.SHARD_FINISHED,
            claim.object_name,
            actor=claim.worker,
            digest=artifact.sha256,
            details={
                "attempt": claim.attempt,
                "key": artifact.key,
                "sha256": artifact.sha256,
                "size": artifact.size_bytes,
                "halved": not_comparable,
                **counts,
                **_items_root(leaves),
            },
        )


def _items_root(leaves: Sequence[bytes]) -> dict[str, str | int]:
    if not leaves:
        return {}
    return {"items_root": root_of(leaves).hex(), "leaves": len(leaves)}


def release(engine: sa.Engine, claim: Claim) -> None:
    """The shard is pending again and the attempt does not count against it.

    A lease already lost is left alone. The attempt number itself is never lowered,
    since it is the fence; the bound is raised instead.
    """
    with transaction(engine) as session:
        row = session.execute(
            sa.update(ShardTable)
            .where(_owned(claim))
            .values(
                state=ShardState.PENDING,
                lease_until=None,
                dispatched_at=None,
                current_item=None,
                max_attempts=ShardTable.max_attempts + 1,
            )
            .returning(ShardTable.id)
            .execution_options(synchronize_session=False)
        ).one_or_none()
        if row is not None:
            record(
                session,
                Action.SHARD_RELEASED,
                claim.object_name,
                actor=claim.worker,
                details={"attempt": claim.attempt},
            )


def fail_attempt(
    engine: sa.Engine,
    claim: Claim,
    *,
    error: str,
    blames: Blame = Blame.SHARD,
    backoff_s: float = BACKOFF_S,
) -> ShardState | None:
    """The attempt failed: the shard waits for its next one, or is dead.

    Args:
        engine: The database.
        claim: The fence; a lost lease changes nothing and returns None.
        error: An enumerated code or an exception's class name, never free text.
        blames: Whose doing it was.
        backoff_s: Seconds, times the attempts so far, before the next one.
    """
    with transaction(engine) as session:
        return _end_attempt(
            session,
            _owned(claim),
            error=error,
            blames=blames,
            actor=claim.worker,
            backoff_s=backoff_s,
        )


def expire_leases(
    engine: sa.Engine, *, actor: str, backoff_s: float = BACKOFF_S
) -> int:
    """Shards whose lease ran out wait for their next attempt, or are dead.

    Args:
        engine: The database.
        actor: Who found out.
        backoff_s: Seconds, times the attempts so far, before the next one.

    Returns:
        How many there were.
    """
    with reading(engine) as session:
        found = session.scalars(sa.select(ShardTable.id).where(_expired())).all()
    count = 0
    for shard_id in found:
        # One short transaction each: a lease renewed in between is left alone.
        with transaction(engine) as session:
            which = sa.and_(ShardTable.id == shard_id, _expired())
            ended = _end_attempt(
                session,
                which,
                error=LEASE_EXPIRED,
                blames=Blame.SHARD,
                actor=actor,
                backoff_s=backoff_s,
            )
            count += ended is not None
    return count


def _expired() -> sa.ColumnElement[bool]:
    return sa.and_(
        ShardTable.state == ShardState.RUNNING, ShardTable.lease_until < epoch_now()
    )


def _end_attempt(
    session: Session,
    which: sa.ColumnElement[bool],
    *,
    error: str,
    blames: Blame,
    actor: str,
    backoff_s: float,
) -> ShardState | None:
    """End an attempt badly; the item in work gets a strike where it was its doing."""
    shard = session.scalar(sa.select(ShardTable).where(which).with_for_update())
    if shard is None:
        return None
    extra, died = 0, error == LEASE_EXPIRED
    failed = not died and blames is not Blame.NOBODY
    if died or blames is Blame.ITEM:
        reason = KILLED_WORKER if died else BROKE_COMPUTATION
        extra = strike(session, shard, reason=reason, actor=actor)
    is_dead = shard.attempt >= shard.max_attempts + extra
    state = ShardState.DEAD if is_dead else ShardState.PENDING
    session.execute(
        sa.update(ShardTable)
        .where(ShardTable.id == shard.id)
        .values(
            state=state,
            lease_until=None,
            dispatched_at=None,
            error=error[:64],
            not_before=epoch_now() + backoff_s * ShardTable.attempt,
            deaths=ShardTable.deaths + int(died),
            failures=ShardTable.failures + int(failed),
            current_item=None,
            max_attempts=ShardTable.max_attempts + extra,
        )
        .execution_options(synchronize_session=False)
    )
    if is_dead:
        action = Action.SHARD_DEAD
    else:
        action = Action.SHARD_EXPIRED if died else Action.SHARD_FAILED
    _record_end(session, action, shard, error[:64], actor=actor)
    return state


def _record_end(
    session: Session, action: Action, shard: Any, error: str, *, actor: str
) -> None:
    record(
        session,
        action,
        f"run/{shard.run_id}/shard/{shard.shard_index}",
        actor=actor,
        details={"attempt": shard.attempt, "error": error},
    )
