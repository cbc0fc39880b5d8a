# SPDX-License-Identifier: Apache-2.0
"""No error ends as a traceback, and none of them tells what may be personal."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import pipeline.spec_checks
from pipeline.errors import ModelError, SpecError
from pipeline.probe_failures import told_as_sentences
from pipeline.spec_file import load_spec
from tests.support.workspace import Workspace

SECRET = "patient Smith, born 1950"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A workspace with a spec."""
    found = Workspace(folder=tmp_path / "work").lay_out(2)
    found.write_spec()
    return found


@pytest.mark.parametrize("level", ["info", "debug"])
def test_an_unforeseen_error_is_one_sentence_and_code_5(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, level: str
) -> None:
    """It says where to look and never what the error quotes; debug adds the places."""

    def break_down(*_args: object, **_kwargs: object) -> None:
        raise LookupError(SECRET)

    monkeypatch.setattr(pipeline.spec_checks, "check_names", break_down)
    workspace.variables["AFFIDAVIT_LOG_LEVEL"] = level
    answer = workspace.call("plan", "audit.yaml", "--json")
    assert answer.code == 5
    told = answer.document["error"]
    assert (told["kind"], told["exit_code"]) == ("fault", 5)
    assert SECRET not in answer.out
    first, *places = answer.err.splitlines()
    assert first.startswith("affidavit: a fault of affidavit itself (LookupError in")
    assert "pipeline/spec_checks.py:" in first
    assert "AFFIDAVIT_LOG_LEVEL=debug" in first
    assert SECRET not in answer.err
    assert "Traceback" not in answer.err
    assert bool(places) is (level == "debug")


def test_memory_that_ends_is_no_fault(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Running out of memory is the machine's affair: one sentence, code 4."""

    def swell(*_args: object, **_kwargs: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pipeline.spec_checks, "check_names", swell)
    answer = workspace.call("plan", "audit.yaml")
    assert answer.code == 4
    assert answer.err == (
        "affidavit: there is not enough memory; free some or take a smaller audit.\n"
    )


def test_a_batch_too_large_for_the_machine_is_the_specs_fault(
    workspace: Workspace,
) -> None:
    """`plan` under a memory limit names run.batch_size, exits 2 and prints no trace."""
    spec = workspace.write_spec(
        run={"batch_size": 4096},
        model={"preprocess": {"resize": 512, "crop": 512}},
    )
    command = f"ulimit -v 7000000; exec {sys.executable} -m affidavit plan {spec}"
    with workspace.environment():
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    assert done.returncode == 2, done.stderr
    assert done.stderr.startswith("affidavit: run.batch_size: a batch of 4096 inputs")
    assert done.stderr.count("\n") == 1


def test_only_failures_of_the_network_are_told_in_its_name(
    workspace: Workspace,
) -> None:
    """An allocation is the batch's affair, another error the model's."""
    spec = load_spec(workspace.folder / "audit.yaml")
    with pytest.raises(SpecError, match=r"run\.batch_size"), told_as_sentences(spec):
        torch.zeros((2**20, 2**30))
    with (
        pytest.raises(ModelError, match="The network fails on a batch of 4 inputs"),
        told_as_sentences(spec),
    ):
        torch.zeros(2) @ torch.zeros(3)
    with pytest.raises(ModelError, match="already a sentence"), told_as_sentences(spec):
        raise ModelError("already a sentence")


def test_a_command_with_a_network_ends_silently(workspace: Workspace) -> None:
    """As a process, too, `plan --json` writes one document and no line beside it."""
    with workspace.environment():
        done = subprocess.run(
            [sys.executable, "-m", "affidavit", "plan", str(workspace.write_spec())],
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, "")
