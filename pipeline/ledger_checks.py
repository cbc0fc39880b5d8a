# SPDX-License-Identifier: Apache-2.0
"""Holding the ledger's entries against everything that states how they were.

That is the signed checkpoints in the database, the head that this installation's key
has signed last (beside the key, where no writer of the database reaches it), and what
the database says of the ledger's head without any signature.
"""

from collections.abc import Iterator

from ledger.checkpoint import VerifierKey, read_unverified
from ledger.errors import BrokenLedgerError, FormatError, KeyFileError
from ledger.failures import FailureKind, Verdict
from ledger.head_file import load_head
from ledger.merkle import CompactRange
from ledger.succession import KeyRing
from ledger.verifier import LEDGER_HEAD, examine_entries
from pipeline.findings import Findings
from pipeline.local_key import head_file, local_verifier
from pipeline.run_entries import RunEntries
from pipeline.services import Services
from storage.ledger_places import indexes_of
from storage.ledger_writer import read_checkpoints, read_entries, stated_head


def check_ledger(
    services: Services, said: RunEntries, key: VerifierKey | None, findings: Findings
) -> Verdict:
    """Return the verdict on the whole ledger; its failures are among the findings."""
    before = _stated(services, findings)
    ring = None if key is None else KeyRing.of(key, said.links)
    verdict = examine_entries(
        read_entries(services.engine),
        _notes(services, ring, findings),
        key,
        cover_until=_must_be_covered(said, before),
        stated=before,
        links=said.links,
    )
    findings.take(verdict.failures)
    # Read again: entries may have come while the others were checked.
    after = _stated(services, Findings()) if before is not None else None
    if after is not None and after.size < verdict.entries:
        findings.add(
            FailureKind.INCONSISTENT,
            LEDGER_HEAD,
            "The ledger's head counts fewer entries than the ledger has.",
            expected=verdict.entries,
            got=after.size,
        )
    return verdict


def check_places(
    services: Services, run_id: str, said: RunEntries, findings: Findings
) -> None:
    """The index names each entry about the run, or that is a finding.

    Evidence is packed by the index: a row that is missing would leave an entry out. A
    row too many does no harm, and where an entry was altered that has its own name.
    """
    missing = set(said.indexes) - set(indexes_of(services.engine, run_id))
    if missing:
        findings.add(
            FailureKind.ROW_MISMATCH,
            "ledger_places",
            f"The index of the ledger lacks {len(missing)} entries of the run, the "
            f"first is entry {min(missing)}.",
        )


def _stated(services: Services, findings: Findings) -> CompactRange | None:
    try:
        return stated_head(services.engine)
    except BrokenLedgerError:
        findings.add(
            FailureKind.INCONSISTENT,
            LEDGER_HEAD,
            "The row of ledger_head holds nothing that a ledger's head could be.",
        )
        return None


def _must_be_covered(said: RunEntries, stated: CompactRange | None) -> int:
    """Return how many entries a checkpoint must vouch for.

    Those up to the run's end; while it is under way, none. An end that still waits for
    the sequencer lies beyond the last entry, and so counts as not covered.
    """
    if said.finalised is None:
        return 0
    if stated is None:
        return said.last_index + 1 if said.is_ordered else 0
    return min(said.last_index, stated.size) + 1


def _notes(
    services: Services, ring: KeyRing | None, findings: Findings
) -> Iterator[str]:
    """Yield every signed note, those of the anchors and beside the key included."""
    for size, root, note in read_checkpoints(services.engine):
        try:
            checkpoint = read_unverified(note)
        except FormatError:
            pass  # named where its signature is checked
        else:
            if (size, root) != (checkpoint.size, checkpoint.root):
                findings.add(
                    FailureKind.ROW_MISMATCH,
                    f"checkpoint {checkpoint.size}",
                    "The checkpoint's row has another size or root than its note.",
                    expected=f"{checkpoint.size} {checkpoint.root.hex()}",
                    got=f"{size} {root.hex()}",
                )
        yield note
    if services.settings.anchor_urls:
        from pipeline.anchoring import anchored_notes  # noqa: PLC0415 - boto3, perhaps

        yield from (note for _place, note in anchored_notes(services))
    yield from _remembered(services, ring, findings)


def _remembered(
    services: Services, ring: KeyRing | None, findings: Findings
) -> Iterator[str]:
    """Yield the note beside the key, where it is one of this ledger's keys."""
    local = local_verifier(services.settings)
    if local is None or ring is None or local not in ring.keys:
        # The key beside us is not this ledger's; what it has signed is another one.
        return
    try:
        head = load_head(head_file(services.settings), local)
    except BrokenLedgerError as exc:
        findings.add(FailureKind.BAD_SIGNATURE, "remembered head", str(exc))
    except KeyFileError:
        return  # readable by the signer alone, and we are not it
    else:
        if head is not None:
            yield head.note
