# SPDX-License-Identifier: Apache-2.0
"""Methods and policies over the same items: runs of their own, compared in pairs."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from explain.statistics import holm, wilcoxon_paired
from tests.support.workspace import Workspace


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Three methods compared over twelve photographs, one of them unreadable."""
    workspace = Workspace(folder=tmp_path_factory.mktemp("compare") / "w").lay_out(12)
    (workspace.folder / "photos" / "0004.png").write_bytes(b"no picture")
    spec = workspace.write_spec(metrics=["completeness", "confidence_retained"])
    arguments = [
        part for m in ("gradcam", "hirescam", "eigencam") for part in ("--method", m)
    ]
    answer = workspace.call("compare", spec, *arguments, "--margin", "0.5", "--json")
    assert answer.code == 0, answer.err
    return workspace


def document_of(workspace: Workspace) -> dict[str, Any]:
    """Return the comparison's JSON."""
    found: dict[str, Any] = json.loads(
        (workspace.folder / "comparison" / "comparison.json").read_text()
    )
    return found


def metrics_of(workspace: Workspace, run: str, value: str) -> dict[int, float]:
    """Return a value of a run's items by their places."""
    found = {}
    for row in workspace.rows("items"):
        values = json.loads(row["metrics"])
        if row["run_id"] == run and value in values:
            found[row["item_index"]] = values[value]
    return found


def test_each_test_is_that_of_the_stored_values(compared: Workspace) -> None:
    """Differences, effect and p are those of the rows, adjusted over the family."""
    document = document_of(compared)
    assert [run["label"].split()[0] for run in document["runs"]] == [
        "gradcam",
        "hirescam",
        "eigencam",
    ]
    assert document["family"] == len(document["tests"]) == 4
    p_values = {}
    for place, test in enumerate(document["tests"]):
        first = metrics_of(compared, document["reference"], test["value"])
        second = metrics_of(compared, test["run"], test["value"])
        both = sorted(first.keys() & second.keys())
        differences = np.array([second[i] - first[i] for i in both])
        wanted = wilcoxon_paired(differences)
        assert test["pairs"] == len(both) > 0
        assert test["mean_difference"] == pytest.approx(differences.mean(), abs=1e-12)
        assert test["p_value"] == wanted.p_value
        assert test["rank_biserial"] == wanted.rank_biserial
        p_values[str(place)] = test["p_value"]
    adjusted = holm(p_values)
    assert [t["p_holm"] for t in document["tests"]] == list(adjusted.values())


def test_the_page_shows_front_and_tests(compared: Workspace) -> None:
    """Somebody is on the front; costs are told; the page has no script."""
    document = document_of(compared)
    assert any(run["on_front"] for run in document["runs"])
    for run in document["runs"]:
        assert run["seconds_per_item"] > 0
        assert run["bytes_per_item"] > 0
    page = (compared.folder / "comparison" / "comparison.html").read_text()
    assert "Pareto front" in page
    assert "<script" not in page
    for test in document["tests"]:
        assert f'<data value="{test["mean_difference"]!r}">' in page


def test_finished_runs_are_compared_the_same_way(compared: Workspace) -> None:
    """Naming the runs gives the same tests, and a self-comparison finds nothing."""
    document = document_of(compared)
    names = [part for run in document["runs"] for part in ("--run", run["run"])]
    again = compared.call("compare", *names, "--margin", "0.5", "--out", "o", "--json")
    assert again.code == 0, again.err
    assert again.document["tests"] == document["tests"]
    twin = compared.run(
        compared.write_spec(metrics=["completeness", "confidence_retained"])
    )
    same = compared.call(
        "compare", "--run", document["reference"], "--run", twin["run"],
        "--margin", "0.5", "--out", "same", "--json",
    )  # fmt: skip
    for test in same.document["tests"]:
        assert (test["mean_difference"], test["p_holm"]) == (0.0, 1.0)
        assert test["verdict"] == "open"
        assert test["equivalence"]["equivalent"] is True
    assert Path(same.document["written_to"][0]).is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "either a SPEC"),
        (("audit.yaml",), "at least two methods"),
        (("audit.yaml", "--method", "gradcam", "--method", "gradcma"), "gradcam"),
        (("--run", "latest"), "at least two runs"),
        (("--run", "latest", "--run", "latest"), "named twice"),
        (("--run", "latest", "--policy", "fixed"), "go with a SPEC"),
    ],
)
def test_a_senseless_comparison_is_one_sentence(
    compared: Workspace, arguments: tuple[str, ...], message: str
) -> None:
    """Nothing is run and the command exits 2."""
    before = len(compared.rows("runs"))
    answer = compared.call("compare", *arguments)
    assert answer.code == 2
    assert message in answer.err
    assert len(compared.rows("runs")) == before
