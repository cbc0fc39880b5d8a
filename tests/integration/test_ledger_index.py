# SPDX-License-Identifier: Apache-2.0
"""The index by which evidence is packed: whoever spoils it is found out."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration.test_evidence_tampering import behind_our_back
from tests.support.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A finished run of four photographs in two shards."""
    made = Workspace(folder=tmp_path / "work").lay_out(4)
    made.run(made.write_spec(run={"batch_size": 2, "shard_size": 2}))
    return made


def _places(workspace: Workspace) -> set[tuple[str, int]]:
    return {(row["part"], row["idx"]) for row in workspace.rows("ledger_places")}


def test_the_index_names_every_entry_of_the_run(workspace: Workspace) -> None:
    """Plan, shards, end and report have their rows, and `verify` finds nothing."""
    parts = {part for part, _ in _places(workspace)}
    assert {"", "shard/0", "shard/1"} <= parts
    answer = workspace.call("verify", "latest", "--json")
    assert answer.code == 0, answer.document["failures"]


def test_a_row_that_is_missing_is_named(workspace: Workspace) -> None:
    """Evidence would leave that entry out, so `verify` tells."""
    index = next(idx for part, idx in _places(workspace) if part == "shard/1")
    with behind_our_back(workspace) as connection:
        connection.execute("DELETE FROM ledger_places WHERE idx = ?", (index,))
    answer = workspace.call("verify", "latest", "--json")
    assert answer.code == 3
    (failure,) = answer.document["failures"]
    assert (failure["kind"], failure["where"]) == ("row_mismatch", "ledger_places")
    assert f"entry {index}" in failure["message"]


def test_evidence_by_a_spoilt_index_does_not_pass(workspace: Workspace) -> None:
    """A stranger is missing the shard that the index does not name."""
    with behind_our_back(workspace) as connection:
        connection.execute("DELETE FROM ledger_places WHERE part = 'shard/1'")
    assert workspace.call("evidence", "latest", "-o", "bundle.zip").code == 0
    done = subprocess.run(
        [
            *(sys.executable, "-m", "ledger", "bundle.zip"),
            *("--key", str(workspace.home / "ledger.key.pub")),
        ],
        cwd=workspace.folder,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 13, done.stdout


def test_a_row_too_many_does_no_harm(workspace: Workspace) -> None:
    """An entry about something else is left out of evidence all the same."""
    with behind_our_back(workspace) as connection:
        (run,) = connection.execute("SELECT id FROM runs").fetchone()
        connection.execute("INSERT INTO ledger_places VALUES (?, '', 0)", (run,))
        connection.execute("INSERT INTO ledger_places VALUES (?, '', 'x')", (run,))
        connection.execute("INSERT INTO ledger_places VALUES (?, '', 9999)", (run,))
    assert workspace.call("verify", "latest").code == 0
    assert workspace.call("evidence", "latest", "-o", "bundle.zip").code == 0
    assert workspace.call("verify", "bundle.zip").code == 0
