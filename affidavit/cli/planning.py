# SPDX-License-Identifier: Apache-2.0
"""The command that foresees an audit: plan."""

from typing import Any

import typer

from affidavit.cli.options import HomeOption, JsonOption, SpecArgument, open_services
from affidavit.cli.output import print_json, say, size_text, time_text, warn
from affidavit.cli.progress import open_progress


def register(app: typer.Typer) -> None:
    """The commands are part of the app."""
    app.command()(plan)


def plan(
    spec: SpecArgument, *, json: JsonOption = False, home: HomeOption = None
) -> None:
    """Check a spec, count its items and shards, and estimate the time."""
    from pipeline.spec_checks import check_spec  # noqa: PLC0415

    with open_services(home) as services:
        # Before torch is loaded, which takes seconds: most mistakes show here.
        checked = check_spec(services, spec)
        from pipeline.planning import item_bytes, prepare_checked  # noqa: PLC0415

        audit = prepare_checked(services, checked)
        items = 0
        with open_progress("counting", None, quiet=json) as progress:
            for _item in audit.source.items():
                items += 1
                progress.add(1)
    fixed = audit.plan
    seconds = items * (fixed.item_seconds or 0.0)
    document: dict[str, Any] = {
        "audit": audit.written.audit,
        "items": items,
        "shards": -(-items // fixed.shard_size),
        "shard_size": fixed.shard_size,
        "batch_size": fixed.batch_size,
        "layer": fixed.layer,
        "layer_reason": fixed.layer_reason,
        "target": fixed.target,
        "device": fixed.device,
        "threads": fixed.threads,
        "classes": fixed.class_count,
        "passes_per_item": fixed.passes_per_item,
        "item_seconds": fixed.item_seconds,
        "estimated_seconds": seconds,
        "bytes_per_item": item_bytes(fixed),
        "estimated_bytes": items * item_bytes(fixed),
        "spec_digest": audit.spec_sha256,
        "model_digest": audit.model_sha256,
        "warnings": audit.foreseen.warnings(),
    }
    warn(document["warnings"])
    if json:
        print_json(document)
        return
    say(f"The spec '{audit.written.audit}' is sound; nothing was stored.")
    say(
        f"  items        {items:,} in {document['shards']:,} shards of at most "
        f"{fixed.shard_size}, batches of {fixed.batch_size}"
    )
    layer = f"{fixed.layer} ({fixed.layer_reason})" if fixed.layer else "none"
    say(f"  layer        {layer}")
    say(f"  cost         about {fixed.passes_per_item:,.0f} forward passes an item")
    say(f"  time         about {time_text(seconds)} on one {fixed.device} worker")
    say(
        f"  artifacts    about {item_bytes(fixed)} bytes an item, "
        f"{size_text(document['estimated_bytes'])} in all"
    )
    say(f"  model        SHA-256 {audit.model_sha256}")
