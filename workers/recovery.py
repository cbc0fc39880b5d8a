# SPDX-License-Identifier: Apache-2.0
"""One round of the control worker; each step is safe to run twice at once.

A message is only a hint, so whatever was lost is found here: leases that ran out, hints
that nobody followed, slots of schedules, runs whose last shard is done, ledger entries
not yet ordered or not yet signed.
"""

import time

import structlog

from ledger.checkpoint import SigningKey
from ledger.errors import BrokenLedgerError, LedgerError
from pipeline.finaliser_end import is_passing
from pipeline.finalising import finalise
from pipeline.orphans import collect_orphans
from pipeline.services import Services
from pipeline.shard_work import INFRASTRUCTURE_FAILURES, SHARD_FAILURES
from pipeline.signing import open_signing_key, write_signed_checkpoint
from storage.errors import StorageError
from storage.finalisers import finalisable_runs
from storage.leases import expire_leases
from storage.ledger_signing import unsigned_for
from storage.ledger_writer import sequence
from storage.worker_registry import forget_dead_workers
from workers.dispatch import Publish, send_hints
from workers.schedules import look_after_schedules

log = structlog.get_logger()

#: Outbox rows that one round orders at most, so that a round stays short.
SEQUENCE_LIMIT = 5000

#: A ledger that grows all the time is signed this often; the end of a run at once.
CHECKPOINT_INTERVAL_S = 60.0

#: Seconds between two looks for objects that nobody names.
COLLECT_INTERVAL_S = 3600.0

#: When each process last looked, by its services.
_collected_at: dict[int, float] = {}


def look_after(
    services: Services, *, publish: Publish, publish_slot: Publish | None = None
) -> None:
    """Leases, hints, schedules, finished runs and the ledger are as they should be.

    A round that finds the database gone leaves everything to the next one.

    Args:
        services: Database and stores.
        publish: Sends a hint about a shard.
        publish_slot: Sends a hint about a slot; None leaves the schedules alone.
    """
    try:
        expired = expire_leases(
            services.engine,
            actor=services.actor,
            backoff_s=services.settings.backoff_s,
        )
        if expired:
            log.warning("leases_expired", count=expired)
            services.telemetry.leases_expired(expired)
        send_hints(services, publish)
        if publish_slot is not None:
            look_after_schedules(services, publish=publish_slot)
        # Before the reports, which may take long and may fail.
        _order_entries(services)
        forget_dead_workers(services.engine)
        finalise_runs(services)
        _collect_orphans(services)
        sign_ledger(services)
    except StorageError as exc:
        log.warning("round_broken_off", error=type(exc).__name__)


def _collect_orphans(services: Services) -> None:
    """Once in an hour, what nobody names any more is deleted."""
    now = time.monotonic()
    if now - _collected_at.get(id(services), 0.0) < COLLECT_INTERVAL_S:
        return
    _collected_at[id(services)] = now
    age_s = services.settings.orphan_age_h * 3600
    collected = collect_orphans(services, older_than_s=age_s)
    if collected:
        log.info("orphans_collected", count=len(collected))
        services.telemetry.orphans_collected(len(collected))


def _order_entries(services: Services) -> None:
    try:
        sequence(services.engine, SEQUENCE_LIMIT)
    except BrokenLedgerError:
        _raise_alarm()


def _raise_alarm() -> None:
    """The log says that somebody must look: this never mends itself."""
    log.critical("ledger_broken")


def finalise_runs(services: Services) -> None:
    """Runs whose shards are all final have their report and their checkpoint.

    One run that cannot be finalised does not keep the others waiting.
    """
    ready = finalisable_runs(services.engine)
    if not ready:
        return
    key = _open_key(services)
    if key is None:
        return
    for run_id in ready:
        with structlog.contextvars.bound_contextvars(run=run_id):
            _finalise(services, run_id, key)


def sign_ledger(services: Services) -> None:
    """Entries that no checkpoint covers are signed, once in a while.

    A process that ended between a run's last entry and its checkpoint leaves them
    behind, and so do commands of people who do not hold the key.
    """
    try:
        waited = unsigned_for(services.engine)
        if waited is None or waited < CHECKPOINT_INTERVAL_S:
            return
        key = _open_key(services)
        if key is not None:
            write_signed_checkpoint(services, key)
    except BrokenLedgerError:
        _raise_alarm()
    except LedgerError as exc:
        log.error("ledger_not_signed", error=type(exc).__name__)  # noqa: TRY400


def _open_key(services: Services) -> SigningKey | None:
    try:
        return open_signing_key(services)
    except (LedgerError, OSError) as exc:
        log.error("signing_key_unusable", error=type(exc).__name__)  # noqa: TRY400
        return None


def _finalise(services: Services, run_id: str, key: SigningKey) -> None:
    try:
        state = finalise(services, run_id, key=key)
    except BrokenLedgerError:
        _raise_alarm()
    except (*INFRASTRUCTURE_FAILURES, *SHARD_FAILURES, LedgerError) as exc:
        if is_passing(exc):
            # The finaliser's lease runs out, then another round tries again.
            log.warning("finalising_broken_off", error=type(exc).__name__)
        else:
            log.error("finalising_failed", error=type(exc).__name__)  # noqa: TRY400
    else:
        if state is not None:
            log.info("run_finalised", state=state.value)
