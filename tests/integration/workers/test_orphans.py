# SPDX-License-Identifier: Apache-2.0
"""What nobody names is collected once it is old; everything else stays."""

import hashlib
import io
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa

from ledger.entries import Action
from pipeline.orphans import collect_orphans, find_orphans
from pipeline.services import Services
from pipeline.settings import Settings
from tests.support.planted import (
    at_once,
    claimed,
    entries,
    finish,
    let_lease_run_out,
    plant_run,
    services_of,
    set_shard,
    shard_ids,
)


@pytest.fixture
def services(
    engine: sa.Engine, object_store_place: object, tmp_path: object
) -> Iterator[Services]:
    """Services on each database and each kind of store."""
    place = object_store_place
    variables = {
        name.removeprefix("AFFIDAVIT_").lower(): value
        for name, value in place.environment().items()  # type: ignore[attr-defined]
    }
    found = Services(
        settings=Settings(
            home=tmp_path,  # type: ignore[arg-type]
            database_url=engine.url.render_as_string(hide_password=False),
            **variables,
        ),
        actor="user/tester",
    )
    yield found
    found.close()


def _put(services: Services, key: str) -> str:
    data = key.encode()
    digest = hashlib.sha256(data).hexdigest()
    services.store.put(key, io.BytesIO(data), sha256=digest)
    return key


def _artifact(run_id: str, shard: int, attempt: int) -> str:
    return f"runs/{run_id}/shards/{shard:06d}.a{attempt}.parquet"


def test_only_what_no_shard_names_goes(services: Services) -> None:
    """Artifacts of lost attempts go; named ones, those at work and others stay."""
    engine = services.engine
    run_id = plant_run(engine, shards=3)
    done, at_work, dead = shard_ids(engine, run_id)
    claimed(engine, done)
    let_lease_run_out(engine, done)
    finish(engine, claimed(engine, done))
    set_shard(engine, done, object_key=_artifact(run_id, 0, 2))
    claimed(engine, at_work)
    claimed(engine, dead)
    set_shard(engine, dead, state="dead")
    lost = [
        _put(services, _artifact(run_id, 0, 1)),
        _put(services, _artifact(run_id, 2, 1)),
    ]
    kept = [
        _put(services, _artifact(run_id, 0, 2)),
        _put(services, _artifact(run_id, 1, 1)),
        _put(services, f"runs/{run_id}/report.html"),
        _put(services, f"runs/{run_id}/shards/notes.txt"),
        _put(services, _artifact("0123456789ab", 0, 1)),
    ]
    assert collect_orphans(services, older_than_s=3600) == []
    found = collect_orphans(services, older_than_s=0, dry_run=True)
    assert sorted(orphan.key for orphan in found) == lost
    assert sorted(services.store.keys("")) == sorted([*lost, *kept])

    collected = at_once([lambda: collect_orphans(services, older_than_s=0)] * 2)
    assert {orphan.key for part in collected for orphan in part} == set(lost)
    assert sorted(services.store.keys("")) == sorted(kept)
    assert list(find_orphans(services, older_than_s=0)) == []
    told = {entry.object for entry in entries(engine, action=Action.OBJECT_COLLECTED)}
    assert told == {key.removesuffix(".parquet") for key in lost}


def test_half_written_files_of_dead_writers_go(
    engine: sa.Engine, tmp_path: Path
) -> None:
    """A folder's old temporary files go; young ones and those of others stay."""
    services = services_of(engine, tmp_path / "home")
    _put(services, "runs/x/report.html")
    incoming = next(tmp_path.rglob(".incoming"))
    names = {"old": "0" * 32, "young": "1" * 32, "foreign": "notes"}
    for name in names.values():
        (incoming / name).write_bytes(b"half")
    for which in ("old", "foreign"):
        two_hours_ago = time.time() - 7200
        os.utime(incoming / names[which], (two_hours_ago, two_hours_ago))
    found = collect_orphans(services, older_than_s=0, dry_run=True)
    assert [orphan.key for orphan in found] == [names["old"]]
    at_once([lambda: collect_orphans(services, older_than_s=0)] * 2)
    left = {path.name for path in incoming.iterdir()}
    assert left == {names["young"], names["foreign"]}
    told = {entry.object for entry in entries(engine, action=Action.OBJECT_COLLECTED)}
    assert told == {f"incoming/{names['old']}"}
    services.close()
