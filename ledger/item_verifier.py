# SPDX-License-Identifier: Apache-2.0
"""Checks the evidence of one item: from its record to the signed head, step by step."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ledger.bundle import INFO
from ledger.bundle_evidence import Evidence
from ledger.entries import Action, Entry
from ledger.errors import DamagedBundleError, FormatError, ProofError
from ledger.failures import FailureKind, FailureLog
from ledger.item_bundle import (
    ITEM,
    MAX_ITEM_BYTES,
    PARTS,
    RECORD_SCHEMA,
    SALT_BYTES,
    ItemInfo,
)
from ledger.merkle import leaf_hash, verify_inclusion


@dataclass(slots=True)
class ItemCheck:
    """The check of an item's bundle."""

    evidence: Evidence
    artifacts: int = 0
    item: Mapping[str, Any] | None = None
    #: The last entry about the end of each shard, with its index.
    finished: dict[str, tuple[int, Entry]] = field(default_factory=dict)
    finalised: Entry | None = None

    @property
    def log(self) -> FailureLog:
        """What has been found so far."""
        return self.evidence.log

    @property
    def result_digest(self) -> str | None:
        """What the run:finalised entry states of the whole run."""
        return None if self.finalised is None else self.finalised.digest

    def run(self) -> None:
        """Every part of the bundle has been held against the others."""
        bundle = self.evidence.bundle
        info = ItemInfo.parse(bundle.info_bytes())
        for name in bundle.unlisted((ITEM, *PARTS)):
            self.log.add(
                FailureKind.BAD_BUNDLE, name, "no part of the bundle accounts for it"
            )
        self.evidence.read_head(info.origin, info.vkey)
        self.evidence.read_entries(info.run, self._remember)
        self.evidence.compare_outside()
        self._record(info)

    def _remember(self, index: int, entry: Entry) -> None:
        if entry.action is Action.SHARD_FINISHED:
            self.finished[entry.object] = (index, entry)
        elif entry.action is Action.RUN_FINALISED:
            self.finalised = entry

    def _record(self, info: ItemInfo) -> None:
        entry = next(
            (entry for index, entry in self.finished.values() if index == info.entry),
            None,
        )
        if entry is None:
            self.log.add(
                FailureKind.MISSING_ENTRIES,
                f"entry {info.entry}",
                "the entry that states the root of the item's shard is not there",
            )
            return
        archive = self.evidence.bundle.archive
        try:
            record = archive.read(ITEM, MAX_ITEM_BYTES)
        except DamagedBundleError as exc:
            self.log.add(FailureKind.ARTIFACT_MISSING, ITEM, str(exc))
            return
        self._leaf(info, entry, record)
        self._form(record)

    def _leaf(self, info: ItemInfo, entry: Entry, record: bytes) -> None:
        if len(info.salt) != SALT_BYTES or info.leaves != entry.details.get("leaves"):
            self.log.add(
                FailureKind.ARTIFACT_MISMATCH,
                INFO,
                "the salt or the number of leaves is not that of the item's shard",
            )
            return
        try:
            verify_inclusion(
                leaf_hash(info.salt + record),
                info.leaf,
                info.leaves,
                info.proof,
                bytes.fromhex(str(entry.details.get("items_root"))),
            )
        except (ProofError, ValueError) as exc:
            self.log.add(FailureKind.ARTIFACT_MISMATCH, ITEM, str(exc))

    def _form(self, record: bytes) -> None:
        try:
            fields = json.loads(record)
            schema = fields["schema"]
        except (ValueError, KeyError, TypeError, RecursionError):
            self.log.add(FailureKind.BAD_BUNDLE, ITEM, "it is no JSON object")
            return
        if schema != RECORD_SCHEMA:
            self.log.add(
                FailureKind.UNKNOWN_SCHEMA, ITEM, f"its schema is not {RECORD_SCHEMA}"
            )
            return
        self.item = fields
        for name, digest_field in PARTS.items():
            self._part(name, fields.get(digest_field))

    def _part(self, name: str, expected: object) -> None:
        archive = self.evidence.bundle.archive
        if name not in archive:
            return  # the record stands on its own
        try:
            data = archive.read(name, MAX_ITEM_BYTES)
        except FormatError as exc:
            self.log.add(FailureKind.ARTIFACT_MISMATCH, name, str(exc))
            return
        found = hashlib.sha256(data).hexdigest()
        if found != expected:
            self.log.add(
                FailureKind.ARTIFACT_MISMATCH,
                name,
                "the file is not the one that the item's record names",
                expected=None if expected is None else str(expected),
                got=found,
            )
        else:
            self.artifacts += 1
