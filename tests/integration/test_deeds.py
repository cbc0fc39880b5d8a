# SPDX-License-Identifier: Apache-2.0
"""What people read, take away or are refused is recorded first, one entry a deed."""

import hashlib
import json
import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

import affidavit
import pipeline.deeds
import pipeline.report_access
from pipeline.errors import ModelError
from storage.errors import DatabaseUnavailableError
from tests.support.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A folder with weights and four photographs."""
    return Workspace(folder=tmp_path / "work").lay_out(4)


@pytest.fixture
def finished(workspace: Workspace) -> Workspace:
    """A folder with a finished run."""
    workspace.run(workspace.write_spec())
    return workspace


def _entries(workspace: Workspace) -> list[dict[str, Any]]:
    """Return the ledger's entries; none waits outside it."""
    assert workspace.rows("ledger_outbox") == []
    return [json.loads(row["body"]) for row in workspace.rows("ledger_entries")]


def _new_actions(workspace: Workspace, before: int) -> list[str]:
    return [entry["action"] for entry in _entries(workspace)[before:]]


def test_each_deed_is_one_entry(finished: Workspace) -> None:
    """Reports, bundles, items and results: read or taken away, once each."""
    run = finished.rows("runs")[0]["id"]
    item = finished.rows("locations")[2]["item_id"]
    before = len(_entries(finished))
    assert finished.call("report", run, "--out", finished.folder / "o").code == 0
    assert finished.call("report", run, "--bundle", finished.folder / "b.zip").code == 0
    assert finished.call("show", run, "2", "--json").code == 0
    with finished.environment():
        assert len(affidavit.results(run)) == 4
    told = [(entry["action"], entry["object"]) for entry in _entries(finished)[before:]]
    assert told == [
        ("report:read", f"run/{run}"),
        ("report:read", f"run/{run}"),
        ("evidence:exported", f"run/{run}"),
        ("item:read", f"run/{run}/item/{item}"),
        ("results:read", f"run/{run}"),
    ]


@pytest.mark.parametrize("target", ["missing/b.zip", "photos"])
def test_a_bundle_that_cannot_be_written_leaves_no_half(
    finished: Workspace, target: str
) -> None:
    """Its path is looked at before anything is recorded, copied or made."""
    before = len(_entries(finished))
    answer = finished.call(
        "report", "latest", "--out", finished.folder / "o", "--bundle", target
    )
    assert answer.code == 4
    assert target.partition("/")[0] in answer.err
    assert not (finished.folder / "o").exists()
    assert _new_actions(finished, before) == []


def test_a_bundle_is_told_of_before_it_is_written(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who kills the export at any moment has nothing that the ledger does not know."""
    before = len(_entries(finished))

    class Killed(BaseException):
        """The process ended here."""

    def kill(*_arguments: Any) -> None:
        raise Killed

    monkeypatch.setattr(pipeline.report_access, "write_run_bundle", kill)
    with pytest.raises(Killed):
        finished.call("report", "latest", "--bundle", finished.folder / "b.zip")
    assert _new_actions(finished, before) == ["report:read", "evidence:exported"]


def test_what_cannot_be_recorded_is_not_handed_out(
    finished: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without its entry no report is copied, no item shown and no row returned."""

    def refuse(*_arguments: Any, **_options: Any) -> None:
        raise DatabaseUnavailableError("The database is full.")

    monkeypatch.setattr(pipeline.deeds, "record", refuse)
    out, bundle = finished.folder / "o", finished.folder / "b.zip"
    picture = finished.folder / "item.png"
    for command in (
        ("report", "latest", "--out", out, "--bundle", bundle),
        ("show", "latest", "0", "--out", picture),
    ):
        answer = finished.call(*command)
        assert (answer.code, answer.out) == (4, "")
    with finished.environment(), pytest.raises(DatabaseUnavailableError):
        affidavit.results()
    assert not bundle.exists()
    assert not picture.exists()
    assert list(out.glob("*")) == []


class _Payload:
    """A pickle of this calls a function when it is loaded carelessly."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.mkdir, ("canary",)


def test_a_refused_model_is_an_entry(workspace: Workspace) -> None:
    """Weights that hold code, or are not those expected, leave their digest behind."""
    evil = workspace.folder / "evil.pt"
    torch.save({"weight": _Payload()}, evil)
    spec = workspace.write_spec(model={"weights": "evil.pt"})
    assert workspace.call("plan", spec).code == 2
    assert not workspace.home.exists()
    assert workspace.call("run", spec).code == 2
    other = workspace.write_spec(model={"weights": "tiny.pt", "sha256": "0" * 64})
    with workspace.environment(), pytest.raises(ModelError):
        affidavit.run(other)
    refused = [e for e in _entries(workspace) if e["action"] == "model:refused"]
    assert [(entry["details"]["reason"], entry["digest"]) for entry in refused] == [
        ("holds_code", hashlib.sha256(evil.read_bytes()).hexdigest()),
        (
            "digest_mismatch",
            hashlib.sha256((workspace.folder / "tiny.pt").read_bytes()).hexdigest(),
        ),
    ]
    assert workspace.rows("runs") == []
    assert not (workspace.folder / "canary").exists()


def test_a_payload_is_what_it_seems(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The payload does make its folder when it is unpickled without care."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(_Payload()))  # noqa: S301
    assert (tmp_path / "canary").is_dir()


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an architecture that another package registers."""
    (tmp_path / "odd_net.py").write_text(
        "def build():\n"
        "    from torchvision import models\n"
        "    return models.squeezenet1_1(weights=None, num_classes=5)\n"
    )
    info = tmp_path / "odd_net-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd-net\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[affidavit.models]\nodd = odd_net:build\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "odd_net", raising=False)
    return "odd"


def test_code_of_others_is_recorded_before_it_runs(
    workspace: Workspace, plugin: str
) -> None:
    """Whether an administrator allowed it or nobody did, the ledger says so."""
    spec = workspace.write_spec(model={"source": plugin, "arguments": {}})
    assert workspace.call("run", spec).code == 2
    workspace.variables["AFFIDAVIT_PLUGINS"] = "1"
    workspace.run(spec)
    told = {entry["action"]: entry for entry in _entries(workspace)}
    assert told["model:refused"]["details"] == {
        "source": plugin,
        "reason": "code_not_allowed",
    }
    assert told["code:allowed"]["details"] == {
        "source": plugin,
        "code": "odd_net:build",
    }
    actions = [entry["action"] for entry in _entries(workspace)]
    assert actions.index("code:allowed") < actions.index("run:planned")
