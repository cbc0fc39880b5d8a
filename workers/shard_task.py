# SPDX-License-Identifier: Apache-2.0
"""What a worker does with one hint: claim, work, and hint at what comes next."""

import time

import structlog

from pipeline.lease_keeper import LeaseKeeper
from pipeline.shard_work import (
    INFRASTRUCTURE_FAILURES,
    SHARD_FAILURES,
    blame,
    work_on,
)
from pipeline.telemetry import Stage, timed
from storage.errors import StorageError
from storage.leases import Claim, claim_shard, fail_attempt
from storage.runs import get_run
from workers.dispatch import Publish, send_hints, unmark
from workers.process_state import ProcessState

log = structlog.get_logger()


def run_shard(state: ProcessState, shard_id: int, *, publish: Publish) -> None:
    """The shard is finished, given back or failed; or the hint was stale."""
    services = state.services
    if state.stop_asked():
        # The hint goes out again; another worker, or this one restarted, takes it.
        return
    telemetry = services.telemetry
    try:
        if state.refuses(shard_id):
            # Unhinted again at once, so that a worker that can take it hears of it.
            unmark(services, [shard_id])
            telemetry.hint("refused")
            return
        with timed(telemetry, Stage.CLAIM):
            claim = claim_shard(
                services.engine,
                shard_id,
                worker=services.actor,
                lease_s=services.settings.lease_s,
            )
    except StorageError as exc:
        # The hint goes out again when its time is over.
        log.warning("shard_not_claimed", error=type(exc).__name__)
        return
    if claim is None:
        log.debug("hint_stale")
        telemetry.hint("stale")
        return
    telemetry.hint("followed")
    if claim.attempt > 1:
        telemetry.retry()
    with structlog.contextvars.bound_contextvars(
        run=claim.run_id, shard=claim.shard_index, attempt=claim.attempt
    ):
        _work(state, claim)
    send_hints(services, publish)


def _work(state: ProcessState, claim: Claim) -> None:
    started = time.monotonic()
    services, settings = state.services, state.services.settings
    try:
        # Loading a network may take longer than a lease.
        with LeaseKeeper(
            services.engine, claim, lease_s=settings.lease_s, stall_s=settings.stall_s
        ):
            context = state.context(get_run(services.engine, claim.run_id))
        outcome = work_on(services, context, claim, stop=state.stop_asked)
    except (*INFRASTRUCTURE_FAILURES, *SHARD_FAILURES) as exc:
        log.warning("shard_failed", error=type(exc).__name__)
        services.telemetry.shard("failed")
        try:
            error, blames = blame(exc)
            fail_attempt(
                services.engine,
                claim,
                error=error,
                blames=blames,
                backoff_s=settings.backoff_s,
            )
        except StorageError:
            # The lease runs out and the sweeper counts the attempt.
            log.warning("failure_not_recorded")
        return
    log.info(
        "shard_left",
        outcome=outcome.value,
        items=claim.item_count,
        seconds=round(time.monotonic() - started, 3),
    )
