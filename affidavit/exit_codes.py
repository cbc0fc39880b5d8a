# SPDX-License-Identifier: Apache-2.0
"""What the command line's exit codes mean, and which error gives which."""

import re
from enum import IntEnum

from explain.errors import ExplainError
from ledger.errors import BrokenLedgerError, BundleError, LedgerError
from pipeline.errors import (
    GateRefusedError,
    InfrastructureError,
    ModelError,
    SourceError,
    SpecError,
)
from storage.errors import (
    DatabaseUrlError,
    StateConflictError,
    StorageError,
    UnknownRunError,
    UnknownScheduleError,
)
from storage.objects.errors import DigestMismatchError


class ExitCode(IntEnum):
    """Documented in `docs/reference/cli.md`; scripts rely on them."""

    #: Done, also when some items failed.
    DONE = 0
    #: The run is done, but a criterion is not met, inconclusive or cannot be judged;
    #: or the sanity gate stopped the audit.
    CRITERIA_NOT_MET = 1
    #: Bad usage or a bad spec: mend the command or the file.
    USAGE = 2
    #: Evidence does not hold; `failures[].kind` says which.
    INTEGRITY = 3
    #: A server, store, device or file system is missing or refuses.
    INFRASTRUCTURE = 4
    #: A fault of this program: an error that nobody foresaw.
    FAULT = 5
    #: Stopped by Ctrl-C at a batch boundary.
    INTERRUPTED = 130


#: Errors that are told in one sentence; any other is a fault of this program.
EXPECTED_ERRORS = (
    SpecError,
    GateRefusedError,
    ModelError,
    SourceError,
    InfrastructureError,
    StorageError,
    ExplainError,
    LedgerError,
    OSError,
)

_USAGE_ERRORS = (
    SpecError,
    ModelError,
    SourceError,
    ExplainError,
    DatabaseUrlError,
    UnknownRunError,
    UnknownScheduleError,
    StateConflictError,
    BundleError,
)
#: Bytes or entries that are not those that were written.
_INTEGRITY_ERRORS = (BrokenLedgerError, DigestMismatchError)


def kind_of(error: BaseException) -> str:
    """Return the kind of an expected error as JSON names it: `unknown_run`."""
    if type(error).__module__ == "builtins":
        return "system"  # of the many kinds of OSError
    name = type(error).__name__.removesuffix("Error")
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code that an expected error leads to."""
    if isinstance(error, _USAGE_ERRORS):
        return ExitCode.USAGE
    if isinstance(error, GateRefusedError):
        return ExitCode.CRITERIA_NOT_MET
    if isinstance(error, _INTEGRITY_ERRORS):
        return ExitCode.INTEGRITY
    return ExitCode.INFRASTRUCTURE
