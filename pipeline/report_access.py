# SPDX-License-Identifier: Apache-2.0
"""Handing out a run's report; that it was read is itself recorded."""

import shutil
from pathlib import Path

from ledger.entries import Action
from pipeline.services import Services
from storage.engine import transaction
from storage.events import record
from storage.tables import RunTable


def copy_report(services: Services, run: RunTable, folder: Path) -> list[Path]:
    """Return the paths of the report's files, now copied into the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    keys = (run.summary or {})["report"]
    paths = []
    for kind in ("html", "json"):
        target = folder / f"report.{kind}"
        with services.store.open(keys[kind]) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
        paths.append(target.absolute())
    return paths


def record_reading(services: Services, run: RunTable) -> None:
    """The ledger says that the report was handed out."""
    with transaction(services.engine) as session:
        record(session, Action.REPORT_READ, f"run/{run.id}", actor=services.actor)
