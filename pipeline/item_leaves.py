# SPDX-License-Identifier: Apache-2.0
"""The leaf that one explanation is in its shard's Merkle tree.

A leaf is SHA-256(0x00 || salt || record), the salt 16 random bytes that lie with the
row. What is low in entropy (a class, a short score) cannot be guessed from the leaf
then, and once the salt is erased neither can anything else. The result digest is made
of unsalted records and knows nothing of leaves: it stays the same between runs.
"""

import hashlib
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from ledger.canonical import canonical_bytes
from ledger.merkle import leaf_hash
from pipeline.digests import canonical_record
from pipeline.domain import ItemResult

SCHEMA: Final = "affidavit.item/1"
SALT_BYTES: Final = 16

#: Long fields, which enter by their digest so that a proof stays small.
_BY_DIGEST: Final = ("map", "mask")


@dataclass(frozen=True, slots=True)
class SaltedLeaf:
    """A leaf and the salt without which it says nothing."""

    salt: bytes
    hash: bytes


def leaf_record(
    result: ItemResult, *, content_sha256: str | None, truth_sha256: str | None
) -> bytes:
    """Return the canonical bytes that a leaf is made of.

    Args:
        result: The item as stored.
        content_sha256: Digest of the input's bytes, unsalted; None if it was not read.
        truth_sha256: The same of the ground-truth mask; None if there is none.
    """
    record: dict[str, Any] = canonical_record(
        result, content_sha256=content_sha256, truth_sha256=truth_sha256
    )
    whole = hashlib.sha256(canonical_bytes(record)).hexdigest()
    for name in _BY_DIGEST:
        if name in record:
            data = bytes.fromhex(record.pop(name))
            record[f"{name}_sha256"] = hashlib.sha256(data).hexdigest()
    return canonical_bytes(
        {
            "schema": SCHEMA,
            "item": result.item_id,
            "subject": result.subject_token,
            "record_sha256": whole,
            **record,
        }
    )


def salted_leaves(
    results: Sequence[ItemResult], digests: Sequence[tuple[str | None, str | None]]
) -> list[SaltedLeaf]:
    """Return a leaf for each result, in their order, under salts never used before."""
    leaves = []
    for result, (content, truth) in zip(results, digests, strict=True):
        salt = secrets.token_bytes(SALT_BYTES)
        record = leaf_record(result, content_sha256=content, truth_sha256=truth)
        leaves.append(SaltedLeaf(salt, leaf_hash(salt + record)))
    return leaves
