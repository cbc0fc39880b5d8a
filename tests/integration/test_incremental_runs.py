# SPDX-License-Identifier: Apache-2.0
"""Incremental runs take what is new or changed, by its bytes, and nothing else."""

import os
from pathlib import Path
from typing import Any

import pytest

from tests.support.workspace import Workspace, photograph, write_csv


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Six photographs and a tiny network."""
    return Workspace(folder=tmp_path).lay_out(6)


def write(workspace: Workspace, name: str, number: int) -> Path:
    """Return the path of a picture, written now."""
    path = workspace.folder / "photos" / name
    photograph(number).save(path)
    return path


def incremental(workspace: Workspace, spec: Path) -> dict[str, Any]:
    """Return the document of an incremental run."""
    answer = workspace.call("run", spec, "--incremental", "--json")
    assert answer.code == 0, answer.err
    document: dict[str, Any] = answer.document
    return document


def names(workspace: Workspace, run: str) -> list[str]:
    """Return the names of the files that a run took."""
    answer = workspace.call("items", run, "--json")
    return [Path(item["uri"]).name for item in answer.document["items"]]


def counts(document: dict[str, Any]) -> dict[str, int]:
    """Return how the items stood to the runs before."""
    return {
        name: document["incremental"][name]
        for name in ("unchanged", "new", "changed", "again", "hashed", "removed")
    }


def test_a_run_takes_what_is_new_changed_or_failed(workspace: Workspace) -> None:
    """Touched files are compared by their bytes, failed ones always taken again."""
    spec = workspace.write_spec()
    bad = workspace.folder / "photos" / "bad.png"
    bad.write_text("no picture")
    # Without an earlier run, everything is new.
    first = incremental(workspace, spec)
    assert first["items"] == {"total": 7, "done": 6, "failed": 1}
    assert first["incremental"]["base_count"] == 0

    write(workspace, "0001.png", 50)  # changed
    same = workspace.folder / "photos" / "0002.png"
    os.utime(same, ns=(1, 1))  # touched
    (workspace.folder / "photos" / "0003.png").unlink()  # removed
    write(workspace, "new.png", 60)
    second = incremental(workspace, spec)
    assert names(workspace, second["run"]) == ["0001.png", "bad.png", "new.png"]
    assert counts(second) == {
        "unchanged": 4,
        "new": 1,
        "changed": 1,
        "again": 1,
        "hashed": 1 + (first_size(workspace, second) is None),
        "removed": 1,
    }
    assert second["incremental"]["bases"] == [first["run"]]

    # What the second run explained is known now; only the failure is left.
    third = incremental(workspace, spec)
    assert names(workspace, third["run"]) == ["bad.png"]
    assert third["incremental"]["bases"] == [second["run"], first["run"]]
    bad.unlink()
    before = workspace.rows("runs")
    answer = workspace.call("run", spec, "--incremental", "--json")
    assert answer.code == 0
    assert (answer.document["run"], answer.document["state"]) == (None, "nothing_new")
    assert workspace.rows("runs") == before
    plain = workspace.call("run", spec, "--incremental")
    assert plain.out.startswith("None of the 6 items is new or changed since run ")

    verdict = workspace.call("verify", second["run"], "--json")
    assert verdict.code == 0, verdict.out
    assert verdict.document["failures"] == []


def first_size(workspace: Workspace, _document: dict[str, Any]) -> int | None:
    """Return None where the changed picture kept its size, so that it was read."""
    rows = [row for row in workspace.rows("locations") if "0001" in row["uri"]]
    return None if rows[0]["size_bytes"] == rows[1]["size_bytes"] else 1


def test_another_spec_or_other_weights_take_everything(workspace: Workspace) -> None:
    """What earlier runs computed differently is computed again."""
    spec = workspace.write_spec()
    workspace.run(spec)
    other = workspace.write_spec(threshold={"keep": 0.2})
    assert incremental(workspace, other)["items"]["total"] == 6
    weights = workspace.folder / "tiny.pt"
    spec = workspace.write_spec()
    weights.write_bytes(weights.read_bytes() + b"\0")
    answer = workspace.call("run", spec, "--incremental", "--json")
    assert answer.code == 0, answer.err
    assert answer.document["items"]["total"] == 6


def test_labels_masks_and_doubles_count(workspace: Workspace) -> None:
    """Another label or mask is a change; a double goes as its first does."""
    mask = workspace.folder / "mask.png"
    photograph(3).convert("L").save(mask)
    rows = [
        {"path": f"photos/000{number}.png", "label": "cat", "mask": "mask.png"}
        for number in (0, 1, 1, 2)
    ]
    rows[3] |= {"mask": ""}
    table = workspace.folder / "items.csv"
    write_csv(table, rows)
    columns = {"label": "label", "mask": "mask"}
    spec = workspace.write_spec(data={"source": "items.csv", "columns": columns})
    assert incremental(workspace, spec)["items"]["failed"] == 1  # the double
    answer = workspace.call("run", spec, "--incremental", "--json")
    assert answer.document["state"] == "nothing_new"
    assert answer.document["incremental"]["unchanged"] == 4

    rows[3] |= {"label": "cup"}
    write_csv(table, rows)
    second = incremental(workspace, spec)
    assert names(workspace, second["run"]) == ["0002.png"]
    photograph(4).convert("L").save(mask)
    third = incremental(workspace, spec)
    assert names(workspace, third["run"]) == ["0000.png", "0001.png", "0001.png"]


def test_the_report_says_what_was_left_out(workspace: Workspace) -> None:
    """A reader learns that the numbers are about new and changed items alone."""
    spec = workspace.write_spec()
    first = workspace.run(spec)
    assert first["incremental"] is None
    write(workspace, "new.png", 60)
    second = incremental(workspace, spec)
    page = Path(second["report"]).read_text()
    assert f"6 items as run <code>{first['run']}</code> had them" in page
    assert "Only what is new or changed" in page
    plain = workspace.call("run", spec)
    assert "left out" not in plain.out


def test_an_altered_note_of_what_was_left_out_is_found(workspace: Workspace) -> None:
    """`verify` holds the run's origin against the ledger."""
    import contextlib
    import sqlite3

    spec = workspace.write_spec()
    workspace.run(spec)
    write(workspace, "new.png", 60)
    run = incremental(workspace, spec)["run"]
    with contextlib.closing(sqlite3.connect(workspace.database)) as connection:
        connection.execute(
            "UPDATE runs SET origin = replace(origin, '\"unchanged\": 6', "
            "'\"unchanged\": 7') WHERE id = ?",
            (run,),
        )
        connection.commit()
    answer = workspace.call("verify", run, "--json")
    assert answer.code == 3
    assert any("another origin" in f["message"] for f in answer.document["failures"])
