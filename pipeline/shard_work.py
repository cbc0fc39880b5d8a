# SPDX-License-Identifier: Apache-2.0
"""The work on one claimed shard: read, explain, pack, put, finish under the fence.

The object is stored first under a key with the attempt in it; then one transaction
checks the fence and writes rows, ledger and state together. Called the same way by the
embedded runner and by a Celery task.
"""

import tempfile
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from explain.errors import ExplainError
from pipeline.domain import ItemResult, ManifestItem
from pipeline.errors import AuditError, InfrastructureError
from pipeline.executor import Executor
from pipeline.item_leaves import SaltedLeaf, salted_leaves
from pipeline.labels import ClassNames
from pipeline.lease_keeper import LeaseKeeper
from pipeline.memory_budget import MemoryBudget
from pipeline.packing import write_artifact
from pipeline.paths import AllowedRoots
from pipeline.preparing import ItemPreparer, PreparedItem, prepare_batches
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.single_steps import BlamedOnItemError, prepare_in_single_steps
from pipeline.spec import AuditSpec
from pipeline.telemetry import Stage, timed, waiting_timed
from storage.errors import FencedOutError, StorageError
from storage.leases import Artifact, Blame, Claim, finish_shard, release
from storage.manifests import read_locations
from storage.states import ItemStatus
from storage.tables import LocationTable, RunTable

#: A server or store failed: the work is sound and should be tried again elsewhere.
INFRASTRUCTURE_FAILURES = (InfrastructureError, StorageError)
#: What one shard's data can make the libraries raise. The shard has failed its attempt
#: and the worker goes on with others; a programming error in between costs attempts,
#: not the worker.
SHARD_FAILURES = (
    AuditError,
    ExplainError,
    ArithmeticError,
    LookupError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)

#: SHA-256 of an item's input and of its ground-truth mask, unsalted.
_Digests = tuple[str | None, str | None]


class Outcome(StrEnum):
    """How the work on a claim ended."""

    FINISHED = "finished"
    #: Given back at a batch boundary: the run or this process was stopped.
    RELEASED = "released"
    #: Another attempt owns the shard; nothing was written.
    FENCED_OUT = "fenced_out"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunContext:
    """Everything about a run that its shards share, made once a process."""

    run_id: str
    spec: AuditSpec
    plan: RunPlan
    spec_digest: str
    model_digest: str
    executor: Executor
    preparer: ItemPreparer

    @property
    def decode_threads(self) -> int:
        """Threads that read and decode beside the computation."""
        return max(1, min(8, self.plan.threads))


def make_context(
    services: Services, run: RunTable, executor: Executor, *, roots: AllowedRoots
) -> RunContext:
    """Return the context in which a run's shards are worked on.

    Args:
        services: How inputs are reached.
        run: The run.
        executor: Its network.
        roots: The folders that this process may read.
    """
    spec = AuditSpec.model_validate(run.spec)
    plan = RunPlan.from_json(run.plan)
    columns = spec.data.columns
    return RunContext(
        run_id=run.id,
        spec=spec,
        plan=plan,
        spec_digest=run.spec_digest,
        model_digest=run.model_digest,
        executor=executor,
        preparer=ItemPreparer(
            reader=services.reader(roots),
            preprocess=spec.model.preprocess,
            classes=ClassNames(plan.classes, count=plan.class_count),
            label_required=plan.target == "label",
            mask_required=spec.threshold.keeps_given_regions,
            strict_labels=columns.label is not None,
            budget=MemoryBudget(services.settings.decoding_bytes),
        ),
    )


def blame(exc: Exception) -> tuple[str, Blame]:
    """Return the code under which a failed attempt is recorded, and whose doing it was.

    Args:
        exc: One of INFRASTRUCTURE_FAILURES or SHARD_FAILURES.
    """
    if isinstance(exc, BlamedOnItemError):
        return exc.kind, Blame.ITEM
    # Memory, disks and mounts fail whatever the item is.
    machine = (*INFRASTRUCTURE_FAILURES, MemoryError, OSError)
    return type(exc).__name__, Blame.NOBODY if isinstance(exc, machine) else Blame.SHARD


def work_on(
    services: Services,
    context: RunContext,
    claim: Claim,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_batch: Callable[[int], None] = lambda _items: None,
) -> Outcome:
    """Return how the work on the claim ended; at most one attempt has effects.

    Args:
        services: Database and stores.
        context: The run.
        claim: The fence.
        stop: Asked at each batch boundary; True gives the shard back.
        on_batch: Told the number of items after each batch.

    Raises:
        InfrastructureError: a source, the store or the database failed under way.
    """
    try:
        outcome = _work_on(services, context, claim, stop, on_batch)
    except FencedOutError:
        outcome = Outcome.FENCED_OUT
    services.telemetry.shard(outcome.value)
    return outcome


def _work_on(
    services: Services,
    context: RunContext,
    claim: Claim,
    stop: Callable[[], bool],
    on_batch: Callable[[int], None],
) -> Outcome:
    settings, telemetry = services.settings, services.telemetry
    items = load_items(services, context.run_id, claim)
    with LeaseKeeper(
        services.engine, claim, lease_s=settings.lease_s, stall_s=settings.stall_s
    ) as keeper:
        results: list[ItemResult] = []
        digests: list[_Digests] = []
        halved = False
        batches = _batches(services, context, claim, items)
        with closing(batches), context.executor.session(keeper.alive):
            waited = waiting_timed(telemetry, batches)
            for number, prepared in enumerate(waited, start=1):
                with timed(telemetry, Stage.EXPLAIN):
                    output = context.executor.explain_batch(prepared)
                telemetry.batch(len(prepared), context.plan.batch_size)
                results += output.results
                digests += [(s.content_sha256, s.truth_sha256) for s in prepared]
                halved = halved or output.halved
                keeper.progress(number)
                on_batch(len(prepared))
                complete = len(results) == len(items)
                if keeper.lost:
                    return Outcome.FENCED_OUT
                if not complete and (stop() or keeper.unwanted):
                    release(services.engine, claim)
                    return Outcome.RELEASED
        artifact = _store(services, context, claim, results)
    counts = _counts(results)
    leaves = salted_leaves(results, digests)
    with timed(telemetry, Stage.FINISH):
        finish_shard(
            services.engine,
            claim,
            artifact=artifact,
            items=_rows(context.run_id, claim, results, digests, leaves),
            counts=counts,
            not_comparable=halved,
            leaves=[leaf.hash for leaf in leaves],
        )
    telemetry.items(done=counts["items_done"], failed=counts["items_failed"])
    return Outcome.FINISHED


def _batches(
    services: Services, context: RunContext, claim: Claim, items: list[ManifestItem]
) -> Generator[list[PreparedItem]]:
    """Return the items batch by batch, read ahead or, where need be, one by one."""
    if claim.single_steps:
        return prepare_in_single_steps(
            services.engine,
            claim,
            context.preparer,
            context.executor,
            items,
            batch_size=context.plan.batch_size,
        )
    return prepare_batches(
        context.preparer,
        items,
        batch_size=context.plan.batch_size,
        threads=context.decode_threads,
    )


def load_items(services: Services, run_id: str, claim: Claim) -> list[ManifestItem]:
    """Return the shard's slice of the manifest."""
    rows = read_locations(
        services.engine,
        run_id,
        first_item=claim.first_item,
        item_count=claim.item_count,
    )
    return [as_manifest_item(row) for row in rows]


def as_manifest_item(row: LocationTable) -> ManifestItem:
    """Return the row as the pipeline's own noun."""
    return ManifestItem(
        item_index=row.item_index,
        item_id=row.item_id,
        uri=row.uri,
        size_bytes=row.size_bytes,
        version=row.version,
        label=row.label,
        mask_uri=row.mask_uri,
        subject_token=row.subject_token,
        groups=row.groups or {},
        salt=row.salt,
        duplicate_of=row.duplicate_of,
    )


def _store(
    services: Services, context: RunContext, claim: Claim, results: list[ItemResult]
) -> Artifact:
    key = (
        f"runs/{context.run_id}/shards/{claim.shard_index:06d}.a{claim.attempt}.parquet"
    )
    metadata = {
        "run": context.run_id,
        "shard": str(claim.shard_index),
        "spec_digest": context.spec_digest,
        "model_digest": context.model_digest,
        "layer": context.plan.layer,
        "input_size": "x".join(str(side) for side in context.plan.input_shape[1:]),
    }
    with tempfile.TemporaryDirectory(prefix="affidavit-") as folder:
        path = Path(folder) / "shard.parquet"
        with timed(services.telemetry, Stage.PACK):
            sha256, size = write_artifact(path, results, metadata=metadata)
        with timed(services.telemetry, Stage.PUT), path.open("rb") as stream:
            services.store.put(key, stream, sha256=sha256)
    services.telemetry.bytes_written(size)
    return Artifact(key=key, sha256=sha256, size_bytes=size)


def _rows(
    run_id: str,
    claim: Claim,
    results: list[ItemResult],
    digests: list[_Digests],
    leaves: list[SaltedLeaf],
) -> list[dict[str, Any]]:
    return [
        {
            "run_id": run_id,
            "item_index": result.item_index,
            "method": result.method,
            "target_rule": result.target_rule,
            "policy": result.policy,
            "shard_index": claim.shard_index,
            "item_id": result.item_id,
            "subject_token": result.subject_token,
            "status": result.status.value,
            "reason": result.reason.value if result.reason else None,
            "input_sha256": content,
            "truth_sha256": truth,
            "predicted": result.predicted,
            "target": result.target,
            "label": result.label,
            "score": result.score,
            "keep_requested": result.keep_requested,
            "keep_achieved": result.keep_achieved,
            "cut": result.cut,
            "metrics": dict(result.metrics),
            "absences": dict(result.absences),
            "record_digest": result.record_digest,
            "leaf_index": place,
            "leaf_salt": leaf.salt,
        }
        for place, (result, (content, truth), leaf) in enumerate(
            zip(results, digests, leaves, strict=True)
        )
    ]


def _counts(results: list[ItemResult]) -> dict[str, int]:
    done = sum(result.status is ItemStatus.DONE for result in results)
    return {"items_done": done, "items_failed": len(results) - done}
