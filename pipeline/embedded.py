# SPDX-License-Identifier: Apache-2.0
"""A whole run in one process: the same claims, fences and files as with workers."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from ledger.entries import Action
from ledger.key_file import load_signing_key
from pipeline.any_executor import AnyExecutor
from pipeline.finalising import finalise
from pipeline.planning import PreparedAudit
from pipeline.run_context import RunContext, make_context
from pipeline.run_creation import create_run
from pipeline.run_origin import PLAIN, RunOrigin
from pipeline.services import Services
from pipeline.shard_stream import ShardStream
from pipeline.shard_work import INFRASTRUCTURE_FAILURES, Outcome, blame
from pipeline.signing import open_signing_key, write_signed_checkpoint
from storage.errors import StateConflictError, StorageError
from storage.events import local_worker
from storage.leases import Claim, claim_next, expire_leases, fail_attempt, release
from storage.runs import get_run, stop_run
from storage.schema import ensure_embedded_schema
from storage.states import FINAL_RUN_STATES, RunState

#: Longest wait for a shard that another process holds or that backs off.
_PAUSE_S = 0.5


def create_embedded_run(
    services: Services,
    audit: PreparedAudit,
    *,
    on_items: Callable[[int], None] = lambda _count: None,
    origin: RunOrigin = PLAIN,
) -> str:
    """Return the id of a run that this process may work on; or nothing was written.

    The database is made where there is none, and so is the signing key: a run that
    could not be signed for should not begin.

    Raises:
        SchemaOutdatedError: the database is of another version.
        ledger.errors.KeyFileError: the signing key is exposed or unreadable.
        ledger.errors.BrokenLedgerError: the ledger does not go on from what was
            signed last, so nothing more may be signed.
        FencedOutError, NothingNewError: as `create_run`.
    """
    open_embedded(services)
    return create_run(
        services, audit, queue="embedded", on_items=on_items, origin=origin
    )


def open_embedded(services: Services) -> None:
    """This process has a database and a key, and may sign what it will do.

    Raises:
        SchemaOutdatedError, ledger.errors.LedgerError: as `create_embedded_run`.
    """
    settings = services.settings
    if settings.resolved_signing_key.exists():
        # An unusable key must not leave a database behind.
        load_signing_key(settings.resolved_signing_key, settings.ledger_origin)
    ensure_embedded_schema(settings.resolved_database_url, actor=services.actor)
    write_signed_checkpoint(services, open_signing_key(services))


def run_embedded(
    services: Services,
    run_id: str,
    executor: AnyExecutor,
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

    Raises:
        StorageError: the database or the object store failed; what was done is kept
            and the run can be resumed.
        InfrastructureError: a source failed; likewise.
        ledger.errors.BrokenLedgerError: the ledger does not go on from what was
            signed last; nothing is signed.
    """
    key = open_signing_key(services)
    # A process that died may have left entries behind that nobody signed.
    write_signed_checkpoint(services, key)
    run = get_run(services.engine, run_id)
    context = make_context(
        services, run, executor, roots=services.roots_noted(run.plan["roots"])
    )
    worker = local_worker("embedded")
    desk = _OwnDesk(services, context, worker)
    stream = ShardStream(services, desk, stop=stop, on_batch=on_items)
    with _interrupted_on_failure(services, run_id):
        while True:
            stopped = stop()
            if stopped:
                _interrupt(services, run_id)
            else:
                claim = desk.next_claim()
                if claim is not None and stream.run(claim):
                    continue
            state = RunState(get_run(services.engine, run_id).state)
            if stopped or state in FINAL_RUN_STATES:
                # What happened so far is under a signature too.
                write_signed_checkpoint(services, key)
                return state
            final = finalise(services, run_id, key=key)
            if final is not None:
                return final
            expire_leases(
                services.engine, actor=worker, backoff_s=services.settings.backoff_s
            )
            time.sleep(_PAUSE_S)


@contextmanager
def _interrupted_on_failure(services: Services, run_id: str) -> Iterator[None]:
    """The run is interrupted, and so can be resumed, where infrastructure failed."""
    try:
        yield
    except INFRASTRUCTURE_FAILURES:
        with suppress(StorageError):
            _interrupt(services, run_id)
        raise


@dataclass(frozen=True, slots=True)
class _OwnDesk:
    """The one run of this process: where its claims come from and go."""

    services: Services
    run: RunContext
    worker: str

    def next_claim(self) -> Claim | None:
        """Return the claim on the run's next shard, None where none is claimable."""
        return claim_next(
            self.services.engine,
            self.run.run_id,
            worker=self.worker,
            lease_s=self.services.settings.lease_s,
        )

    def claim_ahead(self) -> Claim | None:
        """Return the claim on the run's next shard that was never attempted."""
        return claim_next(
            self.services.engine,
            self.run.run_id,
            worker=self.worker,
            lease_s=self.services.settings.lease_s,
            untried=True,
        )

    def context(self, _claim: Claim) -> RunContext:
        """Return the run's context."""
        return self.run

    ready_context = context

    def failed(self, claim: Claim, error: Exception) -> None:
        """The attempt is failed; where infrastructure did, everything ends."""
        if isinstance(error, INFRASTRUCTURE_FAILURES):
            # Not the shard's fault: nothing counts against it and `resume` goes on.
            with suppress(StorageError):
                release(self.services.engine, claim)
            raise error
        code, blames = blame(error)
        fail_attempt(
            self.services.engine,
            claim,
            error=code,
            blames=blames,
            backoff_s=self.services.settings.backoff_s,
        )

    def left(self, claim: Claim, outcome: Outcome) -> None:
        """The run's row says all about it."""


def _interrupt(services: Services, run_id: str) -> None:
    """The run is interrupted, unless it is final or being finalised already."""
    with suppress(StateConflictError):
        stop_run(
            services.engine,
            run_id,
            RunState.INTERRUPTED,
            action=Action.RUN_INTERRUPTED,
            actor=services.actor,
        )
