# SPDX-License-Identifier: Apache-2.0
"""Checking a run's evidence against everything that is stored of it.

The ledger first (leaves, tree, signatures), then what its entries promise: the plan and
the manifest, every artifact's bytes, every row of the database against its artifact,
the result digest and the report. Whatever does not hold is named.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ledger.checkpoint import VerifierKey
from ledger.entries import Action
from ledger.failures import FailureKind
from ledger.verifier import examine_entries
from pipeline.digests import ManifestDigest, document_digest, result_digest
from pipeline.findings import Findings
from pipeline.local_key import local_verifier
from pipeline.run_entries import RunEntries, entries_of
from pipeline.services import Services
from pipeline.shard_checks import check_shards
from pipeline.shard_reading import open_artifact, sha256_of
from storage.engine import transaction
from storage.events import record
from storage.items import iterate_items
from storage.ledger_writer import ledger_size, read_checkpoints, read_entries
from storage.manifests import iterate_locations
from storage.objects.errors import ObjectNotFoundError
from storage.states import RunState
from storage.tables import RunTable

#: Failures beyond this number are counted, not listed.
MOST_FAILURES = 100


def verify_run(
    services: Services, run: RunTable, *, key: VerifierKey | None = None
) -> dict[str, Any]:
    """Return the verdict on a run as one JSON document; the check itself is logged.

    Args:
        services: Database and stores.
        run: The run.
        key: The ledger's public key, got from outside. Without it the key beside the
            signing key is used and the verdict says that it is not pinned.
    """
    findings = Findings()
    said = entries_of(services, run.id)
    used_key = key or local_verifier(services.settings)
    ledger = examine_entries(
        read_entries(services.engine),
        read_checkpoints(services.engine),
        used_key,
        cover_until=_must_be_covered(services, said),
    )
    findings.failures.extend(ledger.failures)
    _check_plan(services, run, said, findings)
    artifacts = check_shards(services, run, said, findings)
    _check_result(services, run, said, findings)
    _check_report(services, run, said, findings)
    _log(services, run, findings)
    shown = findings.failures[:MOST_FAILURES]
    return {
        "ok": not findings.failures,
        "run": run.id,
        "state": run.state,
        "entries": ledger.entries,
        "covered": ledger.covered,
        "entries_waiting": said.waiting,
        "artifacts": artifacts,
        "items": run.items_total,
        "result_digest": run.result_digest,
        "key_pinned": key is not None,
        "signatures_checked": used_key is not None,
        "failures": [failure.to_json() for failure in shown],
        "failures_total": len(findings.failures),
    }


def _must_be_covered(services: Services, said: RunEntries) -> int:
    """Return how many entries a checkpoint must vouch for.

    Those up to the run's end; while it is under way, none. An end that still waits for
    the sequencer lies beyond the last entry, and so counts as not covered.
    """
    if said.finalised is None:
        return 0
    return min(said.last_index, ledger_size(services.engine)) + 1


def _check_plan(
    services: Services, run: RunTable, said: RunEntries, findings: Findings
) -> None:
    where = f"run {run.id}"
    if said.planned is None:
        findings.add(
            FailureKind.MISSING_ENTRIES,
            where,
            "The ledger has no entry that the run was planned.",
        )
        return
    details = said.planned.details
    pairs = {
        "manifest_digest": (said.planned.digest, run.manifest_digest),
        "items_total": (details.get("items"), run.items_total),
        "shards_total": (details.get("shards"), run.shards_total),
        "spec_digest": (details.get("spec"), run.spec_digest),
        "model_digest": (details.get("model"), run.model_digest),
        "queue": (details.get("queue"), run.queue),
        "spec and plan": (details.get("setup"), document_digest(run.spec, run.plan)),
    }
    _compare_run(run, pairs, findings)
    manifest = ManifestDigest()
    for row in iterate_locations(services.engine, run.id):
        manifest.add({name: getattr(row, name) for name in ManifestDigest.COLUMNS})
    if manifest.hexdigest() != said.planned.digest:
        findings.add(
            FailureKind.ROW_MISMATCH,
            f"manifest of {where}",
            "The rows of the manifest are not those that the run was planned with.",
            expected=said.planned.digest,
            got=manifest.hexdigest(),
        )


def _compare_run(
    run: RunTable, pairs: Mapping[str, tuple[object, object]], findings: Findings
) -> None:
    for column, (expected, got) in pairs.items():
        if expected != got:
            findings.add(
                FailureKind.ROW_MISMATCH,
                f"run {run.id}",
                f"The run's row has another {column} than the ledger or the report.",
                expected=expected,
                got=got,
            )


def _check_result(
    services: Services, run: RunTable, said: RunEntries, findings: Findings
) -> None:
    where = f"run {run.id}"
    if said.finalised is None:
        if run.state in {RunState.DONE, RunState.INCOMPLETE}:
            findings.add(
                FailureKind.MISSING_ENTRIES,
                where,
                "The ledger has no entry that the run was finalised.",
            )
        return
    _compare_run(
        run, {"state": (said.finalised.details.get("state"), run.state)}, findings
    )
    stated = said.finalised.digest
    if stated != run.result_digest:
        findings.add(
            FailureKind.RESULT_DIGEST_MISMATCH,
            where,
            "The run's row states another result digest than the ledger.",
            expected=stated,
            got=run.result_digest,
        )
    if stated is None:
        return

    def records() -> Iterator[bytes]:
        for row in iterate_items(services.engine, run.id):
            yield row.record_digest

    found = result_digest(run.spec_digest, run.model_digest, records())
    if found != stated:
        findings.add(
            FailureKind.RESULT_DIGEST_MISMATCH,
            where,
            "The rows do not give the result digest that the ledger names.",
            expected=stated,
            got=found,
        )


def _check_report(
    services: Services, run: RunTable, said: RunEntries, findings: Findings
) -> None:
    if said.report is None:
        if said.finalised is not None:
            findings.add(
                FailureKind.MISSING_ENTRIES,
                f"run {run.id}",
                "The ledger has no entry that the run's report was written.",
            )
        return
    details = said.report.details
    keys: dict[str, str] = {}
    for kind in ("json", "html"):
        key, expected = str(details.get(f"{kind}_key")), details.get(f"{kind}_sha256")
        keys[kind] = key
        try:
            with open_artifact(services.store, key) as stream:
                found = sha256_of(stream)
                if kind == "json" and found == expected and said.finalised is not None:
                    stream.seek(0)
                    _check_summary(run, json.load(stream), findings)
        except ObjectNotFoundError:
            found = None
        if found != expected:
            findings.add(
                FailureKind.REPORT_MISMATCH,
                key,
                "The report is missing."
                if found is None
                else "The report's bytes are not those that the ledger names.",
                expected=expected,
                got=found,
            )
    if said.finalised is not None:
        named = (run.summary or {}).get("report")
        _compare_run(run, {"summary.report": (keys, named)}, findings)


def _check_summary(run: RunTable, report: Any, findings: Findings) -> None:
    """What `status` and `run` print of a run is what its report says."""
    summary = run.summary or {}
    items = dict(report["scope"]["items"])
    del items["missing"]
    reasons = {each["reason"]: each["count"] for each in report["scope"]["failures"]}
    pairs = {
        "summary.items": (items, summary.get("items")),
        "summary.reasons": (reasons, summary.get("reasons")),
        "summary.criteria": (report["verdict"]["criteria"], summary.get("criteria")),
        "summary.verdict": (report["verdict"], summary.get("verdict")),
    }
    _compare_run(run, pairs, findings)


def _log(services: Services, run: RunTable, findings: Findings) -> None:
    with transaction(services.engine) as session:
        record(
            session,
            Action.LEDGER_VERIFIED,
            f"run/{run.id}",
            actor=services.actor,
            details={"failures": len(findings.failures)},
        )
