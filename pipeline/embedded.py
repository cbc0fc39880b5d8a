# SPDX-License-Identifier: Apache-2.0
"""A whole run in one process: the same claims, fences and files as with workers."""

import time
from collections.abc import Callable
from contextlib import suppress

from ledger.entries import Action
from pipeline.executor import Executor
from pipeline.finalising import finalise
from pipeline.services import Services
from pipeline.shard_work import (
    INFRASTRUCTURE_FAILURES,
    SHARD_FAILURES,
    Outcome,
    RunContext,
    make_context,
    work_on,
)
from pipeline.signing import open_signing_key
from storage.errors import StateConflictError, StorageError
from storage.events import local_worker
from storage.leases import claim_next, expire_leases, fail_attempt, release
from storage.runs import get_run, stop_run
from storage.states import FINAL_RUN_STATES, RunState

#: Longest wait for a shard that another process holds or that backs off.
_PAUSE_S = 0.5


def run_embedded(
    services: Services,
    run_id: str,
    executor: Executor,
    *,
    stop: Callable[[], bool] = lambda: False,
    on_items: Callable[[int], None] = lambda _count: None,
) -> RunState:
    """Return the state in which the run was left.

    Args:
        services: Database and stores.
        run_id: A queued run.
        executor: The network, already on its device.
        stop: Asked at each batch boundary; True leaves the run interrupted.
        on_items: Told how many more items are through.
    """
    key = open_signing_key(services)
    context = make_context(services, get_run(services.engine, run_id), executor)
    worker = local_worker("embedded")
    while True:
        if stop():
            return _interrupt(services, run_id)
        if not _work_on_next(services, context, worker, stop, on_items):
            state = RunState(get_run(services.engine, run_id).state)
            if state in FINAL_RUN_STATES:
                return state
            final = finalise(services, run_id, key=key)
            if final is not None:
                return final
            expire_leases(services.engine, actor=worker)
            time.sleep(_PAUSE_S)


def _work_on_next(
    services: Services,
    context: RunContext,
    worker: str,
    stop: Callable[[], bool],
    on_items: Callable[[int], None],
) -> bool:
    """Work on the next claimable shard; return whether there was one."""
    claim = claim_next(
        services.engine,
        context.run_id,
        worker=worker,
        lease_s=services.settings.lease_s,
    )
    if claim is None:
        return False
    try:
        outcome = work_on(services, context, claim, stop=stop, on_batch=on_items)
    except INFRASTRUCTURE_FAILURES:
        # Not the shard's fault: nothing counts against it and `resume` goes on.
        with suppress(StorageError):
            release(services.engine, claim)
            _interrupt(services, context.run_id)
        raise
    except SHARD_FAILURES as exc:
        fail_attempt(services.engine, claim, error=type(exc).__name__)
        return True
    return outcome is not Outcome.RELEASED


def _interrupt(services: Services, run_id: str) -> RunState:
    try:
        stop_run(
            services.engine,
            run_id,
            RunState.INTERRUPTED,
            action=Action.RUN_INTERRUPTED,
            actor=services.actor,
        )
    except StateConflictError:
        return RunState(get_run(services.engine, run_id).state)
    return RunState.INTERRUPTED
