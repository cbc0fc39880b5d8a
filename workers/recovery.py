# SPDX-License-Identifier: Apache-2.0
"""One round of the control worker; each step is safe to run twice at once.

A message is only a hint, so whatever was lost is found here: leases that ran out, hints
that nobody followed, runs whose last shard is done, ledger entries not yet ordered.
"""

import structlog

from pipeline.errors import InfrastructureError
from pipeline.finalising import finalise
from pipeline.services import Services
from pipeline.signing import open_signing_key
from storage.leases import expire_leases
from storage.ledger_writer import sequence
from storage.runs import finalisable_runs
from storage.worker_registry import forget_dead_workers
from workers.dispatch import Publish, dispatch

log = structlog.get_logger()

#: Outbox rows that one round orders at most, so that a round stays short.
SEQUENCE_LIMIT = 5000


def look_after(services: Services, *, publish: Publish) -> None:
    """Leases, hints, finished runs and the ledger are as they should be."""
    expired = expire_leases(services.engine, actor=services.actor)
    if expired:
        log.warning("leases_expired", count=expired)
    try:
        sent = dispatch(services, publish)
        log.debug("hints_sent", count=sent)
    except InfrastructureError:
        log.warning("hints_not_sent")
    finalise_runs(services)
    sequence(services.engine, SEQUENCE_LIMIT)
    forget_dead_workers(services.engine)


def finalise_runs(services: Services) -> None:
    """Runs whose shards are all final have their report and their checkpoint."""
    ready = finalisable_runs(services.engine)
    if not ready:
        return
    key = open_signing_key(services)
    for run_id in ready:
        state = finalise(services, run_id, key=key)
        if state is not None:
            log.info("run_finalised", run=run_id, state=state.value)
