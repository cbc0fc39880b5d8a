# SPDX-License-Identifier: Apache-2.0
"""The verifier of a live ledger: every way to tamper is named, honesty passes."""

import dataclasses
from collections.abc import Callable

import pytest

from ledger.checkpoint import Checkpoint, SigningKey
from ledger.entries import Action, Entry
from ledger.failures import MAX_FAILURES, FailureKind, FailureLog
from ledger.merkle import EMPTY_ROOT, leaf_hash, root_of
from ledger.verifier import examine_entries, verify_entries

KEY = SigningKey.generate("example.com/log")
STRANGER = SigningKey.generate("example.com/log")

Row = tuple[int, bytes, bytes]


def body_of(number: int, actor: str = "worker:w1") -> bytes:
    """Return the stored bytes of some entry."""
    return Entry(
        at=f"2026-11-23T08:00:{number % 60:02d}Z",
        actor=actor,
        action=Action.SHARD_CLAIMED,
        object=f"run/r1/shard/{number}",
    ).to_bytes()


def row_of(index: int, body: bytes) -> Row:
    """Return a row whose leaf hash is right for its body."""
    return index, body, leaf_hash(body)


@dataclasses.dataclass
class Log:
    """A ledger in memory, to be tampered with."""

    rows: list[Row]
    notes: list[str]

    def kinds(self, key: SigningKey | None = KEY) -> set[FailureKind]:
        """Return the kinds of failure that verification finds."""
        verifier = None if key is None else key.verifier
        return {
            failure.kind for failure in verify_entries(self.rows, self.notes, verifier)
        }


def note_of(rows: list[Row], size: int, key: SigningKey = KEY) -> str:
    """Return a signed checkpoint over the first rows."""
    root = root_of(leaf for _, _, leaf in rows[:size])
    return key.sign(Checkpoint("example.com/log", size, root))


@pytest.fixture
def log() -> Log:
    """An honest ledger of twenty entries with checkpoints at 8, 13 and 20."""
    rows = [row_of(number, body_of(number)) for number in range(20)]
    return Log(rows, [note_of(rows, size) for size in (13, 8, 20)])


def test_an_honest_ledger_passes(log: Log) -> None:
    """Nothing is found, everything is covered, and the window is the entries'."""
    verdict = examine_entries(iter(log.rows), iter(log.notes), KEY.verifier)
    assert verdict.ok
    assert (verdict.entries, verdict.covered, verdict.key_pinned) == (20, 20, True)
    assert verdict.first is not None
    assert verdict.last is not None
    assert (verdict.last - verdict.first).total_seconds() == 19


def test_without_a_key_the_verdict_says_so(log: Log) -> None:
    """All hashes are still checked, and the missing key is stated."""
    verdict = examine_entries(log.rows, log.notes, None)
    assert verdict.ok
    assert not verdict.key_pinned
    assert "key not pinned" in verdict.to_text()


def test_an_empty_ledger_passes() -> None:
    """No entries and the checkpoint of nothing are consistent."""
    note = KEY.sign(Checkpoint("example.com/log", 0, EMPTY_ROOT))
    assert verify_entries([], [note], KEY.verifier) == []
    wrong = KEY.sign(Checkpoint("example.com/log", 0, b"x" * 32))
    kinds = [failure.kind for failure in verify_entries([], [wrong], KEY.verifier)]
    assert kinds == [FailureKind.ROOT_MISMATCH]


def edit_body(log: Log) -> None:
    """Change a body and leave its hash."""
    log.rows[5] = (5, body_of(5, "worker:w2"), log.rows[5][2])


def edit_body_and_hash(log: Log) -> None:
    """Change a body together with its hash."""
    log.rows[5] = row_of(5, body_of(5, "worker:w2"))


def edit_hash(log: Log) -> None:
    """Change a stored hash only."""
    log.rows[5] = (5, log.rows[5][1], b"x" * 32)


def flip_bit(log: Log) -> None:
    """Flip one bit of a body, so that it is no entry any more."""
    body = bytearray(log.rows[5][1])
    body[0] ^= 1
    log.rows[5] = (5, bytes(body), log.rows[5][2])


def delete_middle(log: Log) -> None:
    """Take out one row."""
    del log.rows[5]


def delete_and_renumber(log: Log) -> None:
    """Take out one row and close the gap."""
    del log.rows[5]
    log.rows[5:] = [row_of(index - 1, body) for index, body, _ in log.rows[5:]]


def insert(log: Log) -> None:
    """Put in a row with an index that is taken."""
    log.rows.insert(5, row_of(4, body_of(99)))


def reorder(log: Log) -> None:
    """Swap the contents of two rows."""
    a, b = log.rows[5][1], log.rows[6][1]
    log.rows[5], log.rows[6] = row_of(5, b), row_of(6, a)


def truncate(log: Log) -> None:
    """Cut the tail off and leave the checkpoints."""
    del log.rows[15:]


def drop_all(log: Log) -> None:
    """Delete all rows."""
    log.rows.clear()


def drop_last_checkpoint(log: Log) -> None:
    """Delete the newest checkpoint."""
    log.notes = [note for note in log.notes if "\n20\n" not in note]


def rewrite_without_key(log: Log) -> None:
    """Write another history and sign it with a key of the same name."""
    log.rows = [row_of(number, body_of(number, "x")) for number in range(20)]
    log.notes = [note_of(log.rows, 20, STRANGER)]


def garble_note(log: Log) -> None:
    """Damage the text of a checkpoint."""
    log.notes[0] = log.notes[0].replace("\n\n", "\n")


def restate_size(log: Log) -> None:
    """Let a signed note state another size."""
    log.notes[0] = log.notes[0].replace("\n13\n", "\n14\n")


def fork(log: Log) -> None:
    """Sign two histories of one size with the true key."""
    other = [row_of(number, body_of(number, "x")) for number in range(20)]
    log.notes.append(note_of(other, 20))


def other_origin(log: Log) -> None:
    """Add a checkpoint of another ledger that our key signed."""
    root = root_of(leaf for _, _, leaf in log.rows[:10])
    log.notes.append(KEY.sign(Checkpoint("example.com/other", 10, root)))


def newer_schema(log: Log) -> None:
    """Append an entry of a later version, properly signed."""
    body = body_of(20).replace(b"entry/1", b"entry/2")
    log.rows.append(row_of(20, body))
    log.notes.append(note_of(log.rows, 21))


F = FailureKind


@pytest.mark.parametrize(
    ("tamper", "kinds"),
    [
        (edit_body, {F.ENTRY_MISMATCH, F.ROOT_MISMATCH}),
        (edit_body_and_hash, {F.ROOT_MISMATCH}),
        (edit_hash, {F.ENTRY_MISMATCH}),
        (flip_bit, {F.ENTRY_MISMATCH, F.ROOT_MISMATCH}),
        (delete_middle, {F.MISSING_ENTRIES}),
        (delete_and_renumber, {F.ROOT_MISMATCH, F.MISSING_ENTRIES}),
        (insert, {F.INCONSISTENT}),
        (reorder, {F.ROOT_MISMATCH}),
        (truncate, {F.MISSING_ENTRIES}),
        (drop_all, {F.MISSING_ENTRIES}),
        (drop_last_checkpoint, {F.NOT_COVERED}),
        (rewrite_without_key, {F.BAD_SIGNATURE, F.NOT_COVERED}),
        (garble_note, {F.BAD_SIGNATURE}),
        (restate_size, {F.BAD_SIGNATURE, F.ROOT_MISMATCH}),
        (fork, {F.INCONSISTENT, F.ROOT_MISMATCH}),
        (other_origin, {F.INCONSISTENT}),
        (newer_schema, {F.UNKNOWN_SCHEMA}),
    ],
)
def test_each_attack_is_named(
    log: Log, tamper: Callable[[Log], None], kinds: set[FailureKind]
) -> None:
    """Each way to tamper gives exactly the kinds of failure that describe it."""
    tamper(log)
    assert log.kinds() == kinds


def test_failures_name_the_place_and_the_hashes(log: Log) -> None:
    """An edited entry is reported by index with the expected and the found hash."""
    edit_body(log)
    first, second, *_ = verify_entries(log.rows, log.notes, KEY.verifier)
    assert (first.where, second.where) == ("entry 5", "checkpoint 8")
    assert first.expected == log.rows[5][2].hex()
    assert first.got == leaf_hash(log.rows[5][1]).hex()
    assert "0..7" in second.message


def test_only_signed_checkpoints_cover(log: Log) -> None:
    """Entries under a checkpoint whose signature is bad are not counted as covered."""
    log.notes[2] = note_of(log.rows, 20, STRANGER)
    verdict = examine_entries(log.rows, log.notes, KEY.verifier)
    assert verdict.covered == 13
    assert {failure.kind for failure in verdict.failures} == {
        F.BAD_SIGNATURE,
        F.NOT_COVERED,
    }


def test_a_caller_may_ask_for_coverage_of_a_part(log: Log) -> None:
    """Entries that other runs have just written need not be covered yet."""
    drop_last_checkpoint(log)
    ask = KEY.verifier
    assert verify_entries(log.rows, log.notes, ask, cover_until=13) == []
    (failure,) = verify_entries(log.rows, log.notes, ask, cover_until=14)
    assert (failure.kind, failure.where) == (F.NOT_COVERED, "entries 13..13")


def test_a_flood_of_failures_is_counted_not_listed() -> None:
    """Beyond the cap the last failure says how many were left out."""
    log = FailureLog()
    for number in range(MAX_FAILURES + 7):
        log.add(F.ENTRY_MISMATCH, f"entry {number}", "wrong")
    failures = log.result()
    assert len(failures) == MAX_FAILURES
    assert "7 more failures" in failures[-1].message
