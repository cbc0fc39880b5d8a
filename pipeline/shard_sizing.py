# SPDX-License-Identifier: Apache-2.0
"""How many items make a shard: what should last a minute, by the best measure there is.

Finished shards of like runs beat the probe, which times one batch before the work.
"""

import hashlib

from ledger.canonical import canonical_bytes
from pipeline.run_plan import RunPlan

#: A shard should take about this long: a crash costs half of it, and what a shard
#: costs beside its items is lost in it.
TARGET_SHARD_S = 60.0
#: Most items where the spec names no cap: results of a shard are held in memory.
MOST_ITEMS = 8192


def shard_size(cap: int | None, *, batch_size: int, item_seconds: float) -> int:
    """Return how many items make a shard: whole batches, about a minute of work.

    Bounds are multiples of the batch size, so that batches do not depend on shards.
    """
    wanted = min(cap or MOST_ITEMS, int(TARGET_SHARD_S / max(item_seconds, 1e-9)))
    return max(batch_size, wanted - wanted % batch_size)


def work_key(plan: RunPlan, model_sha256: str) -> str:
    """Return what is equal for plans whose items cost the same, whatever the batch."""
    return _digest(
        {
            "model": model_sha256,
            "layer": plan.layer,
            "method": plan.method_name,
            "policy": plan.policy_name,
            "metrics": {
                name: plan.metric_arguments.get(name, {}) for name in plan.metrics
            },
            "shape": list(plan.input_shape),
            "grid": plan.grid,
            "chunk": plan.chunk,
            "dtype": plan.dtype,
            "compiled": plan.compiled,
            "device": plan.device,
            "threads": plan.threads,
        }
    )


def speed_key(plan: RunPlan, model_sha256: str) -> str:
    """Return what is equal for plans whose items take equally long on one device."""
    work = work_key(plan, model_sha256)
    return _digest({"work": work, "batch_size": plan.batch_size})


def _digest(facts: dict[str, object]) -> str:
    return hashlib.sha256(canonical_bytes(facts)).hexdigest()
