# SPDX-License-Identifier: Apache-2.0
"""The command that foresees an audit: plan."""

from typing import TYPE_CHECKING, Any

import typer

from affidavit.cli.options import HomeOption, JsonOption, SpecArgument, open_services
from affidavit.cli.output import print_json, say, size_text, time_text, warn
from affidavit.cli.progress import open_progress

if TYPE_CHECKING:
    from pipeline.planning import PreparedAudit


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    app.command()(plan)


def plan(
    spec: SpecArgument, *, json: JsonOption = False, home: HomeOption = None
) -> None:
    """Check a spec, count its items and shards, and estimate the time."""
    from pipeline.spec_checks import check_spec  # noqa: PLC0415

    with open_services(home, None) as services:
        # Before torch is loaded, which takes seconds: most mistakes show here.
        checked = check_spec(services, spec)
        from pipeline.planning import prepare_checked  # noqa: PLC0415

        audit = prepare_checked(services, checked)
        items = 0
        with open_progress("counting", None, quiet=json) as progress:
            for _item in audit.source.items():
                items += 1
                progress.add(1)
    document = _document(audit, items)
    warn(document["warnings"])
    if json:
        print_json(document)
    else:
        _tell(document)


def _document(audit: "PreparedAudit", items: int) -> dict[str, Any]:
    """Return what the plan says of so many items."""
    from pipeline.planning import item_bytes  # noqa: PLC0415

    fixed = audit.plan
    return {
        "audit": audit.written.audit,
        "items": items,
        "shards": -(-items // fixed.shard_size),
        "shard_size": fixed.shard_size,
        "batch_size": fixed.batch_size,
        "batch_source": fixed.batch_source,
        "batch_trials": fixed.batch_trials,
        "dtype": fixed.dtype,
        "compiled": fixed.compiled,
        "precision": fixed.precision,
        "layer": fixed.layer,
        "layer_reason": fixed.layer_reason,
        "target": fixed.target,
        "device": fixed.device,
        "threads": fixed.threads,
        "classes": fixed.class_count,
        "passes_per_item": fixed.passes_per_item,
        "item_seconds": fixed.item_seconds,
        "speed_source": fixed.speed_source,
        "estimated_seconds": items * (fixed.item_seconds or 0.0),
        "bytes_per_item": item_bytes(fixed),
        "estimated_bytes": items * item_bytes(fixed),
        "spec_digest": audit.spec_sha256,
        "model_digest": audit.model_sha256,
        "warnings": audit.foreseen.warnings(),
    }


def _tell(plan: dict[str, Any]) -> None:
    """Say the same to a person."""
    layer = f"{plan['layer']} ({plan['layer_reason']})" if plan["layer"] else "none"
    seconds = time_text(plan["estimated_seconds"])
    say(f"The spec '{plan['audit']}' is sound; nothing was stored.")
    say(
        f"  items        {plan['items']:,} in {plan['shards']:,} shards of at most "
        f"{plan['shard_size']}, batches of {plan['batch_size']} "
        f"({plan['batch_source']})"
    )
    if plan["precision"] is not None:
        _tell_precision(plan)
    say(f"  layer        {layer}")
    say(f"  cost         about {plan['passes_per_item']:,.0f} forward passes an item")
    say(
        f"  time         about {seconds} on one {plan['device']} worker, by "
        f"{plan['speed_source']}"
    )
    say(
        f"  artifacts    about {plan['bytes_per_item']} bytes an item, "
        f"{size_text(plan['estimated_bytes'])} in all"
    )
    say(f"  model        SHA-256 {plan['model_digest']}")


def _tell_precision(plan: dict[str, Any]) -> None:
    """Say how far the network as planned is from float32."""
    compiled = ", compiled" if plan["compiled"] else ""
    for name in ("noise", "items"):
        found = plan["precision"][name]
        if found is not None:
            say(
                f"  precision    {plan['dtype']}{compiled}, on {found['compared']} of "
                f"{name}: maps differ by up to {found['map_difference']:.3g}, masks "
                f"overlap by {found['mask_iou']:.3g}"
            )
