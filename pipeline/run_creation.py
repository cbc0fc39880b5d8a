# SPDX-License-Identifier: Apache-2.0
"""Writing a planned run: its manifest, tokens and shards, in one transaction."""

import json
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from ledger.entries import Detail
from pipeline.access.threshold_change import require_threshold_word, threshold_of
from pipeline.digests import ManifestDigest, document_digest
from pipeline.domain import SourceItem
from pipeline.manifest_ids import ManifestIds
from pipeline.planning import PreparedAudit
from pipeline.precision import in_words
from pipeline.run_origin import PLAIN, RunOrigin
from pipeline.sanity_gate import gated
from pipeline.services import Services
from pipeline.shard_sizing import speed_key
from storage.engine import transaction
from storage.identities.vault import SUBJECT
from storage.manifests import iterate_duplicates, mark_duplicates, write_locations
from storage.runs import add_audit, add_run, complete_plan, note_origin
from storage.subjects import new_token

#: Rows in memory at a time, which bounds planning's memory whatever the item count.
CHUNK = 2000

#: Bytes of the random salt that hides an input's digest in artifacts.
SALT_BYTES = 16


def create_run(
    services: Services,
    audit: PreparedAudit,
    *,
    queue: str,
    on_items: Callable[[int], None] = lambda _count: None,
    origin: RunOrigin = PLAIN,
) -> str:
    """Return the id of a run that is ready to be worked on; or nothing was written.

    Args:
        services: The database.
        audit: What to run.
        queue: The queue whose workers will do it; `embedded` for none.
        on_items: Told how many more items are in the manifest.
        origin: What brought the run about; its slot ends in the same transaction.

    Raises:
        FencedOutError: another planner owns the slot.
        NothingNewError: the audit's source leaves out all that it lists.
        GateRefusedError: the sanity gate stopped the audit.
        AccessRefusedError: the threshold is another than that of the audit's last run,
            and no second principal has agreed.
    """
    require_threshold_word(
        services,
        audit.written.audit,
        planned=threshold_of(audit.plan.to_json()),
    )
    audit = gated(services, audit)
    written = audit.written.model_dump(mode="json")
    resolved, plan = audit.resolved.model_dump(mode="json"), audit.plan.to_json()
    with transaction(services.engine) as session:
        # The whole text and not only what decides results: two audits of different
        # folders are two audits, or a report would name the other one's data.
        audit_id = add_audit(
            session,
            name=audit.written.audit,
            spec=written,
            spec_digest=document_digest(written),
        )
        run_id = add_run(
            session,
            {
                "audit_id": audit_id,
                "spec": resolved,
                "plan": plan,
                "spec_digest": audit.spec_sha256,
                "model_digest": audit.model_sha256,
                "queue": queue,
                "priority": audit.written.run.priority,
                "speed_key": speed_key(audit.plan, audit.model_sha256),
            },
        )
        manifest = _write_manifest(services, session, audit, run_id, on_items)
        came_from = origin.to_json()
        if came_from is not None:
            note_origin(session, run_id, came_from)
        complete_plan(
            session,
            run_id,
            items_total=manifest.items,
            shard_size=audit.plan.shard_size,
            max_attempts=audit.written.run.max_attempts,
            manifest_digest=manifest.digest,
            actor=services.actor,
            details={
                "spec": audit.spec_sha256,
                "model": audit.model_sha256,
                "setup": document_digest(resolved, plan),
                "written": document_digest(written),
                "ids": manifest.ids,
                "duplicates": manifest.duplicates,
                "queue": queue,
                "plugins": services.settings.plugins,
                **_origin_details(came_from),
                **(
                    {"sanity": audit.plan.sanity["verdict"]}
                    if audit.plan.sanity
                    else {}
                ),
                **_precision(audit),
            },
        )
        origin.end(session, run_id, audit.model_sha256)
    return run_id


def _origin_details(origin: dict[str, Any] | None) -> dict[str, Any]:
    """Return what the ledger says of where a run comes from."""
    if origin is None:
        return {}
    details: dict[str, Any] = {"origin": document_digest(origin)}
    if "schedule" in origin:
        details |= {"schedule": origin["schedule"], "slot": int(origin["slot"])}
    if "incremental" in origin:
        details |= {"unchanged": origin["incremental"]["unchanged"]}
    return details


def _precision(audit: PreparedAudit) -> dict[str, Detail]:
    """Return what the check against float32 found, as text: entries hold no floats."""
    found = audit.plan.precision
    if found is None:
        return {}
    return {"computed": in_words(audit.plan), "precision": json.dumps(found)}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Manifest:
    """What was written: how many items and duplicates, and the digests of both."""

    items: int
    duplicates: int
    digest: str
    ids: str


def _write_manifest(
    services: Services,
    session: Session,
    audit: PreparedAudit,
    run_id: str,
    on_items: Callable[[int], None],
) -> _Manifest:
    """Return what the source lists, which is now in the manifest, chunk by chunk."""
    digest, ids = ManifestDigest(), ManifestIds()
    total = 0
    for chunk in _chunks(audit.source.items()):
        rows = _location_rows(services, audit, run_id, total, chunk)
        for row in rows:
            digest.add(row)
            ids.add(row["item_id"])
        write_locations(session, rows)
        total += len(chunk)
        on_items(len(chunk))
    duplicates = mark_duplicates(session, run_id)
    if duplicates:
        for item_index, earlier in iterate_duplicates(session, run_id):
            ids.add_duplicate(item_index, earlier)
    return _Manifest(
        items=total,
        duplicates=duplicates,
        digest=digest.hexdigest(),
        ids=ids.hexdigest(),
    )


def _chunks(items: Iterator[SourceItem]) -> Iterator[list[SourceItem]]:
    chunk: list[SourceItem] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _location_rows(
    services: Services,
    audit: PreparedAudit,
    run_id: str,
    first: int,
    chunk: list[SourceItem],
) -> list[dict[str, Any]]:
    private = audit.written.has_subjects
    subjects: dict[str, str] = {}
    groups: dict[str, dict[str, str]] = {}
    if private:
        subjects = services.vault.tokens_for(
            SUBJECT, (i.subject for i in chunk if i.subject)
        )
        columns = {name for item in chunk for name in item.groups}
        groups = {
            name: services.vault.tokens_for(
                f"group:{name}",
                (i.groups[name] for i in chunk if name in i.groups),
            )
            for name in sorted(columns)
        }
    return [
        {
            "run_id": run_id,
            "item_index": index,
            "item_id": new_token(),
            "uri": item.uri,
            "size_bytes": item.size_bytes,
            "version": item.version,
            "label": item.label,
            "mask_uri": item.mask_uri,
            "subject_token": subjects.get(item.subject) if item.subject else None,
            "groups": {
                name: groups[name][value] if private else value
                for name, value in item.groups.items()
            },
            "salt": secrets.token_bytes(SALT_BYTES) if private else None,
            "duplicate_of": None,
        }
        for index, item in enumerate(chunk, start=first)
    ]
