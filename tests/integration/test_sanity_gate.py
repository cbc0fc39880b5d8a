# SPDX-License-Identifier: Apache-2.0
"""The sanity gate: what it finds is recorded and shown, and changes no result."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.workspace import Workspace


@pytest.fixture(scope="module")
def gate(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Ten photographs, one of them unreadable."""
    workspace = Workspace(folder=tmp_path_factory.mktemp("gate") / "work").lay_out(10)
    (workspace.folder / "photos" / "0003.png").write_bytes(b"no picture")
    return workspace


def checks_of(document: dict[str, Any]) -> dict[str, Any]:
    """Return the checks of a report by their names."""
    return {check["name"]: check for check in document["sanity"]["checks"]}


def report_of(run: dict[str, Any]) -> dict[str, Any]:
    """Return a run's JSON report."""
    document: dict[str, Any] = json.loads(Path(run["report_json"]).read_text())
    return document


def test_the_gate_is_recorded_and_changes_no_result(gate: Workspace) -> None:
    """Plan, ledger and report say what was found; the result digest is the same."""
    plain = gate.run(gate.write_spec("plain.yaml"))
    assert plain["sanity"] is None
    run = gate.run(
        gate.write_spec("gate.yaml", sanity={"items": 10, "max_similarity": 1.0})
    )
    assert run["result_digest"] == plain["result_digest"]
    document = report_of(run)
    found = document["sanity"]
    assert (found["listed"], found["read"]) == (10, 9)
    assert found["drawn"] == list(range(10))
    checks = checks_of(document)
    assert checks["parameter_randomisation"]["verdict"] == "pass"
    assert -1 <= checks["parameter_randomisation"]["figures"]["all_layers"] <= 1
    assert checks["batch_invariance"]["figures"] == {"same": 4, "n": 4}
    assert checks["completeness"]["verdict"] == "absent"
    assert checks["random_attribution"]["figures"]["n"] > 0
    assert checks["edge_detector"]["figures"]["n"] > 0
    planned = [
        json.loads(row["body"])
        for row in gate.rows("ledger_entries")
        if b"run:planned" in row["body"]
    ]
    assert planned[-1]["details"]["sanity"] == run["sanity"] == found["verdict"]
    assert "sanity" not in planned[-2]["details"]
    page = Path(run["report"]).read_text()
    assert "does the map change when the network&#39;s weights do" in page
    assert gate.call("verify", "latest", "--json").document["ok"]


def test_the_sample_is_drawn_by_the_seed(gate: Workspace) -> None:
    """The same seed draws the same items, another seed others."""
    drawn = []
    for seed in (1, 1, 2):
        spec = gate.write_spec(
            "seed.yaml",
            sanity={"items": 4},
            run={"seed": seed, "batch_size": 4, "shard_size": 4},
        )
        drawn.append(report_of(gate.run(spec))["sanity"]["drawn"])
    assert drawn[0] == drawn[1] != drawn[2]
    assert all(len(one) == 4 and one == sorted(one) for one in drawn)


def test_a_method_with_the_axiom_is_held_to_it(gate: Workspace) -> None:
    """Integrated gradients have a residual; a bound that none can keep is flagged."""
    spec = gate.write_spec(
        "axiom.yaml",
        explain={"method": "integrated_gradients", "parameters": {"steps": 4}},
        sanity={"items": 4, "max_residual": 1e-9},
    )
    run = gate.run(spec)
    check = checks_of(report_of(run))["completeness"]
    assert check["verdict"] == "flag"
    assert check["figures"]["relative_residual"] > 1e-9
    assert run["sanity"] == "flag"


def test_a_blocking_gate_makes_no_run(gate: Workspace) -> None:
    """One sentence, exit 1, one entry in the ledger, and no run."""
    before = len(gate.rows("runs"))
    spec = gate.write_spec(
        "blocked.yaml",
        explain={"method": "integrated_gradients", "parameters": {"steps": 4}},
        sanity={"items": 4, "max_residual": 1e-9, "blocking": True},
    )
    answer = gate.call("run", spec, "--json")
    assert answer.code == 1
    assert answer.document["error"]["kind"] == "gate_refused"
    assert "completeness: relative residual" in answer.err
    assert len(gate.rows("runs")) == before
    refused = [
        json.loads(row["body"])
        for row in gate.rows("ledger_entries")
        if b"gate:refused" in row["body"]
    ]
    assert len(refused) == 1
    assert "completeness" in refused[0]["details"]["checks"]
