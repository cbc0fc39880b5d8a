# SPDX-License-Identifier: Apache-2.0
"""Handing out a run's report and evidence; each deed is recorded before it is done."""

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from ledger.entries import Action
from pipeline.deeds import record_deed
from pipeline.evidence import require_covered, write_run_bundle
from pipeline.item_finding import require_item
from pipeline.services import Services
from pipeline.sign_off import signed_by
from pipeline.signing import seal
from storage.tables import RunTable


def hand_out_report(
    services: Services,
    run: RunTable,
    *,
    out: Path | None,
    bundle: Path | None,
    pdf: Path | None = None,
) -> list[Path]:
    """Return the report's files in the folder `out`; bundle and PDF are at their paths.

    Nothing is recorded or written unless everything can be.

    Raises:
        OSError: a path cannot be written to.
        StateConflictError: no checkpoint covers the run's end yet.
        InfrastructureError: a PDF cannot be drawn here.
    """
    if pdf is not None:
        require_writable(pdf)
        # Draws pages; who only copies them need not wait for that.
        from pipeline.reports.pdf import require_pdf  # noqa: PLC0415

        require_pdf()
    if bundle is not None:
        require_writable(bundle)
        seal(services)
        require_covered(services, run)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        for kind in ("html", "json"):
            require_writable(out / f"report.{kind}")
    record_deed(services, Action.REPORT_READ, f"run/{run.id}")
    paths = [] if out is None else _copy_report(services, run, out)
    if bundle is not None:
        record_deed(services, Action.EVIDENCE_EXPORTED, f"run/{run.id}")
        write_run_bundle(services, run, bundle)
    if pdf is not None:
        _write_pdf(services, run, pdf)
    return paths


def hand_out_evidence(
    services: Services,
    run: RunTable,
    path: Path,
    *,
    item: str | None = None,
    since: Sequence[str] = (),
) -> None:
    """The evidence of a run, or of one of its items, is at the path.

    Raises:
        OSError: the path cannot be written to.
        UnknownRunError: the run has no such item.
        StateConflictError: no checkpoint covers the run's end yet.
    """
    require_writable(path)
    location = None if item is None else require_item(services, run, item)
    seal(services)
    require_covered(services, run)
    name = f"run/{run.id}"
    if location is None:
        record_deed(services, Action.EVIDENCE_EXPORTED, name)
        write_run_bundle(services, run, path, since=since)
    else:
        name = f"{name}/item/{location.item_id}"
        # Reads artifacts; who looks at a report need not wait for that.
        from pipeline.item_evidence import write_evidence_of_item  # noqa: PLC0415

        record_deed(services, Action.EVIDENCE_EXPORTED, name)
        write_evidence_of_item(services, run, location, path, since=since)


def require_writable(path: Path) -> None:
    """Nothing happens if a file can be put there.

    Raises:
        OSError: it cannot; the error names the path.
    """
    folder = path.parent
    if not folder.is_dir():
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(folder))
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not os.access(folder, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def _write_pdf(services: Services, run: RunTable, path: Path) -> None:
    """The PDF is at the path, whole or not at all."""
    from pipeline.reports.pdf import render_pdf  # noqa: PLC0415

    page, document = (
        _stored(services, (run.summary or {})["report"][kind])
        for kind in ("html", "json")
    )
    drawn = render_pdf(page, document, signed_by(services, run))
    draft = path.with_name(f".{path.name}.part")
    try:
        draft.write_bytes(drawn)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def _stored(services: Services, key: str) -> bytes:
    with services.store.open(key) as source:
        return source.read()


def _copy_report(services: Services, run: RunTable, folder: Path) -> list[Path]:
    keys = (run.summary or {})["report"]
    paths = []
    for kind in ("html", "json"):
        target = folder / f"report.{kind}"
        with services.store.open(keys[kind]) as source, target.open("wb") as copy:
            shutil.copyfileobj(source, copy)
        paths.append(target.absolute())
    return paths
