# SPDX-License-Identifier: Apache-2.0
"""The ledger in SQL: an outbox that anyone fills and one sequencer that orders it.

A change and the entry that tells of it are one transaction (`append`), so neither is
ever without the other. The order is given later by whoever holds the leader's lock
(`sequence`): per-entry locking would make every worker wait for all the others.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.checkpoint import Checkpoint, SigningKey, read_unverified
from ledger.entries import Entry
from ledger.errors import BrokenLedgerError
from ledger.merkle import CompactRange, leaf_hash
from storage.bulk import insert_rows
from storage.engine import epoch_now, reading, transaction
from storage.tables import CheckpointTable, EntryTable, LedgerHeadTable, OutboxTable

#: The leader's lock on PostgreSQL: any constant, as long as nothing else takes it.
_LEADER_LOCK: Final = 0x4146_4649_4441_5649  # "AFFIDAVI"

_PAGE: Final = 1_000
_HEAD_ID: Final = 1


def append(session: Session, entry: Entry) -> None:
    """The entry is in the outbox of the caller's transaction, and commits with it.

    Raises:
        ledger.errors.FormatError: the entry is longer than a ledger entry may be.
    """
    session.execute(
        sa.insert(OutboxTable).values(at=epoch_now(), body=entry.to_bytes())
    )


def sequence(engine: sa.Engine, limit: int = 1_000) -> int:
    """Up to `limit` outbox rows are ledger entries now; return how many.

    One transaction under the leader's lock: entries get the next indexes without a
    gap, the head moves with them, and the drained rows are gone from the outbox.

    Rows are taken in id order. On PostgreSQL ids are given before the commit, so a
    row may become visible after one with a higher id was drained. That is fine: it is
    drained by a later pass, and the ledger's order is the order of sequencing. Within
    one transaction the order is kept.
    """
    with _leader(engine) as session:
        rows = session.execute(
            sa.select(OutboxTable.id, OutboxTable.body)
            .order_by(OutboxTable.id)
            .limit(limit)
        ).all()
        if not rows:
            return 0
        tree = _read_head(session)
        _insert_entries(session, tree, [row.body for row in rows])
        _write_head(session, tree)
        # By id and not by range: a row with a lower id may have been committed since
        # the query above, and a range would delete it unsequenced.
        session.execute(
            sa.delete(OutboxTable)
            .where(OutboxTable.id.in_([row.id for row in rows]))
            .execution_options(synchronize_session=False)
        )
        return len(rows)


def write_checkpoint(engine: sa.Engine, key: SigningKey, origin: str) -> Checkpoint:
    """Everything in the outbox so far is sequenced and under a signed checkpoint.

    Where the ledger has not grown since the last checkpoint, that one is returned.

    Raises:
        ledger.errors.BrokenLedgerError: the head contradicts the entries or an
            earlier checkpoint; nothing is signed.
    """
    while sequence(engine, _PAGE) == _PAGE:
        pass
    with _leader(engine) as session:
        tree = _read_head(session)
        _check_head(session, tree)
        checkpoint = Checkpoint(origin, tree.size, tree.root())
        stored = session.get(CheckpointTable, tree.size)
        if stored is not None:
            return _same_head(stored, checkpoint)
        session.add(
            CheckpointTable(
                tree_size=tree.size,
                root=checkpoint.root,
                note=key.sign(checkpoint),
                at=session.execute(sa.select(epoch_now())).scalar_one(),
            )
        )
        return checkpoint


def read_entries(
    engine: sa.Engine, first: int = 0, last: int | None = None
) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (index, body, leaf hash) of the entries first..last, both included.

    Without `last`, up to the end. Reads in pages, each its own short transaction:
    entries are never changed, so pages of one iteration cannot contradict each other.
    """
    following = first
    while last is None or following <= last:
        with reading(engine) as session:
            rows = session.execute(
                sa.select(EntryTable.idx, EntryTable.body, EntryTable.leaf_hash)
                .where(EntryTable.idx >= following)
                .order_by(EntryTable.idx)
                .limit(_PAGE)
            ).all()
        for row in rows:
            if last is not None and row.idx > last:
                return
            yield row.idx, row.body, row.leaf_hash
        if len(rows) < _PAGE:
            return
        following = rows[-1].idx + 1


def read_checkpoints(engine: sa.Engine) -> Iterator[str]:
    """Yield the signed notes of all checkpoints, the smallest ledger first."""
    following = 0
    while True:
        with reading(engine) as session:
            rows = session.execute(
                sa.select(CheckpointTable.tree_size, CheckpointTable.note)
                .where(CheckpointTable.tree_size >= following)
                .order_by(CheckpointTable.tree_size)
                .limit(_PAGE)
            ).all()
        for row in rows:
            yield row.note
        if len(rows) < _PAGE:
            return
        following = rows[-1].tree_size + 1


def latest_checkpoint(engine: sa.Engine) -> str | None:
    """Return the signed note of the largest checkpoint, or None before the first."""
    with reading(engine) as session:
        return session.scalar(
            sa.select(CheckpointTable.note)
            .order_by(CheckpointTable.tree_size.desc())
            .limit(1)
        )


def ledger_size(engine: sa.Engine) -> int:
    """Return how many entries have been sequenced."""
    with reading(engine) as session:
        return _read_head(session).size


def outbox_age_s(engine: sa.Engine) -> float | None:
    """Return the age in seconds of the oldest unsequenced entry, None if all are.

    The outbox is the one place where an entry is not yet protected by its successors,
    so a growing age is worth an alarm.
    """
    with reading(engine) as session:
        age: float | None = session.scalar(
            sa.select(epoch_now() - sa.func.min(OutboxTable.at))
        )
    return None if age is None else max(0.0, age)


@contextmanager
def _leader(engine: sa.Engine) -> Iterator[Session]:
    """A transaction that no other sequencer runs beside, on any machine.

    SQLite: BEGIN IMMEDIATE, which every writing transaction of the engine issues.
    PostgreSQL: an advisory lock that ends with the transaction. The queries after it
    see what the former leader committed, because under READ COMMITTED each statement
    takes its own snapshot; hence the level is set here and not left to the server.
    """
    if engine.dialect.name == "postgresql":
        engine = engine.execution_options(isolation_level="READ COMMITTED")
    with transaction(engine) as session:
        if engine.dialect.name == "postgresql":
            session.execute(sa.select(sa.func.pg_advisory_xact_lock(_LEADER_LOCK)))
        yield session


def _read_head(session: Session) -> CompactRange:
    head = session.get(LedgerHeadTable, _HEAD_ID)
    if head is None:
        return CompactRange()
    return CompactRange.from_hex(head.tree_size, head.frontier)


def _write_head(session: Session, tree: CompactRange) -> None:
    session.merge(
        LedgerHeadTable(id=_HEAD_ID, tree_size=tree.size, frontier=tree.frontier_hex)
    )
    session.flush()


def _insert_entries(
    session: Session, tree: CompactRange, bodies: Sequence[bytes]
) -> None:
    rows = []
    for body in bodies:
        leaf = leaf_hash(body)
        rows.append({"idx": tree.size, "leaf_hash": leaf, "body": body})
        tree.append(leaf)
    insert_rows(session, EntryTable, rows)


def _check_head(session: Session, tree: CompactRange) -> None:
    highest = session.scalar(sa.select(sa.func.max(EntryTable.idx)))
    size = 0 if highest is None else highest + 1
    if size != tree.size:
        raise BrokenLedgerError(
            f"The ledger's head states {tree.size} entries, but they end at {size}; "
            "nothing was signed, run 'affidavit verify'."
        )


def _same_head(stored: CheckpointTable, checkpoint: Checkpoint) -> Checkpoint:
    signed = read_unverified(stored.note)
    if signed.root != checkpoint.root or signed.size != checkpoint.size:
        raise BrokenLedgerError(
            f"The checkpoint of {checkpoint.size} entries states root "
            f"{signed.root.hex()}, the head {checkpoint.root.hex()}; "
            "nothing was signed, run 'affidavit verify'."
        )
    return signed
