# SPDX-License-Identifier: Apache-2.0
"""Holding a run's shards, artifacts and item rows against the ledger and each other."""

from collections.abc import Iterator

import pyarrow as pa

from ledger.entries import Action, Entry
from ledger.failures import FailureKind
from pipeline.digests import record_digest
from pipeline.domain import ItemResult
from pipeline.errors import Reason
from pipeline.findings import Findings
from pipeline.leaf_checks import check_leaves, check_row_leaves
from pipeline.packing import read_artifact
from pipeline.run_entries import RunEntries
from pipeline.services import Services
from pipeline.shard_reading import open_artifact, sha256_of
from storage.evidence_rows import stored_items, stored_shards
from storage.objects.errors import InvalidKeyError, ObjectNotFoundError
from storage.states import ShardState
from storage.tables import ItemTable, RunTable, ShardTable


def check_shards(
    services: Services, run: RunTable, said: RunEntries, findings: Findings
) -> int:
    """Return how many artifacts were checked, row by row."""
    rows = _Rows(_items(services, run, findings))
    checked = 0
    promised = dict(said.finished)
    for shard, bad in stored_shards(services.engine, run.id):
        findings.take_cells(f"shard {shard.shard_index}", bad)
        entry = promised.pop(shard.shard_index, None)
        mine = rows.until(shard.first_item + shard.item_count)
        if shard.state != ShardState.DONE:
            if entry is not None:
                findings.add(
                    FailureKind.ROW_MISMATCH,
                    f"shard {shard.shard_index}",
                    "The ledger says that the shard finished, its row does not.",
                    expected=ShardState.DONE,
                    got=shard.state,
                )
            continue
        checked += 1
        if entry is None:
            findings.add(
                FailureKind.MISSING_ENTRIES,
                f"shard {shard.shard_index}",
                f"The ledger has no entry that shard {shard.shard_index} finished.",
            )
            continue
        with findings.surviving(f"shard {shard.shard_index}"):
            if _promise_holds(shard, entry, findings):
                rewritten = entry.action is Action.SHARD_REWRITTEN
                _check_artifact(services, shard, mine, findings, rewritten=rewritten)
                check_leaves(shard, entry, findings)
    for index in sorted(promised):
        findings.add(
            FailureKind.ROW_MISMATCH,
            f"shard {index}",
            "The ledger says that the shard finished, the database has no such shard.",
        )
    for row in rows.until(None):
        findings.add(
            FailureKind.ROW_MISMATCH,
            f"item {row.item_index}",
            "The item's row belongs to no shard of the run.",
        )
    return checked


def _items(
    services: Services, run: RunTable, findings: Findings
) -> Iterator[ItemTable]:
    for row, bad in stored_items(services.engine, run.id):
        findings.take_cells(f"item {row.item_index}", bad)
        yield row


class _Rows:
    """Item rows in manifest order, taken shard by shard."""

    def __init__(self, rows: Iterator[ItemTable]) -> None:
        self._rows = rows
        self._pending = next(rows, None)

    def until(self, item_index: int | None) -> list[ItemTable]:
        """Return the next rows below that index, or all that are left."""
        mine: list[ItemTable] = []
        while self._pending is not None and (
            item_index is None or self._pending.item_index < item_index
        ):
            mine.append(self._pending)
            self._pending = next(self._rows, None)
        return mine


def _promise_holds(shard: ShardTable, entry: Entry, findings: Findings) -> bool:
    where = f"shard {shard.shard_index}"
    details = entry.details
    pairs = {
        "sha256": (entry.digest, shard.sha256),
        "object_key": (details.get("key"), shard.object_key),
        "size_bytes": (details.get("size"), shard.size_bytes),
        "attempt": (details.get("attempt"), shard.attempt),
    }
    for column, (expected, got) in pairs.items():
        if expected != got:
            findings.add(
                FailureKind.ROW_MISMATCH,
                where,
                f"The shard's row has another {column} than the ledger.",
                expected=expected,
                got=got,
            )
            return False
    return True


def _check_artifact(
    services: Services,
    shard: ShardTable,
    rows: list[ItemTable],
    findings: Findings,
    *,
    rewritten: bool,
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
    except (ObjectNotFoundError, InvalidKeyError):
        findings.add(
            FailureKind.ARTIFACT_MISSING, key, "The artifact is not in the store."
        )
        return
    except (pa.ArrowException, ValueError, TypeError):
        findings.add(
            FailureKind.UNKNOWN_SCHEMA, key, "The artifact is not of a known schema."
        )
        return
    _compare_rows(shard, rows, results, findings, rewritten=rewritten)


def _compare_rows(
    shard: ShardTable,
    rows: list[ItemTable],
    results: list[ItemResult],
    findings: Findings,
    *,
    rewritten: bool,
) -> None:
    theirs = [result.item_index for result in results]
    distinct = set(theirs)
    is_whole = len(distinct) == shard.item_count and (
        min(distinct, default=shard.first_item) == shard.first_item
        and max(distinct, default=-1) == shard.first_item + shard.item_count - 1
    )
    if [row.item_index for row in rows] != theirs or not is_whole:
        findings.add(
            FailureKind.ROW_MISMATCH,
            f"shard {shard.shard_index}",
            f"The shard has {shard.item_count} items, its artifact {len(results)} and "
            f"the database {len(rows)} rows, or their items differ.",
        )
        return
    check_row_leaves(shard, rows, results, findings, rewritten=rewritten)
    for row, result in zip(rows, results, strict=True):
        digest = record_digest(
            result, content_sha256=row.input_sha256, truth_sha256=row.truth_sha256
        )
        odd = _odd_column(row, result, shard)
        # Of an erased item the record is gone and its digest stays, for the result's;
        # only a shard that the ledger calls rewritten may have such items.
        erased = rewritten and result.reason is Reason.SUBJECT_ERASED
        if (digest != row.record_digest and not erased) or odd is not None:
            findings.add(
                FailureKind.ROW_MISMATCH,
                f"item {row.item_index}",
                f"The item's row differs from its artifact in {odd or 'the record'}.",
                expected=digest.hex(),
                got=row.record_digest.hex(),
            )


def _odd_column(row: ItemTable, result: ItemResult, shard: ShardTable) -> str | None:
    pairs = {
        "status": (row.status, result.status.value),
        "reason": (row.reason, result.reason.value if result.reason else None),
        "method": (row.method, result.method),
        "target_rule": (row.target_rule, result.target_rule),
        "policy": (row.policy, result.policy),
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
        "shard_index": (row.shard_index, shard.shard_index),
    }
    return next((name for name, (a, b) in pairs.items() if a != b), None)
