# SPDX-License-Identifier: Apache-2.0
"""Checking a run's evidence against everything that is stored of it.

The ledger first (leaves, tree, signatures), then what its entries promise: the plan and
the manifest, every artifact's bytes, every row of the database against its artifact,
the result digest and the report. Whatever does not hold is named.
"""

import json
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from ledger.checkpoint import VerifierKey
from ledger.entries import Action
from ledger.errors import BrokenLedgerError, KeyFileError
from ledger.failures import FailureKind
from pipeline.deeds import record_deed
from pipeline.digests import result_digest
from pipeline.findings import Findings
from pipeline.ledger_checks import check_ledger, check_places
from pipeline.local_key import local_verifier
from pipeline.plan_checks import check_plan, compare_run
from pipeline.review_checks import check_reverifications, check_sign_offs
from pipeline.run_entries import RunEntries, entries_of
from pipeline.services import Services
from pipeline.shard_checks import check_shards
from pipeline.shard_reading import open_artifact, sha256_of
from pipeline.signing import seal
from storage.evidence_rows import stored_items, stored_run
from storage.objects.errors import InvalidKeyError, ObjectNotFoundError
from storage.states import RunState
from storage.tables import RunTable

if TYPE_CHECKING:
    from pipeline.anchoring import AnchorState

#: Failures beyond this number are counted, not listed.
MOST_FAILURES = 100

#: Intervals after which the end of a run must have been anchored.
_OVERDUE = 2


def verify_run(
    services: Services, run_id: str, *, key: VerifierKey | None = None
) -> dict[str, Any]:
    """Return the verdict on a run as one JSON document; the check itself is logged.

    Whatever is stored is read as if somebody had put nonsense there: a value of the
    wrong kind is a failure with a name, never an exception.

    Args:
        services: Database and stores.
        run_id: The run.
        key: The ledger's public key, got from outside. Without it the key beside the
            signing key is used and the verdict says that it is not pinned.

    Raises:
        KeyFileError: there is no key at all, and nothing else is wrong: a verdict
            without signatures would vouch for whoever can write the database.
    """
    findings = Findings()
    where = f"run {run_id}"
    # What is recorded is signed if it can be; what is broken the checks name.
    with suppress(BrokenLedgerError, KeyFileError):
        seal(services)
    run, bad = stored_run(services.engine, run_id)
    findings.take_cells(where, bad)
    said = entries_of(services, run_id)
    used_key = key or local_verifier(services.settings)
    ledger = check_ledger(services, said, used_key, findings)
    check_places(services, run_id, said, findings)
    artifacts = 0
    if said.purged is None:
        with findings.surviving(where):
            check_plan(services, run, said, findings)
        with findings.surviving(where):
            artifacts = check_shards(services, run, said, findings)
        with findings.surviving(where):
            _check_result(services, run, said, findings)
        with findings.surviving(where):
            _check_report(services, run, said, findings)
    else:
        # Its items are gone by right; what its row states is what was signed.
        compare_run(
            run, {"result_digest": (said.purged.digest, run.result_digest)}, findings
        )
    signed: list[dict[str, Any]] = []
    again: list[dict[str, Any]] = []
    with findings.surviving(where):
        signed = check_sign_offs(services, run.id, said, findings)
    with findings.surviving(where):
        again = check_reverifications(services, run.id, said, findings)
    anchors = _check_anchors(services, run, said, findings)
    with suppress(BrokenLedgerError, KeyFileError):
        record_deed(
            services,
            Action.LEDGER_VERIFIED,
            f"run/{run_id}",
            details={"failures": findings.count},
        )
    if used_key is None and said.finalised is not None and not findings.count:
        raise KeyFileError(
            f"Nothing of the run {run_id} was found altered, but its signatures cannot "
            "be checked, so that this proves nothing: there is no key beside the "
            "database; give the ledger's public key, got from outside, with --key."
        )
    shown = findings.failures[:MOST_FAILURES]
    return {
        "ok": not findings.count,
        "run": run_id,
        "state": run.state,
        "entries": ledger.entries,
        "covered": ledger.covered,
        "entries_waiting": said.waiting,
        "artifacts": artifacts,
        "purged": said.purged is not None,
        "items": run.items_total,
        "result_digest": run.result_digest,
        "sign_offs": signed,
        "reverifications": again,
        "anchors": [state.to_json() for state in anchors],
        "exposure_window_s": services.settings.anchor_interval_s if anchors else None,
        "key_pinned": key is not None,
        "signatures_checked": used_key is not None,
        "failures": [failure.to_json() for failure in shown],
        "failures_total": findings.count,
    }


def _check_anchors(
    services: Services, run: RunTable, said: RunEntries, findings: Findings
) -> "list[AnchorState]":
    """Return how far each anchor vouches; a run that ended long ago must be covered."""
    if not services.settings.anchor_urls:
        return []
    from pipeline.anchoring import anchor_states  # noqa: PLC0415 - boto3, perhaps

    states = anchor_states(services)
    covered = max(state.entries for state in states)
    overdue = time.time() - (run.finished_at or 0.0) > (
        _OVERDUE * services.settings.anchor_interval_s
    )
    if said.finalised is not None and overdue and covered <= said.last_index:
        findings.add(
            FailureKind.NOT_ANCHORED,
            f"run {run.id}",
            "The end of the run lies in no anchor, though it should since long.",
            expected=said.last_index + 1,
            got=covered,
        )
    return states


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
    compare_run(
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
        for row, _bad in stored_items(services.engine, run.id):
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
        except (ObjectNotFoundError, InvalidKeyError):
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
        compare_run(run, {"summary.report": (keys, named)}, findings)


def _check_summary(run: RunTable, report: Any, findings: Findings) -> None:
    """What `status` and `run` print of a run is what its report says."""
    summary = run.summary or {}
    items = dict(report["scope"]["items"])
    del items["missing"]
    reasons = {each["reason"]: each["count"] for each in report["scope"]["failures"]}
    change = report.get("change")
    pairs = {
        "summary.change": (
            change and {"previous": change["previous"]["run"], **change["figures"]},
            summary.get("change"),
        ),
        "summary.items": (items, summary.get("items")),
        "summary.reasons": (reasons, summary.get("reasons")),
        "summary.criteria": (report["verdict"]["criteria"], summary.get("criteria")),
        "summary.verdict": (report["verdict"], summary.get("verdict")),
    }
    compare_run(run, pairs, findings)
