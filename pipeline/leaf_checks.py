# SPDX-License-Identifier: Apache-2.0
"""Holding the salted leaves of a shard's items against its entry and its artifact."""

from collections.abc import Sequence

from ledger.entries import Entry
from ledger.failures import FailureKind
from ledger.merkle import HASH_SIZE, leaf_hash, root_of
from pipeline.domain import ItemResult
from pipeline.errors import Reason
from pipeline.findings import Findings
from pipeline.item_leaves import leaf_record
from storage.tables import ItemTable, ShardTable


def leaves_of(shard: ShardTable) -> list[bytes]:
    """Return the leaf hashes of a shard's items; none where it has none."""
    stored = shard.item_leaves or b""
    return [stored[i : i + HASH_SIZE] for i in range(0, len(stored), HASH_SIZE)]


def check_leaves(shard: ShardTable, entry: Entry, findings: Findings) -> None:
    """The shard's leaves give the root that its entry states."""
    expected = entry.details.get("items_root")
    leaves = leaves_of(shard)
    if expected is None and not leaves:
        return  # finished by a version without leaves
    whole = all(len(leaf) == HASH_SIZE for leaf in leaves)
    found = root_of(leaves).hex() if whole and leaves else None
    if found != expected or len(leaves) != entry.details.get("leaves"):
        findings.add(
            FailureKind.ROW_MISMATCH,
            f"shard {shard.shard_index}",
            "The leaves of the shard's items do not give the root that the ledger "
            "names.",
            expected=expected,
            got=found,
        )


def check_row_leaves(
    shard: ShardTable,
    rows: Sequence[ItemTable],
    results: Sequence[ItemResult],
    findings: Findings,
    *,
    rewritten: bool,
) -> None:
    """Every row gives, with its salt and its artifact, the leaf that is stored of it.

    Of an erased item neither is left, which only a rewritten shard may say.
    """
    leaves = leaves_of(shard)
    if not leaves:
        return
    for row, result in zip(rows, results, strict=True):
        erased = rewritten and result.reason is Reason.SUBJECT_ERASED
        if erased and row.leaf_salt is None:
            continue
        record = leaf_record(
            result, content_sha256=row.input_sha256, truth_sha256=row.truth_sha256
        )
        at = row.leaf_index
        stored = leaves[at] if at is not None and 0 <= at < len(leaves) else b""
        found = leaf_hash((row.leaf_salt or b"") + record)
        if found != stored:
            findings.add(
                FailureKind.ROW_MISMATCH,
                f"item {row.item_index}",
                "The item's salt does not give its leaf in the ledger.",
                expected=stored.hex(),
                got=found.hex(),
            )
