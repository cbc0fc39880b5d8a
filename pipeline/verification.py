# SPDX-License-Identifier: Apache-2.0
"""Checking a run's evidence against everything that is stored of it.

The ledger first (leaves, tree, signatures), then what its entries promise: every
artifact's bytes, every row of the database against its artifact, the result digest and
the report. Whatever does not hold is named.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from ledger.checkpoint import VerifierKey
from ledger.entries import Action, Entry
from ledger.errors import FormatError
from ledger.failures import Failure, FailureKind
from ledger.verifier import examine_entries
from pipeline.digests import record_digest, result_digest
from pipeline.domain import ItemResult
from pipeline.local_key import local_verifier
from pipeline.packing import read_artifact
from pipeline.services import Services
from pipeline.shard_reading import open_artifact, sha256_of
from storage.engine import transaction
from storage.events import record
from storage.items import iterate_items
from storage.ledger_writer import read_checkpoints, read_entries
from storage.objects.errors import ObjectNotFoundError
from storage.runs import list_shards
from storage.states import RunState, ShardState
from storage.tables import ItemTable, RunTable, ShardTable

#: Failures beyond this number are counted, not listed.
MOST_FAILURES = 100


@dataclass(slots=True)
class _RunEntries:
    """What the ledger says of one run."""

    last_index: int = -1
    finished: dict[int, Entry] = field(default_factory=dict)
    planned: Entry | None = None
    finalised: Entry | None = None
    report: Entry | None = None


@dataclass(slots=True)
class _Findings:
    """Failures in the order in which they were met."""

    failures: list[Failure] = field(default_factory=list)

    def add(
        self,
        kind: FailureKind,
        where: str,
        message: str,
        *,
        expected: str | None = None,
        got: str | None = None,
    ) -> None:
        """One more thing does not hold."""
        self.failures.append(
            Failure(kind=kind, where=where, message=message, expected=expected, got=got)
        )


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
    findings = _Findings()
    said = _entries_of(services, run)
    used_key = key or local_verifier(services.settings)
    ledger = examine_entries(
        read_entries(services.engine),
        read_checkpoints(services.engine),
        used_key,
        cover_until=said.last_index + 1 if said.finalised else 0,
    )
    findings.failures.extend(ledger.failures)
    artifacts = _check_artifacts(services, run, said, findings)
    _check_result(services, run, said, findings)
    _check_report(services, said, findings)
    _log(services, run, findings)
    shown = findings.failures[:MOST_FAILURES]
    return {
        "ok": not findings.failures,
        "run": run.id,
        "state": run.state,
        "entries": ledger.entries,
        "covered": ledger.covered,
        "artifacts": artifacts,
        "items": run.items_total,
        "result_digest": run.result_digest,
        "key_pinned": key is not None,
        "signatures_checked": used_key is not None,
        "failures": [failure.to_json() for failure in shown],
        "failures_total": len(findings.failures),
    }


def _entries_of(services: Services, run: RunTable) -> _RunEntries:
    said = _RunEntries()
    prefix = f"run/{run.id}"
    for index, body, _leaf in read_entries(services.engine):
        try:
            entry = Entry.parse(body)
        except FormatError:
            continue  # examine_entries names it
        if entry.object != prefix and not entry.object.startswith(prefix + "/"):
            continue
        if entry.action is Action.SHARD_FINISHED:
            said.finished[int(entry.object.rpartition("/")[2])] = entry
        elif entry.action is Action.RUN_PLANNED:
            said.planned = entry
        elif entry.action is Action.RUN_FINALISED:
            said.finalised, said.last_index = entry, index
        elif entry.action is Action.REPORT_WRITTEN:
            said.report = entry
    return said


def _check_artifacts(
    services: Services, run: RunTable, said: _RunEntries, findings: _Findings
) -> int:
    shards = list_shards(services.engine, run.id)
    rows = iterate_items(services.engine, run.id)
    pending = next(rows, None)
    checked = 0
    for shard in shards:
        entry = said.finished.pop(shard.shard_index, None)
        mine: list[ItemTable] = []
        while pending is not None and pending.shard_index == shard.shard_index:
            mine.append(pending)
            pending = next(rows, None)
        if shard.state != ShardState.DONE:
            continue
        checked += 1
        if _promise_holds(shard, entry, findings):
            _check_artifact(services, shard, mine, findings)
    for index in sorted(said.finished):
        findings.add(
            FailureKind.ROW_MISMATCH,
            f"shard {index}",
            f"The ledger says that shard {index} finished, the database does not.",
        )
    return checked


def _promise_holds(shard: ShardTable, entry: Entry | None, findings: _Findings) -> bool:
    where = f"shard {shard.shard_index}"
    if entry is None:
        findings.add(
            FailureKind.MISSING_ENTRIES,
            where,
            f"The ledger has no entry that shard {shard.shard_index} finished.",
        )
        return False
    if entry.digest != shard.sha256 or entry.details.get("key") != shard.object_key:
        findings.add(
            FailureKind.ROW_MISMATCH,
            where,
            "The shard's row names another artifact than the ledger.",
            expected=entry.digest,
            got=shard.sha256,
        )
        return False
    return True


def _check_artifact(
    services: Services, shard: ShardTable, rows: list[ItemTable], findings: _Findings
) -> None:
    key = shard.object_key or ""
    try:
        with open_artifact(services.store, key) as stream:
            found = sha256_of(stream)
            if found != shard.sha256:
                findings.add(
                    FailureKind.ARTIFACT_MISMATCH,
                    key,
                    "The artifact's bytes are not those that the ledger names.",
                    expected=shard.sha256,
                    got=found,
                )
                return
            stream.seek(0)
            results = list(read_artifact(stream))
    except ObjectNotFoundError:
        findings.add(
            FailureKind.ARTIFACT_MISSING, key, "The artifact is not in the store."
        )
        return
    except pa.ArrowInvalid:
        findings.add(
            FailureKind.UNKNOWN_SCHEMA, key, "The artifact is not of a known schema."
        )
        return
    _compare_rows(shard, rows, results, findings)


def _compare_rows(
    shard: ShardTable,
    rows: list[ItemTable],
    results: list[ItemResult],
    findings: _Findings,
) -> None:
    if [r.item_index for r in rows] != [r.item_index for r in results]:
        findings.add(
            FailureKind.ROW_MISMATCH,
            f"shard {shard.shard_index}",
            f"The database has {len(rows)} rows, the artifact {len(results)}, or "
            "their items differ.",
        )
        return
    for row, result in zip(rows, results, strict=True):
        digest = record_digest(result, content_sha256=row.input_sha256)
        odd = _odd_column(row, result)
        if digest != row.record_digest or odd is not None:
            findings.add(
                FailureKind.ROW_MISMATCH,
                f"item {row.item_index}",
                f"The item's row differs from its artifact in {odd or 'the record'}.",
                expected=digest.hex(),
                got=row.record_digest.hex(),
            )


def _odd_column(row: ItemTable, result: ItemResult) -> str | None:
    pairs = {
        "status": (row.status, result.status.value),
        "reason": (row.reason, result.reason.value if result.reason else None),
        "predicted": (row.predicted, result.predicted),
        "target": (row.target, result.target),
        "label": (row.label, result.label),
        "score": (row.score, result.score),
        "keep_requested": (row.keep_requested, result.keep_requested),
        "keep_achieved": (row.keep_achieved, result.keep_achieved),
        "cut": (row.cut, result.cut),
        "metrics": (row.metrics, dict(result.metrics)),
        "absences": (row.absences, dict(result.absences)),
        "item_id": (row.item_id, result.item_id),
        "subject_token": (row.subject_token, result.subject_token),
    }
    return next((name for name, (a, b) in pairs.items() if a != b), None)


def _check_result(
    services: Services, run: RunTable, said: _RunEntries, findings: _Findings
) -> None:
    if said.finalised is None:
        if run.state in {RunState.DONE, RunState.INCOMPLETE}:
            findings.add(
                FailureKind.MISSING_ENTRIES,
                f"run {run.id}",
                "The ledger has no entry that the run was finalised.",
            )
        return
    stated = said.finalised.digest
    if stated != run.result_digest:
        findings.add(
            FailureKind.RESULT_DIGEST_MISMATCH,
            f"run {run.id}",
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
            f"run {run.id}",
            "The rows do not give the result digest that the ledger names.",
            expected=stated,
            got=found,
        )


def _check_report(services: Services, said: _RunEntries, findings: _Findings) -> None:
    if said.report is None:
        return
    details = said.report.details
    for kind in ("json", "html"):
        key, expected = str(details[f"{kind}_key"]), str(details[f"{kind}_sha256"])
        try:
            with services.store.open(key) as stream:
                found = sha256_of(stream)
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


def _log(services: Services, run: RunTable, findings: _Findings) -> None:
    with transaction(services.engine) as session:
        record(
            session,
            Action.LEDGER_VERIFIED,
            f"run/{run.id}",
            actor=services.actor,
            details={"failures": len(findings.failures)},
        )
