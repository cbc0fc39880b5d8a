# SPDX-License-Identifier: Apache-2.0
"""The work on one claimed shard: read, explain, pack, put, finish under the fence.

`work_on` does it step by step. `pipeline.shard_stream` does the same steps for shard
after shard with their waits overlapped; both are used the same way by the embedded
runner and by a Celery task.
"""

from collections.abc import Callable
from enum import StrEnum

from explain.errors import ExplainError
from pipeline.errors import AuditError, InfrastructureError
from pipeline.run_context import RunContext
from pipeline.services import Services
from pipeline.shard_computing import OpenShard
from pipeline.shard_writing import write_shard
from pipeline.single_steps import BlamedOnItemError
from storage.errors import FencedOutError, StorageError
from storage.leases import Blame, Claim, release

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


class Outcome(StrEnum):
    """How the work on a claim ended."""

    FINISHED = "finished"
    #: Given back at a batch boundary: the run or this process was stopped.
    RELEASED = "released"
    #: Another attempt owns the shard; nothing was written.
    FENCED_OUT = "fenced_out"


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
    shard = OpenShard(services, claim)
    outcome = Outcome.FINISHED
    try:
        computed = shard.compute(context, stop=stop, on_batch=on_batch)
        if computed is None:
            release(services.engine, claim)
            outcome = Outcome.RELEASED
        else:
            write_shard(services, computed)
    except FencedOutError:
        outcome = Outcome.FENCED_OUT
    finally:
        shard.close()
    services.telemetry.shard(outcome.value)
    return outcome
