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
    ENTRIES,
    INFO,
    REPORT_HTML,
    REPORT_JSON,
    VERIFIER,
    Bundle,
    BundleInfo,
)
from ledger.bundle_evidence import Evidence, Outside
from ledger.checkpoint import VerifierKey
from ledger.entries import Action, Entry
from ledger.errors import DamagedBundleError, FormatError, UnknownSchemaError
from ledger.failures import FailureKind, FailureLog, Verdict
from ledger.item_bundle import SCHEMA as ITEM_SCHEMA
from ledger.item_verifier import ItemCheck

_MAX_REPORT_BYTES: Final = 1 << 30


def verify_bundle(
    path: Path,
    key: VerifierKey | None = None,
    *,
    anchors: tuple[str, ...] = (),
    earlier: tuple[str, ...] = (),
) -> Verdict:
    """Return the verdict over a bundle; without a key from outside it says so.

    Args:
        path: A bundle of a run, or of one item.
        key: The ledger's public key, got from outside.
        anchors: Signed notes from places out of the ledger's owner's reach.
        earlier: Signed notes that whoever verifies has kept.

    Raises:
        BundleError: the file cannot be read or is no zip file at all.
    """
    log = FailureLog()
    outside = Outside(key=key, anchors=anchors, earlier=earlier)
    check: _Check | ItemCheck | None = None
    try:
        with Bundle(path) as bundle:
            evidence = Evidence(bundle, log, outside)
            try:
                is_item = bundle.schema() == ITEM_SCHEMA
                check = ItemCheck(evidence) if is_item else _Check(evidence)
                check.run()
            except UnknownSchemaError as exc:
                log.add(FailureKind.UNKNOWN_SCHEMA, INFO, str(exc))
            except FormatError as exc:
                log.add(FailureKind.BAD_BUNDLE, INFO, str(exc))
    except DamagedBundleError as exc:
        log.add(FailureKind.BAD_BUNDLE, path.name, str(exc))
    if check is None:
        return Verdict(
            entries=0,
            covered=0,
            first=None,
            last=None,
            key_pinned=key is not None,
            failures=log.result(),
        )
    seen = check.evidence
    return Verdict(
        entries=seen.count,
        covered=seen.covered,
        first=seen.window.first,
        last=seen.window.last,
        key_pinned=key is not None,
        failures=log.result(),
        artifacts=check.artifacts,
        result_digest=check.result_digest,
        anchored=seen.anchored,
        item=check.item,
    )


@dataclass(frozen=True, slots=True)
class _Finished:
    """What a shard:finished entry promises about its artifact."""

    index: int
    sha256: str | None
    size: object


@dataclass(slots=True)
class _Check:
    """The check of a run's bundle, and what the entries of the run have said."""

    evidence: Evidence
    artifacts: int = 0
    #: Promises by object key, and the key that each shard ended with.
    promised: dict[str, _Finished] = field(default_factory=dict)
    final_key: dict[str, str | None] = field(default_factory=dict)
    planned: Entry | None = None
    finalised: Entry | None = None
    report: Entry | None = None
    item: None = None

    @property
    def log(self) -> FailureLog:
        """What has been found so far."""
        return self.evidence.log

    @property
    def result_digest(self) -> str | None:
        """What the run:finalised entry states."""
        return None if self.finalised is None else self.finalised.digest

    def run(self) -> None:
        """Every part of the bundle has been held against the others."""
        bundle = self.evidence.bundle
        info = bundle.info()
        for name in bundle.unlisted(
            (
                REPORT_JSON,
                REPORT_HTML,
                VERIFIER,
                *(ARTIFACTS + item.name for item in info.artifacts),
            )
        ):
            self.log.add(
                FailureKind.BAD_BUNDLE, name, "no part of the bundle accounts for it"
            )
        self.evidence.read_head(info.origin, info.vkey)
        self.evidence.read_entries(info.run, self._remember)
        self.evidence.compare_outside()
        self._completeness(info)
        self._artifacts(bundle, info)
        self._reports(bundle)

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
        if self.evidence.count != info.entries:
            self.log.add(
                FailureKind.MISSING_ENTRIES,
                ENTRIES,
                "the bundle does not have as many entries as it says",
                expected=str(info.entries),
                got=str(self.evidence.count),
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
