# SPDX-License-Identifier: Apache-2.0
"""One item's evidence in a small file that says nothing of any other item."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from ledger.bundle import BundleEntry
from ledger.checkpoint import Checkpoint, read_unverified
from ledger.entries import Action, Entry
from ledger.errors import BrokenLedgerError, FormatError, ProofError
from ledger.item_bundle import ItemInfo, write_item_bundle
from ledger.merkle import HashTree, leaf_hash, verify_inclusion
from ledger.succession import read_link
from pipeline.domain import ItemResult
from pipeline.evidence import consistency_with, proven_entry, require_covered
from pipeline.item_leaves import leaf_record
from pipeline.leaf_checks import leaves_of
from pipeline.local_key import local_verifier
from pipeline.services import Services
from pipeline.stored_items import ItemLookup
from storage.engine import reading
from storage.errors import StateConflictError, UnknownRunError
from storage.items import find_items
from storage.ledger_places import read_places
from storage.runs import list_shards
from storage.stored_tree import StoredTree
from storage.tables import ItemTable, LocationTable, RunTable, ShardTable

#: Entries that an item's evidence shows beside that of its shard.
_OF_THE_RUN = frozenset({Action.RUN_PLANNED, Action.RUN_FINALISED})


def write_evidence_of_item(
    services: Services,
    run: RunTable,
    location: LocationTable,
    path: Path,
    *,
    since: Sequence[str] = (),
) -> None:
    """The bundle of an item is at the path.

    Args:
        services: Database and stores.
        run: The run.
        location: The item's row in the manifest.
        path: Where to write.
        since: Signed notes that the bundle must prove to go on from.

    Raises:
        StateConflictError: no checkpoint covers the run's end yet, or the item has no
            salted leaf (it was explained by an older version, or erased).
        BrokenLedgerError: the proofs do not lead to the signed root.
    """
    note = require_covered(services, run)
    head = read_unverified(note)
    lookup = ItemLookup(services, list_shards(services.engine, run.id))
    result = lookup.find(location.item_index)
    rows = find_items(services.engine, run.id, location.item_index)
    if result is None or not rows:
        raise UnknownRunError(
            f"The run {run.id} has no explanation of item {location.item_index}."
        )
    shard, row = lookup.shard_of(location.item_index), rows[0]
    if row.leaf_salt is None or row.leaf_index is None:
        raise StateConflictError(
            f"Item {location.item_index} of run {run.id} has no salted leaf and cannot "
            "be proven alone; the evidence of the whole run can be exported."
        )
    record = leaf_record(
        result, content_sha256=row.input_sha256, truth_sha256=row.truth_sha256
    )
    with reading(services.engine) as session:
        tree = StoredTree(session)
        entries = list(_entries(services, tree, head, run.id, shard))
        key = local_verifier(services.settings)
        write_item_bundle(
            path,
            info=ItemInfo(
                run=run.id,
                origin=head.origin,
                vkey=None if key is None else str(key),
                entry=_entry_of(entries, shard, run.id),
                salt=row.leaf_salt,
                leaf=row.leaf_index,
                leaves=len(leaves_of(shard)),
                proof=_leaf_proof(shard, row, record),
            ),
            record=record,
            parts=_parts(result),
            checkpoint_note=note,
            entries=entries,
            consistency=consistency_with(services, tree, head, since),
        )


def _parts(result: ItemResult) -> dict[str, bytes]:
    parts = {"map.bin": result.map_bytes, "mask.bin": result.mask_bits}
    return {name: data for name, data in parts.items() if data}


def _leaf_proof(shard: ShardTable, row: ItemTable, record: bytes) -> tuple[bytes, ...]:
    leaves = leaves_of(shard)
    tree = HashTree(leaves)
    index = row.leaf_index or 0
    proof = tuple(tree.inclusion_proof(index, len(leaves)))
    leaf = leaf_hash((row.leaf_salt or b"") + record)
    try:
        verify_inclusion(leaf, index, len(leaves), proof, tree.root())
    except ProofError as exc:
        raise BrokenLedgerError(
            f"The row of item {row.item_index} does not give its leaf; nothing was "
            "handed out, run 'affidavit verify'."
        ) from exc
    return proof


def _entries(
    services: Services,
    tree: StoredTree,
    head: Checkpoint,
    run_id: str,
    shard: ShardTable,
) -> Iterator[BundleEntry]:
    parts = ("", f"shard/{shard.shard_index}")
    for index, body, leaf in read_places(
        services.engine, run_id, parts=parts, until=head.size
    ):
        if _belongs(index, body):
            yield proven_entry(tree, head, index, body, leaf)


def _belongs(index: int, body: bytes) -> bool:
    if read_link(index, body) is not None:
        return True
    try:
        entry = Entry.parse(body)
    except FormatError:
        return False
    return entry.action in _OF_THE_RUN or entry.action is Action.SHARD_FINISHED


def _entry_of(entries: Sequence[BundleEntry], shard: ShardTable, run_id: str) -> int:
    name = f"run/{run_id}/shard/{shard.shard_index}"
    for stored in reversed(entries):
        entry = Entry.parse(stored.body)
        if entry.object == name and entry.action is Action.SHARD_FINISHED:
            return stored.index
    raise BrokenLedgerError(
        f"The ledger has no entry that shard {shard.shard_index} finished; run "
        "'affidavit verify'."
    )
