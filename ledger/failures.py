# SPDX-License-Identifier: Apache-2.0
"""What a verification found: the kinds of integrity failure and the verdict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Final

from ledger.entries import Entry, rfc3339

#: A list longer than this helps nobody; the last failure says how many were left out.
MAX_FAILURES: Final = 1_000


class FailureKind(StrEnum):
    """What kind of evidence does not hold. Outside scripts match on these words."""

    BAD_SIGNATURE = "bad_signature"
    ROOT_MISMATCH = "root_mismatch"
    INCONSISTENT = "inconsistent"
    MISSING_ENTRIES = "missing_entries"
    ENTRY_MISMATCH = "entry_mismatch"
    ARTIFACT_MISMATCH = "artifact_mismatch"
    ARTIFACT_MISSING = "artifact_missing"
    RESULT_DIGEST_MISMATCH = "result_digest_mismatch"
    REPORT_MISMATCH = "report_mismatch"
    ROW_MISMATCH = "row_mismatch"
    UNKNOWN_SCHEMA = "unknown_schema"
    NOT_COVERED = "not_covered"
    #: No copy out of our reach covers it: the newest entries could still be exchanged.
    NOT_ANCHORED = "not_anchored"
    #: A bundle that is unsafe to unpack or lacks one of its own parts.
    BAD_BUNDLE = "bad_bundle"


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """One thing that does not hold: what, where, and one sentence about it."""

    kind: FailureKind
    #: `entry 12`, `checkpoint 300`, an artifact's key or a file of a bundle.
    where: str
    message: str
    expected: str | None = None
    got: str | None = None

    def to_json(self) -> dict[str, str | None]:
        """Return the failure as a JSON object."""
        return {
            "kind": self.kind,
            "where": self.where,
            "expected": self.expected,
            "got": self.got,
            "message": self.message,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The outcome of a verification: how much was checked and what failed."""

    #: Entries that were read and hashed.
    entries: int
    #: Entries that a checkpoint with a good signature and root vouches for.
    covered: int
    #: The earliest and the latest time that an entry states.
    first: datetime | None
    last: datetime | None
    #: Whether the key came from outside; else the evidence vouches for itself only.
    key_pinned: bool
    failures: tuple[Failure, ...]
    #: Artifacts whose bytes were hashed again and are those of the entries.
    artifacts: int = 0
    #: What the run:finalised entry states; worth as much as `ok` says.
    result_digest: str | None = None
    #: Entries that an anchor vouches for; None where no anchor was given.
    anchored: int | None = None
    #: The record of the one item that a bundle is about.
    item: Mapping[str, Any] | None = None

    @property
    def ok(self) -> bool:
        """Whether nothing failed."""
        return not self.failures

    def to_json(self) -> dict[str, object]:
        """Return the verdict as one JSON document."""
        return {
            "ok": self.ok,
            "entries": self.entries,
            "covered": self.covered,
            "window": {
                "first": rfc3339(self.first) if self.first else None,
                "last": rfc3339(self.last) if self.last else None,
            },
            "key_pinned": self.key_pinned,
            "artifacts": self.artifacts,
            "result_digest": self.result_digest,
            "anchored": self.anchored,
            "item": self.item,
            "failures": [failure.to_json() for failure in self.failures],
        }

    def to_text(self) -> str:
        """Return the verdict as lines for a person."""
        state = "ok" if self.ok else "FAILED"
        lines = [
            f"{state}: {self.entries} entries, {self.covered} covered by checkpoint"
        ]
        if self.artifacts:
            lines.append(f"artifacts: {self.artifacts} hashed again")
        if self.result_digest:
            lines.append(f"result digest: {self.result_digest}")
        if self.item is not None:
            lines += [f"item {name}: {value}" for name, value in self.item.items()]
        if self.anchored is not None:
            lines.append(f"anchored: the first {self.anchored} entries of the ledger")
        if self.first and self.last:
            lines.append(f"window: {rfc3339(self.first)} to {rfc3339(self.last)}")
        lines.append(
            "key: pinned"
            if self.key_pinned
            else "key: key not pinned (pass the public key you were given with --key)"
        )
        lines.extend(
            f"{failure.kind}: {failure.where}: {failure.message}"
            for failure in self.failures
        )
        return "".join(f"{line}\n" for line in lines)


@dataclass(slots=True)
class FailureLog:
    """Collects failures up to a cap, and says how many more there were."""

    _kept: list[Failure] = field(default_factory=list)
    _count: int = 0

    def add(
        self,
        kind: FailureKind,
        where: str,
        message: str,
        *,
        expected: str | None = None,
        got: str | None = None,
    ) -> None:
        """The log knows this failure, or at least that there was one more."""
        self._count += 1
        if self._count <= MAX_FAILURES:
            self._kept.append(
                Failure(
                    kind=kind, where=where, message=message, expected=expected, got=got
                )
            )

    def result(self) -> tuple[Failure, ...]:
        """Return the failures; the last one counts those that were left out."""
        left_out = self._count - len(self._kept)
        if not left_out:
            return tuple(self._kept)
        last = self._kept[-1]
        note = Failure(
            kind=last.kind,
            where=last.where,
            message=f"{last.message}; {left_out} more failures are not listed",
            expected=last.expected,
            got=last.got,
        )
        return (*self._kept[:-1], note)


@dataclass(slots=True)
class Window:
    """The earliest and the latest time of the entries seen so far."""

    first: datetime | None = None
    last: datetime | None = None

    def see(self, entry: Entry) -> None:
        """The window now includes this entry's time."""
        moment = entry.moment
        if self.first is None or moment < self.first:
            self.first = moment
        if self.last is None or moment > self.last:
            self.last = moment
