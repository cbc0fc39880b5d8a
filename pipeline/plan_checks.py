# SPDX-License-Identifier: Apache-2.0
"""Holding a run's plan against the ledger: its row, its audit and its manifest."""

from collections.abc import Mapping

from ledger.entries import Entry
from ledger.failures import FailureKind
from pipeline.digests import ManifestDigest, document_digest
from pipeline.findings import Findings
from pipeline.manifest_ids import ManifestIds
from pipeline.run_entries import RunEntries
from pipeline.services import Services
from storage.evidence_rows import stored_audit, stored_locations
from storage.tables import RunTable


def check_plan(
    services: Services, run: RunTable, said: RunEntries, findings: Findings
) -> None:
    """What was fixed before the work started is as the ledger has it."""
    if said.planned is None:
        findings.add(
            FailureKind.MISSING_ENTRIES,
            f"run {run.id}",
            "The ledger has no entry that the run was planned.",
        )
        return
    details = said.planned.details
    halved = any(entry.details.get("halved") for entry in said.finished.values())
    pairs = {
        "manifest_digest": (said.planned.digest, run.manifest_digest),
        "items_total": (details.get("items"), run.items_total),
        "shards_total": (details.get("shards"), run.shards_total),
        "spec_digest": (details.get("spec"), run.spec_digest),
        "model_digest": (details.get("model"), run.model_digest),
        "queue": (details.get("queue"), run.queue),
        "spec and plan": (details.get("setup"), document_digest(run.spec, run.plan)),
        "origin": (
            details.get("origin"),
            None if run.origin is None else document_digest(run.origin),
        ),
        "parent_run_id": (details.get("parent"), run.parent_run_id),
        "not_comparable": (halved, bool(run.not_comparable)),
    }
    compare_run(run, pairs, findings)
    _check_audit(services, run, said.planned, findings)
    _check_manifest(services, run, said.planned, findings)


def compare_run(
    run: RunTable, pairs: Mapping[str, tuple[object, object]], findings: Findings
) -> None:
    """Each column of the run's row that is not as expected is named."""
    for column, (expected, got) in pairs.items():
        if expected != got:
            findings.add(
                FailureKind.ROW_MISMATCH,
                f"run {run.id}",
                f"The run's row has another {column} than the ledger or the report.",
                expected=expected,
                got=got,
            )


def _check_audit(
    services: Services, run: RunTable, planned: Entry, findings: Findings
) -> None:
    """The spec as it was written, which the report shows, is that of the plan."""
    found = stored_audit(services.engine, run.audit_id)
    where = f"audit of run {run.id}"
    if found is None:
        findings.add(FailureKind.ROW_MISMATCH, where, "The audit's row is missing.")
        return
    audit, bad = found
    findings.take_cells(where, bad)
    written = planned.details.get("written")
    pairs = {
        "spec": document_digest(audit.spec),
        "spec_digest": audit.spec_digest,
    }
    for column, got in pairs.items():
        if got != written:
            findings.add(
                FailureKind.ROW_MISMATCH,
                where,
                f"The audit's row has another {column} than the ledger.",
                expected=written,
                got=got,
            )
    if audit.name != audit.spec.get("audit"):
        findings.add(
            FailureKind.ROW_MISMATCH,
            where,
            "The audit's row has another name than its spec.",
            expected=audit.spec.get("audit"),
            got=audit.name,
        )


def _check_manifest(
    services: Services, run: RunTable, planned: Entry, findings: Findings
) -> None:
    where = f"manifest of run {run.id}"
    manifest, ids = ManifestDigest(), ManifestIds()
    for row, bad in stored_locations(services.engine, run.id):
        findings.take_cells(f"{where}, item {row.item_index}", bad)
        manifest.add({name: getattr(row, name) for name in ManifestDigest.COLUMNS})
        ids.add(row.item_id)
        if row.duplicate_of is not None:
            ids.add_duplicate(row.item_index, row.duplicate_of)
    digests = {
        "The rows of the manifest are not those that the run was planned with.": (
            planned.digest,
            manifest.hexdigest(),
        ),
        "The ids or the doubles of the manifest's rows are not those that the run was "
        "planned with.": (planned.details.get("ids"), ids.hexdigest()),
    }
    for message, (expected, got) in digests.items():
        if expected != got:
            findings.add(
                FailureKind.ROW_MISMATCH, where, message, expected=expected, got=got
            )
