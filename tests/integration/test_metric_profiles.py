# SPDX-License-Identifier: Apache-2.0
"""Metrics with parameters and profiles, from the spec to the report."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from explain.kinds import IMAGE
from explain.metrics.cards import METRICS, cost_of, profile
from tests.support.workspace import SIDE, Workspace, photograph, write_csv


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Six photographs, five of them with a mask."""
    place = Workspace(folder=tmp_path_factory.mktemp("profiles") / "work").lay_out(0)
    rows = []
    for number in range(6):
        photograph(number).save(place.folder / f"{number}.png")
        mask = np.zeros((SIDE, SIDE), dtype=np.uint8)
        mask[8 : 24 + 4 * number, 16:56] = 255
        Image.fromarray(mask).save(place.folder / f"{number}.mask.png")
        rows.append({"path": f"{number}.png", "mask": f"{number}.mask.png"})
    rows[5]["mask"] = ""
    write_csv(place.folder / "data.csv", rows)
    return place


def write(place: Workspace, name: str, **sections: Any) -> Path:
    """Return a spec over the photographs with masks."""
    columns = {"uri": "path", "mask": "mask"}
    data = {"source": "data.csv", "columns": columns}
    return place.write_spec(name, **{"data": data} | sections)


def rows_of(place: Workspace, document: dict[str, Any]) -> list[Any]:
    """Return the rows of a run's artifacts."""
    rows: list[Any] = []
    for key in document["artifacts"]:
        rows += pq.read_table(place.objects / key.split("/objects/")[-1]).to_pylist()
    return rows


def test_a_full_profile_gives_every_value_and_one_digest(workspace: Workspace) -> None:
    """All metrics of all items, the same whatever the shards, none of them silent."""
    digests = set()
    for size in (4, 8):
        spec = write(
            workspace,
            "full.yaml",
            metrics="full",
            run={"shard_size": size, "threads": 1},
        )
        document = workspace.run(spec)
        digests.add(document["result_digest"])
        assert document["items"] == {"total": 6, "done": 6, "failed": 0}
    assert len(digests) == 1
    cards = {name: card for name, card in METRICS.items() if IMAGE in card.kinds}
    wanted = {value for card in cards.values() for value in card.values}
    for row in rows_of(workspace, document):
        found, absent = dict(row["metrics"]), dict(row["absences"])
        assert found.keys() | absent.keys() == wanted
        assert not found.keys() & absent.keys()
        assert all(math.isfinite(value) for value in found.values())
        truthless = row["item_index"] == 5
        for name, card in cards.items():
            for value in card.values:
                if card.needs_truth and truthless:
                    assert absent[value] == "no_ground_truth", name
                low, high = card.range_of(value)
                if value in found:
                    assert low is None or found[value] >= low
                    assert high is None or found[value] <= high
    report = json.loads(Path(document["report"]).with_suffix(".json").read_bytes())
    assert {part["name"] for part in report["metrics"]} == wanted
    html = Path(document["report"]).with_suffix(".html").read_text()
    assert "Parameter randomisation (MPRT)" in html


@pytest.mark.parametrize("name", ["quick", "full"])
def test_a_plan_states_what_a_profile_costs(workspace: Workspace, name: str) -> None:
    """An explanation costs what the method says; what metrics share counts once."""
    answer = workspace.call("plan", write(workspace, "p.yaml", metrics=name), "--json")
    assert answer.code == 0, answer.err
    cost = cost_of(profile(name, truth=True))
    passes = answer.document["passes_per_item"]
    gradcam = 1.1
    expected = cost.forwards + gradcam * (1 + cost.explanations)
    assert passes == pytest.approx(expected)
    if name == "quick":
        assert passes <= gradcam + 12


def test_a_profile_without_masks_leaves_comparisons_out(workspace: Workspace) -> None:
    """No column of masks, no metric that needs them, and no warning of them."""
    data = {"source": "data.csv", "columns": {"uri": "path"}}
    spec = write(workspace, "bare.yaml", metrics="quick", data=data)
    document = workspace.run(spec)
    keys = {key for row in rows_of(workspace, document) for key, _ in row["metrics"]}
    assert "deletion_auc" in keys
    assert not any(key.startswith(("localisation", "relevance")) for key in keys)
    assert workspace.call("plan", spec, "--json").document["warnings"] == []


def test_parameters_reach_the_numbers_and_the_report(workspace: Workspace) -> None:
    """What was measured is what was asked, and the report says with which numbers."""
    found = {}
    for radius in (0.02, 0.2):
        metrics = [{"name": "max_sensitivity", "radius": radius, "samples": 2}]
        metrics.append({"name": "deletion", "steps": 4, "baseline": "blur"})
        document = workspace.run(write(workspace, "given.yaml", metrics=metrics))
        rows = rows_of(workspace, document)
        found[radius] = [dict(row["metrics"])["max_sensitivity"] for row in rows]
        report = json.loads(Path(document["report"]).with_suffix(".json").read_bytes())
        parts = {part["name"]: part["definition"] for part in report["metrics"]}
        assert parts["max_sensitivity"]["defaults"]["radius"] == radius
        assert parts["max_sensitivity"]["forwards_per_item"] == 2
        assert parts["deletion_auc"]["defaults"]["steps"] == 4
        assert parts["deletion_auc"]["baseline"].startswith("the item blurred")
    assert all(
        large > small for small, large in zip(found[0.02], found[0.2], strict=True)
    )


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        ("quik", "expected a list of metrics, or one of quick, full"),
        ([{"name": "max_sensitivity", "radius": 0}], "radius to be a number above 0"),
        ([{"name": "deletion", "step": 3}], "did you mean 'steps'"),
        ([{"name": "deletoin"}], "did you mean deletion"),
        (["deletion", {"name": "deletion", "steps": 3}], "named twice"),
        ([{"radius": 0.1}], "under the key 'name'"),
    ],
    ids=str,
)
def test_a_wrong_entry_is_refused_before_work(
    workspace: Workspace, metrics: Any, message: str
) -> None:
    """One sentence, exit code 2, and nothing was stored."""
    answer = workspace.call("plan", write(workspace, "wrong.yaml", metrics=metrics))
    assert answer.code == 2
    assert message in answer.err


def test_the_command_shows_a_card_with_its_parameters(workspace: Workspace) -> None:
    """One metric with everything about it, or all of them in one document."""
    shown = workspace.call("metrics", "max_sensitivity").out
    for word in ("formula", "source", "does_not_show", "radius", "samples"):
        assert word in shown
    document = workspace.call("metrics", "infidelity", "--json").document
    assert list(document) == ["infidelity"]
    assert document["infidelity"]["parameters"]["samples"]["default"] == 50
    everything = workspace.call("metrics", "--json").document
    assert list(everything) == list(METRICS)
