# SPDX-License-Identifier: Apache-2.0
"""Commands that only look start quickly, because they import little."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.workspace import Workspace

_PROBE = """
import json, sys
from affidavit.cli.app import run_command
code = run_command(sys.argv[1:])
sys.stderr.write(json.dumps([code, sorted({n.partition(".")[0] for n in sys.modules})]))
"""

#: Large packages that are of no use to a look.
HEAVY = {
    *("torch", "torchvision", "celery", "boto3", "pandas", "alembic", "structlog"),
    *("psycopg", "rich"),
}


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with one finished run."""
    workspace = Workspace(folder=tmp_path_factory.mktemp("start-up")).lay_out(2)
    workspace.run(workspace.write_spec())
    return workspace


def _modules(workspace: Workspace, *arguments: str, code: int = 0) -> set[str]:
    with workspace.environment():
        done = subprocess.run(
            [sys.executable, "-c", _PROBE, *arguments],
            env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
    ended, names = json.loads(done.stderr.splitlines()[-1])
    assert ended == code, done.stderr
    return set(names)


@pytest.mark.parametrize(
    ("arguments", "also"),
    [
        (("status",), {"numpy", "pyarrow", "PIL"}),
        (("status", "latest"), {"numpy", "pyarrow", "PIL"}),
        (("report", "latest"), {"numpy", "pyarrow", "PIL"}),
        (("items", "latest", "--failed"), {"numpy", "pyarrow", "PIL"}),
        (("verify", "latest", "--json"), {"PIL"}),
        (("metrics",), {"numpy", "pyarrow", "sqlalchemy"}),
        (("--help",), {"numpy", "pyarrow", "sqlalchemy", "pydantic"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
def test_a_command_that_looks_imports_nothing_heavy(
    finished: Workspace, arguments: tuple[str, ...], also: set[str]
) -> None:
    """`status`, `report`, `verify` and the lists do without torch and its like."""
    imported = _modules(finished, *arguments)
    assert "affidavit" in imported
    assert imported.isdisjoint(HEAVY | also)


@pytest.mark.parametrize(
    ("command", "section"),
    [
        ("plan", {"threshold": {"kep": 0.1}}),
        ("run", {"explain": {"method": "gradcm"}}),
        ("submit", {"criteria": ["deletion_auc.mean <= 1"]}),
        ("run", {"model": {"weights": "missing.pt"}}),
        ("submit", {"data": {"source": "missing.csv"}}),
        ("plan", {"data": {"source": "../../elsewhere"}}),
    ],
    ids=lambda value: value if isinstance(value, str) else next(iter(value)),
)
def test_a_mistake_in_a_spec_does_not_wait_for_torch(
    finished: Workspace, command: str, section: dict[str, Any]
) -> None:
    """Names, criteria and paths are checked before anything slow is imported."""
    spec = finished.write_spec("wrong.yaml", **section)
    imported = _modules(finished, command, str(spec), code=2)
    assert imported.isdisjoint({"torch", "torchvision", "celery"})


def test_importing_the_package_imports_nothing_heavy() -> None:
    """`import affidavit` is free until a part of it is used."""
    done = subprocess.run(
        [sys.executable, "-c", "import affidavit, sys; print(*sys.modules)"],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert set(done.stdout.split()).isdisjoint(HEAVY | {"numpy", "sqlalchemy"})
