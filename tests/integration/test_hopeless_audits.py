# SPDX-License-Identifier: Apache-2.0
"""An audit of which nothing can come is told of before its work, not after it."""

from pathlib import Path

from tests.support.workspace import Workspace


def test_labels_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """`plan` and `run` exit 2 where every item must fail, and no run is stored."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(2)
    spec = workspace.write_spec(explain={"target": "label"})
    for command in ("plan", "run"):
        answer = workspace.call(command, spec)
        assert (answer.code, answer.out) == (2, "")
        assert "none of the 2 items has a label" in answer.err
        assert answer.err.count("\n") == 1
    assert workspace.rows("runs") == []
    assert workspace.rows("locations") == []


def test_a_metric_without_masks_is_warned_of(tmp_path: Path) -> None:
    """`plan` and `run` say so on standard error and under `warnings`, and go on."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(2)
    spec = workspace.write_spec(metrics=["localisation"])
    for command in ("plan", "run"):
        answer = workspace.call(command, spec, "--json")
        assert answer.code == 0
        (warning,) = answer.document["warnings"]
        assert "ground-truth masks" in warning
        assert answer.err == f"affidavit: warning: {warning}\n"
