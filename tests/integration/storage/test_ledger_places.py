# SPDX-License-Identifier: Apache-2.0
"""The index of the ledger names the entries of a run, and nothing trusts it blindly."""

import json
from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from alembic import command

from ledger.checkpoint import SigningKey
from ledger.entries import Action, Entry
from ledger.succession import link_details
from storage.engine import create_engine, transaction
from storage.events import record
from storage.ledger_places import NO_RUN, indexes_of, place_of, read_places
from storage.ledger_writer import ledger_size, sequence
from storage.tables import LedgerPlaceTable, OutboxTable
from tests.integration.storage.test_migrations import configured
from tests.support.databases import upgraded

#: Objects and where they belong.
PLACES = {
    "run/abc": ("abc", ""),
    "run/abc/shard/7": ("abc", "shard/7"),
    "run/abc/item/0a:b=c": ("abc", "item/0a:b=c"),
    "run/abcd": ("abcd", ""),
    "subject/abc": None,
    "ledger": None,
}


@pytest.fixture
def engine(database_url: str) -> Iterator[sa.Engine]:
    """An upgraded database whose ledger has its first entry."""
    found = create_engine(upgraded(database_url))
    yield found
    found.dispose()


def _entry(obj: str, **details: str) -> Entry:
    return Entry(
        at="2026-01-01T00:00:00Z",
        actor="user/tester",
        action=Action.ITEM_READ,
        object=obj,
        details=details,
    )


@pytest.mark.parametrize(("obj", "place"), PLACES.items())
def test_an_entry_has_the_place_of_its_object(
    obj: str, place: tuple[str, str] | None
) -> None:
    """Run and part are what its object says, whatever else its texts quote."""
    quoting = '"object":"run/evil","schema":"affidavit.entry/1"}'
    assert place_of(_entry(obj).to_bytes()) == place
    assert place_of(_entry(obj, why=quoting).to_bytes()) == place


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\x00",
        b'"object":"run/a\\u0000b","schema":"x"}',
        b'"object":"run/' + b"a" * 33 + b'","schema":"x"}',
        b'"object":"run/a","schema":"x"} ',
        json.dumps({"object": "run/a", "schema": "x"}).encode(),
    ],
)
def test_what_this_program_has_not_written_has_no_place(body: bytes) -> None:
    """Whoever may write the outbox cannot stop the sequencer with an odd entry."""
    assert place_of(body) is None


def test_an_odd_entry_stops_no_sequencer(engine: sa.Engine) -> None:
    """Bytes that no database could take as text are ordered like all others."""
    with transaction(engine) as session:
        for body in (b'"object":"run/\x00","schema":"x"}', b"\xff" * 10):
            session.execute(sa.insert(OutboxTable).values(at=0.0, body=body))
    assert sequence(engine) >= 2


def test_rows_of_a_ledger_that_was_cut_stop_no_sequencer(engine: sa.Engine) -> None:
    """An index that names entries which are gone is no reason to order none."""
    size = ledger_size(engine)
    with transaction(engine) as session:
        session.execute(
            sa.insert(LedgerPlaceTable).values(run_id="a", part="", idx=size)
        )
        record(session, Action.ITEM_READ, "run/a", actor="user/tester")
    assert sequence(engine) == 1
    assert indexes_of(engine, "a") == [size]


def test_a_run_is_read_by_its_places(engine: sa.Engine) -> None:
    """Its entries and the handovers of keys come in order, and no others."""
    old, new = (SigningKey.generate("tests/log") for _ in range(2))
    with transaction(engine) as session:
        for obj in ("run/a", "run/ab", "run/a/shard/0", "run/a/shard/1", "run/b"):
            record(session, Action.ITEM_READ, obj, actor="user/tester")
        record(
            session,
            Action.KEY_ROTATED,
            "ledger",
            actor="user/tester",
            details=link_details(old, new),
        )
        record(session, Action.ITEM_READ, "run/a", actor="user/tester")
    sequence(engine)
    found = [Entry.parse(body).object for _, body, _ in read_places(engine, "a")]
    assert found == ["run/a", "run/a/shard/0", "run/a/shard/1", "ledger", "run/a"]
    some = list(read_places(engine, "a", parts=("", "shard/1")))
    assert [Entry.parse(body).object for _, body, _ in some] == [
        *("run/a", "run/a/shard/1", "ledger", "run/a")
    ]
    assert list(read_places(engine, "a", until=some[-1][0])) == [
        row for row in read_places(engine, "a") if row[0] < some[-1][0]
    ]
    assert len(indexes_of(engine, "a")) == 4


def test_many_entries_are_read_in_pages(
    engine: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """None is read twice and none is left out, wherever a page ends."""
    with transaction(engine) as session:
        for number in range(7):
            record(session, Action.ITEM_READ, f"run/a/item/{number}", actor="u")
    sequence(engine)
    for page in (1, 3, 7, 8):
        monkeypatch.setattr("storage.ledger_places.PAGE", page)
        found = [Entry.parse(body).object for _, body, _ in read_places(engine, "a")]
        assert found == [f"run/a/item/{number}" for number in range(7)]


def test_the_migration_finds_what_the_sequencer_would_have(
    engine: sa.Engine,
) -> None:
    """The rows of a ledger from before are those of a ledger from after."""
    old, new = (SigningKey.generate("tests/log") for _ in range(2))
    with transaction(engine) as session:
        for obj in PLACES:
            record(session, Action.ITEM_READ, obj, actor="user/tester")
        record(
            session,
            Action.KEY_ROTATED,
            "ledger",
            actor="user/tester",
            details=link_details(old, new),
        )
    sequence(engine)
    query = sa.select(
        LedgerPlaceTable.run_id, LedgerPlaceTable.part, LedgerPlaceTable.idx
    )
    with engine.connect() as connection:
        before = sorted(map(tuple, connection.execute(query)))
    assert {run for run, _, _ in before} == {NO_RUN, "abc", "abcd"}
    with engine.begin() as connection:
        command.downgrade(configured(connection), "0012")
        command.upgrade(configured(connection), "0013")
    with engine.connect() as connection:
        assert sorted(map(tuple, connection.execute(query))) == before
