# SPDX-License-Identifier: Apache-2.0
"""What a check of the evidence found, in the order in which it was met."""

from dataclasses import dataclass, field

from ledger.failures import Failure, FailureKind


@dataclass(slots=True)
class Findings:
    """Failures in the order in which they were met."""

    failures: list[Failure] = field(default_factory=list)

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
        self.failures.append(
            Failure(
                kind=kind,
                where=where,
                message=message,
                expected=None if expected is None else str(expected),
                got=None if got is None else str(got),
            )
        )
