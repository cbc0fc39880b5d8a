# SPDX-License-Identifier: Apache-2.0
"""A worker reads what its own folders hold, whatever a run's row says."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
import torch

from pipeline.domain import SourceItem
from pipeline.errors import ItemError, Reason
from pipeline.paths import PathEscapeError
from pipeline.planning import prepare
from pipeline.run_creation import create_run
from pipeline.services import Services
from pipeline.settings import Settings
from storage.runs import get_run
from storage.worker_registry import live_workers
from tests.support.planted import plant_worker, run, services_of, set_run
from tests.support.workspace import Workspace, photograph
from workers.lifecycle import describe_worker
from workers.process_state import ProcessState
from workers.reach import WatchedSource


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """A folder with a network and photographs."""
    return Workspace(folder=tmp_path / "work").lay_out(2)


def stored_run(services: Services, workspace: Workspace) -> str:
    """Return the id of a queued run of the workspace's audit."""
    audit = prepare(services, workspace.write_spec())
    return create_run(services, audit, queue="cpu")


@pytest.mark.parametrize("how", ["setting", "working folder"])
def test_a_row_never_widens_what_a_worker_reads(
    sqlite_engine: sa.Engine,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """With a run whose row allows everything, inputs elsewhere stay out of reach."""
    monkeypatch.chdir(workspace.folder)
    services = services_of(sqlite_engine, workspace.home)
    run_id = stored_run(services, workspace)
    plan = get_run(sqlite_engine, run_id).plan
    set_run(sqlite_engine, run_id, plan={**plan, "roots": ["/"]})
    outside = workspace.folder.parent / "outside.png"
    photograph(1).save(outside)
    if how == "setting":
        monkeypatch.chdir("/")
        roots = services.settings.model_copy(
            update={"allowed_roots": str(workspace.folder)}
        )
        services = replace(services, settings=roots)
    context = ProcessState(services).context(run(sqlite_engine, run_id))
    reader = context.preparer.reader
    assert reader.read(str(workspace.folder / "photos" / "0000.png"))
    with pytest.raises(ItemError) as caught:
        reader.read(str(outside))
    assert caught.value.reason is Reason.OUTSIDE_ALLOWED_ROOTS
    services.close()


@pytest.mark.parametrize("how", ["path", "link"])
def test_weights_outside_of_a_workers_folders_are_not_opened(
    sqlite_engine: sa.Engine,
    workspace: Workspace,
    monkeypatch: pytest.MonkeyPatch,
    how: str,
) -> None:
    """Neither a row that names them nor a link that was put in their place helps."""
    monkeypatch.chdir(workspace.folder)
    services = services_of(sqlite_engine, workspace.home)
    run_id = stored_run(services, workspace)
    inside = workspace.folder / "tiny.pt"
    outside = workspace.folder.parent / "tiny.pt"
    inside.rename(outside)
    if how == "path":
        spec = get_run(sqlite_engine, run_id).spec
        weights = {**spec["model"], "weights": str(outside)}
        set_run(sqlite_engine, run_id, spec={**spec, "model": weights})
    else:
        inside.symlink_to(outside)
    opened: list[str] = []
    monkeypatch.setattr(torch, "load", lambda *_a, **_k: opened.append("opened"))
    with pytest.raises(PathEscapeError, match="leads outside"):
        ProcessState(services).context(run(sqlite_engine, run_id))
    assert opened == []
    services.close()


def test_an_empty_list_of_folders_allows_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An administrator who sets nothing to be read is taken at the word."""
    monkeypatch.chdir(tmp_path)
    settings = Settings(home=tmp_path, allowed_roots="", device="cpu")
    assert describe_worker(settings).roots == ()
    services = Services(settings=settings, actor="worker/w", own_roots=(tmp_path,))
    assert services.roots_noted(["/"]).roots == ()
    unset = Settings(home=tmp_path, device="cpu")
    assert describe_worker(unset).roots == (str(Path.cwd()),)
    services = Services(settings=unset, actor="worker/w", own_roots=(tmp_path,))
    assert services.roots_noted(["/"]).roots == (tmp_path,)
    services = Services(settings=unset, actor="user/u")
    assert services.roots_noted(["/"]).roots == (Path("/"),)


class Listed:
    """A source with the items that it is given."""

    kind = "csv"

    def __init__(self, *items: SourceItem) -> None:
        self._items = items

    def items(self) -> Iterator[SourceItem]:
        """Yield them."""
        yield from self._items


def test_the_submitter_hears_which_rows_the_workers_cannot_read(
    sqlite_engine: sa.Engine, tmp_path: Path
) -> None:
    """Rows and masks outside are counted for each worker, and none is named."""
    shared, other = tmp_path / "shared", tmp_path / "other"
    (shared / "a").mkdir(parents=True)
    other.mkdir()
    (shared / "linked").symlink_to(other)
    plant_worker(sqlite_engine, "cpu", str(shared))
    source = Listed(
        SourceItem(uri="s3://bucket/anywhere.png"),
        SourceItem(uri=str(shared / "a" / "x.png"), mask_uri=str(shared / "m.png")),
        SourceItem(uri=str(other / "smith.png"), mask_uri="s3://bucket/m.png"),
        SourceItem(uri=str(shared / "a" / "y.png"), mask_uri=str(other / "m.png")),
        SourceItem(uri=str(shared / "linked" / "z.png")),
    )
    watched = WatchedSource(source, live_workers(sqlite_engine))
    assert list(watched.items()) == list(source.items())
    (sentence,) = watched.warnings()
    assert "3 of 5 items lie outside what the worker 'cpu-planted' reads" in sentence
    assert "1 of them with their mask alone" in sentence
    assert "the first is item 2" in sentence
    assert "smith" not in sentence
    everywhere = Listed(SourceItem(uri=str(shared / "x.png")))
    watched = WatchedSource(everywhere, live_workers(sqlite_engine))
    assert len(list(watched.items())) == 1
    assert watched.warnings() == []
