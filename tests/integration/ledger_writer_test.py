# SPDX-License-Identifier: Apache-2.0
"""The ledger on SQLite and PostgreSQL: nothing lost, doubled, forked or rewritten."""

import json
import math
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

import storage.ledger_signing
from ledger.checkpoint import SigningKey, open_note
from ledger.entries import Action, Entry
from ledger.errors import BrokenLedgerError, FormatError
from ledger.failures import FailureKind
from ledger.merkle import CompactRange, leaf_hash, root_of
from ledger.verifier import verify_entries
from storage.engine import create_engine, transaction
from storage.ledger_signing import unsigned_for, write_checkpoint
from storage.ledger_writer import (
    append,
    latest_checkpoint,
    ledger_size,
    outbox_age_s,
    read_checkpoints,
    read_entries,
    sequence,
)
from storage.schema import upgrade
from storage.tables import (
    CheckpointTable,
    EntryTable,
    LedgerHeadTable,
    OutboxTable,
    Table,
)

KEY = SigningKey.generate("example.com/log")
ORIGIN = "example.com/log"


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An engine on a fresh database whose ledger has no entry yet."""
    upgrade(database_url, actor="user/tester")
    engine = create_engine(database_url)
    with engine.begin() as connection:
        connection.execute(sa.delete(OutboxTable))
    yield engine
    engine.dispose()


@pytest.fixture
def memory(tmp_path: Path) -> Path:
    """Where the signer remembers its last head; nothing is there yet."""
    return tmp_path / "ledger.key.head"


def entry(number: int, actor: str = "worker/w1") -> Entry:
    """Return a small entry with a number."""
    return Entry(
        at="2026-11-23T08:00:00Z",
        actor=actor,
        action=Action.SHARD_CLAIMED,
        object=f"run/r1/shard/{number}",
    )


def append_some(engine: sa.Engine, numbers: range, actor: str = "worker/w1") -> None:
    """Append entries in one transaction."""
    with transaction(engine) as session:
        for number in numbers:
            append(session, entry(number, actor))


def bodies(engine: sa.Engine) -> list[bytes]:
    """Return the bodies of the ledger in order."""
    return [body for _, body, _ in read_entries(engine)]


def notes(engine: sa.Engine) -> list[str]:
    """Return the signed notes of all checkpoints."""
    return [note for _size, _root, note in read_checkpoints(engine)]


def failures(engine: sa.Engine) -> set[FailureKind]:
    """Return the kinds of failure that verification finds."""
    found = verify_entries(read_entries(engine), notes(engine), KEY.verifier)
    return {failure.kind for failure in found}


def test_entries_come_in_order_with_contiguous_indexes(engine: sa.Engine) -> None:
    """Passes of any size give indexes without a gap and bodies as they were written."""
    append_some(engine, range(25))
    assert [sequence(engine, limit=10) for _ in range(4)] == [10, 10, 5, 0]
    rows = list(read_entries(engine))
    assert [index for index, _, _ in rows] == list(range(25))
    assert [body for _, body, _ in rows] == [entry(n).to_bytes() for n in range(25)]
    assert all(leaf == leaf_hash(body) for _, body, leaf in rows)
    assert ledger_size(engine) == 25
    assert outbox_age_s(engine) is None


def test_an_entry_shares_the_fate_of_its_transaction(engine: sa.Engine) -> None:
    """What is rolled back leaves no entry behind."""

    def change_and_fail() -> None:
        with transaction(engine) as session:
            append(session, entry(1))
            raise RuntimeError("the change failed")

    with pytest.raises(RuntimeError, match="the change failed"):
        change_and_fail()
    assert sequence(engine) == 0
    append_some(engine, range(1))
    age = outbox_age_s(engine)
    assert age is not None
    assert 0 <= age < 60
    assert sequence(engine) == 1


def test_an_oversized_entry_is_refused_at_once(engine: sa.Engine) -> None:
    """An entry too long for the ledger fails its caller and never the sequencer."""
    details = {f"k{n}": ["x" * 1000] * 10 for n in range(10)}
    big = Entry(
        at="2026-11-23T08:00:00Z",
        actor="a",
        action=Action.RUN_PLANNED,
        object="run/r1",
        details=details,
    )
    with pytest.raises(FormatError), transaction(engine) as session:
        append(session, big)
    assert sequence(engine) == 0


def test_a_checkpoint_covers_everything_so_far(engine: sa.Engine, memory: Path) -> None:
    """It sequences the outbox, signs the recomputable root, and verifies."""
    append_some(engine, range(2500))
    head = write_checkpoint(engine, KEY, ORIGIN, memory)
    assert head.size == 2500
    assert head.root == root_of(leaf for _, _, leaf in read_entries(engine))
    note = latest_checkpoint(engine)
    assert note is not None
    assert open_note(note, KEY.verifier) == head
    assert failures(engine) == set()


def test_a_checkpoint_of_the_same_size_is_written_once(
    engine: sa.Engine, memory: Path
) -> None:
    """Asking again without new entries returns the stored head, growth a new one."""
    append_some(engine, range(3))
    stranger = memory.with_name("stranger.head")
    first = write_checkpoint(engine, KEY, ORIGIN, memory)
    assert (
        write_checkpoint(engine, SigningKey.generate("other"), "other", stranger)
        == first
    )
    assert len(list(read_checkpoints(engine))) == 1
    append_some(engine, range(2))
    assert write_checkpoint(engine, KEY, ORIGIN, memory).size == 5
    assert len(list(read_checkpoints(engine))) == 2
    assert failures(engine) == set()


def test_an_empty_ledger_can_be_signed(engine: sa.Engine, memory: Path) -> None:
    """Before the first entry the head is that of the empty tree."""
    assert latest_checkpoint(engine) is None
    assert write_checkpoint(engine, KEY, ORIGIN, memory).size == 0
    assert failures(engine) == set()


def test_writers_and_sequencers_side_by_side(engine: sa.Engine, memory: Path) -> None:
    """Six writers and three sequencers at once lose, double and fork nothing."""
    writers, per_writer = 6, 40

    def write(writer: int) -> None:
        for number in range(0, per_writer, 4):
            append_some(engine, range(number, number + 4), f"worker/w{writer}")

    def order(_: int) -> None:
        for _ in range(30):
            sequence(engine, limit=7)
            write_checkpoint(engine, KEY, ORIGIN, memory)

    with ThreadPoolExecutor(9) as pool:
        jobs = [pool.submit(write, writer) for writer in range(writers)]
        jobs += [pool.submit(order, number) for number in range(3)]
        for job in jobs:
            job.result()
    assert write_checkpoint(engine, KEY, ORIGIN, memory).size == writers * per_writer
    got = [Entry.parse(body) for body in bodies(engine)]
    for writer in range(writers):
        mine = [item.object for item in got if item.actor == f"worker/w{writer}"]
        assert mine == [f"run/r1/shard/{number}" for number in range(per_writer)]
    assert failures(engine) == set()


def test_a_part_of_the_ledger_can_be_read(engine: sa.Engine, memory: Path) -> None:
    """Both ends of a range are included, also beyond a page."""
    append_some(engine, range(1200))
    write_checkpoint(engine, KEY, ORIGIN, memory)
    assert [index for index, _, _ in read_entries(engine, 5, 7)] == [5, 6, 7]
    assert sum(1 for _ in read_entries(engine, 0, 1000)) == 1001
    assert sum(1 for _ in read_entries(engine, 1199)) == 1
    assert list(read_entries(engine, 1200)) == []
    assert list(read_entries(engine, 7, 5)) == []


@pytest.mark.parametrize("table", ["ledger_entries", "checkpoints"])
def test_the_database_refuses_to_change_history(
    engine: sa.Engine, memory: Path, table: str
) -> None:
    """UPDATE, DELETE and (PostgreSQL) TRUNCATE fail, and the ledger stays as it was."""
    append_some(engine, range(3))
    write_checkpoint(engine, KEY, ORIGIN, memory)
    rows = Table.metadata.tables[table]
    attacks: list[sa.Executable] = [
        sa.update(rows).values({rows.c[1]: b"x"}),
        sa.delete(rows),
    ]
    if engine.dialect.name == "postgresql":
        attacks.append(sa.text(f"TRUNCATE {table}"))
    for attack in attacks:
        with (
            pytest.raises(DBAPIError, match="append-only"),
            engine.begin() as connection,
        ):
            connection.execute(attack)
    assert len(bodies(engine)) == 3
    assert failures(engine) == set()


def disarm(connection: sa.Connection) -> None:
    """Switch the guards off, as an administrator of the database can."""
    if connection.dialect.name == "postgresql":
        for table in ("ledger_entries", "checkpoints"):
            connection.execute(sa.text(f"ALTER TABLE {table} DISABLE TRIGGER ALL"))
        return
    names = connection.scalars(
        sa.text("SELECT name FROM sqlite_master WHERE type = 'trigger'")
    ).all()
    for name in names:
        connection.execute(sa.text(f"DROP TRIGGER {name}"))


def test_an_administrators_edit_is_found(engine: sa.Engine, memory: Path) -> None:
    """Past the guards, an edited row is named even when its hash was edited too."""
    append_some(engine, range(6))
    write_checkpoint(engine, KEY, ORIGIN, memory)
    forged = entry(99).to_bytes()
    with engine.begin() as connection:
        disarm(connection)
        connection.execute(
            sa.update(EntryTable)
            .where(EntryTable.idx == 2)
            .values(body=forged, leaf_hash=leaf_hash(forged))
        )
    assert failures(engine) == {FailureKind.ROOT_MISMATCH}


def test_a_cut_ledger_is_found_and_not_signed(engine: sa.Engine, memory: Path) -> None:
    """A ledger whose tail is gone is named by the verifier and signed by nobody."""
    append_some(engine, range(6))
    write_checkpoint(engine, KEY, ORIGIN, memory)
    with engine.begin() as connection:
        disarm(connection)
        connection.execute(sa.delete(EntryTable).where(EntryTable.idx >= 4))
    assert failures(engine) == {FailureKind.MISSING_ENTRIES}
    with pytest.raises(BrokenLedgerError, match="affidavit verify"):
        write_checkpoint(engine, KEY, ORIGIN, memory)


def test_a_forged_head_is_not_signed_over_the_true_one(
    engine: sa.Engine, memory: Path
) -> None:
    """A head whose frontier was exchanged contradicts the checkpoint of its size."""
    append_some(engine, range(4))
    write_checkpoint(engine, KEY, ORIGIN, memory)
    with engine.begin() as connection:
        connection.execute(sa.update(LedgerHeadTable).values(frontier=["00" * 32]))
    with pytest.raises(BrokenLedgerError, match="history was rewritten"):
        write_checkpoint(engine, KEY, ORIGIN, memory)


def rewrite(engine: sa.Engine, index: int) -> None:
    """Exchange an entry and everything that the database says of its history."""
    forged = entry(99, "user/mallory").to_bytes()
    with engine.begin() as connection:
        disarm(connection)
        connection.execute(
            sa.update(EntryTable)
            .where(EntryTable.idx == index)
            .values(body=forged, leaf_hash=leaf_hash(forged))
        )
        connection.execute(sa.delete(CheckpointTable))
        tree = CompactRange()
        leaves = sa.select(EntryTable.leaf_hash).order_by(EntryTable.idx)
        for leaf in connection.scalars(leaves):
            tree.append(leaf)
        connection.execute(
            sa.update(LedgerHeadTable).values(frontier=tree.frontier_hex)
        )


@pytest.mark.parametrize("growth", [0, 3])
def test_rewritten_history_is_never_signed(
    engine: sa.Engine, memory: Path, growth: int
) -> None:
    """Who writes the database alone cannot have another history vouched for.

    Entry, head and checkpoints agree with each other, yet not with what was signed.
    """
    append_some(engine, range(6))
    write_checkpoint(engine, KEY, ORIGIN, memory)
    rewrite(engine, 2)
    append_some(engine, range(growth))
    before = memory.read_bytes()
    with pytest.raises(BrokenLedgerError, match="nothing was signed"):
        write_checkpoint(engine, KEY, ORIGIN, memory)
    assert notes(engine) == []
    assert memory.read_bytes() == before


def test_without_its_memory_a_signer_goes_by_what_it_signed_in_the_table(
    engine: sa.Engine, memory: Path
) -> None:
    """A lost file is made anew from the entries, held against earlier checkpoints."""
    append_some(engine, range(6))
    write_checkpoint(engine, KEY, ORIGIN, memory)
    memory.unlink()
    append_some(engine, range(2))
    assert write_checkpoint(engine, KEY, ORIGIN, memory).size == 8
    forged = entry(99).to_bytes()
    memory.unlink()
    with engine.begin() as connection:
        disarm(connection)
        connection.execute(
            sa.update(EntryTable)
            .where(EntryTable.idx == 2)
            .values(body=forged, leaf_hash=leaf_hash(forged))
        )
    append_some(engine, range(1))
    with pytest.raises(BrokenLedgerError, match="history was rewritten"):
        write_checkpoint(engine, KEY, ORIGIN, memory)
    assert not memory.exists()


def test_a_restored_older_ledger_is_not_signed(engine: sa.Engine, memory: Path) -> None:
    """Fewer entries than were signed are a fork, however consistent they look."""
    append_some(engine, range(6))
    write_checkpoint(engine, KEY, ORIGIN, memory)
    with engine.begin() as connection:
        disarm(connection)
        connection.execute(sa.delete(EntryTable))
        connection.execute(sa.delete(CheckpointTable))
        connection.execute(sa.delete(LedgerHeadTable))
    append_some(engine, range(3))
    with pytest.raises(BrokenLedgerError, match="6 entries were signed"):
        write_checkpoint(engine, KEY, ORIGIN, memory)
    assert notes(engine) == []


def test_what_was_remembered_and_not_stored_is_stored_the_next_time(
    engine: sa.Engine, memory: Path
) -> None:
    """A crash between the file and the commit leaves no gap and no second head."""
    append_some(engine, range(4))
    first = write_checkpoint(engine, KEY, ORIGIN, memory)
    with engine.begin() as connection:
        disarm(connection)
        connection.execute(sa.delete(CheckpointTable))
    assert write_checkpoint(engine, KEY, ORIGIN, memory) == first
    assert failures(engine) == set()


def test_the_memory_is_private_and_not_to_be_altered(
    engine: sa.Engine, memory: Path
) -> None:
    """Its mode is 0600; altered, or of another key, it stops the signer."""
    append_some(engine, range(4))
    write_checkpoint(engine, KEY, ORIGIN, memory)
    assert stat.S_IMODE(memory.stat().st_mode) == 0o600
    assert [path.name for path in memory.parent.glob(".ledger*")] == []
    with pytest.raises(BrokenLedgerError, match="move it away"):
        write_checkpoint(engine, SigningKey.generate(ORIGIN), ORIGIN, memory)
    genuine = memory.read_text()
    frontier = json.loads(genuine)["frontier"][0]
    for altered in (genuine.replace(frontier, "00" * 32), "{", "[1]", ""):
        memory.write_text(altered)
        with pytest.raises(BrokenLedgerError, match="restore it"):
            write_checkpoint(engine, KEY, ORIGIN, memory)


def test_signing_costs_what_is_new(
    sqlite_url: str, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a long ledger only the entries since the last signature are hashed again."""
    upgrade(sqlite_url, actor="user/tester")
    engine = create_engine(sqlite_url)
    append_some(engine, range(1500))
    write_checkpoint(engine, KEY, ORIGIN, memory)
    append_some(engine, range(3))
    hashed: list[bytes] = []

    def counted(body: bytes) -> bytes:
        hashed.append(body)
        return leaf_hash(body)

    monkeypatch.setattr(storage.ledger_signing, "leaf_hash", counted)
    write_checkpoint(engine, KEY, ORIGIN, memory)
    assert len(hashed) == 3
    engine.dispose()


def test_what_is_unsigned_is_known(engine: sa.Engine, memory: Path) -> None:
    """Entries in the outbox and in the ledger count; a covered one waits for none."""
    assert unsigned_for(engine) is None
    append_some(engine, range(1))
    assert unsigned_for(engine) == math.inf
    sequence(engine)
    assert unsigned_for(engine) == math.inf
    write_checkpoint(engine, KEY, ORIGIN, memory)
    assert unsigned_for(engine) is None
    append_some(engine, range(1))
    age = unsigned_for(engine)
    assert age is not None
    assert 0 <= age < 60


def test_ids_that_commit_out_of_order_are_all_drained(
    postgres_url: str, memory: Path
) -> None:
    """A row that commits after one with a higher id was drained comes next."""
    upgrade(postgres_url, actor="user/tester")
    engine = create_engine(postgres_url)
    write_checkpoint(engine, KEY, ORIGIN, memory)
    before = ledger_size(engine)
    with transaction(engine) as slow:
        append(slow, entry(1))
        append_some(engine, range(2, 3))
        assert sequence(engine) == 1
    assert sequence(engine) == 1
    objects = [Entry.parse(body).object for _, body, _ in read_entries(engine, before)]
    assert objects == ["run/r1/shard/2", "run/r1/shard/1"]
    write_checkpoint(engine, KEY, ORIGIN, memory)
    assert failures(engine) == set()
    engine.dispose()
