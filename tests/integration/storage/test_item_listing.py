# SPDX-License-Identifier: Apache-2.0
"""A run's items are listed in manifest order, with where each one is."""

import sqlalchemy as sa

from storage.bulk import insert_rows
from storage.engine import transaction
from storage.item_listing import NAMED, find_by_name, iterate_listed
from storage.tables import ItemTable, LocationTable
from tests.support.planted import item_row, plant_run


def _explain(engine: sa.Engine, run_id: str, *rows: dict[str, object]) -> None:
    with transaction(engine) as session:
        insert_rows(
            session,
            ItemTable,
            [item_row(run_id, **row) for row in rows],  # type: ignore[arg-type]
        )


def _call_items(engine: sa.Engine, run_id: str, uris: dict[int, str]) -> None:
    with transaction(engine) as session:
        for index, uri in uris.items():
            session.execute(
                sa.update(LocationTable)
                .where(
                    LocationTable.run_id == run_id, LocationTable.item_index == index
                )
                .values(uri=uri)
            )


def test_items_come_in_order_whatever_the_chunk(engine: sa.Engine) -> None:
    """Explained or not, each item is there once a row; ties go by code points."""
    run_id = plant_run(engine, shards=3)
    other = plant_run(engine)
    _explain(engine, other, {"index": 0})
    _explain(
        engine,
        run_id,
        {"index": 0, "status": "failed", "reason": "file_empty"},
        {"index": 2, "method": "a"},
        {"index": 2, "method": "B"},
        {"index": 5, "status": "failed", "reason": "file_missing"},
    )
    expected = [
        (0, "/photos/0.png", "failed", "gradcam"),
        (1, "/photos/1.png", None, None),
        (2, "/photos/2.png", "done", "B"),
        (2, "/photos/2.png", "done", "a"),
        (3, "/photos/3.png", None, None),
        (4, "/photos/4.png", None, None),
        (5, "/photos/5.png", "failed", "gradcam"),
    ]
    for chunk in (1, 2, 100):
        listed = [
            (
                item.item_index,
                item.uri,
                item.row.status if item.row else None,
                item.row.method if item.row else None,
            )
            for item in iterate_listed(engine, run_id, chunk=chunk)
        ]
        assert listed == expected
        failed = [
            (item.item_index, item.row.reason if item.row else None)
            for item in iterate_listed(engine, run_id, failed=True, chunk=chunk)
        ]
        assert failed == [(0, "file_empty"), (5, "file_missing")]


def test_an_item_is_found_by_the_end_of_its_path(engine: sa.Engine) -> None:
    """Whole parts of the path count, exactly as written, and no pattern does."""
    run_id = plant_run(engine, shards=4)
    _call_items(
        engine,
        run_id,
        {
            0: "/photos/cats/a.png",
            1: "/photos/dogs/a.png",
            2: "/photos/A.png",
            3: "/photos/b_c%.png",
            4: "/photos/bXc.png",
            5: "s3://bucket/ba.png",
        },
    )

    def found(name: str) -> list[int]:
        return [row.item_index for row in find_by_name(engine, run_id, name)]

    assert found("a.png") == [0, 1]
    assert found("cats/a.png") == [0]
    assert found("/photos/A.png") == [2]
    assert found("A.png") == [2]
    assert found("b_c%.png") == [3]
    assert found("b_c.png") == []
    assert found("%") == []
    assert found("s3://bucket/ba.png") == [5]


def test_a_name_that_all_have_is_not_looked_for_to_the_end(engine: sa.Engine) -> None:
    """What is returned is bounded whatever the run's size."""
    run_id = plant_run(engine, shards=10)
    _call_items(engine, run_id, {i: f"/{i}/x.png" for i in range(20)})
    assert len(find_by_name(engine, run_id, "x.png")) == NAMED + 1
