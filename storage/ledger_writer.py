# SPDX-License-Identifier: Apache-2.0
"""The ledger in SQL: an outbox that anyone fills and one sequencer that orders it.

A change and the entry that tells of it are one transaction (`append`), so neither is
ever without the other. The order is given later by whoever holds the leader's lock
(`sequence`): per-entry locking would make every worker wait for all the others.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.entries import Entry
from ledger.errors import BrokenLedgerError, FormatError
from ledger.merkle import CompactRange, leaf_hash
from storage.bulk import insert_rows
from storage.engine import epoch_now, reading, transaction
from storage.ledger_places import write_places
from storage.raw import checked_rows, raw_columns
from storage.stored_tree import stored_nodes
from storage.tables import (
    CheckpointTable,
    EntryTable,
    LedgerHeadTable,
    LedgerNodeTable,
    OutboxTable,
)

#: The leader's lock on PostgreSQL: any constant, as long as nothing else takes it.
_LEADER_LOCK: Final = 0x4146_4649_4441_5649  # "AFFIDAVI"

#: Rows read in one statement.
PAGE: Final = 1_000
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

    Raises:
        ledger.errors.BrokenLedgerError: the head is not that of the entries.
    """
    with leader(engine) as session:
        rows = session.execute(
            sa.select(OutboxTable.id, OutboxTable.body)
            .order_by(OutboxTable.id)
            .limit(limit)
        ).all()
        if not rows:
            return 0
        tree = read_head(session)
        _require_next(session, tree.size)
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


def read_entries(
    engine: sa.Engine, first: int = 0, last: int | None = None
) -> Iterator[tuple[int, bytes, bytes]]:
    """Yield (index, body, leaf hash) of the entries first..last, both included.

    Without `last`, up to the end. Reads in pages, each its own short transaction:
    entries are never changed, so pages of one iteration cannot contradict each other.
    A cell that holds something else (SQLite takes anything) is read as no bytes, or as
    index -1, which no check lets pass.
    """
    following = first
    while last is None or following <= last:
        with reading(engine) as session:
            rows = entry_page(session, following)
        for index, body, leaf in rows:
            if last is not None and index > last:
                return
            yield index, body, leaf
        if len(rows) < PAGE or rows[-1][0] < following:
            return
        following = rows[-1][0] + 1


def entry_page(session: Session, first: int) -> list[tuple[int, bytes, bytes]]:
    """Return the next page of (index, body, leaf hash), beginning with `first`."""
    rows = session.execute(
        sa.select(*raw_columns(EntryTable))
        .where(EntryTable.idx >= first)
        .order_by(EntryTable.idx)
        .limit(PAGE)
    )
    return [
        (row.idx, row.body, row.leaf_hash) for row, _ in checked_rows(EntryTable, rows)
    ]


def read_checkpoints(engine: sa.Engine) -> Iterator[tuple[int, bytes, str]]:
    """Yield (tree size, root, signed note) of all checkpoints, the smallest first.

    As with entries, a cell that holds something else is read as nothing or as -1.
    """
    following = 0
    while True:
        with reading(engine) as session:
            rows = checkpoint_page(session, following)
        yield from rows
        if len(rows) < PAGE or rows[-1][0] < following:
            return
        following = rows[-1][0] + 1


def checkpoint_page(session: Session, first: int) -> list[tuple[int, bytes, str]]:
    """Return the next page of (tree size, root, note), beginning with that size."""
    rows = session.execute(
        sa.select(*raw_columns(CheckpointTable))
        .where(CheckpointTable.tree_size >= first)
        .order_by(CheckpointTable.tree_size)
        .limit(PAGE)
    )
    return [
        (row.tree_size, row.root, row.note)
        for row, _ in checked_rows(CheckpointTable, rows)
    ]


def latest_checkpoint(engine: sa.Engine) -> str | None:
    """Return the signed note of the largest checkpoint, or None before the first."""
    with reading(engine) as session:
        rows = session.execute(
            sa.select(*raw_columns(CheckpointTable))
            .order_by(CheckpointTable.tree_size.desc())
            .limit(1)
        )
        return next((row.note for row, _ in checked_rows(CheckpointTable, rows)), None)


def checkpoint_at(engine: sa.Engine, tree_size: int) -> bytes | None:
    """Return the root that the checkpoint of that size states, None without one."""
    with reading(engine) as session:
        rows = session.execute(
            sa.select(*raw_columns(CheckpointTable)).where(
                CheckpointTable.tree_size == tree_size
            )
        )
        found = checked_rows(CheckpointTable, rows)
        return next((bytes(row.root) for row, _ in found), None)


def stated_head(engine: sa.Engine) -> CompactRange:
    """Return what the database says of the ledger's size and frontier.

    Raises:
        ledger.errors.BrokenLedgerError: it says nothing that a ledger could have.
    """
    with reading(engine) as session:
        return read_head(session)


def ledger_size(engine: sa.Engine) -> int:
    """Return how many entries have been sequenced.

    Raises:
        ledger.errors.BrokenLedgerError: the database says nothing sensible of it.
    """
    with reading(engine) as session:
        return read_head(session).size


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
def leader(engine: sa.Engine) -> Iterator[Session]:
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


def read_head(session: Session) -> CompactRange:
    """Return what the database says of the ledger's size and frontier.

    Raises:
        BrokenLedgerError: it says nothing that a ledger could have.
    """
    rows = session.execute(
        sa.select(*raw_columns(LedgerHeadTable)).where(LedgerHeadTable.id == _HEAD_ID)
    )
    for head, bad in checked_rows(LedgerHeadTable, rows):
        try:
            if not bad:
                return CompactRange.from_hex(head.tree_size, head.frontier)
        except FormatError:
            pass
        raise BrokenLedgerError(
            "The ledger's head in the database is not that of a ledger; nothing was "
            "ordered or signed, run 'affidavit verify'."
        )
    if session.execute(sa.select(EntryTable.idx).limit(1)).first() is not None:
        raise BrokenLedgerError(
            "The ledger has entries and no head in the database; nothing was ordered "
            "or signed, run 'affidavit verify'."
        )
    return CompactRange()


def _write_head(session: Session, tree: CompactRange) -> None:
    session.merge(
        LedgerHeadTable(id=_HEAD_ID, tree_size=tree.size, frontier=tree.frontier_hex)
    )
    session.flush()


def _require_next(session: Session, index: int) -> None:
    taken = session.execute(
        sa.select(EntryTable.idx).where(EntryTable.idx >= index).limit(1)
    ).first()
    if taken is not None:
        raise BrokenLedgerError(
            f"The ledger's head states {index} entries, but there are more; nothing "
            "was ordered or signed, run 'affidavit verify'."
        )


def _insert_entries(
    session: Session, tree: CompactRange, bodies: Sequence[bytes]
) -> None:
    rows: list[dict[str, Any]] = []
    nodes = []
    for body in bodies:
        leaf = leaf_hash(body)
        rows.append({"idx": tree.size, "leaf_hash": leaf, "body": body})
        completed = tree.append(leaf)
        nodes += [
            {"level": level, "idx": place, "hash": node}
            for level, place, node in stored_nodes(tree.size, completed)
        ]
    insert_rows(session, EntryTable, rows)
    insert_rows(session, LedgerNodeTable, nodes)
    write_places(session, ((row["idx"], row["body"]) for row in rows))
