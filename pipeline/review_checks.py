# SPDX-License-Identifier: Apache-2.0
"""Sign-offs and re-verifications held against the ledger's entries of them."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from ledger.entries import Entry
from ledger.failures import FailureKind
from pipeline.findings import Findings
from pipeline.run_entries import UNORDERED, RunEntries
from pipeline.services import Services
from pipeline.sign_off import comment_digest
from storage.engine import reading
from storage.ledger_writer import checkpoint_at
from storage.raw import checked_rows, raw_columns
from storage.tables import ReverificationTable, SignOffTable

#: What the row of a re-verification must say as its entry does.
_FACTS = ("items", "same", "differing", "not_computed", "rows_hold", "root")


def check_sign_offs(
    services: Services, run_id: str, said: RunEntries, findings: Findings
) -> list[dict[str, Any]]:
    """Return who signed the run's reports, as the ledger tells it.

    A row that is missing, altered or of no entry is a failure.
    """
    rows = _rows(services, SignOffTable, run_id, findings)
    shown = []
    current = None if said.report is None else said.report.digest
    for index, entry in said.signed:
        details = entry.details
        name = str(details.get("sign_off"))
        row = rows.pop(name, None)
        where = f"sign-off {name}"
        expected = {
            "verdict": details.get("verdict"),
            "report_verdict": details.get("report_verdict"),
            "report_sha256": entry.digest,
            "signed_by": entry.actor,
        }
        if _is_there(where, row, findings):
            _compare(where, expected, row, findings)
            _check_comment(where, details.get("comment_sha256"), row, findings)
        shown.append(
            {
                "verdict": expected["verdict"],
                "report_verdict": expected["report_verdict"],
                "signed_by": entry.actor,
                "at": entry.at,
                "report_sha256": entry.digest,
                "of_this_report": entry.digest == current,
                "ledger_index": None if index >= UNORDERED else index,
            }
        )
    _name_strangers("sign-off", rows, findings)
    return shown


def check_reverifications(
    services: Services, run_id: str, said: RunEntries, findings: Findings
) -> list[dict[str, Any]]:
    """Return how the run came out when parts were computed again, as the ledger tells.

    A row that differs is a failure, and so is a draw from a root that was never signed.
    """
    rows = _rows(services, ReverificationTable, run_id, findings)
    shown = []
    for index, entry in said.reverified:
        details = entry.details
        name = str(details.get("reverification"))
        row = rows.pop(name, None)
        where = f"reverification {name}"
        if _is_there(where, row, findings):
            _compare(
                where,
                {"verdict": details.get("verdict"), "made_by": entry.actor},
                row,
                findings,
            )
            for fact in _FACTS:
                wanted, got = details.get(fact), row.facts.get(fact)
                if wanted != got:
                    _differs(where, fact, wanted, got, findings)
        _check_root(services, where, entry, findings)
        shown.append(
            {
                "verdict": details.get("verdict"),
                "made_by": entry.actor,
                "at": entry.at,
                "items": details.get("items"),
                "same": details.get("same"),
                "differing": details.get("differing"),
                "not_computed": details.get("not_computed"),
                "ledger_index": None if index >= UNORDERED else index,
            }
        )
    _name_strangers("reverification", rows, findings)
    return shown


def _rows(
    services: Services,
    table: type[SignOffTable] | type[ReverificationTable],
    run_id: str,
    findings: Findings,
) -> dict[str, Any]:
    query = sa.select(*raw_columns(table)).where(table.run_id == run_id)
    found = {}
    with reading(services.engine) as session:
        for row, bad in checked_rows(table, session.execute(query)):
            findings.take_cells(f"{table.__tablename__} {row.id}", bad)
            found[str(row.id)] = row
    return found


def _is_there(where: str, row: Any, findings: Findings) -> bool:
    if row is None:
        findings.add(
            FailureKind.ROW_MISMATCH,
            where,
            "The ledger tells of it, and the database has no row of it.",
        )
    return row is not None


def _compare(
    where: str, expected: Mapping[str, Any], row: Any, findings: Findings
) -> None:
    for column, value in expected.items():
        got = getattr(row, column)
        if got != value:
            _differs(where, column, value, got, findings)


def _differs(
    where: str, column: str, expected: Any, got: Any, findings: Findings
) -> None:
    findings.add(
        FailureKind.ROW_MISMATCH,
        where,
        f"Its row has another {column} than the ledger.",
        expected=expected,
        got=got,
    )


def _check_comment(where: str, digest: Any, row: Any, findings: Findings) -> None:
    """A comment may be gone, as it may name somebody; another one must not be there."""
    if row.comment is None:
        return
    found = comment_digest(row.comment, row.comment_salt or b"")
    if found != digest:
        _differs(where, "comment", digest, found, findings)


def _check_root(
    services: Services, where: str, entry: Entry, findings: Findings
) -> None:
    """The draw was made from a checkpoint that was signed before the entry."""
    size, root = entry.details.get("tree_size"), entry.details.get("root")
    try:
        known = checkpoint_at(services.engine, int(str(size)))
    except ValueError:
        known = None
    if known is None or known.hex() != root:
        findings.add(
            FailureKind.ROW_MISMATCH,
            where,
            "The batches were drawn from a root that no checkpoint has.",
            expected=None if known is None else known.hex(),
            got=root,
        )


def _name_strangers(kind: str, rows: Mapping[str, Any], findings: Findings) -> None:
    for name in rows:
        findings.add(
            FailureKind.MISSING_ENTRIES,
            f"{kind} {name}",
            "The ledger has no entry of it.",
        )
