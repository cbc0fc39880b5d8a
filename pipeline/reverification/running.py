# SPDX-License-Identifier: Apache-2.0
"""A re-verification from the draw to the ledger: at most one entry, and always one.

It is recorded however it ends. Otherwise whoever asks could look at the first
differing item, stop, and ask again for another draw.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import sqlalchemy as sa

from ledger.checkpoint import read_unverified
from ledger.entries import Action, Detail
from ledger.errors import LedgerError
from pipeline.digests import result_digest
from pipeline.errors import SpecError
from pipeline.evidence import require_covered
from pipeline.reverification.draw import Batch, DrawKey, batches_of, drawn
from pipeline.reverification.outcome import Outcome
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.signing import seal
from pipeline.software import other_software, software_versions
from pipeline.spec import AuditSpec
from storage.engine import epoch_now, reading, transaction
from storage.errors import StateConflictError, StorageError
from storage.events import record
from storage.items import iterate_items
from storage.retention import kept_as
from storage.runs import list_shards
from storage.states import RunState, ShardState
from storage.subjects import new_token
from storage.tables import ReverificationTable, RunTable

if TYPE_CHECKING:
    from pipeline.run_context import RunContext


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """What will be computed again, before anything is."""

    run: RunTable
    batches: list[Batch]
    outcome: Outcome


def draw_for(services: Services, run: RunTable, fraction: float) -> Draw:
    """Return what a fraction of the run draws at the newest checkpoint.

    Raises:
        SpecError: the fraction is not above 0 and at most 1.
        StateConflictError: the run cannot be computed again; the message says why.
    """
    if not 0 < fraction <= 1:
        raise SpecError(
            f"--fraction must be above 0 and at most 1, got {fraction:g}; 0.05 is one "
            "item in twenty."
        )
    _require_recomputable(services, run)
    seal(services)
    head = read_unverified(require_covered(services, run))
    plan = RunPlan.from_json(run.plan)
    shards = list_shards(services.engine, run.id)
    slices = [
        (shard.first_item, shard.item_count)
        for shard in shards
        if shard.state == ShardState.DONE
    ]
    batches = batches_of(slices, plan.batch_size)
    key = DrawKey(
        run_id=run.id, seed=plan.seed, tree_size=head.size, root=head.root.hex()
    )
    taken = drawn(batches, fraction, key)
    outcome = Outcome(
        key=key,
        fraction=fraction,
        items_total=sum(batch.item_count for batch in batches),
        batches=len(taken),
        drawn=sum(batch.item_count for batch in taken),
    )
    return Draw(run=run, batches=taken, outcome=outcome)


def _require_recomputable(services: Services, run: RunTable) -> None:
    if run.state not in {RunState.DONE, RunState.INCOMPLETE}:
        raise StateConflictError(
            f"The run {run.id} is {run.state}; only a finished run can be computed "
            "again."
        )
    with reading(services.engine) as session:
        kept = kept_as(session, run.id)
    if kept is not None and kept.purged_at is not None:
        raise StateConflictError(
            f"The run {run.id} is purged; there is nothing left to compare with."
        )
    if run.not_comparable:
        raise StateConflictError(
            f"In the run {run.id} a batch was halved for lack of memory, so that its "
            "last bits cannot be computed again; run the audit anew on a machine with "
            "more memory, and compute that run again."
        )
    found = other_software(run.plan.get("versions") or {}, software_versions())
    if found is not None:
        raise StateConflictError(
            f"This installation has {found[0]}, the run {run.id} was made with "
            f"{found[1]}; its last bits can be computed again with that version only."
        )


def open_context(services: Services, run: RunTable) -> "RunContext":
    """Return the run's network and preparation, as its own workers had them.

    Raises:
        ModelError: the weights are gone or are not those of the run.
        InfrastructureError: the device of the run is not on this machine.
    """
    from pipeline.devices import pick_device  # noqa: PLC0415 - loads torch
    from pipeline.executor_building import build_executor  # noqa: PLC0415
    from pipeline.run_context import make_context  # noqa: PLC0415
    from pipeline.trust import trust_recorded  # noqa: PLC0415

    plan, spec = RunPlan.from_json(run.plan), AuditSpec.model_validate(run.spec)
    roots = services.roots_noted(plan.roots)
    with trust_recorded(services, spec.model.source, f"run/{run.id}"):
        executor = build_executor(
            spec,
            plan,
            device=pick_device(plan.device),
            model_sha256=run.model_digest,
            plugins=services.settings.plugins,
            roots=roots,
        )
    return make_context(services, run, executor, roots=roots)


def reverify(
    services: Services,
    draw: Draw,
    context: "RunContext",
    *,
    stop: Callable[[], bool] = lambda: False,
    on_items: Callable[[int], None] = lambda _count: None,
) -> Outcome:
    """Return how the drawn items came out; the ledger tells of it in one entry.

    Args:
        services: Database and stores.
        draw: What `draw_for` gave.
        context: What `open_context` gave.
        stop: Asked at each batch boundary.
        on_items: Told how many more items are through.

    Raises:
        InfrastructureError: a source failed; what was found so far is recorded.
        StorageError: the database failed.
    """
    from pipeline.reverification.recomputing import recompute  # noqa: PLC0415 - torch

    outcome = draw.outcome
    with _recorded(services, draw):
        outcome.rows_hold = _rows_hold(services, draw.run)
        with context.executor.session():
            for batch in draw.batches:
                if stop():
                    outcome.stopped = True
                    break
                recompute(services, context, batch, outcome)
                on_items(batch.item_count)
    return outcome


def _rows_hold(services: Services, run: RunTable) -> bool | None:
    """Return whether the digests of the rows give the result that was signed."""
    if run.result_digest is None:
        return None

    def digests() -> Iterator[bytes]:
        for row in iterate_items(services.engine, run.id):
            yield row.record_digest

    found = result_digest(run.spec_digest, run.model_digest, digests())
    return found == run.result_digest


@contextmanager
def _recorded(services: Services, draw: Draw) -> Iterator[None]:
    """However the block ends, the ledger tells what it found."""
    try:
        yield
    except BaseException:
        draw.outcome.stopped = True
        with suppress(StorageError, LedgerError):
            _record(services, draw)
        raise
    _record(services, draw)


def _record(services: Services, draw: Draw) -> None:
    outcome, run = draw.outcome, draw.run
    facts = outcome.facts()
    made = new_token()
    details: dict[str, Detail] = {
        name: value
        for name, value in facts.items()
        if name not in {"fraction", "reasons"}
    }
    # Entries hold no floats.
    details["fraction"] = repr(outcome.fraction)
    details["verdict"] = outcome.verdict.value
    details["reverification"] = made
    if services.purpose is not None:
        details["purpose"] = services.purpose.value
    with transaction(services.engine) as session:
        session.add(
            ReverificationTable(
                id=made,
                run_id=run.id,
                verdict=outcome.verdict.value,
                facts=facts,
                made_by=services.actor,
                made_at=session.scalar(sa.select(epoch_now())) or 0.0,
            )
        )
        record(
            session,
            Action.RUN_REVERIFIED,
            f"run/{run.id}",
            actor=services.actor,
            digest=run.result_digest,
            details=details,
        )
    seal(services)
