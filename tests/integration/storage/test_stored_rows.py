# SPDX-License-Identifier: Apache-2.0
"""Rows come back as they were written, in order and by slices, on both databases."""

import math
import re
import secrets
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from storage.bulk import insert_rows
from storage.engine import create_engine, transaction
from storage.errors import DatabaseUnavailableError, StatementRefusedError
from storage.identities.vault import IdentityVault
from storage.items import find_items, iterate_items
from storage.manifests import (
    find_location,
    iterate_locations,
    mark_duplicates,
    read_locations,
    write_locations,
)
from storage.subjects import new_token
from storage.tables import ItemTable, LocationTable, RunTable, SubjectTable
from tests.support.databases import opened_vault
from tests.support.planted import (
    at_once,
    item_row,
    location,
    plant_run,
    run,
    set_run,
)

#: Text that a careless writer of COPY, SQL or JSON would spoil.
AWKWARD = [
    "tab\there",
    "line\nfeed\r\n",
    "back\\slash \\N \\. \\t",
    "'quotes\" ; DROP TABLE locations; --",
    "Ünïcödé 漢字 🫀 \u2028",
    "a,b,{c}",
    "",
    " ",
    "%s %(x)s :y",
]


@pytest.mark.parametrize("nothing", [False, True])
def test_bulk_rows_come_back_as_written(engine: sa.Engine, nothing: bool) -> None:
    """Text, JSON, bytes, numbers and absent values survive the bulk insert."""
    run_id = plant_run(engine, shards=0)
    salt = bytes(range(256))
    rows = [
        location(
            run_id,
            index,
            uri=text,
            label=None if nothing else text,
            groups=None if nothing else {"site": text, text: [1, None, 0.1, True]},
            salt=None if nothing else salt,
            size_bytes=None if nothing else 2**62,
        )
        for index, text in enumerate(AWKWARD)
    ]
    with transaction(engine) as session:
        write_locations(session, rows)
    found = read_locations(engine, run_id, first_item=0, item_count=100)
    names = list(rows[0])
    assert [{name: getattr(row, name) for name in names} for row in found] == rows


def test_numbers_keep_every_bit(engine: sa.Engine) -> None:
    """Doubles come back bit for bit: smallest, largest, one third."""
    numbers = [5e-324, 1.7976931348623157e308, 1 / 3, 1e-15, -123456.789]
    run_id = plant_run(engine, shards=len(numbers), shard_size=1)
    with transaction(engine) as session:
        insert_rows(
            session,
            ItemTable,
            [
                item_row(run_id, index, score=value, metrics={"m": value})
                for index, value in enumerate(numbers)
            ],
        )
    found = list(iterate_items(engine, run_id))
    assert [row.score.hex() for row in found if row.score is not None] == [
        value.hex() for value in numbers
    ]
    assert [row.metrics["m"].hex() for row in found] == [v.hex() for v in numbers]


@pytest.mark.parametrize(
    "bad",
    [{"score": math.nan}, {"metrics": {"m": math.nan}}, {"metrics": {"m": 1e999}}],
)
def test_no_nan_reaches_a_table(engine: sa.Engine, bad: dict[str, Any]) -> None:
    """A NaN in a column or in JSON is refused before anything is written."""
    run_id = plant_run(engine, shards=1)
    with (
        pytest.raises(ValueError, match=r"NaN|not JSON compliant"),
        transaction(engine) as session,
    ):
        insert_rows(
            session, ItemTable, [item_row(run_id, 0), item_row(run_id, 1, **bad)]
        )
    assert list(iterate_items(engine, run_id)) == []


def test_no_nan_reaches_a_summary(engine: sa.Engine) -> None:
    """JSON that goes through a plain UPDATE is as strict."""
    run_id = plant_run(engine)
    with pytest.raises(ValueError, match="not JSON compliant"):
        set_run(engine, run_id, summary={"mean": math.nan})
    assert run(engine, run_id).summary is None


def test_rows_of_different_shape_are_refused(engine: sa.Engine) -> None:
    """A row that lacks a column or has one more is a mistake, not a NULL."""
    run_id = plant_run(engine, shards=1)
    odd = item_row(run_id, 1)
    del odd["cut"]
    with (
        pytest.raises(ValueError, match="differ in their columns: cut"),
        transaction(engine) as session,
    ):
        insert_rows(session, ItemTable, [item_row(run_id, 0), odd])
    with transaction(engine) as session:
        insert_rows(session, ItemTable, [])


def test_a_refused_bulk_insert_tells_no_personal_data(engine: sa.Engine) -> None:
    """The error names the constraint and holds none of the row's values."""
    run_id = plant_run(engine, shards=1)
    rows = [location(run_id, 0, uri="/secret/anna.png")]
    with (
        pytest.raises(StatementRefusedError) as caught,
        transaction(engine) as session,
    ):
        write_locations(session, rows)
    text = f"{caught.value}{caught.value.__cause__}"
    assert re.search(r"pk_locations|locations\.run_id", text)
    assert "anna" not in text
    assert run_id not in text


def test_a_connection_lost_in_a_bulk_insert_is_an_outage(
    postgres_engine: sa.Engine,
) -> None:
    """COPY on a dead connection is told as any outage, and the pool recovers."""
    run_id = plant_run(postgres_engine, shards=1)
    other = create_engine(postgres_engine.url.render_as_string(hide_password=False))
    with (  # noqa: PT012 - the transaction is part of the claim
        pytest.raises(DatabaseUnavailableError),
        transaction(postgres_engine) as session,
    ):
        pid = session.scalar(sa.select(sa.func.pg_backend_pid()))
        with other.begin() as connection:
            connection.execute(sa.select(sa.func.pg_terminate_backend(pid, 5000)))
        insert_rows(session, ItemTable, [item_row(run_id, 0)])
    other.dispose()
    with transaction(postgres_engine) as session:
        insert_rows(session, ItemTable, [item_row(run_id, 0)])
    assert len(list(iterate_items(postgres_engine, run_id))) == 1


def test_a_manifest_is_read_by_slices_and_streamed(engine: sa.Engine) -> None:
    """Slices and chunks give each position once, in order, of this run only."""
    plant_run(engine, shards=3)
    run_id = plant_run(engine, shards=5, shard_size=5)
    part = read_locations(engine, run_id, first_item=7, item_count=6)
    assert [row.item_index for row in part] == list(range(7, 13))
    assert {row.run_id for row in part} == {run_id}
    assert len(read_locations(engine, run_id, first_item=20, item_count=99)) == 5
    assert read_locations(engine, run_id, first_item=25, item_count=5) == []
    for chunk in (1, 4, 5, 25, 1000):
        streamed = iterate_locations(engine, run_id, chunk=chunk)
        assert [row.item_index for row in streamed] == list(range(25)), chunk


def test_an_item_is_found_by_index_or_token(engine: sa.Engine) -> None:
    """Either name leads to the row; an unknown one to None, whatever it looks like."""
    run_id = plant_run(engine, shards=2)
    token = find_location(engine, run_id, "3")
    assert token is not None
    found = find_location(engine, run_id, token.item_id)
    assert found is not None
    assert found.item_index == 3
    for odd in ("4", "-1", "9" * 18, "9" * 40, "", "x'; --", "³", "٣"):
        assert find_location(engine, run_id, odd) is None, odd


def test_duplicates_point_at_the_first_of_their_uri(engine: sa.Engine) -> None:
    """Only later items of a URI are marked, in this run alone, compared exactly."""
    uris = ["a", "b", "a", "A", "a ", "b", "c", "a"]
    runs = [plant_run(engine, shards=0), plant_run(engine, shards=0)]
    with transaction(engine) as session:
        for run_id in runs:
            write_locations(
                session,
                [location(run_id, i, uri=uri) for i, uri in enumerate(uris)],
            )
        assert mark_duplicates(session, runs[0]) == 4 - 1
    marked = [row.duplicate_of for row in iterate_locations(engine, runs[0])]
    assert marked == [None, None, 0, None, None, 1, None, 0]
    assert not any(row.duplicate_of for row in iterate_locations(engine, runs[1]))


@pytest.mark.parametrize("kind", ["all the same", "pairs"])
def test_marking_many_duplicates_takes_one_pass(engine: sa.Engine, kind: str) -> None:
    """Twenty thousand items, all or half of them doubled, are marked in seconds."""
    count = 20_000
    run_id = plant_run(engine, shards=0)
    uris = ["/same.png"] * count
    if kind == "pairs":
        uris = [f"/{index // 2}.png" for index in range(count)]
    with transaction(engine) as session:
        write_locations(
            session, [location(run_id, i, uri=uri) for i, uri in enumerate(uris)]
        )
        started = time.monotonic()
        marked = mark_duplicates(session, run_id)
        seconds = time.monotonic() - started
    assert marked == (count - 1 if kind == "all the same" else count // 2)
    # A hundredth of it on a quiet machine; an hour when every row looks at all.
    assert seconds < 30


@pytest.mark.parametrize("length", [3000, 8192])
def test_long_texts_are_stored_and_found(
    engine: sa.Engine, vault: IdentityVault, length: int
) -> None:
    """URIs, masks, subjects and groups up to the longest that a manifest may hold."""
    text = secrets.token_hex(length // 2)
    run_id = plant_run(engine, shards=0)
    column = f"group:{'c' * 150}"
    with transaction(engine) as session:
        rows = [
            location(run_id, i, uri=f"/{text}", mask_uri=f"/{text}") for i in range(2)
        ]
        write_locations(session, rows)
        assert mark_duplicates(session, run_id) == 1
    subjects = vault.tokens_for("subject", [text, text + "x"])
    groups = vault.tokens_for(column, [text])
    assert vault.tokens_for("subject", [text + "x", text]) == subjects
    assert vault.tokens_for(column, [text]) == groups
    assert len({*subjects.values(), *groups.values()}) == 3


def test_without_duplicates_nothing_is_marked(engine: sa.Engine) -> None:
    """A manifest of distinct URIs stays as it is."""
    run_id = plant_run(engine)
    with transaction(engine) as session:
        assert mark_duplicates(session, run_id) == 0


def test_items_come_in_order_however_they_are_paged(engine: sa.Engine) -> None:
    """Manifest order, then code-point order within an item; gaps and cuts are no trap.

    PostgreSQL would sort `B` and `a` by its locale, and the result digest with them.
    """
    run_id = plant_run(engine, shards=12, shard_size=1)
    kinds = [
        ("gradcam", "predicted", "B:keep=0.1"),
        ("gradcam", "predicted", "a:keep=0.05"),
        ("gradcam", "predicted", "a:keep=0.1"),
        ("gradcam", "predicted", "a_keep"),
        ("scorecam", "label", "a:keep=0.1"),
    ]
    assert kinds == sorted(kinds)
    indexes = [0, 1, 2, 5, 6, 11]  # the others' shards are dead
    expected = [(index, *kind) for index in indexes for kind in kinds]
    rows = [
        item_row(run_id, index, method=m, target_rule=t, policy=p)
        for index, m, t, p in expected
    ]
    with transaction(engine) as session:
        insert_rows(session, ItemTable, rows[::-1])
    for chunk in (1, 3, 5, 7, 29, 30, 1000):
        found = [
            (row.item_index, row.method, row.target_rule, row.policy)
            for row in iterate_items(engine, run_id, chunk=chunk)
        ]
        assert found == expected, chunk
    assert [row.policy for row in find_items(engine, run_id, 5)] == [
        policy for _method, _rule, policy in kinds
    ]
    assert find_items(engine, run_id, 3) == []
    assert list(iterate_items(engine, "0" * 12)) == []


def test_tokens_are_random_and_stable(vault: IdentityVault) -> None:
    """A value keeps its token; tokens tell nothing of the value, its kind or order."""
    values = [f"person-{number}" for number in range(1200)]
    first = vault.tokens_for("subject", values)
    assert vault.tokens_for("subject", []) == {}
    again = vault.tokens_for("subject", [*reversed(values), *values, "new"])
    groups = vault.tokens_for("group:site", values)
    assert first == {value: again[value] for value in values}
    assert again.keys() - first.keys() == {"new"}
    assert not set(groups.values()) & set(again.values())
    assert len(set(first.values())) == len(values)
    assert all(re.fullmatch(r"[0-9a-f]{32}", token) for token in first.values())
    ordered = [first[value] for value in values]
    rising = sum(a < b for a, b in pairwise(ordered))
    assert 400 < rising < 800
    assert new_token() != new_token()


@pytest.mark.parametrize("value", AWKWARD)
def test_any_text_may_be_a_subject(
    sqlite_engine: sa.Engine, tmp_path: Path, value: str
) -> None:
    """Values are told apart and come back, whatever characters they are of."""
    with opened_vault(sqlite_engine, tmp_path) as vault:
        tokens = vault.tokens_for("subject", [value, value + "x"])
        assert vault.tokens_for("subject", [value]) == {value: tokens[value]}
        assert vault.identity_of(tokens[value]) == value
    assert len(set(tokens.values())) == 2


def test_transactions_at_once_agree_on_tokens(
    engine: sa.Engine, tmp_path: Path
) -> None:
    """Threads that meet the same persons at once all get the same tokens."""
    values = [f"person-{number}" for number in range(50)]

    def meet(names: list[str]) -> dict[str, str]:
        with opened_vault(engine, tmp_path) as other:
            return other.tokens_for("subject", names)

    answers = at_once([lambda: meet(values), lambda: meet(values[::-1])] * 2)
    assert all(answer == answers[0] for answer in answers)
    assert len(set(answers[0].values())) == 50


def test_personal_data_has_two_tables(engine: sa.Engine) -> None:
    """Original URIs, subjects and groups have columns in no third table."""
    personal = {"uri", "mask_uri", "groups", "value", "subject"}
    holders = {
        table.name
        for table in RunTable.metadata.tables.values()
        if personal & set(table.columns.keys())
    }
    assert holders == {LocationTable.__tablename__, SubjectTable.__tablename__}
    inspector = sa.inspect(engine)
    found = {
        name
        for name in inspector.get_table_names()
        if personal & {column["name"] for column in inspector.get_columns(name)}
    }
    assert found == holders
