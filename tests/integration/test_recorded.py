# SPDX-License-Identifier: Apache-2.0
"""Every command and task is in the register, and leaves the one entry that it names."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

import workers.tasks
from affidavit.cli.app import app
from affidavit.recorded import COMMANDS, SILENT, TASKS
from tests.support.workspace import Workspace


def _commands(command: Any, name: tuple[str, ...] = ()) -> Iterator[str]:
    inner = getattr(command, "commands", None)
    if inner is None:
        yield " ".join(name)
        return
    for word, below in inner.items():
        yield from _commands(below, (*name, word))


def test_every_command_is_in_the_register() -> None:
    """Whoever adds a command says which entry tells of it, or why none does."""
    there = set(_commands(typer.main.get_command(app)))
    assert there == COMMANDS.keys() | SILENT.keys()
    assert not COMMANDS.keys() & SILENT.keys()


def test_every_task_is_in_the_register() -> None:
    """Whoever adds a task says which entry tells of it."""
    tasks = {
        value.name
        for value in vars(workers.tasks).values()
        if hasattr(value, "apply_async") and value.name
    }
    assert tasks == TASKS.keys()


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished run, and a spec that can be scheduled."""
    workspace = Workspace(folder=tmp_path_factory.mktemp("register")).lay_out(4)
    workspace.run(workspace.write_spec())
    workspace.write_spec("daily.yaml", schedule={"cron": "0 3 * * *"})
    return workspace


#: What each command is called with; those that need servers or another state are
#: counted in tests of their own.
CALLS: dict[str, tuple[str, ...]] = {
    "evidence": ("latest", "-o", "b.zip"),
    "items": ("latest",),
    "keys rotate": (),
    "log": (),
    "report": ("latest",),
    "run": ("audit.yaml",),
    "schedule add": ("daily.yaml",),
    "show": ("latest", "0", "--json"),
    "verify": ("latest",),
}


def _actions(workspace: Workspace) -> list[str]:
    assert workspace.rows("ledger_outbox") == []
    return [
        json.loads(row["body"])["action"] for row in workspace.rows("ledger_entries")
    ]


@pytest.mark.parametrize("command", CALLS)
def test_a_command_leaves_its_entry_once(
    finished: Workspace, tmp_path: Path, command: str
) -> None:
    """The entry of the register is written exactly once by one call."""
    copy = Workspace(folder=tmp_path / "copy")
    shutil.copytree(finished.folder, copy.folder)
    before = len(_actions(copy))
    answer = copy.call(*command.split(), *CALLS[command])
    assert answer.code == 0, answer.err
    added = _actions(copy)[before:]
    assert added.count(COMMANDS[command]) == 1
    if command != "run":
        assert len(added) == 1


@pytest.mark.parametrize(
    "command",
    ["status", "doctor", "methods", "policies", "metrics", "keys show", "workers"],
)
def test_a_silent_command_leaves_none(finished: Workspace, command: str) -> None:
    """What touches no data adds nothing to the ledger."""
    before = _actions(finished)
    answer = finished.call(*command.split())
    assert answer.code == 0, answer.err
    assert _actions(finished) == before
