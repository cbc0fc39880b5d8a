# SPDX-License-Identifier: Apache-2.0
"""Queueing an audit: checked here as far as possible, then one transaction."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from pipeline.errors import InfrastructureError, SpecError
from pipeline.incremental import wanted_items
from pipeline.paths import is_remote
from pipeline.planning import PreparedAudit, prepare_checked
from pipeline.run_creation import create_run
from pipeline.run_origin import RunOrigin
from pipeline.services import Services
from pipeline.spec import AuditSpec
from pipeline.spec_checks import CheckedSpec, check_spec
from pipeline.store_probe import require_store
from pipeline.trust import trust_recorded
from storage.installation import installation_id
from storage.schedule_slots import SlotClaim
from storage.tables import WorkerTable
from storage.worker_registry import live_workers
from workers.app import COMPUTE_QUEUES, create_app
from workers.broker import require_broker
from workers.broker_owner import require_own_broker
from workers.broker_tls import broker_tls
from workers.dispatch import dispatch
from workers.hints import publisher, send_tick
from workers.reach import WatchedSource


def submit(
    services: Services,
    spec_path: Path,
    *,
    on_items: Callable[[int], None] = lambda _count: None,
    incremental: bool = False,
) -> tuple[str, list[str]]:
    """Return the id of the queued run, and warnings for its user.

    Args:
        services: Database, stores and the broker's address.
        spec_path: The spec file.
        on_items: Told how many more items are in the manifest.
        incremental: Whether only what is new or changed is run.

    Raises:
        SpecError: the spec is wrong, or names a path that workers do not share.
        InfrastructureError: the broker is down, or no live worker has the device.
        NothingNewError: no item is new or changed.
    """
    app = create_app(services.settings)
    require_broker(str(app.conf.broker_url), broker_tls(services.settings))
    require_own_broker(services.settings, installation_id(services.engine))
    require_store(services.store)
    checked = check_spec(services, spec_path)
    run_id, warnings = queue_audit(
        services, checked, on_items=on_items, incremental=incremental
    )
    wake_workers(services)
    return run_id, warnings


def queue_audit(
    services: Services,
    checked: CheckedSpec,
    *,
    on_items: Callable[[int], None] = lambda _count: None,
    incremental: bool = False,
    slot: SlotClaim | None = None,
) -> tuple[str, list[str]]:
    """Return the id of the stored run, and warnings; no worker is told of it yet.

    Raises:
        SpecError, InfrastructureError, NothingNewError: as `submit`.
        FencedOutError: another planner owns the slot.
    """
    workers = live_workers(services.engine)
    device = choose_device(checked.written, workers)
    audit = prepare_for(services, checked, device)
    queue = "gpu" if device == "cuda" else "cpu"
    able = [worker for worker in workers if worker.queue == queue]
    refuse_unshared_paths(audit, able)
    with wanted_items(services, audit, incremental=incremental) as (chosen, source):
        watched = WatchedSource(chosen.source, able)
        run_id = create_run(
            services,
            replace(chosen, source=watched),
            queue=queue,
            on_items=on_items,
            origin=RunOrigin(slot=slot, incremental=source),
        )
    warnings = [*audit.foreseen.warnings(), *watched.warnings()]
    if not able:
        warnings.append(
            f"no worker is alive on the queue '{queue}'; start one with 'affidavit "
            f"worker --queue {queue}'."
        )
    return run_id, warnings


def prepare_for(services: Services, checked: CheckedSpec, device: str) -> PreparedAudit:
    """Return the audit planned on this machine for workers with that device."""
    with trust_recorded(services, checked.written.model.source):
        return prepare_checked(services, checked, device="cpu", for_device=device)


def choose_device(spec: AuditSpec, workers: list[WorkerTable]) -> str:
    """Return the kind of device that the run will be done on.

    Raises:
        InfrastructureError: no live worker offers the device asked for.
    """
    offered = {worker.device for worker in workers if worker.queue in COMPUTE_QUEUES}
    asked = spec.run.device.partition(":")[0]
    if asked == "auto":
        return "cuda" if "cuda" in offered else "cpu"
    if asked != "cpu" and asked not in offered:
        raise InfrastructureError(
            f"No live worker offers the device '{asked}'; alive are: "
            f"{', '.join(sorted(offered)) or 'none'}. Start one with 'affidavit worker "
            "--queue gpu' or set run.device to auto."
        )
    return asked


def refuse_unshared_paths(audit: PreparedAudit, workers: list[WorkerTable]) -> None:
    """Nothing happens if every local path lies under a folder that workers share.

    Raises:
        SpecError: one does not; the message names it and what workers can read.
    """
    local = [audit.resolved.data.source, audit.resolved.model.weights]
    paths = [
        Path(text)
        for text in local
        if text is not None and text != "hub" and not is_remote(text)
    ]
    for worker in workers:
        roots = [Path(root) for root in worker.roots]
        for path in paths:
            if not any(path.is_relative_to(root) for root in roots):
                shared = ", ".join(str(root) for root in roots)
                raise SpecError(
                    f"The worker '{worker.name}' cannot read {path}; it reads "
                    f"{shared} only. Move the data there, use s3://, or start the "
                    "worker with AFFIDAVIT_ALLOWED_ROOTS."
                )


def wake_workers(services: Services) -> None:
    """Hints are on their way; if the broker broke off, the next tick sends them."""
    app = create_app(services.settings)
    try:
        dispatch(services, publisher(app))
        send_tick(app)
    except InfrastructureError:
        # The run is stored; that is what counts.
        return
    finally:
        app.close()


def wake_control(services: Services) -> None:
    """A control worker looks around soon; if the broker is down, the beat will do."""
    app = create_app(services.settings)
    try:
        send_tick(app)
    finally:
        app.close()
