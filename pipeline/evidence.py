# SPDX-License-Identifier: Apache-2.0
"""A run's evidence in one file that a stranger can verify offline."""

from functools import partial
from pathlib import Path

from ledger.bundle import ArtifactSource, BundleEntry, write_bundle
from ledger.checkpoint import read_unverified
from ledger.entries import Entry
from ledger.errors import FormatError
from ledger.merkle import HashTree
from pipeline.local_key import local_verifier
from pipeline.run_entries import entries_of
from pipeline.services import Services
from storage.errors import StateConflictError
from storage.ledger_writer import latest_checkpoint, read_entries
from storage.runs import list_shards
from storage.tables import RunTable


def require_covered(services: Services, run: RunTable) -> str:
    """Return the note of the last checkpoint, which covers the end of the run.

    Raises:
        StateConflictError: it does not.
    """
    note = latest_checkpoint(services.engine)
    size = 0 if note is None else read_unverified(note).size
    said = entries_of(services, run.id)
    # The run may have ended before, and been retried: only its last end counts.
    if note is None or said.finalised is None or said.last_index >= size:
        raise StateConflictError(
            f"No signed checkpoint covers the end of run {run.id} yet; the process "
            "that holds the ledger's key writes one soon after a run has ended."
        )
    return note


def write_run_bundle(services: Services, run: RunTable, path: Path) -> None:
    """The bundle of a run is at the path: entries with proofs, artifacts, report.

    Raises:
        StateConflictError: no checkpoint covers the run's end yet.
    """
    note = require_covered(services, run)
    size = read_unverified(note).size
    tree = HashTree()
    mine: list[tuple[int, bytes]] = []
    prefix = f"run/{run.id}"
    for index, body, leaf in read_entries(services.engine, 0, size - 1):
        tree.append(leaf)
        if _is_about(body, prefix):
            mine.append((index, body))
    summary = run.summary or {}
    report = summary.get("report") or {}
    shards = list_shards(services.engine, run.id)
    store = services.store
    write_bundle(
        path,
        run=run.id,
        checkpoint_note=note,
        entries=(
            BundleEntry(index, body, tuple(tree.inclusion_proof(index, size)))
            for index, body in mine
        ),
        artifacts=[
            ArtifactSource(shard.object_key, partial(store.open, shard.object_key))
            for shard in shards
            if shard.object_key is not None
        ],
        report_json=partial(store.open, report["json"]) if report else None,
        report_html=partial(store.open, report["html"]) if report else None,
        result_digest=run.result_digest,
        vkey=local_verifier(services.settings),
    )


def _is_about(body: bytes, prefix: str) -> bool:
    """Whether the entry tells of the object with that name or of a part of it."""
    try:
        entry = Entry.parse(body)
    except FormatError:
        return False
    return f"{entry.object}/".startswith(f"{prefix}/")
