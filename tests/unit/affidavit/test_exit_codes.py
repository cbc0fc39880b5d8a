# SPDX-License-Identifier: Apache-2.0
"""Every error that we raise on purpose has a documented exit code."""

import inspect
from collections.abc import Iterator
from types import ModuleType

import pytest

import explain.errors
import ledger.errors
import pipeline.errors
import storage.errors
import storage.objects.errors
from affidavit.exit_codes import EXPECTED_ERRORS, ExitCode, exit_code_of

MODULES = (
    explain.errors,
    ledger.errors,
    pipeline.errors,
    storage.errors,
    storage.objects.errors,
)


def _errors(module: ModuleType) -> Iterator[type[Exception]]:
    for _name, kind in inspect.getmembers(module, inspect.isclass):
        if issubclass(kind, Exception) and kind.__module__ == module.__name__:
            yield kind


#: Those of a single item or attempt, which never reach the command line.
INTERNAL = {pipeline.errors.AuditError, pipeline.errors.ItemError}


@pytest.mark.parametrize(
    "kind",
    sorted(
        {kind for module in MODULES for kind in _errors(module)} - INTERNAL, key=str
    ),
)
def test_each_error_is_expected_at_the_command_line(kind: type[Exception]) -> None:
    """No error of ours ends as a traceback."""
    assert issubclass(kind, EXPECTED_ERRORS)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (pipeline.errors.SpecError("x"), ExitCode.USAGE),
        (pipeline.errors.ModelError("x"), ExitCode.USAGE),
        (pipeline.errors.SourceError("x"), ExitCode.USAGE),
        (storage.errors.UnknownRunError("x"), ExitCode.USAGE),
        (storage.errors.DatabaseUrlError("x"), ExitCode.USAGE),
        (storage.errors.DatabaseDamagedError("x"), ExitCode.INFRASTRUCTURE),
        (storage.errors.StateConflictError("x"), ExitCode.USAGE),
        (ledger.errors.BundleError("x"), ExitCode.USAGE),
        (ledger.errors.BrokenLedgerError("x"), ExitCode.INTEGRITY),
        (storage.objects.errors.DigestMismatchError("x"), ExitCode.INTEGRITY),
        (ledger.errors.KeyFileError("x"), ExitCode.INFRASTRUCTURE),
        (pipeline.errors.InfrastructureError("x"), ExitCode.INFRASTRUCTURE),
        (storage.errors.DatabaseUnavailableError("x"), ExitCode.INFRASTRUCTURE),
        (storage.errors.SchemaOutdatedError("x"), ExitCode.INFRASTRUCTURE),
        (storage.objects.errors.StoreRefusedError("x"), ExitCode.INFRASTRUCTURE),
        (PermissionError(13, "denied", "/x"), ExitCode.INFRASTRUCTURE),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_error_leads_to_the_code_of_its_kind(
    error: Exception, code: ExitCode
) -> None:
    """What the user mends is 2, broken evidence 3, missing infrastructure 4."""
    assert exit_code_of(error) is code
