# SPDX-License-Identifier: Apache-2.0
"""Items that were in work when an attempt ended badly, and which of them are poison.

From the second bad end on, a shard is worked on in single steps: its row names the
item in work. Whoever ends such an attempt gives that item a strike. Two strikes
condemn it; one is not enough, since a worker may be killed for reasons of its own.
"""

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.entries import Action
from storage.engine import reading, transaction
from storage.errors import FencedOutError
from storage.events import record
from storage.tables import ShardTable, SuspectTable

#: Bad ends of a shard's attempts after which it is worked on in single steps.
SINGLE_STEPS_AFTER = 2
#: Strikes that condemn an item.
CONDEMNING_STRIKES = 2
#: Attempts that strikes may add to a shard's own, so that it always ends.
MOST_EXTRA_ATTEMPTS = 16

#: Why an item is condemned, as the item's reason says it.
KILLED_WORKER = "killed_worker"
BROKE_COMPUTATION = "broke_computation"


def needs_single_steps(shard: ShardTable) -> bool:
    """Return whether the shard's attempts ended badly too often."""
    return shard.deaths + shard.failures >= SINGLE_STEPS_AFTER


def condemned_items(session: Session, shard_id: int) -> dict[int, str]:
    """Return the items that are left out, with the reason of each."""
    rows = session.execute(
        sa.select(SuspectTable.item_index, SuspectTable.reason).where(
            SuspectTable.shard_id == shard_id,
            SuspectTable.strikes >= CONDEMNING_STRIKES,
        )
    )
    return {row.item_index: row.reason for row in rows}


def strike(session: Session, shard: ShardTable, *, reason: str, actor: str) -> int:
    """The item in work has one strike more; return the attempts that this adds.

    Nothing happens where no item is named.

    Args:
        session: A transaction that has locked the shard's row.
        shard: The row.
        reason: What the item did, an enumerated code.
        actor: Who found out.
    """
    if shard.current_item is None:
        return 0
    before = session.scalar(
        sa.select(sa.func.coalesce(sa.func.sum(SuspectTable.strikes), 0)).where(
            SuspectTable.shard_id == shard.id
        )
    )
    key = (shard.id, shard.current_item)
    suspect = session.get(SuspectTable, key)
    if suspect is None:
        suspect = SuspectTable(shard_id=key[0], item_index=key[1], strikes=0, reason="")
        session.add(suspect)
    suspect.strikes += 1
    suspect.reason = reason
    session.flush()
    if suspect.strikes == CONDEMNING_STRIKES:
        record(
            session,
            Action.ITEM_CONDEMNED,
            f"run/{shard.run_id}/shard/{shard.shard_index}",
            actor=actor,
            details={"item": shard.current_item, "reason": reason},
        )
    return 1 if int(before or 0) < MOST_EXTRA_ATTEMPTS else 0


def name_item_in_work(
    engine: sa.Engine, shard_id: int, *, attempt: int, item_index: int | None
) -> None:
    """The shard's row names the item that is being worked on, or none.

    Raises:
        FencedOutError: another attempt owns the shard.
    """
    with transaction(engine) as session:
        row = session.execute(
            sa.update(ShardTable)
            .where(
                ShardTable.id == shard_id,
                ShardTable.attempt == attempt,
                ShardTable.state == "running",
            )
            .values(current_item=item_index)
            .returning(ShardTable.id)
            .execution_options(synchronize_session=False)
        ).one_or_none()
    if row is None:
        raise FencedOutError(f"The lease of shard {shard_id} is lost.")


def forget_suspects(session: Session, shard_ids: list[int]) -> None:
    """The shards begin anew: nobody is suspected."""
    session.execute(
        sa.delete(SuspectTable)
        .where(SuspectTable.shard_id.in_(shard_ids))
        .execution_options(synchronize_session=False)
    )


def list_suspects(engine: sa.Engine, shard_id: int) -> list[SuspectTable]:
    """Return the shard's suspects in order."""
    with reading(engine) as session:
        return list(
            session.scalars(
                sa.select(SuspectTable)
                .where(SuspectTable.shard_id == shard_id)
                .order_by(SuspectTable.item_index)
            )
        )
