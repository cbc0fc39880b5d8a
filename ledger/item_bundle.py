# SPDX-License-Identifier: Apache-2.0
"""The evidence of one item: a small zip file that says nothing of any other item.

    bundle.json        run, origin, key hint; salt, place and path of the item's leaf
    item.json          the record that the leaf is made of
    map.bin, mask.bin  what item.json names by digest, where there is any
    checkpoint.txt     the signed head that all proofs lead to
    entries.jsonl      the entries of the item's shard and of the run's plan and end
    consistency.jsonl  that earlier checkpoints begin the same tree

The leaf is SHA-256(0x00 || salt || item.json); its path leads to the root that the
shard's entry states, and that entry's path to the checkpoint.
"""

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ledger.bundle import CHECKPOINT, ENTRIES, INFO, BundleEntry, BundleWriter
from ledger.canonical import canonical_bytes
from ledger.checkpoint import VerifierKey, read_unverified
from ledger.errors import FormatError, UnknownSchemaError
from ledger.merkle import HASH_SIZE
from ledger.note import decode_base64

SCHEMA: Final = "affidavit.item-bundle/1"
RECORD_SCHEMA: Final = "affidavit.item/1"

ITEM: Final = "item.json"
#: Members that the record names by their digest, and the field that does.
PARTS: Final = {"map.bin": "map_sha256", "mask.bin": "mask_sha256"}

SALT_BYTES: Final = 16
MAX_ITEM_BYTES: Final = 16 << 20
#: A path longer than this belongs to no tree that fits into this world.
_MAX_STEPS: Final = 64

__all__ = [
    "CHECKPOINT",
    "ENTRIES",
    "INFO",
    "ITEM",
    "PARTS",
    "ItemInfo",
    "write_item_bundle",
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemInfo:
    """What bundle.json of an item says."""

    run: str
    origin: str
    vkey: str | None
    #: The entry that states the root of the item's shard.
    entry: int
    salt: bytes
    leaf: int
    leaves: int
    proof: tuple[bytes, ...]

    def to_bytes(self) -> bytes:
        """Return the canonical bytes of bundle.json."""
        return canonical_bytes(
            {
                "schema": SCHEMA,
                "run": self.run,
                "origin": self.origin,
                "vkey": self.vkey,
                "entry": self.entry,
                "salt": base64.b64encode(self.salt).decode("ascii"),
                "leaf": self.leaf,
                "leaves": self.leaves,
                "proof": [base64.b64encode(step).decode() for step in self.proof],
            }
        )

    @classmethod
    def parse(cls, data: bytes) -> "ItemInfo":
        """Return what the bytes of bundle.json say.

        Raises:
            UnknownSchemaError: another schema.
            FormatError: not canonical, or a field is missing or of another type.
        """
        try:
            fields = json.loads(data)
            if fields["schema"] != SCHEMA:
                raise UnknownSchemaError(f"bundle is not of the schema {SCHEMA}")
            steps = list(fields["proof"])[: _MAX_STEPS + 1]
            info = cls(
                run=str(fields["run"]),
                origin=str(fields["origin"]),
                vkey=None if fields["vkey"] is None else str(fields["vkey"]),
                entry=int(fields["entry"]),
                salt=decode_base64(fields["salt"], "salt"),
                leaf=int(fields["leaf"]),
                leaves=int(fields["leaves"]),
                proof=tuple(decode_base64(step, "proof hash") for step in steps),
            )
            good = info.to_bytes() == data
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as exc:
            raise FormatError(f"{INFO} is not JSON with the expected fields") from exc
        if not good or any(len(step) != HASH_SIZE for step in info.proof):
            raise FormatError(f"{INFO} has fields of another type or is not canonical")
        return info


def write_item_bundle(
    path: Path,
    *,
    info: ItemInfo,
    record: bytes,
    parts: Mapping[str, bytes],
    checkpoint_note: str,
    entries: Iterable[BundleEntry],
    consistency: Mapping[int, tuple[bytes, ...]],
) -> None:
    """The bundle of an item appears complete or not at all.

    Raises:
        FormatError: the checkpoint is not one.
    """
    read_unverified(checkpoint_note)
    with BundleWriter(path) as writer:
        writer.put(CHECKPOINT, checkpoint_note.encode())
        writer.put_entries(entries)
        writer.put_consistency(consistency)
        writer.put(ITEM, record)
        for name, data in parts.items():
            writer.put(name, data)
        writer.put(INFO, info.to_bytes())


def hinted_key(vkey: str | None) -> VerifierKey:
    """Return the key that a bundle hints at.

    Raises:
        FormatError: it hints at none.
    """
    if vkey is None:
        raise FormatError("no key was given and the bundle hints at none")
    return VerifierKey.parse(vkey)
