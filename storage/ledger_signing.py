# SPDX-License-Identifier: Apache-2.0
"""Signing the ledger's head: only what goes on from the head that was signed last.

The database's own word on its history (`ledger_head`, `checkpoints`) can be rewritten
together with the history. So the tree is grown from the head that the signer remembers
beside its key, by the entries that came since: what was signed before can neither be
exchanged nor cut without that being noticed, and signing N new entries costs O(N).
"""

from pathlib import Path

import sqlalchemy as sa
from sqlalchemy.orm import Session

from ledger.checkpoint import (
    Checkpoint,
    SigningKey,
    VerifierKey,
    open_note,
    read_unverified,
)
from ledger.errors import (
    BrokenLedgerError,
    FormatError,
    KeyFileError,
    SignatureError,
)
from ledger.head_file import SignedHead, load_head, save_head
from ledger.merkle import CompactRange, leaf_hash
from ledger.succession import read_link
from storage.engine import epoch_now, reading
from storage.ledger_writer import (
    PAGE,
    checkpoint_page,
    entry_page,
    leader,
    read_head,
    sequence,
)
from storage.tables import CheckpointTable, EntryTable, OutboxTable

_ADVICE = "nothing was signed, run 'affidavit verify'."


def write_checkpoint(
    engine: sa.Engine,
    key: SigningKey,
    origin: str,
    memory: Path,
    *,
    previous: VerifierKey | None = None,
) -> Checkpoint:
    """Everything in the outbox so far is sequenced and under a signed checkpoint.

    Where the ledger has not grown since the last checkpoint, that one is returned.

    Args:
        engine: The database.
        key: The ledger's key.
        origin: The ledger's name.
        memory: The file of the head that this key signed last.
        previous: The key that handed over to this one, where it signed that head.

    Raises:
        ledger.errors.KeyFileError: the key has handed over to another one.
        ledger.errors.BrokenLedgerError: the entries do not go on from the head that
            was signed last, or contradict the database's head or an earlier
            checkpoint; nothing is signed.
    """
    while sequence(engine, PAGE) == PAGE:
        pass
    with leader(engine) as session:
        remembered = load_head(memory, previous or key.verifier)
        tree = _grown(session, remembered, key.verifier)
        _check_head(session, tree)
        checkpoint = Checkpoint(origin, tree.size, tree.root())
        note = _stored_note(session, checkpoint)
        if note is not None and not _is_signed_by(note, key.verifier):
            return read_unverified(note)
        if remembered is not None and remembered.checkpoint.size == tree.size:
            # Remembered is written first, so a crash may have kept it from the table.
            signed = remembered.note
        else:
            signed = note or key.sign(checkpoint)
            save_head(memory, SignedHead(signed, tree.frontier))
        if note is None:
            session.add(
                CheckpointTable(
                    tree_size=tree.size,
                    root=tree.root(),
                    note=signed,
                    at=session.execute(sa.select(epoch_now())).scalar_one(),
                )
            )
        return read_unverified(signed)


def unsigned_for(engine: sa.Engine) -> float | None:
    """Return how long ago the last checkpoint was, None where it covers everything.

    Entries that wait for the sequencer count too. Before the first checkpoint it was
    infinitely long ago.
    """
    with reading(engine) as session:
        newest = session.execute(
            sa.select(CheckpointTable.tree_size, epoch_now() - CheckpointTable.at)
            .order_by(CheckpointTable.tree_size.desc())
            .limit(1)
        ).one_or_none()
        size = 0 if newest is None else newest[0]
        if read_head(session).size == size:
            waiting = session.execute(sa.select(OutboxTable.id).limit(1)).first()
            if waiting is None:
                return None
        return float("inf") if newest is None else max(0.0, float(newest[1]))


def _grown(
    session: Session, remembered: SignedHead | None, key: VerifierKey
) -> CompactRange:
    """Return the remembered tree, grown by the entries that came since.

    Without a memory (the first signature, or the file was lost) every entry is hashed
    again, once, and held against all checkpoints of this key.
    """
    tree = CompactRange() if remembered is None else remembered.tree()
    marks = _signed_roots(session, tree.size, key)
    _check_mark(tree, marks)
    while page := entry_page(session, tree.size):
        for index, body, stored in page:
            link = read_link(index, body)
            if link is not None and link.old == key:
                raise KeyFileError(
                    "The ledger's key has handed over to another one and signs no "
                    "more; open the key again, or end it with 'affidavit keys rotate'."
                )
            if index != tree.size:
                raise BrokenLedgerError(
                    f"The ledger has entry {index} where entry {tree.size} must come; "
                    f"{_ADVICE}"
                )
            if leaf_hash(body) != stored:
                raise BrokenLedgerError(
                    f"The entry {index} does not have its stored leaf hash; {_ADVICE}"
                )
            tree.append(stored)
            _check_mark(tree, marks)
    beyond = max(marks, default=0)
    if beyond > tree.size:
        raise BrokenLedgerError(
            f"A checkpoint covers {beyond} entries, but they end at {tree.size}; "
            f"{_ADVICE}"
        )
    return tree


def _signed_roots(session: Session, size: int, key: VerifierKey) -> dict[int, bytes]:
    """Return what the key has signed for that size and beyond, as the table has it.

    Another process that holds the key may have signed what this one's memory lacks.
    Notes of other keys, and broken ones, are for `verify` to name.
    """
    roots: dict[int, bytes] = {}
    following = size
    while page := checkpoint_page(session, following):
        for _size, _root, note in page:
            if _is_signed_by(note, key):
                checkpoint = read_unverified(note)
                roots[checkpoint.size] = checkpoint.root
        if page[-1][0] < following:
            break
        following = page[-1][0] + 1
    return roots


def _check_mark(tree: CompactRange, marks: dict[int, bytes]) -> None:
    signed = marks.get(tree.size)
    if signed is not None and signed != tree.root():
        raise BrokenLedgerError(
            f"The first {tree.size} entries have root {tree.root().hex()}, but "
            f"{signed.hex()} was signed: history was rewritten; {_ADVICE}"
        )


def _check_head(session: Session, tree: CompactRange) -> None:
    highest = session.scalar(sa.select(sa.func.max(EntryTable.idx)))
    size = 0 if highest is None else highest + 1
    if size != tree.size:
        raise BrokenLedgerError(
            f"{tree.size} entries were signed, but the ledger ends at {size}; {_ADVICE}"
        )
    head = read_head(session)
    if head.size != tree.size:
        raise BrokenLedgerError(
            f"The ledger's head states {head.size} entries, but they end at {size}; "
            f"{_ADVICE}"
        )
    if head.frontier != tree.frontier:
        raise BrokenLedgerError(
            f"The ledger's head states root {head.root().hex()}, the entries give "
            f"{tree.root().hex()}: history was rewritten; {_ADVICE}"
        )


def _stored_note(session: Session, checkpoint: Checkpoint) -> str | None:
    """Return the stored checkpoint of that size, which states the same root."""
    page = checkpoint_page(session, checkpoint.size)
    if not page or page[0][0] != checkpoint.size:
        return None
    note = page[0][2]
    try:
        signed = read_unverified(note)
    except FormatError as exc:
        raise BrokenLedgerError(
            f"The checkpoint of {checkpoint.size} entries is no signed note; {_ADVICE}"
        ) from exc
    if signed.root != checkpoint.root or signed.size != checkpoint.size:
        raise BrokenLedgerError(
            f"The checkpoint of {checkpoint.size} entries states root "
            f"{signed.root.hex()}, the entries give {checkpoint.root.hex()}; {_ADVICE}"
        )
    return note


def _is_signed_by(note: str, key: VerifierKey) -> bool:
    try:
        open_note(note, key)
    except (FormatError, SignatureError):
        return False
    return True
