# SPDX-License-Identifier: Apache-2.0
"""A run's evidence in one file that a stranger can verify offline."""

import io
import zipfile
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import ledger
from ledger.bundle import ArtifactSource, BundleEntry, write_bundle
from ledger.checkpoint import Checkpoint, read_unverified
from ledger.entries import Entry
from ledger.errors import BrokenLedgerError, FormatError, ProofError
from ledger.merkle import verify_inclusion
from ledger.succession import read_link
from pipeline.local_key import local_verifier
from pipeline.run_entries import entries_of
from pipeline.services import Services
from storage.anchor_rows import anchored
from storage.engine import reading
from storage.errors import StateConflictError
from storage.ledger_places import read_places
from storage.ledger_writer import latest_checkpoint
from storage.runs import list_shards
from storage.stored_tree import StoredTree
from storage.tables import RunTable

#: Anchors beyond these are older; whoever holds one asks with `--since`.
MOST_CONSISTENCY_PROOFS: Final = 100


def require_covered(services: Services, run: RunTable) -> str:
    """Return the note of the last checkpoint, which covers the end of the run.

    Raises:
        StateConflictError: it does not.
    """
    note = latest_checkpoint(services.engine)
    size = 0 if note is None else read_unverified(note).size
    said = entries_of(services, run.id, by_index=True)
    # The run may have ended before, and been retried: only its last end counts.
    if note is None or said.finalised is None or said.last_index >= size:
        raise StateConflictError(
            f"No signed checkpoint covers the end of run {run.id} yet; the process "
            "that holds the ledger's key writes one soon after a run has ended."
        )
    return note


def write_run_bundle(
    services: Services,
    run: RunTable,
    path: Path,
    *,
    since: Sequence[str] = (),
) -> None:
    """The bundle of a run is at the path: entries with proofs, artifacts, report.

    Args:
        services: Database and stores.
        run: The run.
        path: Where to write.
        since: Signed notes that the bundle must prove to go on from.

    Raises:
        StateConflictError: no checkpoint covers the run's end yet.
    """
    note = require_covered(services, run)
    head = read_unverified(note)
    summary = run.summary or {}
    report = summary.get("report") or {}
    shards = list_shards(services.engine, run.id)
    store = services.store
    with reading(services.engine) as session:
        tree = StoredTree(session)
        write_bundle(
            path,
            run=run.id,
            checkpoint_note=note,
            entries=proven_entries(services, tree, head, run.id),
            artifacts=[
                ArtifactSource(shard.object_key, partial(store.open, shard.object_key))
                for shard in shards
                if shard.object_key is not None
            ],
            report_json=partial(store.open, report["json"]) if report else None,
            report_html=partial(store.open, report["html"]) if report else None,
            result_digest=run.result_digest,
            vkey=local_verifier(services.settings),
            consistency=consistency_with(services, tree, head, since),
            verifier=standalone_verifier(),
        )


def proven_entries(
    services: Services, tree: StoredTree, head: Checkpoint, run_id: str
) -> Iterator[BundleEntry]:
    """Yield the entries that tell of a run, and the links between keys.

    Raises:
        BrokenLedgerError: a proof does not lead to the signed root.
    """
    for index, body, leaf in read_places(services.engine, run_id, until=head.size):
        if is_about(body, f"run/{run_id}") or read_link(index, body) is not None:
            yield proven_entry(tree, head, index, body, leaf)


def proven_entry(
    tree: StoredTree, head: Checkpoint, index: int, body: bytes, leaf: bytes
) -> BundleEntry:
    """Return an entry with its path to the root of the head.

    Raises:
        BrokenLedgerError: there is none; entries or stored subtrees were altered.
    """
    proof = tree.inclusion_proof(index, head.size)
    try:
        verify_inclusion(leaf, index, head.size, proof, head.root)
    except ProofError as exc:
        raise BrokenLedgerError(
            f"The entry {index} does not lead to the signed root of {head.size} "
            "entries; nothing was handed out, run 'affidavit verify'."
        ) from exc
    return BundleEntry(index, body, proof)


def consistency_with(
    services: Services, tree: StoredTree, head: Checkpoint, since: Sequence[str]
) -> dict[int, tuple[bytes, ...]]:
    """Return the proofs that the head goes on from each anchor and from these notes."""
    sizes = {size for _place, size, _at in anchored(services.engine)}
    sizes |= {read_unverified(note).size for note in since}
    return {
        size: tree.consistency_proof(size, head.size)
        for size in sorted(sizes)[-MOST_CONSISTENCY_PROOFS:]
        if 0 < size <= head.size
    }


def standalone_verifier() -> bytes:
    """Return the verifier as one file, for Python with `cryptography` alone.

    The file is a zip of the package `ledger`'s own source, so that it can be read; the
    same source gives the same bytes.
    """
    folder = Path(ledger.__file__).parent
    stream = io.BytesIO()
    stream.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(
            zipfile.ZipInfo("__main__.py", (1980, 1, 1, 0, 0, 0)),
            "import sys\n\nfrom ledger.__main__ import main\n\nsys.exit(main())\n",
        )
        for path in sorted(folder.glob("*.py")):
            member = zipfile.ZipInfo(f"ledger/{path.name}", (1980, 1, 1, 0, 0, 0))
            member.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(member, path.read_bytes())
    return stream.getvalue()


def is_about(body: bytes, prefix: str) -> bool:
    """Whether the entry tells of the object with that name or of a part of it."""
    if prefix.encode() not in body:
        return False
    try:
        entry = Entry.parse(body)
    except FormatError:
        return False
    return f"{entry.object}/".startswith(f"{prefix}/")
