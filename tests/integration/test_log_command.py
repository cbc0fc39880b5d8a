# SPDX-License-Identifier: Apache-2.0
"""The log is read and taken away with filters and proofs, and both are logged."""

import base64
import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from ledger.entries import Action
from ledger.merkle import verify_inclusion
from pipeline.log_exports import CSV_COLUMNS, audit_event
from pipeline.log_reading import LoggedEntry, SignedLog
from tests.support.workspace import Workspace


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished run and one look at an item."""
    workspace = Workspace(folder=tmp_path_factory.mktemp("log")).lay_out(4)
    workspace.run(workspace.write_spec())
    assert workspace.call("show", "latest", "1", "--json").code == 0
    return workspace


def _entries(workspace: Workspace) -> list[dict[str, Any]]:
    return [json.loads(row["body"]) for row in workspace.rows("ledger_entries")]


def _shown(workspace: Workspace, *options: object) -> list[dict[str, Any]]:
    answer = workspace.call("log", "--json", *options)
    assert answer.code == 0, answer.err
    found: list[dict[str, Any]] = answer.document["entries"]
    return found


def test_reading_the_log_is_logged_once(finished: Workspace) -> None:
    """Each reading adds one entry, which tells what was asked for."""
    before = len(_entries(finished))
    shown = _shown(finished, "--action", "run:", "--limit", 2)
    assert [each["action"] for each in shown] == ["run:started", "run:finalised"]
    (added,) = _entries(finished)[before:]
    assert added["action"] == Action.LEDGER_READ
    assert added["details"] == {"action": "run:"}


def test_filters_take_what_they_say(finished: Workspace) -> None:
    """By run, actor, action and time: what is shown is what the ledger has of it."""
    run = finished.rows("runs")[0]["id"]
    everything = _entries(finished)
    reader = everything[-1]["actor"]
    for options, wanted in (
        (("--run", run), lambda e: e["object"].startswith(f"run/{run}")),
        (("--actor", reader), lambda e: e["actor"] == reader),
        (("--action", "item:read"), lambda e: e["action"] == "item:read"),
        (("--until", everything[3]["at"]), lambda e: e["at"] < everything[3]["at"]),
        (("--since", everything[3]["at"]), lambda e: e["at"] >= everything[3]["at"]),
    ):
        current = [e for e in _entries(finished) if wanted(e)]
        shown = _shown(finished, "--limit", 1000, *options)
        assert [e["object"] for e in shown] == [e["object"] for e in current]
    assert finished.call("log", "--since", "yesterday").code == 2
    assert finished.call("log", "--run", "nothing").code == 2


def _root_and_proof(record: dict[str, Any]) -> None:
    head = record["checkpoint"]
    verify_inclusion(
        bytes.fromhex(record["leaf_hash"]),
        int(record["index"]),
        int(head["size"]),
        [base64.b64decode(step) for step in record["proof"]],
        bytes.fromhex(head["root"]),
    )


def test_each_exported_record_proves_its_place(finished: Workspace) -> None:
    """JSON lines and CSV hold the same entries, each with a path to the signed root."""
    out = finished.folder / "log.jsonl"
    answer = finished.call("log", "--export", out, "--json")
    assert answer.code == 0, answer.err
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert answer.document["entries"] == len(records) == len(_entries(finished))
    for record in records:
        _root_and_proof(record)
    table = finished.folder / "log.csv"
    assert finished.call("log", "--export", table).code == 0
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == CSV_COLUMNS
    for row, record in zip(rows, records, strict=False):
        assert row["leaf_hash"] == record["leaf_hash"]
        assert json.loads(row["details"]) == record["details"]
    last = _entries(finished)[-1]
    assert (last["action"], last["details"]["format"]) == ("ledger:exported", "csv")


def test_a_cell_is_no_formula() -> None:
    """A value that a spreadsheet would take for a formula is quoted."""
    from pipeline.log_exports import _cell

    for text in ("=1+1", "+1", "-1", "@x", "\tx", "\rx"):
        assert _cell(text) == f"'{text}"
    assert _cell(-1) == -1
    assert _cell("user/x") == "user/x"


def test_fhir_events_are_valid_and_lead_back(finished: Workspace) -> None:
    """Every event is an R4 AuditEvent with what BALP asks for, and its proof holds."""
    from fhir.resources.R4B.auditevent import AuditEvent

    out = finished.folder / "events.ndjson"
    answer = finished.call("log", "--export", out, "--format", "fhir")
    assert answer.code == 0, answer.err
    lines = out.read_text().splitlines()
    assert len(lines) >= 8
    for line in lines:
        event = json.loads(line)
        AuditEvent.model_validate(event)
        assert event["type"]["code"] == "rest"
        assert event["agent"][0]["requestor"] in {True, False}
        assert event["source"]["observer"]
        details = {d["type"]: d["valueString"] for d in event["entity"][1]["detail"]}
        note = base64.b64decode(details["checkpoint"]).decode()
        _origin, size, root = note.splitlines()[:3]
        proof = [base64.b64decode(s) for s in details["proof"].split() if s != "-"]
        verify_inclusion(
            bytes.fromhex(details["leaf_hash"]),
            int(details["ledger_index"]),
            int(size),
            proof,
            base64.b64decode(root),
        )


def test_nothing_is_exported_where_the_file_cannot_be(finished: Workspace) -> None:
    """A bad path or format is refused before anything is recorded."""
    before = len(_entries(finished))
    assert finished.call("log", "--export", "missing/log.csv").code == 4
    assert finished.call("log", "--export", "log.xml").code == 2
    assert len(_entries(finished)) == before


def test_every_action_has_a_kind_of_event() -> None:
    """No action of the closed list is left out by the FHIR export."""
    from ledger.checkpoint import Checkpoint, SigningKey
    from ledger.entries import Entry

    key = SigningKey.generate("example.com/log")
    note = key.sign(Checkpoint(key.name, 1, hashlib.sha256().digest()))
    for action in Action:
        entry = Entry(
            at="2026-11-23T08:00:00Z", actor="user/x", action=action, object="ledger"
        )
        logged = LoggedEntry(index=0, entry=entry, leaf_hash=bytes(32), proof=())
        event = audit_event(SignedLog(note=note, entries=iter(())), logged)
        assert event["action"] in {"C", "R", "U", "D"}
        assert event["subtype"][1]["code"] == action.value


def test_an_unsigned_ledger_is_not_exported(tmp_path: Path) -> None:
    """Before the first checkpoint nothing could be proven, so nothing is handed out."""
    workspace = Workspace(folder=tmp_path / "w").lay_out(1)
    assert workspace.call("init").code == 0
    from tests.integration.test_evidence_tampering import behind_our_back

    with behind_our_back(workspace) as connection:
        connection.execute("DELETE FROM checkpoints")
    (workspace.home / "ledger.key").unlink()
    answer = workspace.call("log", "--export", "x.jsonl")
    assert answer.code == 2
    assert not (workspace.folder / "x.jsonl").exists()
