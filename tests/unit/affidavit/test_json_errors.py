# SPDX-License-Identifier: Apache-2.0
"""With `--json` an error is a document too: its kind, its sentence, its exit code."""

import inspect
import re
from pathlib import Path

import pytest

import affidavit.cli.registry
import explain.errors
import ledger.errors
import pipeline.errors
import storage.errors
import storage.objects.errors
from affidavit.exit_codes import EXPECTED_ERRORS, exit_code_of, kind_of
from tests.support.workspace import Workspace

MODULES = (
    explain.errors,
    ledger.errors,
    pipeline.errors,
    storage.errors,
    storage.objects.errors,
)
#: Those of a single item or attempt, which never reach the command line.
INTERNAL = {pipeline.errors.AuditError, pipeline.errors.ItemError}
ERRORS = sorted(
    {
        kind
        for module in MODULES
        for _name, kind in inspect.getmembers(module, inspect.isclass)
        if issubclass(kind, Exception) and kind.__module__ == module.__name__
    }
    - INTERNAL,
    key=str,
)


def _raised(kind: type[Exception]) -> Exception:
    """Return an error of the class, whatever its constructor wants to know."""
    error = kind.__new__(kind)
    error.args = ("It is so; do this.",)
    return error


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A folder with nothing in it."""
    return Workspace(folder=tmp_path)


def _metrics_that_raise(patch: pytest.MonkeyPatch, error: BaseException) -> None:
    def fail(*_arguments: object) -> None:
        raise error

    patch.setattr(affidavit.cli.registry, "print_json", fail)


@pytest.mark.parametrize(
    "error",
    [*map(_raised, ERRORS), OSError(28, "no room", "/x")],
    ids=lambda error: type(error).__name__,
)
def test_each_error_is_one_document(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Standard output has the document, standard error the same sentence."""
    assert isinstance(error, EXPECTED_ERRORS)
    _metrics_that_raise(monkeypatch, error)
    answer = workspace.call("metrics", "--json")
    told = answer.document["error"]
    assert answer.document.keys() == {"error"}
    assert told == {
        "kind": kind_of(error),
        "message": told["message"],
        "exit_code": answer.code,
    }
    assert answer.code == exit_code_of(error)
    assert answer.err == f"affidavit: {told['message']}\n"


def test_each_class_of_errors_has_a_kind_of_its_own() -> None:
    """Kinds are words that scripts can compare, and no two classes share one."""
    kinds = [kind_of(_raised(kind)) for kind in ERRORS]
    assert len(set(kinds)) == len(kinds)
    assert all(re.fullmatch("[a-z0-9]+(_[a-z0-9]+)*", kind) for kind in kinds)
    assert kind_of(storage.errors.UnknownRunError("x")) == "unknown_run"
    assert kind_of(PermissionError(13, "denied")) == "system"


def test_bad_usage_and_an_interrupt_are_documents_too(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mistyped option and Ctrl-C are told as every other error."""
    answer = workspace.call("metrics", "--frob", "--json")
    assert (answer.document["error"]["kind"], answer.code) == ("usage", 2)
    assert "--frob" in answer.document["error"]["message"]
    _metrics_that_raise(monkeypatch, KeyboardInterrupt())
    answer = workspace.call("metrics", "--json")
    assert answer.document["error"] == {
        "kind": "interrupted",
        "message": "interrupted.",
        "exit_code": 130,
    }


def test_without_json_nothing_is_on_standard_output(workspace: Workspace) -> None:
    """People read the sentence; and an error is forgotten by the next command."""
    answer = workspace.call("metrics", "frob")
    assert (answer.code, answer.out) == (2, "")
    assert workspace.call("metrics", "--json").document.keys() > {"deletion"}
