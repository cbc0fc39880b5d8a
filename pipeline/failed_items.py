# SPDX-License-Identifier: Apache-2.0
"""A new run over the items that failed in an earlier one.

What a finished run says is evidence and never altered, so its failed items get a run of
their own: same audit, spec, plan and weights, a manifest made from the earlier one's.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy.orm import Session

from pipeline.digests import ManifestDigest, document_digest
from pipeline.errors import Reason
from pipeline.manifest_ids import ManifestIds
from pipeline.run_creation import SALT_BYTES
from pipeline.services import Services
from pipeline.software import software_versions
from storage.earlier_runs import REPORTED_STATES
from storage.engine import transaction
from storage.errors import StateConflictError
from storage.failed_locations import failed_by_reason, iterate_failed
from storage.manifests import write_locations
from storage.runs import add_run, complete_plan, lock_run
from storage.subjects import new_token
from storage.tables import AuditTable, LocationTable, RunTable

#: Reasons that lie in the manifest, which the new run has from the old one: these items
#: would fail again whatever became of their files.
FIXED_IN_MANIFEST = frozenset(
    {
        Reason.DUPLICATE_ITEM,
        Reason.LABEL_MISSING,
        Reason.LABEL_UNKNOWN,
        Reason.LABEL_AMBIGUOUS,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedItemsRun:
    """A run that tries failed items again.

    Attributes:
        run_id: The new run.
        items: How many items it has.
        left_out: Failed items whose reason lies in the manifest.
    """

    run_id: str
    items: int
    left_out: int


def run_failed_items(services: Services, parent: RunTable) -> FailedItemsRun:
    """Return a queued run over the parent's failed items; or nothing was written.

    Items of dead shards did not fail, they are missing: `retry` brings them back.

    Raises:
        StateConflictError: the parent has no report yet, or no item that could come
            out otherwise.
    """
    # The work is done by the software of today, and the report names it. What the gate
    # found on the parent's items is the parent's to say.
    plan = parent.plan | {"versions": software_versions(), "sanity": None}
    with transaction(services.engine) as session:
        # Held, or a retry of dead shards could reopen the parent meanwhile.
        _require_reported(parent.id, lock_run(session, parent.id))
        left_out = _require_failures(session, parent.id)
        audit = session.get_one(AuditTable, parent.audit_id)
        run_id = add_run(
            session,
            {
                "audit_id": parent.audit_id,
                "spec": parent.spec,
                "plan": plan,
                "spec_digest": parent.spec_digest,
                "model_digest": parent.model_digest,
                "queue": parent.queue,
                "priority": parent.priority,
                "parent_run_id": parent.id,
            },
        )
        items, manifest, ids = _copy_manifest(session, parent.id, run_id)
        complete_plan(
            session,
            run_id,
            items_total=items,
            shard_size=int(plan["shard_size"]),
            max_attempts=int(parent.spec["run"]["max_attempts"]),
            manifest_digest=manifest,
            actor=services.actor,
            details={
                "spec": parent.spec_digest,
                "model": parent.model_digest,
                "setup": document_digest(parent.spec, plan),
                "written": document_digest(audit.spec),
                "ids": ids,
                "duplicates": 0,
                "queue": parent.queue,
                "plugins": services.settings.plugins,
                "parent": parent.id,
                "left_out": left_out,
            },
        )
    return FailedItemsRun(run_id=run_id, items=items, left_out=left_out)


def _require_reported(run_id: str, state: str | None) -> None:
    if state not in REPORTED_STATES:
        raise StateConflictError(
            f"The run {run_id} is {state}; its failed items can be tried again once "
            f"it is {' or '.join(REPORTED_STATES)}."
        )


def _require_failures(session: Session, run_id: str) -> int:
    """Return how many failed items are left out; some other one is there."""
    failed = failed_by_reason(session, run_id)
    left_out = sum(failed.get(reason, 0) for reason in FIXED_IN_MANIFEST)
    if not failed:
        raise StateConflictError(f"No item of the run {run_id} failed.")
    if left_out == sum(failed.values()):
        reasons = ", ".join(sorted(failed))
        raise StateConflictError(
            f"All {left_out:,} failed items of the run {run_id} would fail again, for "
            f"their reason lies in the manifest ({reasons}); mend the data and run the "
            "audit anew."
        )
    return left_out


def _copy_manifest(
    session: Session, parent_id: str, run_id: str
) -> tuple[int, str, str]:
    """Return how many items the new manifest has, its digest, and that of its ids."""
    digest, ids, total = ManifestDigest(), ManifestIds(), 0
    for found in iterate_failed(session, parent_id, without=FIXED_IN_MANIFEST):
        rows = list(_rows(found, run_id, first=total))
        for row in rows:
            digest.add(row)
            ids.add(row["item_id"])
        write_locations(session, rows)
        total += len(rows)
        # A chunk in memory at a time.
        session.expunge_all()
    return total, digest.hexdigest(), ids.hexdigest()


def _rows(
    found: Sequence[LocationTable], run_id: str, *, first: int
) -> Iterator[dict[str, Any]]:
    for index, row in enumerate(found, start=first):
        yield {
            "run_id": run_id,
            "item_index": index,
            "item_id": new_token(),
            "uri": row.uri,
            # The file may have been mended since, so it is taken as it is now.
            "size_bytes": None,
            "version": None,
            "label": row.label,
            "mask_uri": row.mask_uri,
            "subject_token": row.subject_token,
            "groups": row.groups,
            # A new salt, or artifacts of both runs could be matched with each other.
            "salt": None if row.salt is None else secrets.token_bytes(SALT_BYTES),
            "duplicate_of": None,
        }
