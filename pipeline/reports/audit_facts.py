# SPDX-License-Identifier: Apache-2.0
"""What the records of an audit say beside the run's own: versions, approvals, reviews.

All of it was recorded before the report was written. What was not recorded is empty
here, and the report says so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One set of weights that runs of the audit had.

    Attributes:
        sha256: Of the weights.
        source: The architecture, as the first of these runs named it.
        version: What the spec of the last of them calls it; None where it does not.
        first_run: The first run with it.
        first_at, last_at: When the first and the last of them were planned.
        runs: How many there are.
    """

    sha256: str
    source: str
    version: str | None
    first_run: str
    first_at: float
    last_at: float
    runs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """The word of a second principal for a change."""

    request: str
    requested_by: str
    approved_by: str
    approved_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ThresholdPeriod:
    """Runs in a row with one threshold.

    Attributes:
        policy: Name of the policy.
        parameters: As resolved.
        first_run: The first of the runs.
        first_at, last_at: When the first and the last of them were planned.
        runs: How many there are.
        approval: Who agreed to the change; None for the first period, and where
            nobody was asked.
    """

    policy: str
    parameters: Mapping[str, Any]
    first_run: str
    first_at: float
    last_at: float
    runs: int
    approval: Approval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SignOffFact:
    """What a reviewer said of an earlier report of the audit."""

    run: str
    verdict: str
    report_verdict: str
    report_sha256: str
    signed_by: str
    signed_at: float
    run_finished_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReverificationFact:
    """How a part of an earlier run of the audit came out when it was computed again."""

    run: str
    verdict: str
    made_by: str
    made_at: float
    facts: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditHistory:
    """The records of the audit up to this run.

    Attributes:
        runs: Runs of the audit that were looked at, this one included.
        runs_left_out: Whether there are older ones.
        models: Its weights, the oldest first.
        thresholds: Its thresholds, the oldest first.
        sign_offs: Of earlier reports, the newest first.
        reverifications: Of earlier runs, the newest first.
        has_principals: Whether the installation knows who is at work, so that a
            change of threshold needs a second one.
        ledger_size: Entries in the ledger before this run's end.
        signed_size: How many of them were under a signature.
    """

    runs: int = 0
    runs_left_out: bool = False
    models: Sequence[ModelVersion] = ()
    thresholds: Sequence[ThresholdPeriod] = ()
    sign_offs: Sequence[SignOffFact] = ()
    reverifications: Sequence[ReverificationFact] = ()
    has_principals: bool = False
    ledger_size: int | None = None
    signed_size: int | None = None
