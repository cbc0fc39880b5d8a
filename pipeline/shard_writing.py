# SPDX-License-Identifier: Apache-2.0
"""Writing a computed shard: pack, put, and finish under the fence.

The object is stored first under a key with the attempt in it; then one transaction
checks the fence and writes rows, ledger and state together. May be called in a thread,
while another shard is computed.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.domain import ItemResult
from pipeline.item_leaves import SaltedLeaf, salted_leaves
from pipeline.packing import write_artifact
from pipeline.run_context import RunContext
from pipeline.services import Services
from pipeline.shard_computing import ComputedShard, Digests
from pipeline.telemetry import Stage, timed
from storage.errors import FencedOutError
from storage.leases import Artifact, Claim, finish_shard
from storage.states import ItemStatus


def write_shard(services: Services, computed: ComputedShard) -> None:
    """The shard is finished: object, rows, ledger and state.

    Raises:
        FencedOutError: another attempt owns the shard; no row was written.
        StorageError: the store or the database failed.
    """
    claim = computed.claim
    if computed.keeper.lost:
        raise FencedOutError(f"The lease of {claim.object_name} is lost.")
    telemetry = services.telemetry
    artifact = _store(services, computed.context, claim, computed.results)
    counts = _counts(computed.results)
    leaves = salted_leaves(computed.results, computed.digests)
    with timed(telemetry, Stage.FINISH):
        finish_shard(
            services.engine,
            claim,
            artifact=artifact,
            items=_rows(claim, computed.results, computed.digests, leaves),
            counts=counts,
            not_comparable=computed.halved,
            leaves=[leaf.hash for leaf in leaves],
            work_s=computed.work_s,
        )
    telemetry.items(done=counts["items_done"], failed=counts["items_failed"])


def _store(
    services: Services, context: RunContext, claim: Claim, results: Sequence[ItemResult]
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
    claim: Claim,
    results: Sequence[ItemResult],
    digests: Sequence[Digests],
    leaves: Sequence[SaltedLeaf],
) -> list[dict[str, Any]]:
    return [
        {
            "run_id": claim.run_id,
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


def _counts(results: Sequence[ItemResult]) -> dict[str, int]:
    done = sum(result.status is ItemStatus.DONE for result in results)
    return {"items_done": done, "items_failed": len(results) - done}
