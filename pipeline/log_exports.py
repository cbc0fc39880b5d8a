# SPDX-License-Identifier: Apache-2.0
"""The log as files for others: JSON lines, CSV, FHIR R4 AuditEvent.

They are derived, never the source: each record carries the entry's index, its leaf hash
and its path to the signed checkpoint, so that whoever has the file can come back to the
ledger. FHIR events follow IHE BALP 1.1.3 (https://profiles.ihe.net/ITI/BALP): its codes
for what was done and the RESTful interaction that it is nearest to.
"""

import base64
import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TextIO

from ledger.entries import Entry
from pipeline.log_reading import LoggedEntry, SignedLog

_SYSTEM: Final = "urn:affidavit:ledger"
_DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
_REST: Final = "http://hl7.org/fhir/restful-interaction"
_TYPE: Final = "http://terminology.hl7.org/CodeSystem/audit-event-type"
_ROLE: Final = "http://terminology.hl7.org/CodeSystem/object-role"
_KIND: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
_SOURCE: Final = "http://terminology.hl7.org/CodeSystem/security-source-type"
_AGENT: Final = "http://terminology.hl7.org/CodeSystem/extra-security-role-type"

#: Verbs after the colon of an action, by the letter of FHIR's `action`.
_READS: Final = frozenset({"read", "exported", "verified", "reverified"})
_CREATES: Final = frozenset(
    {"planned", "created", "added", "written", "finished", "signed"}
)
_DELETES: Final = frozenset({"removed", "collected", "erased"})
_FAILURES: Final = frozenset({"failed", "dead", "expired", "refused", "condemned"})

#: Characters that make a spreadsheet take a cell for a formula (OWASP ASVS 1.2.10).
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\x00")

CSV_COLUMNS: Final = (
    "index",
    "at",
    "actor",
    "action",
    "object",
    "digest",
    "details",
    "leaf_hash",
    "proof",
    "checkpoint_size",
    "checkpoint_root",
)


def write_log(log: SignedLog, path: Path, form: str) -> int:
    """Return how many entries are in the file, which appears complete or not at all."""
    draft = path.with_name(f".{path.name}.part")
    try:
        with draft.open("w", encoding="utf-8", newline="") as file:
            count = FORMATS[form](log, file)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)
    return count


def _write_lines(log: SignedLog, file: TextIO) -> int:
    count = 0
    for logged in log.entries:
        file.write(json.dumps(_record(log, logged), ensure_ascii=False) + "\n")
        count += 1
    return count


def _write_csv(log: SignedLog, file: TextIO) -> int:
    writer = csv.writer(file)
    writer.writerow(CSV_COLUMNS)
    count = 0
    for logged in log.entries:
        record = _record(log, logged)
        record |= {
            "details": json.dumps(record["details"], sort_keys=True),
            "proof": " ".join(record["proof"]),
            "checkpoint_size": record["checkpoint"]["size"],
            "checkpoint_root": record["checkpoint"]["root"],
        }
        writer.writerow([_cell(record[name]) for name in CSV_COLUMNS])
        count += 1
    return count


def _cell(value: object) -> object:
    """Return a value that no spreadsheet takes for a formula; numbers stay numbers."""
    if isinstance(value, str) and value.startswith(_FORMULA):
        return f"'{value}"
    return value


def _record(log: SignedLog, logged: LoggedEntry) -> dict[str, Any]:
    entry = logged.entry
    return {
        "index": logged.index,
        "at": entry.at,
        "actor": entry.actor,
        "action": entry.action.value,
        "object": entry.object,
        "digest": entry.digest,
        "details": dict(entry.details),
        "leaf_hash": logged.leaf_hash.hex(),
        "proof": _texts(logged),
        "checkpoint": {
            "origin": log.head.origin,
            "size": log.head.size,
            "root": log.head.root.hex(),
        },
    }


def _texts(logged: LoggedEntry) -> list[str]:
    return [base64.b64encode(step).decode() for step in logged.proof or ()]


def _write_fhir(log: SignedLog, file: TextIO) -> int:
    count = 0
    for logged in log.entries:
        file.write(json.dumps(audit_event(log, logged), ensure_ascii=False) + "\n")
        count += 1
    return count


def audit_event(log: SignedLog, logged: LoggedEntry) -> dict[str, Any]:
    """Return an entry as a FHIR R4 AuditEvent."""
    entry = logged.entry
    verb = entry.action.value.partition(":")[2]
    letter, interaction = _interaction(verb)
    return {
        "resourceType": "AuditEvent",
        "id": f"ledger-{logged.index}",
        "type": {"system": _TYPE, "code": "rest", "display": "RESTful Operation"},
        "subtype": [
            {"system": _REST, "code": interaction},
            {"system": f"{_SYSTEM}:action", "code": entry.action.value},
        ],
        "action": letter,
        "recorded": entry.at,
        "outcome": "8" if verb in _FAILURES else "0",
        "agent": [_agent(entry)],
        "source": {
            "site": log.head.origin,
            "observer": {"display": "Affidavit"},
            "type": [{"system": _SOURCE, "code": "4", "display": "Application Server"}],
        },
        "entity": [_entity(entry), _proof_entity(log, logged)],
    }


def _interaction(verb: str) -> tuple[str, str]:
    if verb in _READS:
        return "R", "read"
    if verb in _CREATES:
        return "C", "create"
    if verb in _DELETES:
        return "D", "delete"
    return "U", "update"


def _agent(entry: Entry) -> dict[str, Any]:
    is_person = entry.actor.startswith("user/")
    kind = (
        {"system": _AGENT, "code": "humanuser", "display": "human user"}
        if is_person
        else {"system": _DCM, "code": "110153", "display": "Source Role ID"}
    )
    return {
        "type": {"coding": [kind]},
        "who": {"identifier": {"system": f"{_SYSTEM}:actor", "value": entry.actor}},
        "requestor": is_person,
    }


def _entity(entry: Entry) -> dict[str, Any]:
    details = [{"type": "digest", "valueString": entry.digest}] if entry.digest else []
    details += [
        {"type": name, "valueString": json.dumps(value, ensure_ascii=False)}
        for name, value in sorted(entry.details.items())
    ]
    entity: dict[str, Any] = {
        "what": {"identifier": {"system": f"{_SYSTEM}:object", "value": entry.object}},
        "type": {"system": _KIND, "code": "2", "display": "System Object"},
        "role": {"system": _ROLE, "code": "4", "display": "Domain Resource"},
    }
    return entity | ({"detail": details} if details else {})


def _proof_entity(log: SignedLog, logged: LoggedEntry) -> dict[str, Any]:
    """Return where the event is in the ledger, and the path to its signed head."""
    values = {
        "ledger_index": str(logged.index),
        "leaf_hash": logged.leaf_hash.hex(),
        "proof": " ".join(_texts(logged)) or "-",
        "checkpoint": base64.b64encode(log.note.encode()).decode(),
    }
    return {
        "what": {
            "identifier": {
                "system": f"{_SYSTEM}:entry",
                "value": f"{log.head.origin}/{logged.index}",
            }
        },
        "type": {"system": _KIND, "code": "2", "display": "System Object"},
        "role": {"system": _ROLE, "code": "13", "display": "Security Resource"},
        "detail": [{"type": k, "valueString": v} for k, v in values.items()],
    }


#: How each format is written.
FORMATS: Final[dict[str, Callable[[SignedLog, TextIO], int]]] = {
    "jsonl": _write_lines,
    "csv": _write_csv,
    "fhir": _write_fhir,
}
