# SPDX-License-Identifier: Apache-2.0
"""Runs are kept for as long as they must, and no longer: classes, purge, holds."""

import contextlib
import shutil
import sqlite3
import time
from pathlib import Path

import pytest

from pipeline.retention_classes import FLOOR_DAYS, RETENTION_DAYS, Retention
from tests.support.persons import PERSONS, lay_out_persons, spec_of_persons, token_of
from tests.support.workspace import Workspace

DAY = 86_400.0


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished run over three persons; tests copy it."""
    workspace = lay_out_persons(tmp_path_factory.mktemp("kept") / "work")
    workspace.run(spec_of_persons(workspace))
    return workspace


@pytest.fixture
def workspace(finished: Workspace, tmp_path: Path) -> Workspace:
    """A copy of the finished run."""
    shutil.copytree(finished.folder, tmp_path / "work")
    return Workspace(folder=tmp_path / "work")


def _ended(workspace: Workspace, days_ago: float) -> str:
    """Return the id of the run, which ended so many days ago."""
    with contextlib.closing(sqlite3.connect(workspace.database)) as connection:
        connection.execute(
            "UPDATE runs SET finished_at = ?", (time.time() - days_ago * DAY,)
        )
        connection.commit()
    run: str = workspace.rows("runs")[0]["id"]
    return run


def test_no_class_is_below_the_floor() -> None:
    """Half a year is the least, six years what is kept where nothing is said."""
    assert set(RETENTION_DAYS) == set(Retention)
    assert min(RETENTION_DAYS.values()) == FLOOR_DAYS == 183
    assert RETENTION_DAYS[Retention.SIX_YEARS] >= 6 * 365 + 1


def test_a_day_too_early_is_refused(workspace: Workspace) -> None:
    """Five years and 364 days are not six years; nothing is deleted."""
    run = _ended(workspace, 5 * 365.25 + 364)
    answer = workspace.call("purge", run, "--json")
    assert (answer.code, answer.document["error"]["kind"]) == (2, "state_conflict")
    assert "may not be purged before" in answer.err
    assert workspace.call("purge", "--json").document["runs"] == []
    assert len(workspace.rows("items")) == 6


def test_what_is_due_goes_and_the_run_still_verifies(workspace: Workspace) -> None:
    """Items, manifest, objects and comments are gone; the row's evidence stays."""
    run = _ended(workspace, 2193)
    said = ("--verdict", "reject", "--comment", "As Ms Roe asked.")
    assert workspace.call("sign-off", run, *said).code == 0
    foreseen = workspace.call("purge", "--dry-run", "--json").document
    assert [one["run"] for one in foreseen["runs"]] == [run]
    assert len(workspace.rows("items")) == 6
    done = workspace.call("purge", "--json")
    assert done.document["runs"] == foreseen["runs"]
    assert workspace.rows("items") == workspace.rows("locations") == []
    assert [p for p in workspace.objects.rglob("*") if p.is_file()] == []
    for path in workspace.home.glob("affidavit.db*"):
        assert b"photos/0000.png" not in path.read_bytes()
        assert b"Ms Roe" not in path.read_bytes()
    verdict = workspace.call("verify", run, "--json")
    assert verdict.code == 0, verdict.out
    assert verdict.document["purged"] is True
    assert verdict.document["sign_offs"][0]["verdict"] == "reject"
    assert workspace.call("purge", run).code == 2
    with contextlib.closing(sqlite3.connect(workspace.database)) as connection:
        connection.execute("UPDATE runs SET result_digest = ?", ("0" * 64,))
        connection.commit()
    assert workspace.call("verify", run).code == 3


@pytest.mark.parametrize("held", ["run", "subject"])
def test_what_is_held_stays(workspace: Workspace, held: str) -> None:
    """A hold on the run, or on one of its subjects, outranks the end of its time."""
    run = _ended(workspace, 4000)
    obj = f"run/{run}" if held == "run" else token_of(workspace, PERSONS[0])
    assert workspace.call("subject", "hold", obj, "--reason", "regulator").code == 0
    assert workspace.call("purge", run).code == 2
    assert workspace.call("purge", "--json").document["runs"] == []
    (kept,) = workspace.call("retention", "list", "--json").document["runs"]
    assert kept["held"] is True
    assert workspace.call("subject", "release", obj).code == 0
    assert len(workspace.call("purge", "--json").document["runs"]) == 1


def test_another_class_needs_a_second_principal(workspace: Workspace) -> None:
    """One officer wants it shorter; only once another agrees may it be purged."""
    run = _ended(workspace, 200)
    people: dict[str, Workspace] = {}
    for name, role in (("boss", "admin"), ("una", "dpo"), ("duo", "dpo")):
        caller = people.get("boss", workspace)
        made = caller.call("principal", "add", name, "--role", role, "--json")
        token = made.document["token"]
        people[name] = Workspace(
            folder=workspace.folder, variables={"AFFIDAVIT_TOKEN": token}
        )
    change = ("retention", "set", run, "half_year", "--json")
    assert people["una"].call(*change).document["error"]["kind"] == "access_refused"
    (request,) = people["duo"].call("request", "list", "--json").document["requests"]
    assert request["kind"] == "retention"
    assert people["duo"].call("request", "approve", request["request"]).code == 0
    assert people["una"].call(*change).document["retention"] == "half_year"
    assert len(people["una"].call("purge", "--json").document["runs"]) == 1


def test_how_long_it_is_kept_decides_no_result(tmp_path: Path) -> None:
    """The spec's class is taken, and the result digest does not depend on it."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(2)
    first = workspace.run(workspace.write_spec())
    second = workspace.run(workspace.write_spec(privacy={"retention": "ten_years"}))
    assert first["result_digest"] == second["result_digest"]
    kept = workspace.call("retention", "list", "--json").document["runs"]
    assert [one["retention"] for one in kept] == ["six_years", "ten_years"]
