# SPDX-License-Identifier: Apache-2.0
"""A SQLite file that is broken is called damaged, by name, and never a server."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.databases import sqlite_copy
from tests.support.planted import plant_run
from tests.support.workspace import Workspace

PAGE = 4096


def _truncate(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def _overwrite_head(path: Path) -> None:
    data = path.read_bytes()
    path.write_bytes(b"\x00garbage" * (PAGE // 8) + data[PAGE:])


def _flip_schema_page(path: Path) -> None:
    data = bytearray(path.read_bytes())
    for place in range(100, PAGE):
        data[place] ^= 0xFF
    path.write_bytes(data)


def _flip_every_other_page(path: Path) -> None:
    data = path.read_bytes()
    flipped = bytes(byte ^ 0xFF for byte in data[PAGE:])
    path.write_bytes(data[:PAGE] + flipped)


@pytest.fixture
def planted(tmp_path: Path, sqlite_template: Path) -> Workspace:
    """A workspace whose database holds one run."""
    workspace = Workspace(folder=tmp_path / "work")
    workspace.home.mkdir(parents=True)
    with sqlite_copy(sqlite_template, tmp_path / "copy.db") as engine:
        plant_run(engine)
    shutil.copy(tmp_path / "copy.db", workspace.database)
    return workspace


@pytest.mark.parametrize(
    "damage", [_truncate, _overwrite_head, _flip_schema_page, _flip_every_other_page]
)
def test_a_damaged_file_is_named_with_what_to_do(
    planted: Workspace, damage: Callable[[Path], None]
) -> None:
    """Each command says which file is damaged and what helps, and exits 4."""
    assert planted.call("status").code == 0
    damage(planted.database)
    for command in (("status",), ("verify", "latest"), ("cancel", "latest")):
        answer = planted.call(*command)
        assert (answer.code, answer.out) == (4, ""), answer.err
        assert f"The database file {planted.database} is damaged" in answer.err
        assert "restore a backup" in answer.err
        assert "bundles verify without it" in answer.err
        assert "server" not in answer.err
        assert answer.err.count("\n") == 1


def test_a_file_that_cannot_be_opened_is_named(planted: Workspace) -> None:
    """What is wrong with a file of SQLite is never put down to a server."""
    planted.database.unlink()
    planted.database.mkdir()
    answer = planted.call("status")
    assert answer.code == 4
    assert f"The database file {planted.database} cannot be used" in answer.err
    assert "server" not in answer.err
