# SPDX-License-Identifier: Apache-2.0
"""Packing shards and drawing reports anew, without the items of one subject.

The new object is stored first, under a key of its own; then one transaction names it,
empties the rows and tells the ledger. Old objects are deleted by the caller, last.
"""

import hashlib
import io
import json
import tempfile
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from ledger.entries import Action
from pipeline.digests import ManifestDigest
from pipeline.domain import ItemResult
from pipeline.errors import Reason
from pipeline.item_pictures import ItemPictures
from pipeline.packing import read_artifact, write_artifact
from pipeline.reports.document import document_bytes
from pipeline.reports.html import render_html
from pipeline.reports.inputs import Picture
from pipeline.run_entries import RunEntries
from pipeline.services import Services
from pipeline.shard_reading import open_artifact
from pipeline.spec import AuditSpec
from pipeline.stored_items import ItemLookup
from storage.engine import transaction
from storage.erasures import erase_rows, name_artifact, name_report
from storage.events import record
from storage.manifests import read_locations
from storage.objects.errors import ObjectNotFoundError
from storage.runs import list_shards
from storage.states import ItemStatus
from storage.tables import RunTable, ShardTable


def rewrite_shard(
    services: Services,
    run: RunTable,
    shard: ShardTable,
    items: Collection[int],
    said: RunEntries,
    *,
    erasure_id: str,
) -> None:
    """The shard's artifact and rows hold nothing of the items; its old object is left.

    A shard that is not done has no artifact, and loses the rows of its manifest.
    """
    places = _places(services, run, items)
    old_key = shard.object_key
    if old_key is None:
        with transaction(services.engine) as session:
            erase_rows(session, run.id, places)
        return
    key, sha256, size = _store_without(
        services, old_key, new_key(old_key, erasure_id), items
    )
    before = said.finished.get(shard.shard_index)
    details: dict[str, Any] = dict(before.details) if before is not None else {}
    details |= {
        "key": key,
        "sha256": sha256,
        "size": size,
        "attempt": shard.attempt,
        "old_sha256": shard.sha256,
        "erasure": erasure_id,
        "erased": len(places),
    }
    with transaction(services.engine) as session:
        name_artifact(
            session, shard.id, old_key=old_key, key=key, sha256=sha256, size=size
        )
        erase_rows(session, run.id, places)
        record(
            session,
            Action.SHARD_REWRITTEN,
            f"run/{run.id}/shard/{shard.shard_index}",
            actor=services.actor,
            digest=sha256,
            details=details,
        )


def _places(
    services: Services, run: RunTable, items: Collection[int]
) -> dict[int, str]:
    """Return the salted digests that stand for the items' rows in the manifest's."""
    first, last = min(items), max(items)
    rows = read_locations(
        services.engine, run.id, first_item=first, item_count=last - first + 1
    )
    return {
        row.item_index: str(
            ManifestDigest.place(
                {name: getattr(row, name) for name in ManifestDigest.COLUMNS}
            )
        )
        for row in rows
        if row.item_index in items and row.erased_place is None
    }


def new_key(old: str, erasure_id: str) -> str:
    """Return the key of what replaces an object."""
    stem, _, kind = old.rpartition(".")
    return f"{stem}.e{erasure_id}.{kind}"


def _successor(services: Services, old: str) -> str:
    """Return the key of what earlier erasures have replaced an object by.

    A restored database names the object that was there before them.

    Raises:
        ObjectNotFoundError: nothing has.
    """
    stem, _, kind = old.rpartition(".")
    found = [k for k in services.store.keys(f"{stem}.e") if k.endswith(f".{kind}")]
    if not found:
        raise ObjectNotFoundError(f"no object lies under {old!r}")
    return max(found, key=len)


def _store_without(
    services: Services, old_key: str, key: str, items: Collection[int]
) -> tuple[str, str, int]:
    """Return key, digest and size of the new artifact, which is in the store."""
    try:
        with open_artifact(services.store, old_key) as stream:
            metadata = pq.ParquetFile(stream).schema_arrow.metadata or {}
            stream.seek(0)
            results = [
                blank(result) if result.item_index in items else result
                for result in read_artifact(stream)
            ]
    except ObjectNotFoundError:
        key = _successor(services, old_key)
        data = _read(services, key)
        return key, hashlib.sha256(data).hexdigest(), len(data)
    said = {name.decode(): value.decode() for name, value in metadata.items()}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "shard.parquet"
        sha256, size = write_artifact(path, results, metadata=said)
        with path.open("rb") as stream:
            services.store.put(key, stream, sha256=sha256)
    return key, sha256, size


def blank(result: ItemResult) -> ItemResult:
    """Return what is left of an item: its place, and that it was erased."""
    return ItemResult(
        item_index=result.item_index,
        item_id=result.item_id,
        uri=result.item_id,
        input_sha256=None,
        subject_token=None,
        groups={},
        status=ItemStatus.FAILED,
        reason=Reason.SUBJECT_ERASED,
        method=result.method,
        target_rule=result.target_rule,
        policy=result.policy,
        map_kind=result.map_kind,
    )


def rewrite_report(
    services: Services, run: RunTable, items: Collection[int], *, erasure_id: str
) -> list[str]:
    """Return the keys of the old report, which a new one without the items replaces.

    A report that shows none of them stays.
    """
    old = (run.summary or {}).get("report")
    if not old:
        return []
    try:
        with services.store.open(old["json"]) as stream:
            document = json.load(stream)
    except ObjectNotFoundError:
        document = None
    if document is not None:
        pruned = without_items(document, items)
        if pruned == document:
            return []
        if pruned.get("privacy"):
            pruned["privacy"]["erased_since"] += len(items)
        page = render_html(pruned, _pictures(services, run, pruned))
        contents = {"json": document_bytes(pruned), "html": page.encode()}
    else:
        contents = {k: _read(services, _successor(services, old[k])) for k in old}
    details: dict[str, Any] = {"erasure": erasure_id}
    keys = {}
    for kind, content in contents.items():
        keys[kind] = new_key(old[kind], erasure_id)
        digest = hashlib.sha256(content).hexdigest()
        services.store.put(keys[kind], io.BytesIO(content), sha256=digest)
        details |= {f"{kind}_key": keys[kind], f"{kind}_sha256": digest}
    with transaction(services.engine) as session:
        name_report(session, run.id, keys)
        record(
            session,
            Action.REPORT_REWRITTEN,
            f"run/{run.id}",
            actor=services.actor,
            digest=details["json_sha256"],
            details=details,
        )
    return sorted(old.values())


def _read(services: Services, key: str) -> bytes:
    with services.store.open(key) as stream:
        return stream.read()


def without_items(document: Any, items: Collection[int]) -> Any:
    """Return the document without whatever in its lists is about one of the items."""
    if isinstance(document, dict):
        return {name: without_items(part, items) for name, part in document.items()}
    if isinstance(document, list):
        return [
            without_items(part, items)
            for part in document
            if not (isinstance(part, dict) and part.get("item_index") in items)
        ]
    return document


def _pictures(
    services: Services, run: RunTable, document: dict[str, Any]
) -> dict[int, Sequence[Picture]]:
    """Return the pictures of the items that the gallery still shows."""
    spec = AuditSpec.model_validate(run.spec)
    if spec.gallery == "none":
        return {}
    drawn = ItemPictures(services, run, spec.gallery)
    lookup = ItemLookup(services, list_shards(services.engine, run.id))
    pictures: dict[int, Sequence[Picture]] = {}
    for index in sorted({e["item_index"] for e in document["gallery"]["entries"]}):
        result = lookup.find(index)
        if result is None or not result.map_bytes:
            continue
        pictures[index] = drawn.of(result)
    return pictures
