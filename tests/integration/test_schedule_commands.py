# SPDX-License-Identifier: Apache-2.0
"""`affidavit schedule` says what it did, and runs what is due without a queue."""

import contextlib
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from ledger.entries import Entry
from tests.support.workspace import Workspace

HOURLY = {"cron": "0 * * * *", "timezone": "Europe/Berlin"}


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Four photographs and a tiny network."""
    return Workspace(folder=tmp_path).lay_out(4)


def done(workspace: Workspace, *arguments: object) -> Any:
    """Return the document of a command that ends well."""
    answer = workspace.call("schedule", *arguments, "--json")
    assert answer.code == 0, answer.err
    return answer.document


def alter(workspace: Workspace, statement: str) -> None:
    """The statement has changed the database."""
    with contextlib.closing(sqlite3.connect(workspace.database)) as connection:
        connection.execute(statement)
        connection.commit()


def actions(workspace: Workspace) -> list[str]:
    """Return what the ledger tells of schedules, in order."""
    rows = workspace.rows("ledger_entries") + workspace.rows("ledger_outbox")
    found = [Entry.parse(row["body"]).action.value for row in rows]
    return [
        one for one in found if one.split(":")[0] in {"schedule", "slot", "weights"}
    ]


def make_due(workspace: Workspace) -> None:
    """The schedules have missed their last three hours."""
    alter(workspace, "UPDATE schedules SET next_slot = next_slot - 3 * 3600")


def test_a_schedule_is_added_changed_and_removed(workspace: Workspace) -> None:
    """Each command answers with the schedule, and each deed is in the ledger."""
    spec = workspace.write_spec(schedule=HOURLY | {"catch_up": "all"})
    added = done(workspace, "add", spec)
    assert (added["audit"], added["state"], added["catch_up"]) == (
        "tiny",
        "active",
        "all",
    )
    assert added["next_slot"] % 3600 == 0
    assert added["spec_file"] == "unchanged"
    name = added["schedule"]
    assert done(workspace, "pause", name)["state"] == "paused"
    assert done(workspace, "resume", "tiny")["state"] == "active"
    spec.write_text(spec.read_text() + "criteria: []\nmetrics: [completeness]\n")
    assert done(workspace, "list")["schedules"][0]["spec_file"] == "changed"
    spec.unlink()
    assert done(workspace, "list")["schedules"][0]["spec_file"] == "missing"
    assert (
        "what runs is the spec as it was added"
        in workspace.call("schedule", "list").out
    )
    assert done(workspace, "remove", name[:4])["state"] == "removed"
    assert done(workspace, "list") == {"schedules": []}
    assert actions(workspace) == [
        "schedule:added",
        "schedule:paused",
        "schedule:resumed",
        "schedule:removed",
    ]


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ({"cron": "0 0 31 2 *"}, "names no date"),
        ({"cron": "0 3 * * *", "timezone": "Europe/Berln"}, "mean Europe/Berlin"),
        ({"cron": "0 3 * * *", "catch_up": "some"}, "one of latest, all, none"),
        (None, "has no section 'schedule'"),
    ],
)
def test_what_cannot_be_scheduled_is_refused(
    workspace: Workspace, section: dict[str, Any] | None, message: str
) -> None:
    """An impossible schedule is one sentence and exit code 2, and makes nothing."""
    answer = workspace.call("schedule", "add", workspace.write_spec(schedule=section))
    assert answer.code == 2
    assert message in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not workspace.database.exists()


def test_unknown_and_repeated_schedules_are_refused(workspace: Workspace) -> None:
    """One sentence each, exit code 2."""
    spec = workspace.write_spec(schedule=HOURLY)
    done(workspace, "add", spec)
    again = workspace.call("schedule", "add", spec)
    assert (again.code, "already; remove it first" in again.err) == (2, True)
    for verb in ("pause", "resume", "remove", "run-now"):
        answer = workspace.call("schedule", verb, "nobody", "--json")
        assert answer.code == 2
        assert answer.document["error"]["kind"] == "unknown_schedule"
    answer = workspace.call("schedule", "resume", "tiny")
    assert (answer.code, "is active already" in answer.err) == (2, True)


def test_what_is_due_runs_in_this_process(workspace: Workspace) -> None:
    """Missed hours have one run, which knows its slot; then nothing is due."""
    spec = workspace.write_spec(schedule=HOURLY)
    added = done(workspace, "add", spec)
    assert done(workspace, "run-due") == {"ran": []}
    make_due(workspace)
    (ran,) = done(workspace, "run-due")["ran"]
    assert (ran["state"], ran["run"]["state"]) == ("planned", "done")
    assert ran["run"]["schedule"] == added["schedule"]
    assert ran["run"]["slot"] == ran["slot"] == added["next_slot"] - 3600
    assert done(workspace, "run-due") == {"ran": []}
    (listed,) = done(workspace, "list")["schedules"]
    assert listed["missed"] == 2
    assert [slot["run"] for slot in listed["slots"]] == [ran["run"]["run"]]
    verdict = workspace.call("verify", ran["run"]["run"], "--json")
    assert verdict.document["failures"] == []
    # An incremental schedule has no run where nothing is new.
    done(workspace, "remove", "tiny")
    done(
        workspace, "add", workspace.write_spec(schedule=HOURLY | {"incremental": True})
    )
    done(workspace, "run-now", "tiny")
    (ran,) = done(workspace, "run-due")["ran"]
    assert (ran["state"], ran["run"]) == ("nothing_new", None)
    assert actions(workspace)[-1] == "slot:closed"


def test_a_failure_to_plan_is_said_and_blocks_nothing(workspace: Workspace) -> None:
    """An emptied source has a code on its slot; the other schedule has its run."""
    done(workspace, "add", workspace.write_spec(schedule=HOURLY))
    bad = workspace.folder / "other"
    bad.mkdir()
    (bad / "one.png").write_bytes((workspace.folder / "photos/0000.png").read_bytes())
    spec = workspace.write_spec("b.yaml", audit="b", schedule=HOURLY)
    spec.write_text(spec.read_text().replace("photos/", "other/"))
    done(workspace, "add", spec)
    (bad / "one.png").unlink()
    make_due(workspace)
    answer = workspace.call("schedule", "run-due", "--json")
    assert answer.code == 2
    by_audit = {one["audit"]: one for one in answer.document["ran"]}
    assert by_audit["tiny"]["run"]["state"] == "done"
    assert by_audit["b"]["error"] == "source_unusable"
    assert "holds no picture" in by_audit["b"]["message"]
    listed = {one["audit"]: one for one in done(workspace, "list")["schedules"]}
    (slot,) = listed["b"]["slots"]
    assert (slot["state"], slot["error"], slot["attempts"]) == (
        "pending",
        "source_unusable",
        1,
    )
    assert "source_unusable" in workspace.call("schedule", "list").out
    assert actions(workspace).count("slot:failed") == 1


def test_other_weights_are_run_and_told_of(workspace: Workspace) -> None:
    """A weights file that was replaced is used, and the ledger and the report say so.

    With `model.sha256` in the spec it is refused instead.
    """
    spec = workspace.write_spec(schedule=HOURLY)
    added = done(workspace, "add", spec)
    done(workspace, "run-now", "tiny")
    (first,) = done(workspace, "run-due")["ran"]
    assert first["run"]["model_digest"] == added["weights_sha256"]
    weights = workspace.folder / "tiny.pt"
    weights.write_bytes(weights.read_bytes() + b"\0")
    done(workspace, "run-now", "tiny")
    (second,) = done(workspace, "run-due")["ran"]
    assert second["run"]["model_digest"] != added["weights_sha256"]
    assert "weights:changed" in actions(workspace)
    assert "The weights are other ones." in Path(second["run"]["report"]).read_text()

    done(workspace, "remove", "tiny")
    pinned = {"sha256": added["weights_sha256"]}
    done(workspace, "add", workspace.write_spec(schedule=HOURLY, model=pinned))
    done(workspace, "run-now", "tiny")
    answer = workspace.call("schedule", "run-due", "--json")
    assert (answer.code, answer.document["ran"][0]["error"]) == (2, "model_refused")


def test_a_run_whose_process_died_is_taken_up(workspace: Workspace) -> None:
    """The next `run-due` finishes what a killed one left behind."""
    done(workspace, "add", workspace.write_spec(schedule=HOURLY))
    done(workspace, "run-now", "tiny")
    (ran,) = done(workspace, "run-due")["ran"]
    run = ran["run"]["run"]
    alter(
        workspace,
        "UPDATE runs SET state = 'finalising', finaliser_lease_until = 1, "
        "result_digest = NULL, finished_at = NULL",
    )
    (again,) = done(workspace, "run-due")["ran"]
    assert (again["slot"], again["run"]["run"]) == (None, run)
    assert again["run"]["state"] == "done"
    assert again["run"]["result_digest"] == ran["run"]["result_digest"]
