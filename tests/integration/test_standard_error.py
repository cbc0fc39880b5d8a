# SPDX-License-Identifier: Apache-2.0
"""What real commands that load a network leave on standard error: nothing of others."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.workspace import Workspace

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Weights, photographs and specs; nothing has run yet."""
    workspace = Workspace(folder=tmp_path_factory.mktemp("stderr")).lay_out(2)
    workspace.write_spec()
    workspace.write_spec("layer.yaml", model={"layer": "nowhere"})
    return workspace


def _command(workspace: Workspace, *arguments: str) -> subprocess.CompletedProcess[str]:
    with workspace.environment():
        return subprocess.run(
            [sys.executable, "-m", "affidavit", *arguments],
            env=os.environ | {"PYTHONPATH": _path()},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )


def _path() -> str:
    """Return where the program lies, before whatever else is looked through."""
    inherited = os.environ.get("PYTHONPATH")
    return str(ROOT) if not inherited else f"{ROOT}{os.pathsep}{inherited}"


def test_a_run_leaves_only_its_own_lines(workspace: Workspace) -> None:
    """After `run` standard error holds the line that says what is done, no more."""
    done = _command(workspace, "run", "audit.yaml")
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("Run ")
    assert "is done" in done.stdout


def test_a_wrong_layer_is_one_sentence(workspace: Workspace) -> None:
    """An error after torch was loaded is one sentence and nothing of torch's."""
    done = _command(workspace, "plan", "layer.yaml")
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("affidavit: The model has no layer 'nowhere'.")
