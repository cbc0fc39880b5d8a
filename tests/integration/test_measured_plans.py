# SPDX-License-Identifier: Apache-2.0
"""A plan learns from the machine and from earlier runs, and fixes what it learnt."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.support.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Ten pictures and a network."""
    return Workspace(folder=tmp_path / "work").lay_out(10)


def _plan(workspace: Workspace, spec: Path) -> Any:
    answer = workspace.call("plan", spec, "--json")
    assert answer.code == 0, answer.err
    return answer.document


def _planned_entry(workspace: Workspace, run: str) -> Any:
    """Return the details of the ledger's entry that the run was planned."""
    bodies = [json.loads(row["body"]) for row in workspace.rows("ledger_entries")]
    found = [
        body
        for body in bodies
        if body["object"] == f"run/{run}" and body["action"] == "run:planned"
    ]
    assert len(found) == 1
    return found[0]["details"]


def test_a_batch_size_is_searched_once(workspace: Workspace) -> None:
    """Without a database each plan searches; with one, the next plan remembers."""
    spec = workspace.write_spec(run={"batch_size": "auto"})
    first = _plan(workspace, spec)
    assert first["batch_source"] == "search"
    assert set(first["batch_trials"]) == {"4", "8", "16", "32"}
    assert str(first["batch_size"]) in first["batch_trials"]
    assert not workspace.database.exists()

    workspace.run(workspace.write_spec("other.yaml"))
    searched = _plan(workspace, spec)
    assert searched["batch_source"] == "search"
    remembered = _plan(workspace, spec)
    assert remembered["batch_source"] == "earlier search"
    assert remembered["batch_size"] == searched["batch_size"]
    assert remembered["batch_trials"] == searched["batch_trials"]


def test_a_searched_batch_size_gives_the_digest_of_the_same_one_written_out(
    workspace: Workspace,
) -> None:
    """`auto` is what it was resolved to: spec and result digest are the same."""
    searched = workspace.run(workspace.write_spec(run={"batch_size": "auto"}))
    size = json.loads(workspace.rows("runs")[0]["plan"])["batch_size"]
    written = workspace.run(workspace.write_spec(run={"batch_size": size}))
    assert searched["result_digest"] == written["result_digest"]
    digests = {row["spec_digest"] for row in workspace.rows("runs")}
    assert len(digests) == 1


def test_finished_shards_beat_the_probe(workspace: Workspace) -> None:
    """The next plan of like work is sized by what shards took, and says so."""
    spec = workspace.write_spec(run={"shard_size": None})
    assert _plan(workspace, spec)["speed_source"] == "probe"
    workspace.run(spec)
    seconds = [row["work_s"] for row in workspace.rows("shards")]
    assert all(each > 0 for each in seconds)
    plan = _plan(workspace, spec)
    assert plan["speed_source"] == "1 finished shard"
    assert plan["item_seconds"] == pytest.approx(seconds[0] / 10)
    other = workspace.write_spec(run={"shard_size": None}, metrics=["deletion"])
    assert _plan(workspace, other)["speed_source"] == "probe"


def test_another_type_within_the_tolerance_is_used_and_recorded(
    workspace: Workspace,
) -> None:
    """Plan, ledger and report say how far bfloat16 is from float32, on both kinds."""
    plain = workspace.run(workspace.write_spec())
    spec = workspace.write_spec(run={"dtype": "bfloat16", "tolerance": 0.99})
    document = workspace.run(spec)
    row = next(r for r in workspace.rows("runs") if r["id"] == document["run"])
    precision = json.loads(row["plan"])["precision"]
    assert precision["passed"]
    assert precision["tolerance"] == 0.99
    assert precision["noise"]["compared"] > 0
    assert 0 < precision["items"]["compared"] <= 10
    assert 0 < precision["items"]["map_difference"] < 0.99
    details = _planned_entry(workspace, document["run"])
    assert details["computed"] == "bfloat16"
    assert json.loads(details["precision"]) == precision
    out = workspace.folder / "out"
    assert workspace.call("report", document["run"], "--out", out).code == 0
    shown = (out / "report.json").read_text()
    assert f'"mask_iou":{precision["items"]["mask_iou"]}' in shown
    # It is another computation, and its digest says so.
    assert document["result_digest"] != plain["result_digest"]
    again = workspace.run(spec)
    assert again["result_digest"] == document["result_digest"]
    assert workspace.call("verify", document["run"]).code == 0


def test_another_type_outside_the_tolerance_is_refused(workspace: Workspace) -> None:
    """The refusal has the numbers, and nothing was stored."""
    spec = workspace.write_spec(run={"dtype": "bfloat16", "tolerance": 1e-6})
    answer = workspace.call("run", spec, "--json")
    assert answer.code == 2
    assert "run.dtype" in answer.err
    assert "tolerance 1e-06" in answer.err
    assert "maps differ by up to" in answer.err
    assert not workspace.rows("runs")


@pytest.mark.parametrize(
    "section",
    [
        {"explain": {"method": "guided_backprop"}},
        {"explain": {"method": "ablationcam"}},
        {"metrics": ["mprt"]},
        {"sanity": {}},
    ],
)
def test_what_compiled_code_would_break_is_refused(
    workspace: Workspace, section: dict[str, Any]
) -> None:
    """What changes, copies or listens to modules is not combined with compiling."""
    spec = workspace.write_spec(run={"compile": True}, **section)
    answer = workspace.call("plan", spec)
    assert answer.code == 2
    assert "run.compile" in answer.err


def test_without_a_compiler_the_refusal_is_one_sentence(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine without g++ says what is missing."""
    monkeypatch.setenv("PATH", str(workspace.folder))
    spec = workspace.write_spec(run={"compile": True})
    answer = workspace.call("plan", spec)
    assert answer.code == 2
    assert "C++ compiler" in answer.err
