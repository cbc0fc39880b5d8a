# SPDX-License-Identifier: Apache-2.0
"""Answers to persons and authorities: reports, exports, register, DPIA, incidents."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.support.persons import PERSONS, lay_out_persons, spec_of_persons, token_of
from tests.support.workspace import Workspace


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished run over three persons; tests copy it."""
    workspace = lay_out_persons(tmp_path_factory.mktemp("duties") / "work")
    workspace.run(spec_of_persons(workspace, metrics=["deletion"]))
    return workspace


@pytest.fixture
def workspace(finished: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the finished run."""
    shutil.copytree(finished.folder, tmp_path / "work")
    return Workspace(folder=tmp_path / "work")


def _entries(workspace: Workspace) -> list[dict[str, Any]]:
    return [json.loads(row["body"]) for row in workspace.rows("ledger_entries")]


def test_each_claim_of_a_report_names_its_entry(workspace: Workspace) -> None:
    """Run, result and item point at the entries that vouch for them."""
    token = token_of(workspace, PERSONS[0])
    answer = workspace.call("subject", "report", token, "--json")
    assert answer.code == 0, answer.err
    (run,) = answer.document["runs"]
    told = _entries(workspace)
    row = workspace.rows("runs")[0]
    assert told[run["ledger_index"]]["action"] == "run:planned"
    assert told[run["result_ledger_index"]]["action"] == "run:finalised"
    assert told[run["result_ledger_index"]]["digest"] == run["result_digest"]
    assert run["model"]["sha256"] == row["model_digest"]
    assert run["method"]["name"] == "gradcam"
    assert run["threshold"]["policy"] == "fixed"
    assert [item["item_index"] for item in run["items"]] == [0, 3]
    for item in run["items"]:
        entry = told[item["ledger_index"]]
        assert entry["action"] == "shard:finished"
        assert entry["object"].startswith(f"run/{run['run']}/shard/")
        (one,) = item["explanations"]
        assert one["score"] is not None
        assert one["kept"] == pytest.approx(0.1, abs=0.05)
        assert one["what_would_change_it"]["deletion_auc"] is not None
    assert PERSONS[0] not in answer.out


def test_disclosures_are_accounted_for(workspace: Workspace) -> None:
    """Who saw or took what, when and why: as many rows as deeds about the person."""
    token = token_of(workspace, PERSONS[0])
    workspace.variables["AFFIDAVIT_PURPOSE"] = "model_validation"
    deeds = (
        ("report", "latest", "--export", workspace.folder / "tables"),
        ("show", "latest", "0"),  # of the person
        ("show", "latest", "1"),  # of another
        ("items", "latest"),
    )
    for deed in deeds:
        assert workspace.call(*deed).code == 0
    document = workspace.call("subject", "report", token, "--json").document
    told = [(row["what"], row["purpose"]) for row in document["disclosures"]]
    assert told == [
        ("report:read", "model_validation"),
        ("results:exported", "model_validation"),
        ("item:read", "model_validation"),
        ("results:read", "model_validation"),
        ("subject:read", "model_validation"),
    ]
    entries = _entries(workspace)
    for row in document["disclosures"]:
        assert entries[row["ledger_index"]]["action"] == row["what"]


def test_the_export_is_the_persons_alone(workspace: Workspace) -> None:
    """It says who it is about, is readable by its owner, and overwrites nothing."""
    token = token_of(workspace, PERSONS[0])
    out = workspace.folder / "person.json"
    answer = workspace.call("subject", "export", token, "--out", out)
    assert answer.code == 0, answer.err
    assert PERSONS[0] not in answer.out + answer.err
    document = json.loads(out.read_text())
    assert document["identity"] == PERSONS[0]
    inputs = [item["input"] for item in document["runs"][0]["items"]]
    assert [Path(place).name for place in inputs] == ["0000.png", "0003.png"]
    assert out.stat().st_mode & 0o777 == 0o600
    assert workspace.call("subject", "export", token, "--out", out).code == 2


def test_the_register_follows_the_configuration(workspace: Workspace) -> None:
    """Another class of retention, another column: another register."""
    before = workspace.call("register", "--json").document
    (activity,) = before["activities"]
    assert activity["personal"] is True
    assert (activity["subjects"], activity["runs"]) == (3, 1)
    assert activity["retention_days"] == 2192
    assert "group: ward" in activity["categories_of_data"]
    workspace.run(
        spec_of_persons(workspace, audit="other", privacy={"retention": "ten_years"})
    )
    after = workspace.call("register", "--json").document
    assert [one["retention_days"] for one in after["activities"]] == [2192, 3653]
    assert workspace.call("register").out.count("OFF") == 1


def test_the_dpia_inputs_name_what_is_missing(workspace: Workspace) -> None:
    """Measures that are off are gaps; what only people know is asked for."""
    workspace.variables["AFFIDAVIT_PLUGINS"] = "1"
    document = workspace.call("dpia", "--json").document
    assert "access by principals and roles" in document["gaps"]
    assert "code of other packages refused" in document["gaps"]
    assert "identities in a database of their own" not in document["gaps"]
    assert document["to_be_filled_in"]
    assert document["residual_risks"]


def test_the_clock_of_an_incident_runs_from_awareness(workspace: Workspace) -> None:
    """72 hours after somebody knew; the setting moves it; a closed one is not late."""
    late = workspace.call(
        "incident", "open", "--kind", "disclosure", "--aware-at", "2026-01-31", "--json"
    ).document
    assert late["overdue"] is True
    assert late["deadline_at"] - late["aware_at"] == 72 * 3600
    workspace.variables["AFFIDAVIT_BREACH_HOURS"] = "96"
    fresh = workspace.call("incident", "open", "--kind", "loss", "--json").document
    assert fresh["deadline_at"] - fresh["aware_at"] == 96 * 3600
    assert 95 < fresh["hours_left"] <= 96
    assert "OVERDUE" in workspace.call("incident", "list").out
    closed = workspace.call("incident", "close", late["incident"], "--json").document
    assert closed["overdue"] is False
    assert "OVERDUE" not in workspace.call("incident", "list").out
    for aware in ("soon", "2999-01-01T00:00:00Z"):
        bad = workspace.call("incident", "open", "--kind", "loss", "--aware-at", aware)
        assert bad.code == 2
        assert "--aware-at" in bad.err


def test_those_affected_are_told_by_tokens(workspace: Workspace) -> None:
    """Each subject of the runs with its items; the erased are affected no more."""
    tokens = {token_of(workspace, person) for person in PERSONS}
    found = workspace.call("incident", "affected", "latest", "--json").document
    assert {row["subject"] for row in found["subjects"]} == tokens
    assert {row["items"] for row in found["subjects"]} == {2}
    gone = token_of(workspace, PERSONS[0])
    assert workspace.call("subject", "erase", gone, "--identity-verified").code == 0
    found = workspace.call("incident", "affected", "latest", "--json").document
    assert {row["subject"] for row in found["subjects"]} == tokens - {gone}
