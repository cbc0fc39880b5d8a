# SPDX-License-Identifier: Apache-2.0
"""Checks an evidence bundle: the signature, each entry's proof, and every file.

What the entries must say, and what is held against them:

    shard:finished   digest and details {key, sha256, size} = the artifact's bytes
    run:planned      details {shards} = how many shards must have an entry that says
                     finished or dead, once the run has a result
    run:finalised    digest = the bundle's result digest
    report:written   details {json_sha256, html_sha256} = report.json, report.html
"""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ledger.bundle import (
    ARTIFACTS,
    CHECKPOINT,
    ENTRIES,
    INFO,
    REPORT_HTML,
    REPORT_JSON,
    Bundle,
    BundleEntry,
    BundleInfo,
)
from ledger.checkpoint import Checkpoint, VerifierKey, verify_note
from ledger.entries import Action, Entry
from ledger.errors import (
    DamagedBundleError,
    FormatError,
    ProofError,
    SignatureError,
    UnknownSchemaError,
)
from ledger.failures import FailureKind, FailureLog, Verdict, Window
from ledger.merkle import leaf_hash, verify_inclusion
from ledger.note import Note

_MAX_REPORT_BYTES: Final = 1 << 30


def verify_bundle(path: Path, key: VerifierKey | None = None) -> Verdict:
    """Return the verdict over a bundle; without a key from outside it says so.

    Raises:
        BundleError: the file cannot be read or is no zip file at all.
    """
    log = FailureLog()
    check = _Check(log=log, key=key)
    try:
        with Bundle(path) as bundle:
            check.run(bundle)
    except DamagedBundleError as exc:
        log.add(FailureKind.BAD_BUNDLE, path.name, str(exc))
    return Verdict(
        entries=check.count,
        covered=check.covered,
        first=check.window.first,
        last=check.window.last,
        key_pinned=key is not None,
        failures=log.result(),
        artifacts=check.artifacts,
        result_digest=None if check.finalised is None else check.finalised.digest,
    )


@dataclass(frozen=True, slots=True)
class _Finished:
    """What a shard:finished entry promises about its artifact."""

    index: int
    sha256: str | None
    size: object


@dataclass(slots=True)
class _Check:
    """One verification under way, and what the entries of the run have said."""

    log: FailureLog
    key: VerifierKey | None
    window: Window = field(default_factory=Window)
    count: int = 0
    covered: int = 0
    artifacts: int = 0
    #: How many entries tell of this run.
    own: int = 0
    #: Promises by object key, and the key that each shard ended with.
    promised: dict[str, _Finished] = field(default_factory=dict)
    final_key: dict[str, str | None] = field(default_factory=dict)
    planned: Entry | None = None
    finalised: Entry | None = None
    report: Entry | None = None

    def run(self, bundle: Bundle) -> None:
        """Every part of the bundle has been held against the others."""
        try:
            info = bundle.info()
        except UnknownSchemaError as exc:
            self.log.add(FailureKind.UNKNOWN_SCHEMA, INFO, str(exc))
            return
        except FormatError as exc:
            self.log.add(FailureKind.BAD_BUNDLE, INFO, str(exc))
            return
        for name in bundle.unlisted(info):
            self.log.add(
                FailureKind.BAD_BUNDLE, name, "no part of the bundle accounts for it"
            )
        head = self._checkpoint(bundle, info)
        self._entries(bundle, info, head)
        self._completeness(info)
        self._artifacts(bundle, info)
        self._reports(bundle)

    # The signed head

    def _checkpoint(self, bundle: Bundle, info: BundleInfo) -> "_SignedHead":
        try:
            note = Note.parse(bundle.checkpoint_note())
            checkpoint = Checkpoint.parse(note.text)
        except FormatError as exc:
            self.log.add(FailureKind.BAD_SIGNATURE, CHECKPOINT, str(exc))
            return _SignedHead(None, is_signed=False)
        if checkpoint.origin != info.origin:
            self.log.add(
                FailureKind.INCONSISTENT,
                INFO,
                "the bundle and its checkpoint name different ledgers",
                expected=checkpoint.origin,
                got=info.origin,
            )
        try:
            key = self.key or _hinted_key(info)
            verify_note(note, key)
        except (SignatureError, FormatError) as exc:
            self.log.add(FailureKind.BAD_SIGNATURE, CHECKPOINT, str(exc))
            return _SignedHead(checkpoint, is_signed=False)
        return _SignedHead(checkpoint, is_signed=True)

    # Entries

    def _entries(self, bundle: Bundle, info: BundleInfo, head: "_SignedHead") -> None:
        previous = -1
        try:
            for number, line in enumerate(bundle.entry_lines(), start=1):
                self.count += 1
                try:
                    stored = BundleEntry.parse(line)
                except FormatError as exc:
                    where = f"{ENTRIES} line {number}"
                    self.log.add(FailureKind.ENTRY_MISMATCH, where, str(exc))
                    continue
                if stored.index <= previous:
                    self.log.add(
                        FailureKind.INCONSISTENT,
                        f"entry {stored.index}",
                        f"the index does not come after {previous}",
                    )
                previous = stored.index
                self._entry(stored, info, head)
        except DamagedBundleError as exc:
            self.log.add(FailureKind.ENTRY_MISMATCH, ENTRIES, str(exc))

    def _entry(
        self, stored: BundleEntry, info: BundleInfo, head: "_SignedHead"
    ) -> None:
        where = f"entry {stored.index}"
        if head.checkpoint is not None:
            self._proof(where, stored, head.checkpoint, is_signed=head.is_signed)
        try:
            entry = Entry.parse(stored.body)
        except UnknownSchemaError as exc:
            self.log.add(FailureKind.UNKNOWN_SCHEMA, where, str(exc))
            return
        except FormatError as exc:
            self.log.add(FailureKind.ENTRY_MISMATCH, where, str(exc))
            return
        self.window.see(entry)
        if f"{entry.object}/".startswith(f"run/{info.run}/"):
            self.own += 1
            self._remember(stored.index, entry)

    def _proof(
        self, where: str, stored: BundleEntry, head: Checkpoint, *, is_signed: bool
    ) -> None:
        if stored.index >= head.size:
            self.log.add(
                FailureKind.NOT_COVERED,
                where,
                f"the entry is newer than the checkpoint of {head.size} entries",
            )
            return
        try:
            verify_inclusion(
                leaf_hash(stored.body),
                stored.index,
                head.size,
                stored.proof,
                head.root,
            )
        except ProofError as exc:
            self.log.add(FailureKind.ENTRY_MISMATCH, where, str(exc))
        else:
            self.covered += is_signed

    def _remember(self, index: int, entry: Entry) -> None:
        match entry.action:
            case Action.SHARD_FINISHED | Action.SHARD_REWRITTEN:
                key = entry.details.get("key")
                if not isinstance(key, str) or (
                    entry.digest != entry.details.get("sha256")
                ):
                    self.log.add(
                        FailureKind.ENTRY_MISMATCH,
                        f"entry {index}",
                        "shard:finished must name its artifact's key, and its digest "
                        "and details.sha256 must agree",
                        expected=entry.digest,
                        got=str(entry.details.get("sha256")),
                    )
                    return
                size = entry.details.get("size")
                self.promised[key] = _Finished(index, entry.digest, size)
                self.final_key[entry.object] = key  # a retried shard: the last counts
            case Action.SHARD_DEAD:
                self.final_key[entry.object] = None
            case Action.RUN_PLANNED:
                self.planned = entry
            case Action.RUN_FINALISED:
                self.finalised = entry
            case Action.REPORT_WRITTEN | Action.REPORT_REWRITTEN:
                self.report = entry
            case _:
                pass

    # What the entries promise

    def _completeness(self, info: BundleInfo) -> None:
        if self.count != info.entries:
            self.log.add(
                FailureKind.MISSING_ENTRIES,
                ENTRIES,
                "the bundle does not have as many entries as it says",
                expected=str(info.entries),
                got=str(self.count),
            )
        if not self.own:
            self.log.add(
                FailureKind.MISSING_ENTRIES, f"run/{info.run}", "no entry tells of it"
            )
        if self.finalised is None:
            if info.result_digest is not None:
                self.log.add(
                    FailureKind.MISSING_ENTRIES,
                    f"run/{info.run}",
                    "no run:finalised entry vouches for the result digest",
                    got=info.result_digest,
                )
            return
        if self.finalised.digest != info.result_digest:
            self.log.add(
                FailureKind.RESULT_DIGEST_MISMATCH,
                INFO,
                "the bundle and its run:finalised entry state different results",
                expected=self.finalised.digest,
                got=info.result_digest,
            )
        if self.finalised.digest is not None:
            self._all_shards(info)

    def _all_shards(self, info: BundleInfo) -> None:
        """A run with a result must account for every shard that was planned."""
        shards = None if self.planned is None else self.planned.details.get("shards")
        if shards != len(self.final_key):
            self.log.add(
                FailureKind.MISSING_ENTRIES,
                f"run/{info.run}",
                "the entries do not tell how each planned shard ended",
                expected=None if shards is None else str(shards),
                got=str(len(self.final_key)),
            )

    def _artifacts(self, bundle: Bundle, info: BundleInfo) -> None:
        listed = {item.name: item for item in info.artifacts}
        needed = {key for key in self.final_key.values() if key is not None}
        for name in sorted(needed | listed.keys()):
            item = listed.get(name)
            if item is None or ARTIFACTS + name not in bundle.archive:
                self.log.add(
                    FailureKind.ARTIFACT_MISSING, name, "the artifact is not there"
                )
                continue
            promise = self.promised.get(name)
            if promise is None:
                self.log.add(
                    FailureKind.ARTIFACT_MISMATCH,
                    name,
                    "no shard:finished entry vouches for the artifact",
                )
                continue
            self._artifact(bundle, name, promise, (item.sha256, item.size))

    def _artifact(
        self, bundle: Bundle, name: str, promise: _Finished, said: tuple[str, int]
    ) -> None:
        try:
            got = bundle.archive.sha256(ARTIFACTS + name)
        except DamagedBundleError as exc:
            self.log.add(
                FailureKind.ARTIFACT_MISMATCH, name, str(exc), expected=promise.sha256
            )
            return
        if got != (promise.sha256, promise.size):
            self.log.add(
                FailureKind.ARTIFACT_MISMATCH,
                name,
                f"the artifact is not the one that entry {promise.index} recorded",
                expected=f"{promise.sha256} ({promise.size} bytes)",
                got=f"{got[0]} ({got[1]} bytes)",
            )
        elif got != said:
            self.log.add(
                FailureKind.ARTIFACT_MISMATCH,
                name,
                f"{INFO} states another digest or size than the artifact has",
                expected=f"{said[0]} ({said[1]} bytes)",
                got=f"{got[0]} ({got[1]} bytes)",
            )
        else:
            self.artifacts += 1

    def _reports(self, bundle: Bundle) -> None:
        details = {} if self.report is None else self.report.details
        for name, field_name in (
            (REPORT_JSON, "json_sha256"),
            (REPORT_HTML, "html_sha256"),
        ):
            expected = details.get(field_name)
            is_there = name in bundle.archive
            if expected is None and not is_there:
                continue
            if expected is None or not is_there:
                message = (
                    "no report:written entry vouches for the file"
                    if is_there
                    else "the report that an entry recorded is not there"
                )
                self.log.add(FailureKind.REPORT_MISMATCH, name, message)
                continue
            self._report(bundle, name, str(expected))

    def _report(self, bundle: Bundle, name: str, expected: str) -> None:
        try:
            got, _ = bundle.archive.sha256(name)
        except DamagedBundleError as exc:
            self.log.add(FailureKind.REPORT_MISMATCH, name, str(exc), expected=expected)
            return
        if got != expected:
            self.log.add(
                FailureKind.REPORT_MISMATCH,
                name,
                "the report is not the one that was written",
                expected=expected,
                got=got,
            )
        elif name == REPORT_JSON:
            self._report_digest(bundle)

    def _report_digest(self, bundle: Bundle) -> None:
        """A genuine report must state the result that the ledger recorded."""
        try:
            report = json.loads(bundle.archive.read(REPORT_JSON, _MAX_REPORT_BYTES))
        except (ValueError, RecursionError, FormatError) as exc:
            self.log.add(FailureKind.REPORT_MISMATCH, REPORT_JSON, f"not JSON: {exc}")
            return
        stated = report.get("result_digest") if isinstance(report, dict) else None
        recorded = None if self.finalised is None else self.finalised.digest
        if stated is not None and stated != recorded:
            self.log.add(
                FailureKind.RESULT_DIGEST_MISMATCH,
                REPORT_JSON,
                "the report states another result than the run:finalised entry",
                expected=recorded,
                got=str(stated),
            )


@dataclass(frozen=True, slots=True)
class _SignedHead:
    checkpoint: Checkpoint | None
    is_signed: bool


def _hinted_key(info: BundleInfo) -> VerifierKey:
    if info.vkey is None:
        raise SignatureError("no key was given and the bundle hints at none")
    return VerifierKey.parse(info.vkey)
