# SPDX-License-Identifier: Apache-2.0
"""`retry --failed-items`: a new run of what failed; the earlier one stays as it was."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pipeline.failed_items import run_failed_items
from storage.bulk import insert_rows
from storage.engine import transaction
from storage.errors import StateConflictError
from storage.leases import claim_next
from storage.runs import get_run
from storage.states import RunState
from storage.tables import ItemTable
from tests.support.planted import (
    entries,
    item_row,
    plant_run,
    services_of,
    set_run,
    snapshot,
)
from tests.support.workspace import Workspace, photograph, write_csv


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Six photographs and a tiny network."""
    return Workspace(folder=tmp_path / "work").lay_out(6)


def rows_of(workspace: Workspace, table: str, run: str) -> list[dict[str, Any]]:
    """Return a run's rows of a table."""
    return [row for row in workspace.rows(table) if row["run_id"] == run]


def everything_about(workspace: Workspace, run: str) -> list[Any]:
    """Return all that the tables hold of a run."""
    runs = [row for row in workspace.rows("runs") if row["id"] == run]
    tables = ("shards", "locations", "items")
    return [runs, *(rows_of(workspace, table, run) for table in tables)]


def test_only_what_failed_is_tried_again(workspace: Workspace) -> None:
    """Mended files are explained in a new run, and nothing of the old one changes."""
    mended = workspace.folder / "photos" / "0003.png"
    mended.write_bytes(b"half a pict")
    (workspace.folder / "photos" / "0005.png").write_bytes(b"no picture")
    parent = workspace.run(workspace.write_spec())
    assert parent["items"] == {"total": 6, "done": 4, "failed": 2}
    assert parent["parent"] is None
    before = everything_about(workspace, parent["run"])
    photograph(3).save(mended)

    answer = workspace.call("retry", parent["run"], "--failed-items", "--json")
    assert answer.code == 0, answer.err
    child = answer.document
    assert child["parent"] == parent["run"] != child["run"]
    assert child["items"] == {"total": 2, "done": 1, "failed": 1}
    assert f"takes 2 items that failed in run {parent['run']}" in answer.err
    assert everything_about(workspace, parent["run"]) == before
    assert "Only what failed before" in Path(child["report"]).read_text()
    for run in (parent["run"], child["run"]):
        verdict = workspace.call("verify", run, "--json")
        assert verdict.code == 0, verdict.out


def test_a_mended_item_is_explained_as_in_a_fresh_run(tmp_path: Path) -> None:
    """Its record is that of a run that never saw it broken."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(1)
    photo = workspace.folder / "photos" / "0000.png"
    whole = photo.read_bytes()
    spec = workspace.write_spec()
    fresh = rows_of(workspace, "items", workspace.run(spec)["run"])[0]
    photo.write_bytes(b"")
    parent = workspace.run(spec)
    photo.write_bytes(whole)
    child = workspace.call("retry", parent["run"], "--failed-items", "--json").document
    (again,) = rows_of(workspace, "items", child["run"])
    assert again["record_digest"] == fresh["record_digest"]


def test_without_failures_there_is_no_run(workspace: Workspace) -> None:
    """Nothing failed, or nothing that could come out otherwise: one sentence each."""
    whole = workspace.run(workspace.write_spec())["run"]
    table = [{"path": f"photos/000{number}.png"} for number in (0, 1, 1)]
    write_csv(workspace.folder / "items.csv", table)
    doubles = workspace.run(workspace.write_spec(data={"source": "items.csv"}))["run"]
    before = workspace.rows("runs")
    for run, sentence in (
        (whole, f"No item of the run {whole} failed."),
        (doubles, "All 1 failed items of the run"),
    ):
        answer = workspace.call("retry", run, "--failed-items")
        assert (answer.code, answer.err.count("\n")) == (2, 1)
        assert sentence in answer.err
    assert workspace.rows("runs") == before


def test_a_private_run_stays_private(workspace: Workspace) -> None:
    """Subjects and groups keep their tokens, and each item gets a salt of its own."""
    (workspace.folder / "photos" / "0001.png").write_bytes(b"no picture")
    table = [
        {"path": f"photos/000{number}.png", "person": f"p{number}", "ward": "east"}
        for number in range(3)
    ]
    write_csv(workspace.folder / "items.csv", table)
    columns = {"subject": "person", "groups": ["ward"]}
    spec = workspace.write_spec(data={"source": "items.csv", "columns": columns})
    parent = workspace.run(spec)["run"]
    subjects = workspace.rows("subjects")
    answer = workspace.call("retry", parent, "--failed-items", "--json")
    child = answer.document["run"]
    (old,) = [
        row for row in rows_of(workspace, "locations", parent) if "0001" in row["uri"]
    ]
    (new,) = rows_of(workspace, "locations", child)
    for same in ("uri", "subject_token", "groups"):
        assert new[same] == old[same] is not None
    for other in ("salt", "item_id"):
        assert new[other] != old[other]
    assert new["salt"] is not None
    assert workspace.rows("subjects") == subjects
    listed = workspace.call("items", child, "--json")
    assert listed.document["items"][0]["uri"] == new["item_id"]
    assert "0001.png" not in answer.out + answer.err
    assert workspace.call("verify", child).code == 0


def test_it_is_no_turn_of_the_audit(workspace: Workspace) -> None:
    """No run is compared with one of failed items; whose items, the ledger knows."""
    broken = workspace.folder / "photos" / "0003.png"
    broken.write_bytes(b"no picture")
    spec = workspace.write_spec()
    parent = workspace.run(spec)
    photograph(3).save(broken)
    child = workspace.call("retry", parent["run"], "--failed-items", "--json").document
    assert child["change"] is None
    assert workspace.run(spec)["change"]["previous"] == parent["run"]
    with contextlib.closing(sqlite3.connect(workspace.database)) as connection:
        connection.execute("UPDATE runs SET parent_run_id = NULL")
        connection.commit()
    answer = workspace.call("verify", child["run"], "--json")
    assert answer.code == 3
    assert any("parent_run_id" in f["message"] for f in answer.document["failures"])


def _fail_items(engine: sa.Engine, run_id: str, *reasons: str | None) -> None:
    """The run is done; its items failed for these reasons, or did not."""
    rows = [
        item_row(
            run_id,
            index,
            reason=reason,
            status="done" if reason is None else "failed",
        )
        for index, reason in enumerate(reasons)
    ]
    with transaction(engine) as session:
        insert_rows(session, ItemTable, rows)
    set_run(engine, run_id, state=RunState.DONE)


def _planted(engine: sa.Engine, **columns: Any) -> str:
    plan = {"batch_size": 2, "shard_size": 2}
    return plant_run(engine, shards=2, shard_size=2, plan=plan, **columns)


def test_a_queued_run_is_left_to_its_workers(engine: sa.Engine, tmp_path: Path) -> None:
    """It has the parent's queue, priority and audit, and can be claimed at once."""
    services = services_of(engine, tmp_path)
    parent = _planted(engine, queue="gpu", priority=3)
    _fail_items(engine, parent, None, "file_missing", "duplicate_item", "zero_gradient")
    made = run_failed_items(services, get_run(engine, parent))
    assert (made.items, made.left_out) == (2, 1)
    found, old = get_run(engine, made.run_id), get_run(engine, parent)
    for name in ("audit_id", "spec", "queue", "priority", "spec_digest"):
        assert getattr(found, name) == getattr(old, name)
    assert (found.state, found.shards_total) == (RunState.QUEUED, 1)
    claim = claim_next(engine, made.run_id, worker="worker/w1", lease_s=60)
    assert claim is not None
    assert (claim.first_item, claim.item_count) == (0, 2)
    told = entries(engine, action="run:planned")[-1]
    assert (told.details["parent"], told.details["left_out"]) == (parent, 1)
    services.close()


@pytest.mark.parametrize("state", [RunState.RUNNING, RunState.FINALISING, "cancelled"])
def test_a_run_without_a_report_is_refused(
    engine: sa.Engine, tmp_path: Path, state: str
) -> None:
    """What may still change is no ground for another run; nothing is written."""
    services = services_of(engine, tmp_path)
    parent = _planted(engine)
    _fail_items(engine, parent, "file_missing")
    set_run(engine, parent, state=state)
    before = snapshot(engine)
    with pytest.raises(StateConflictError, match="once it is done or incomplete"):
        run_failed_items(services, get_run(engine, parent))
    assert snapshot(engine) == before
    services.close()
