# SPDX-License-Identifier: Apache-2.0
"""What the command line and the API tell about a run, as plain values."""

from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from sqlalchemy.engine import make_url

from pipeline.services import Services
from storage.errors import SchemaOutdatedError
from storage.runs import get_progress, list_shards
from storage.schema import require_current
from storage.states import RunState, ShardState
from storage.tables import RunTable, ShardTable


def missing_database(services: Services) -> Path | None:
    """Return the SQLite file that is not there yet, None where one or a server is.

    Looking must not make it, as connecting would.
    """
    url = services.settings.resolved_database_url
    if not url.startswith("sqlite:"):
        return None
    path = make_url(url).database
    return None if not path or Path(path).exists() else Path(path)


def require_database(services: Services) -> None:
    """Nothing happens if the database is there and has this version's tables.

    Raises:
        SchemaOutdatedError: it has not; the message says which command mends it.
    """
    missing = missing_database(services)
    if missing is not None:
        raise SchemaOutdatedError(
            f"There is no database at {missing}; 'affidavit run' and 'affidavit init' "
            "make one, and --home or AFFIDAVIT_HOME leads to another."
        )
    require_current(services.engine)


def object_uri(services: Services, key: str) -> str:
    """Return where an object lies: a path in a folder store, else an s3:// URI."""
    url = services.settings.resolved_object_store_url
    if url.startswith("s3://"):
        return f"{url.rstrip('/')}/{key}"
    root = unquote(urlsplit(url).path) if url.startswith("file:") else url
    return str(Path(root).expanduser().absolute() / key)


def run_document(services: Services, run: RunTable) -> dict[str, Any]:
    """Return the run as `run`, `submit` and `status` print it."""
    progress = get_progress(services.engine, run)
    summary = run.summary or {}
    counts = summary.get("items") or {
        "total": run.items_total,
        "done": progress.items_done,
        "failed": 0,
    }
    report = summary.get("report") or {}
    shards = list_shards(services.engine, run.id)
    return {
        "run": run.id,
        "audit": run.spec["audit"],
        "state": run.state,
        "error": run.error,
        "items": counts,
        "reasons": summary.get("reasons", {}),
        "result_digest": run.result_digest,
        "not_comparable": run.not_comparable,
        "spec_digest": run.spec_digest,
        "model_digest": run.model_digest,
        "criteria": summary.get("criteria", []),
        "change": summary.get("change"),
        "criteria_met": criteria_met(run),
        "sanity": (run.plan.get("sanity") or {}).get("verdict"),
        "report": object_uri(services, report["html"]) if report else None,
        "report_json": object_uri(services, report["json"]) if report else None,
        "artifacts": [
            object_uri(services, shard.object_key)
            for shard in shards
            if shard.object_key is not None
        ],
        "dead_shards": [
            _dead(shard) for shard in shards if shard.state == ShardState.DEAD
        ],
        "shards": {state.value: progress.shards.get(state, 0) for state in ShardState},
        "schedule": (run.origin or {}).get("schedule"),
        "slot": (run.origin or {}).get("slot"),
        "incremental": (run.origin or {}).get("incremental"),
        "parent": run.parent_run_id,
        "queue": run.queue,
        "device": run.plan.get("device"),
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
    }


def _dead(shard: ShardTable) -> dict[str, Any]:
    return {
        "shard": shard.shard_index,
        "attempts": shard.attempt,
        "error": shard.error,
        "worker": shard.worker,
        "first_item": shard.first_item,
        "items": shard.item_count,
    }


def criteria_met(run: RunTable) -> bool | None:
    """Return whether every criterion passed; None while there is no verdict."""
    if run.summary is None:
        return None
    verdicts = run.summary.get("criteria", [])
    return run.state == RunState.DONE and all(v["verdict"] == "pass" for v in verdicts)
