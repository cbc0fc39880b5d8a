# SPDX-License-Identifier: Apache-2.0
"""What outside scripts rely on: keys, streams, exit codes, options, help."""

import contextlib
import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from affidavit.cli.app import app
from affidavit.cli.output import print_json
from storage.engine import create_engine
from tests.support.databases import upgraded
from tests.support.planted import plant_run
from tests.support.processes import free_port
from tests.support.workspace import Workspace

NOWHERE = "postgresql://nobody:hunter2@127.0.0.1:{port}/none"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with one finished run, which tests only read."""
    workspace = Workspace(folder=tmp_path_factory.mktemp("finished")).lay_out(5)
    (workspace.folder / "photos" / "0004.png").write_bytes(b"")
    spec = workspace.write_spec(
        metrics=["completeness"], criteria=["score.mean <= 1", "score.min < 0"]
    )
    answer = workspace.call("run", spec, "--json")
    assert answer.code == 1, answer.err
    (workspace.folder / "run.json").write_text(answer.out)
    return workspace


def _commands() -> list[tuple[str, ...]]:
    names = [(info.name or info.callback.__name__,) for info in app.registered_commands]  # type: ignore[union-attr]
    return [*names, ("db",), ("db", "upgrade"), ()]


def test_a_run_prints_the_documented_keys(finished: Workspace) -> None:
    """`run --json` has the keys of the contract, and exits 1 for a missed criterion."""
    document = json.loads((finished.folder / "run.json").read_text())
    assert document.keys() >= {
        "run",
        "state",
        "items",
        "result_digest",
        "criteria",
        "report",
        "artifacts",
    }
    assert document["items"] == {"total": 5, "done": 4, "failed": 1}
    assert document["state"] == "done"
    assert len(document["result_digest"]) == 64
    assert [verdict["verdict"] for verdict in document["criteria"]] == ["pass", "fail"]
    assert document["criteria_met"] is False
    assert Path(document["report"]).is_file()
    assert all(Path(place).is_file() for place in document["artifacts"])
    assert len(document["artifacts"]) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("plan", "audit.yaml"),
        ("status",),
        ("status", "latest"),
        ("status", "--watch"),
        ("report", "latest"),
        ("items", "latest"),
        ("items", "latest", "--failed"),
        ("show", "latest", "0", "--out", "shown.png"),
        ("verify", "latest"),
        ("doctor",),
        ("db", "upgrade"),
        ("methods",),
        ("policies",),
        ("metrics",),
        ("metrics", "deletion"),
        ("init", "other.yaml"),
    ],
    ids=" ".join,
)
def test_with_json_a_command_prints_one_document_and_nothing_else(
    finished: Workspace, arguments: tuple[str, ...]
) -> None:
    """Standard output is exactly one JSON document; standard error is silent."""
    (finished.folder / "other.yaml").unlink(missing_ok=True)
    answer = finished.call(*arguments, "--json")
    assert answer.code == 0, answer.err
    assert answer.document
    assert answer.err == ""
    plain = [word for word in arguments if word != "other.yaml"]
    spoken = finished.call(*plain, *([] if plain == [*arguments] else ["third.yaml"]))
    (finished.folder / "third.yaml").unlink(missing_ok=True)
    assert spoken.code == 0, spoken.err
    assert spoken.out.strip()
    assert not spoken.out.startswith("{")


@pytest.mark.parametrize("command", _commands(), ids=" ".join)
def test_every_command_has_help(finished: Workspace, command: tuple[str, ...]) -> None:
    """Each command explains itself and exits 0."""
    answer = finished.call(*command, "--help")
    assert answer.code == 0
    assert "Usage: affidavit" in answer.out
    assert answer.err == ""


def test_the_home_goes_before_or_after_the_command(
    finished: Workspace, tmp_path: Path
) -> None:
    """`--home` means the same in both places, and the nearer one wins."""
    elsewhere = Workspace(folder=tmp_path / "elsewhere")
    elsewhere.folder.mkdir()
    home = finished.home
    runs = [run["id"] for run in finished.rows("runs")]
    for arguments in (
        ("--home", home, "status", "--json"),
        ("status", "--json", "--home", home),
        ("--home", tmp_path, "status", "--json", "--home", home),
    ):
        answer = elsewhere.call(*arguments)
        assert answer.code == 0, answer.err
        assert [run["run"] for run in answer.document["runs"]] == runs
    assert elsewhere.call("status").code == 4
    assert not elsewhere.home.exists()


def test_looking_makes_nothing(tmp_path: Path) -> None:
    """Without a database, commands that look say so, exit 4 and create no file."""
    workspace = Workspace(folder=tmp_path / "empty")
    workspace.folder.mkdir()
    for arguments in (
        ("status",),
        ("report", "latest"),
        ("items", "latest"),
        ("show", "latest", "0"),
        ("verify", "latest"),
        ("cancel", "latest"),
        ("resume", "latest"),
        ("retry", "latest"),
        ("worker",),
        ("beat",),
    ):
        answer = workspace.call(*arguments)
        assert (answer.code, answer.out) == (4, ""), arguments
        assert answer.err.startswith("affidavit: There is no database at")
    assert list(workspace.folder.iterdir()) == []


def test_planning_touches_nothing(tmp_path: Path) -> None:
    """`plan` counts items and shards and leaves no file behind."""
    workspace = Workspace(folder=tmp_path / "work").lay_out(6)
    spec = workspace.write_spec()
    before = sorted(workspace.folder.rglob("*"))
    answer = workspace.call("plan", spec, "--json")
    assert answer.code == 0, answer.err
    assert answer.document["items"] == 6
    assert answer.document["shards"] == 2
    assert answer.document["bytes_per_item"] > 0
    assert sorted(workspace.folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("frobnicate",), "No such command"),
        (("run",), "Missing argument"),
        (("run", "audit.yaml", "--frob"), "No such option"),
        (("status", "abcdefabcdef"), "No run has the id 'abcdefabcdef'"),
        (("report", "abcdefabcdef"), "'affidavit status' lists the runs"),
        (("verify", "abcdefabcdef"), "No run has the id"),
        (("verify", "missing.zip"), "missing.zip"),
        (("verify", "audit.yaml"), "audit.yaml"),
        (("verify", "latest", "--key", "nonsense"), "--key"),
        (("show", "latest", "99"), "items are counted from 0 to 4"),
        (("show", "latest", "frob"), "has no item 'frob'"),
        (("resume", "latest"), "is done and cannot be resumed"),
        (("cancel", "latest"), "is done and cannot be stopped"),
        (("retry", "latest"), "has no dead shards"),
        (("metrics", "deletoin"), "There is no metric 'deletoin'"),
        (("init", "audit.yaml"), "exists already"),
        (("init", "missing/audit.yaml"), "There is no folder"),
        (("worker", "--queue", "frob"), "There is no queue 'frob'"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_bad_usage_exits_with_2(
    finished: Workspace, arguments: tuple[str, ...], says: str
) -> None:
    """A mistake of the user is one sentence on standard error and exit code 2."""
    answer = finished.call(*arguments)
    assert answer.code == 2, answer.err
    assert answer.out == ""
    assert answer.err.startswith("affidavit: ")
    assert says in answer.err
    assert answer.err.count("\n") == 1


def test_no_command_prints_the_help(finished: Workspace) -> None:
    """A bare `affidavit` shows what there is, which is bad usage for a script."""
    answer = finished.call()
    assert answer.code == 2
    assert answer.err.startswith("Usage: affidavit")
    assert "see 'affidavit --help'" not in answer.err


def test_the_version_is_printed(finished: Workspace) -> None:
    """`--version` prints the name and the version."""
    assert finished.call("--version").out.startswith("affidavit 0.")


def test_servers_that_are_down_exit_with_4(finished: Workspace) -> None:
    """A database or broker that does not answer is one sentence without a password."""
    port = free_port()
    url = NOWHERE.format(port=port)
    down = Workspace(folder=finished.folder, variables={"AFFIDAVIT_DATABASE_URL": url})
    for arguments in (("status",), ("run", "audit.yaml"), ("submit", "audit.yaml")):
        answer = down.call(*arguments)
        assert (answer.code, answer.out) == (4, ""), answer.err
        assert "The database does not answer" in answer.err
        assert "hunter2" not in answer.err
        assert answer.err.count("\n") == 1
    before = len(finished.rows("runs"))
    broker = f"redis://:hunter2@127.0.0.1:{port}/0"
    no_broker = Workspace(
        folder=finished.folder, variables={"AFFIDAVIT_BROKER_URL": broker}
    )
    for arguments in (("submit", "audit.yaml"), ("worker",), ("beat",)):
        answer = no_broker.call(*arguments)
        assert (answer.code, answer.out) == (4, ""), answer.err
        assert "The broker at 127.0.0.1" in answer.err
        assert "hunter2" not in answer.err
    answer = finished.call("submit", "audit.yaml")
    assert answer.code in {2, 4}
    assert "AFFIDAVIT_BROKER_URL" in answer.err
    assert len(finished.rows("runs")) == before


def test_a_database_without_tables_exits_with_4(
    finished: Workspace, postgres_url: str
) -> None:
    """A server's schema is never changed by a run; the message names the command."""
    bare = Workspace(
        folder=finished.folder, variables={"AFFIDAVIT_DATABASE_URL": postgres_url}
    )
    for arguments in (("status",), ("run", "audit.yaml")):
        answer = bare.call(*arguments)
        assert answer.code == 4
        assert "affidavit db upgrade" in answer.err


def test_an_interrupt_exits_with_130(finished: Workspace, tmp_path: Path) -> None:
    """Ctrl-C while a command only watches is one sentence and exit code 130."""
    shutil.copytree(finished.folder, tmp_path / "work")
    workspace = Workspace(folder=tmp_path / "work")
    with contextlib.closing(sqlite3.connect(workspace.database)) as connection:
        connection.execute("UPDATE runs SET state = 'running'")
        connection.commit()
    with workspace.environment():
        process = subprocess.Popen(
            [sys.executable, "-m", "affidavit", "status", "--watch"],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
    try:
        assert process.stderr is not None
        # Its first line says that it watches.
        first = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
        process.communicate()
    assert "running" in first
    assert (process.returncode, out) == (130, "")
    assert err.endswith("affidavit: interrupted.\n")


def test_a_setting_that_cannot_be_used_is_named(finished: Workspace) -> None:
    """A variable with a bad value is named with what is wrong about it."""
    bad = Workspace(folder=finished.folder, variables={"AFFIDAVIT_LEASE_S": "-1"})
    answer = bad.call("status")
    assert answer.code == 2
    assert "AFFIDAVIT_LEASE_S" in answer.err
    assert "greater than 0" in answer.err


def test_a_database_of_another_kind_is_a_mistake_in_the_setting(
    finished: Workspace,
) -> None:
    """A URL that names no known database exits 2 and names the variable."""
    for url in ("mysql://anna:hunter2@host/db", "nonsense", "sqlite://"):
        bad = Workspace(
            folder=finished.folder, variables={"AFFIDAVIT_DATABASE_URL": url}
        )
        answer = bad.call("status")
        assert (answer.code, answer.out) == (2, ""), url
        assert "AFFIDAVIT_DATABASE_URL" in answer.err or "SQLite" in answer.err
        assert "hunter2" not in answer.err


def test_without_runs_latest_says_how_to_start_one(tmp_path: Path) -> None:
    """A new installation has no latest run, which is no wrong id."""
    workspace = Workspace(folder=tmp_path)
    assert workspace.call("init", "example.yaml").code == 0
    answer = workspace.call("status", "latest")
    assert answer.code == 2
    assert answer.err == (
        "affidavit: There are no runs yet; start one with 'affidavit run SPEC'.\n"
    )


def test_verify_says_that_a_run_is_not_finished(
    finished: Workspace, tmp_path: Path
) -> None:
    """What holds so far is not mistaken for the evidence of a whole run."""
    whole = finished.call("verify", "latest", "--json").document
    assert whole["finished"] is True
    workspace = Workspace(folder=tmp_path)
    workspace.home.mkdir()
    upgraded(f"sqlite:///{workspace.database}")
    engine = create_engine(f"sqlite:///{workspace.database}")
    plant_run(engine)
    engine.dispose()
    document = workspace.call("verify", "latest", "--json").document
    assert (document["state"], document["finished"]) == ("queued", False)


def test_watching_into_a_file_tells_what_changes_and_the_end(
    finished: Workspace, tmp_path: Path
) -> None:
    """Outside a terminal a look at which nothing is new leaves no line."""
    shutil.copytree(finished.folder, tmp_path / "work")
    workspace = Workspace(folder=tmp_path / "work")

    def set_state(state: str) -> None:
        with contextlib.closing(sqlite3.connect(workspace.database)) as connection:
            connection.execute("UPDATE runs SET state = ?", (state,))
            connection.commit()

    set_state("running")
    timers = [
        threading.Timer(2.5, set_state, ("finalising",)),
        threading.Timer(5.0, set_state, ("done",)),
    ]
    for timer in timers:
        timer.start()
    answer = workspace.call("status", "--watch")
    assert answer.code == 0, answer.err
    lines = answer.err.splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "running",
        "finalising",
        "done",
    ]
    assert all("5 of 5 items" in line for line in lines)


def test_nan_is_never_printed_as_json() -> None:
    """A document with NaN raises instead of being printed as something else."""
    with pytest.raises(ValueError, match="JSON"):
        print_json({"value": math.nan})
