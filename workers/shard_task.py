# SPDX-License-Identifier: Apache-2.0
"""What a worker does with one hint: claim, work, and go on with what nobody has.

A task does not end with its shard: it goes on with shards that no hint is out for, so
that reading, computing and writing overlap. After a while it ends all the same, so that
its message is acknowledged and hints do not wait so long that they are sent again.
"""

import time

import structlog

from pipeline.run_context import RunContext
from pipeline.shard_stream import ShardStream
from pipeline.shard_work import Outcome, blame
from pipeline.telemetry import Stage, timed
from storage.errors import StorageError
from storage.leases import Claim, claim_ahead, claim_shard, fail_attempt
from storage.runs import get_run
from workers.dispatch import Publish, send_hints, unmark
from workers.process_state import ProcessState

log = structlog.get_logger()

#: Seconds after which a task claims nothing more; it ends a shard or two later.
LONGEST_S = 60.0


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
    ShardStream(services, _WorkerDesk(state), stop=state.stop_asked).run(claim)
    send_hints(services, publish)


class _WorkerDesk:
    """A worker's queue: where its claims come from and how it tells of their ends."""

    def __init__(self, state: ProcessState) -> None:
        self._state = state
        self._until = time.monotonic() + LONGEST_S
        self._began: dict[int, float] = {}

    def claim_ahead(self) -> Claim | None:
        """Return the claim on a shard of the queue that no hint is out for."""
        services, queue = self._state.services, self._state.queue
        if queue is None or time.monotonic() > self._until:
            return None
        if self._state.stop_asked():
            return None
        with timed(services.telemetry, Stage.CLAIM):
            return claim_ahead(
                services.engine,
                queue,
                worker=services.actor,
                lease_s=services.settings.lease_s,
                takes=self._state.takes,
                untried=True,
            )

    def context(self, claim: Claim) -> RunContext:
        """Return the run's context, its network loaded at the first use."""
        self._began[claim.shard_id] = time.monotonic()
        return self._state.context(get_run(self._state.services.engine, claim.run_id))

    def ready_context(self, claim: Claim) -> RunContext | None:
        """Return the run's context if its network is loaded."""
        return self._state.loaded_context(claim.run_id)

    def failed(self, claim: Claim, error: Exception) -> None:
        """The attempt is failed, and the log says why."""
        services = self._state.services
        log.warning("shard_failed", error=type(error).__name__, **_facts(claim))
        services.telemetry.shard("failed")
        code, blames = blame(error)
        try:
            fail_attempt(
                services.engine,
                claim,
                error=code,
                blames=blames,
                backoff_s=services.settings.backoff_s,
            )
        except StorageError:
            # The lease runs out and the sweeper counts the attempt.
            log.warning("failure_not_recorded", **_facts(claim))

    def left(self, claim: Claim, outcome: Outcome) -> None:
        """The log tells how the work on the claim ended."""
        now = time.monotonic()
        began = self._began.pop(claim.shard_id, now)
        log.info(
            "shard_left",
            outcome=outcome.value,
            items=claim.item_count,
            seconds=round(now - began, 3),
            **_facts(claim),
        )


def _facts(claim: Claim) -> dict[str, object]:
    """Return what names the attempt in a log line, whatever thread writes it."""
    return {
        "run": claim.run_id,
        "shard": claim.shard_index,
        "attempt": claim.attempt,
    }
