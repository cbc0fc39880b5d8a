# SPDX-License-Identifier: Apache-2.0
"""A workspace whose photographs are of persons, and what is asked about them."""

import io
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import Answer
from tests.support.workspace import Workspace, write_csv

PERSONS = ("Anna Karenina", "Boris Godunov", "Carmen Sevilla")


def lay_out_persons(folder: Path, **variables: str) -> Workspace:
    """Return a workspace of six photographs, two of each person."""
    workspace = Workspace(folder=folder, variables=variables).lay_out(6)
    rows = [
        {
            "path": f"photos/{number:04d}.png",
            "person": PERSONS[number % 3],
            "ward": "east" if number % 2 else "west",
        }
        for number in range(6)
    ]
    write_csv(workspace.folder / "items.csv", rows)
    return workspace


def spec_of_persons(workspace: Workspace, **sections: Any) -> Path:
    """Return the path of a spec that names the subject column."""
    columns = {"subject": "person", "groups": ["ward"]}
    return workspace.write_spec(
        data={"source": "items.csv", "columns": columns}, **sections
    )


def call_with(workspace: Workspace, text: str, *arguments: object) -> Answer:
    """Return what a command answers that reads the text on standard input."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.stdin", io.StringIO(text))
        return workspace.call(*arguments)


def token_of(workspace: Workspace, person: str) -> str:
    """Return the token of a person."""
    answer = call_with(workspace, f"{person}\n", "subject", "find", "--json")
    assert answer.code == 0, answer.err
    token: str = answer.document["subject"]
    return token
