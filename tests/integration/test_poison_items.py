# SPDX-License-Identifier: Apache-2.0
"""An item that breaks the computation fails alone; a broken network does not."""

from pathlib import Path
from typing import Any

import pytest

from pipeline.executor import Executor
from tests.support.workspace import Workspace

POISON = 6


def _workspace(folder: Path, count: int) -> Workspace:
    return Workspace(
        folder=folder / "work", variables={"AFFIDAVIT_BACKOFF_S": "0"}
    ).lay_out(count)


def _poisoned(monkeypatch: pytest.MonkeyPatch, *items: int) -> None:
    """The network breaks where one of the items is in the batch."""
    compute = Executor._compute

    def broken(self: Executor, slots: list[Any], valid: Any, inputs: Any) -> Any:
        present = {
            slot.item.item_index
            for slot, has_pixels in zip(slots, valid, strict=True)
            if slot is not None and has_pixels
        }
        if present & set(items):
            raise RuntimeError("an operator met what it cannot compute")
        return compute(self, slots, valid, inputs)

    monkeypatch.setattr(Executor, "_compute", broken)


def _records(workspace: Workspace, run: str) -> dict[int, bytes]:
    rows = [row for row in workspace.rows("items") if row["run_id"] == run]
    return {row["item_index"]: row["record_digest"] for row in rows}


def test_a_poison_item_fails_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is found in single steps; all others have the undisturbed run's records."""
    workspace = _workspace(tmp_path, 10)
    spec = workspace.write_spec(metrics=["completeness"])
    whole = workspace.run(spec)
    _poisoned(monkeypatch, POISON)
    document = workspace.run(spec)
    assert document["items"] == {"total": 10, "done": 9, "failed": 1}
    assert document["reasons"] == {"broke_computation": 1}
    before = _records(workspace, whole["run"])
    after = _records(workspace, document["run"])
    differing = {index for index in before if before[index] != after[index]}
    assert differing == {POISON}
    verdict = workspace.call("verify", document["run"], "--json")
    assert verdict.code == 0, verdict.out


def test_a_network_that_always_breaks_is_not_the_items_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The shard ends dead after a bounded number of attempts; nothing is made up."""
    workspace = _workspace(tmp_path, 40)
    _poisoned(monkeypatch, *range(40))
    spec = workspace.write_spec(run={"shard_size": 40})
    answer = workspace.call("run", spec, "--json")
    assert answer.code == 1
    document = answer.document
    assert document["state"] == "incomplete"
    assert document["items"]["done"] == 0
    assert [shard["error"] for shard in document["dead_shards"]] == ["RuntimeError"]
