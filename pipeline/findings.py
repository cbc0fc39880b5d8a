# SPDX-License-Identifier: Apache-2.0
"""What a check of the evidence found, in the order in which it was met."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from ledger.errors import LedgerError
from ledger.failures import MAX_FAILURES, Failure, FailureKind
from storage.raw import BadCell


@dataclass(slots=True)
class Findings:
    """Failures in the order in which they were met, the first thousand of them.

    Attributes:
        failures: Those that are kept.
        count: How many there were in all.
    """

    failures: list[Failure] = field(default_factory=list)
    count: int = 0

    def add(
        self,
        kind: FailureKind,
        where: str,
        message: str,
        *,
        expected: object = None,
        got: object = None,
    ) -> None:
        """One more thing does not hold."""
        self.take(
            [
                Failure(
                    kind=kind,
                    where=where,
                    message=message,
                    expected=None if expected is None else str(expected),
                    got=None if got is None else str(got),
                )
            ]
        )

    def take_cells(self, where: str, cells: Iterable[BadCell]) -> None:
        """Each cell that holds what its column is not for is named."""
        for cell in cells:
            self.add(
                FailureKind.ROW_MISMATCH,
                where,
                f"The cell {cell.table}.{cell.column} does not hold what its column "
                "is for.",
                expected=cell.expected,
                got=cell.got,
            )

    @contextmanager
    def surviving(self, where: str) -> Iterator[None]:
        """What is too odd to be checked within the block is a failure like others."""
        try:
            yield
        except (
            ArithmeticError,
            AttributeError,
            LedgerError,
            LookupError,
            RecursionError,
            TypeError,
            ValueError,
        ) as exc:
            self.add(
                FailureKind.ROW_MISMATCH,
                where,
                "What is stored has not the form that it was written in, so the rest "
                "of it was not checked.",
                got=type(exc).__name__,
            )

    def take(self, failures: Iterable[Failure]) -> None:
        """What another check found is among the findings."""
        for failure in failures:
            self.count += 1
            if len(self.failures) < MAX_FAILURES:
                self.failures.append(failure)
