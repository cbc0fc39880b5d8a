# SPDX-License-Identifier: Apache-2.0
"""The ledger as static files: read by a reader of its own, grown, and never altered."""

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from ledger.checkpoint import open_note
from ledger.entries import Action
from ledger.errors import BrokenLedgerError
from ledger.key_file import load_verifier
from pipeline.services import Services
from pipeline.settings import Settings
from pipeline.signing import open_signing_key, write_signed_checkpoint
from pipeline.tile_publishing import publish_tiles
from storage.engine import transaction
from storage.events import record
from storage.objects import ObjectNotFoundError, ObjectStore
from storage.schema import ensure_embedded_schema
from storage.tables import EntryTable
from tests.integration.ledger_writer_test import disarm
from tests.support.places import StorePlace
from tests.support.tile_reader import TileReader, holds
from tests.support.workspace import Workspace


@pytest.fixture
def services(object_store_place: StorePlace, tmp_path: Path) -> Iterator[Services]:
    """An installation on SQLite that publishes into a folder or a bucket."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in object_store_place.environment().items():
            patch.setenv(name, value)
        settings = Settings(home=tmp_path / "home", tiles=True)
    made = Services(settings=settings, actor="user/tester")
    ensure_embedded_schema(settings.resolved_database_url, actor=made.actor)
    yield made
    made.close()


def _grow(services: Services, count: int, *, at_once: bool = True) -> int:
    """Return the size of the ledger, grown by so many entries and signed."""
    with transaction(services.engine) as session:
        for number in range(count):
            record(session, Action.ITEM_READ, f"run/r/item/{number}", actor="user/t")
    key = open_signing_key(services)
    return write_signed_checkpoint(services, key, anchor_now=at_once).size


def _read(store: ObjectStore, path: str) -> bytes:
    with store.open(f"ledger/{path}") as file:
        return file.read()


def _reader(services: Services) -> TileReader:
    return TileReader(lambda path: _read(services.store, path))


def test_a_stranger_reads_the_whole_ledger_from_its_files(services: Services) -> None:
    """Entries, tiles of every level and the signed root agree, as the ledger grows."""
    size = 0
    for count in (3, 250, 1, 300):
        size = _grow(services, count)
        reader = _reader(services)
        assert reader.size == size
        assert holds(reader)
    public = services.settings.resolved_signing_key.with_name("ledger.key.pub")
    assert open_note(_reader(services).note, load_verifier(public)).size == size


def test_whole_tiles_never_change(services: Services) -> None:
    """What somebody has fetched once he need not fetch again."""
    _grow(services, 600)
    keys = list(services.store.keys("ledger/tile/"))
    before = {key: _read(services.store, key.removeprefix("ledger/")) for key in keys}
    assert any(key.endswith("/000") for key in keys)
    _grow(services, 600)
    for key, data in before.items():
        assert _read(services.store, key.removeprefix("ledger/")) == data


def test_publishing_again_and_after_a_crash_gives_the_same(services: Services) -> None:
    """A publisher that died before the checkpoint is made up for by the next one."""
    _grow(services, 300)
    kept = list(services.store.keys("ledger/"))
    services.store.delete("ledger/checkpoint")
    services.store.delete("ledger/tile/1/000.p/1")
    assert publish_tiles(services) == publish_tiles(services)
    assert list(services.store.keys("ledger/")) == kept
    assert holds(_reader(services))


def test_nothing_is_published_before_it_is_due(services: Services) -> None:
    """Between the ends of runs the interval of anchors holds."""
    first = _grow(services, 5)
    _grow(services, 5, at_once=False)
    assert _reader(services).size == first


def test_an_altered_ledger_is_not_spread(services: Services) -> None:
    """A body that is not the one that was signed stops the publisher, by name."""
    services_off = Services(
        settings=services.settings.model_copy(update={"tiles": False}), actor="user/t"
    )
    _grow(services_off, 300)
    with services.engine.begin() as connection:
        disarm(connection)
        connection.execute(
            sa.update(EntryTable).where(EntryTable.idx == 7).values(body=b"{}")
        )
    with pytest.raises(BrokenLedgerError, match="the entries 0 to 255"):
        publish_tiles(services)
    with pytest.raises(ObjectNotFoundError):
        _reader(services)
    services_off.close()


def test_an_altered_leaf_does_not_lead_to_the_root(services: Services) -> None:
    """A leaf hash at the edge of the tree, where no subtree is stored, is noticed."""
    services_off = Services(
        settings=services.settings.model_copy(update={"tiles": False}), actor="user/t"
    )
    size = _grow(services_off, 300)
    with services.engine.begin() as connection:
        disarm(connection)
        connection.execute(
            sa.update(EntryTable)
            .where(EntryTable.idx == size - 1)
            .values(leaf_hash=bytes(32))
        )
    with pytest.raises(BrokenLedgerError, match="not those that were signed"):
        publish_tiles(services)
    services_off.close()


def test_two_ledgers_do_not_share_a_store(services: Services, tmp_path: Path) -> None:
    """The files of another ledger are not mixed with this one's."""
    _grow(services, 5)
    other = Services(
        settings=services.settings.model_copy(
            update={"home": tmp_path / "other", "ledger_origin": "other.example/log"}
        ),
        actor="user/t",
    )
    ensure_embedded_schema(other.settings.resolved_database_url, actor="user/t")
    with pytest.raises(BrokenLedgerError, match="a store of its own"):
        _grow(other, 5)
    other.close()


def test_a_run_publishes_at_its_end(tmp_path: Path) -> None:
    """With the setting a run's end is in the files; without it there are none."""
    quiet = Workspace(folder=tmp_path / "quiet").lay_out(4)
    quiet.run(quiet.write_spec())
    assert not (quiet.objects / "ledger").exists()
    loud = Workspace(
        folder=tmp_path / "loud", variables={"AFFIDAVIT_TILES": "true"}
    ).lay_out(4)
    done = loud.run(loud.write_spec())
    reader = TileReader(lambda path: (loud.objects / "ledger" / path).read_bytes())
    assert holds(reader)
    ended = f'"object":"run/{done["run"]}"'.encode()
    said = [body for body in reader.entries() if ended in body]
    assert any(b'"action":"run:finalised"' in body for body in said)
    with contextlib.closing(sqlite3.connect(loud.database)) as connection:
        stored = connection.execute("SELECT body FROM ledger_entries ORDER BY idx")
        assert [body for (body,) in stored][: reader.size] == reader.entries()


def test_doctor_tells_how_far_the_files_are(tmp_path: Path) -> None:
    """Nothing yet, all of it, and files that were left behind for too long."""
    workspace = Workspace(folder=tmp_path)
    assert workspace.call("init").code == 0
    said = {c["part"] for c in workspace.call("doctor", "--json").document["checks"]}
    assert "tiles" not in said

    def tiles() -> dict[str, Any]:
        checks = workspace.call("doctor", "--json").document["checks"]
        found: dict[str, Any] = next(c for c in checks if c["part"] == "tiles")
        return found

    workspace.variables = {"AFFIDAVIT_TILES": "true"}
    assert tiles()["warning"]
    assert workspace.call("log").code == 0  # which is recorded, signed and published
    assert not tiles()["warning"]
    workspace.variables = {"AFFIDAVIT_TILES": "false"}
    assert workspace.call("log").code == 0
    workspace.variables = {
        "AFFIDAVIT_TILES": "true",
        "AFFIDAVIT_ANCHOR_INTERVAL_S": "0.001",
    }
    assert tiles()["warning"]
    assert "entries are published" in tiles()["says"]
