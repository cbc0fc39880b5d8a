# SPDX-License-Identifier: Apache-2.0
"""Figures of change between two runs equal a slow computation from their rows."""

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from explain.statistics import bootstrap_mean_interval
from pipeline.change_measuring import change_since
from pipeline.run_change import RunChange
from storage.bulk import insert_rows
from storage.engine import transaction
from storage.states import RunState
from storage.tables import ItemTable, LocationTable
from tests.support.planted import item_row, plant_run, run, set_run
from tests.support.workspace import Workspace, photograph

ITEMS = 120
PLAN: dict[str, Any] = {
    "batch_size": 2,
    "seed": 3,
    "method": "gradcam",
    "metrics": ["deletion"],
}


def plant(engine: sa.Engine, rows: list[dict[str, Any]], **columns: Any) -> str:
    """Return a finished run with an item for each row; `uri` says where it is."""
    later = {"created_at": columns.pop("created_at"), "state": RunState.DONE}
    plan = PLAN | columns.pop("plan", {})
    run_id = plant_run(engine, shards=len(rows) // 2, plan=plan, **columns)
    with transaction(engine) as session:
        for index, row in enumerate(rows):
            session.execute(
                sa.update(LocationTable)
                .where(
                    LocationTable.run_id == run_id, LocationTable.item_index == index
                )
                .values(uri=row["uri"])
            )
        insert_rows(
            session,
            ItemTable,
            [
                item_row(
                    run_id,
                    index,
                    **{key: value for key, value in row.items() if key != "uri"},
                )
                for index, row in enumerate(rows)
            ],
        )
    set_run(engine, run_id, **later)
    return run_id


def made_up(seed: int, first: int) -> list[dict[str, Any]]:
    """Return the rows of a run over items from `first` on."""
    draw = random.Random(seed)  # noqa: S311
    rows = []
    for number in range(first, first + ITEMS):
        failed = draw.random() < 0.1 * (seed + 1)
        metrics = {"deletion_auc": draw.random() + 0.1 * seed}
        rows.append(
            {
                "uri": f"/photos/{number}.png",
                "status": "failed" if failed else "done",
                "reason": "file_missing" if failed else None,
                "predicted": None if failed else draw.randrange(3 + seed),
                "score": None if failed else draw.random(),
                "metrics": {} if failed or number % 7 == 0 else metrics,
                "input_sha256": f"{draw.randrange(2):064d}",
            }
        )
    return rows


def measured(engine: sa.Engine, run_id: str) -> RunChange | None:
    """Return how the run differs from the one before."""
    return change_since(engine, run(engine, run_id), alive=lambda: None)


@pytest.mark.parametrize(("first", "basis"), [(40, "paired"), (100, "unpaired")])
def test_figures_equal_those_of_the_rows(
    engine: sa.Engine, first: int, basis: str
) -> None:
    """Means, pairs, predictions, failures and classes, computed the plain way."""
    before, after = made_up(0, 0), made_up(1, first)
    old = plant(engine, before, created_at=1.0)
    new = plant(engine, after, created_at=2.0, model_digest="9" * 64)
    found = measured(engine, new)
    assert found is not None
    assert (found.previous, found.spec_is_same, found.model_is_same) == (
        old,
        True,
        False,
    )
    earlier = {row["uri"]: row for row in before}
    pairs = [(earlier[row["uri"]], row) for row in after if row["uri"] in earlier]
    assert found.common == len(pairs) == ITEMS - first
    assert (found.only_before, found.only_after) == (first, first)
    assert found.content_changed == sum(
        one["input_sha256"] != two["input_sha256"] for one, two in pairs
    )
    done = [
        (one, two) for one, two in pairs if one["status"] == "done" == two["status"]
    ]
    assert found.compared == len(done)
    assert found.predicted_otherwise == sum(
        one["predicted"] != two["predicted"] for one, two in done
    )
    for rows, share, classes in (
        (before, found.failed_before, found.classes_before),
        (after, found.failed_after, found.classes_after),
    ):
        failed = sum(row["status"] == "failed" for row in rows)
        assert share == failed / ITEMS
        kept = [row["predicted"] for row in rows if row["predicted"] is not None]
        assert classes == Counter(kept)
    _check_value(found, "deletion_auc", before, after, done, basis)
    assert found.values["score"].n_after == ITEMS - round(found.failed_after * ITEMS)


def _check_value(
    found: RunChange,
    name: str,
    before: list[dict[str, Any]],
    after: list[dict[str, Any]],
    done: list[tuple[dict[str, Any], dict[str, Any]]],
    basis: str,
) -> None:
    value = found.values[name]
    columns = [
        [row["metrics"][name] for row in rows if name in row["metrics"]]
        for rows in (before, after)
    ]
    means = [sum(column) / len(column) for column in columns]
    assert value.mean_before == pytest.approx(means[0], rel=1e-12)
    assert value.mean_after == pytest.approx(means[1], rel=1e-12)
    assert (value.n_before, value.n_after) == tuple(map(len, columns))
    differences = [
        two["metrics"][name] - one["metrics"][name]
        for one, two in done
        if name in one["metrics"] and name in two["metrics"]
    ]
    assert value.change is not None
    assert value.change.basis == basis
    if basis == "paired":
        interval = bootstrap_mean_interval(differences, seed=3)
        assert interval is not None
        assert value.change.n == len(differences)
        assert value.change.low == pytest.approx(interval.low, rel=1e-12)
        assert value.change.high == pytest.approx(interval.high, rel=1e-12)
    else:
        assert value.change.value == pytest.approx(means[1] - means[0], rel=1e-9)
    steps = [
        abs(
            sum(v <= at for v in columns[0]) / len(columns[0])
            - sum(v <= at for v in columns[1]) / len(columns[1])
        )
        for at in columns[0] + columns[1]
    ]
    assert value.ks == pytest.approx(max(steps), rel=1e-12)


def test_the_run_before_is_the_newest_that_explains_alike(engine: sa.Engine) -> None:
    """Runs of another method, unfinished and later ones are not compared with."""
    rows = made_up(0, 0)
    right = plant(engine, rows, created_at=1.0)
    assert measured(engine, right) is None
    plant(engine, rows, created_at=2.0, plan={"method": "rise"})
    open_run = plant(engine, rows, created_at=3.0)
    set_run(engine, open_run, state=RunState.RUNNING)
    newest = plant(engine, rows, created_at=4.0)
    plant(engine, rows, created_at=5.0)
    found = measured(engine, newest)
    assert found is not None
    assert found.previous == right
    assert found.prediction_changed == 0
    assert found.class_psi == 0
    for value in found.values.values():
        assert value.ks == 0
        assert value.change is not None
        assert (value.change.low, value.change.value, value.change.high) == (0, 0, 0)


def test_criteria_can_bound_the_change(tmp_path: Path) -> None:
    """A first run has no value, a later one is judged, and its report shows why."""
    workspace = Workspace(folder=tmp_path).lay_out(34)
    spec = workspace.write_spec(
        metrics=["completeness"],
        criteria=[
            "drift.prediction_changed <= 0",
            "drift.completeness_energy.mean_change <= 0.5",
        ],
        run={"batch_size": 17, "shard_size": 34, "threads": 1, "device": "cpu"},
    )
    first = workspace.call("run", spec, "--json")
    assert first.code == 1
    assert [each["verdict"] for each in first.document["criteria"]] == [
        "incomplete"
    ] * 2
    assert "no earlier run" in first.document["criteria"][0]["reason"]
    assert first.document["change"] is None
    again = workspace.call("run", spec, "--json")
    assert again.code == 0, again.err
    assert again.document["result_digest"] == first.document["result_digest"]
    assert again.document["change"]["previous"] == first.document["run"]
    assert again.document["change"]["drift"]["prediction_changed"] == 0

    for number in range(34):
        photograph(number + 200).save(workspace.folder / "photos" / f"{number:04d}.png")
    third = workspace.call("run", spec, "--json")
    assert third.code == 1
    assert third.document["criteria"][0]["verdict"] == "fail"
    page = Path(third.document["report"]).read_text()
    assert f"Change since run {again.document['run']}" in page
    assert 'class="plot change"' in page
    verdict = workspace.call("verify", third.document["run"], "--json")
    assert verdict.code == 0, verdict.out
