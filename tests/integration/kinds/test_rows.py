# SPDX-License-Identifier: Apache-2.0
"""An audit of items that are no images: rows of numbers, where all is known."""

import csv
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from safetensors.torch import save_file

from affidavit.cli.app import run_command
from explain.metrics.cards import METRICS
from pipeline.packing import read_artifact
from pipeline.stored_items import map_of, mask_of
from tests.support.rows_kind import BASELINE, WEIGHTS, RowsKind, rows_kind

FEATURES = ["income", "debt", "age"]
ROWS = [
    {"income": 1.5, "debt": 2.0, "age": 3.0, "name": "Ann, A.", "marked": "debt"},
    {"income": -1.0, "debt": 0.5, "age": 1.0, "name": 'Bob "B"', "marked": ""},
    {
        "income": 0.25,
        "debt": -1.0,
        "age": 0.0,
        "name": "Cleo\nof two lines",
        "marked": "",
    },
    {"income": "much", "debt": 1.0, "age": 0.0, "name": "Dan", "marked": ""},
    {"income": 2.0, "debt": 1.0, "age": 2.0, "name": "Eve", "marked": "income age"},
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with weights; the kind is known."""
    save_file({"weight": torch.tensor(WEIGHTS)}, tmp_path / "linear.safetensors")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFIDAVIT_HOME", str(tmp_path / "home"))
    with rows_kind():
        yield tmp_path


def _write(folder: Path, kind: str) -> str:
    file = folder / f"rows.{kind}"
    if kind == "csv":
        with file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, ROWS[0])
            writer.writeheader()
            writer.writerows(ROWS)
    elif kind == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    else:
        table = pa.table({name: [str(row[name]) for row in ROWS] for name in ROWS[0]})
        pq.write_table(table, file, row_group_size=2)
    return file.name


def _spec(folder: Path, source: str, **sections: Any) -> Path:
    spec: dict[str, Any] = {
        "audit": "rows",
        "model": {"source": "linear", "weights": "linear.safetensors"},
        "data": {
            "kind": "table",
            "source": source,
            "columns": {"features": FEATURES, "mask": "marked"},
        },
        "threshold": {"policy": "fixed", "keep": 0.3},
        "metrics": ["deletion", "completeness", "localisation", "max_sensitivity"],
        "run": {"batch_size": 2, "shard_size": 4, "threads": 1, "device": "cpu"},
    } | sections
    path = folder / "audit.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def _run(
    capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0
) -> dict[str, Any]:
    capsys.readouterr()
    found = run_command([*arguments, "--json"])
    answer = capsys.readouterr()
    assert found == code, answer.err
    document: dict[str, Any] = json.loads(answer.out)
    return document


def _results(folder: Path) -> list[Any]:
    files = sorted((folder / "home").rglob("*.parquet"))
    found = []
    for file in files:
        with file.open("rb") as stream:
            found += read_artifact(stream)
    return found


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_rows_are_explained(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """Each row's map is weight x (value - baseline), and a damaged row is a reason."""
    spec = _spec(folder, _write(folder, kind))
    said = _run(capsys, "run", str(spec))
    assert said["items"] == {"total": 5, "done": 4, "failed": 1}
    results = _results(folder)
    assert [result.reason for result in results if result.status == "failed"] == [
        "row_unreadable"
    ]
    weights, baseline = np.array(WEIGHTS), np.array(BASELINE)
    for row, result in zip(ROWS, results, strict=True):
        if result.status == "failed":
            continue
        values = np.array([row[name] for name in FEATURES])
        assert result.predicted == int((weights @ values).argmax())
        expected = weights[result.target] * (values - baseline)
        found = map_of(result)
        assert found.shape == (1, 3)
        assert found[0] == pytest.approx(expected, abs=2e-3)
        assert result.map_kind == "columns"
        assert result.axis_labels == tuple(FEATURES)
        kept = mask_of(result, (1, 3))[0]
        # One of three columns, the one that speaks most for the class.
        assert kept.tolist() == [bool(place == expected.argmax()) for place in range(3)]
    marked = [r.metrics.get("localisation_iou") for r in results]
    assert marked[1] is None
    assert marked[0] in {0.0, 1.0}
    assert _run(capsys, "verify", "latest")["ok"]


def test_formats_give_one_result(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same rows as CSV and JSON lines of texts have the same results."""
    digests = set()
    for kind in ("csv", "parquet"):
        spec = _spec(folder, _write(folder, kind))
        digests.add(_run(capsys, "run", str(spec))["result_digest"])
    assert len(digests) == 1


def test_report_and_item_page_show_the_reasons(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What the kind draws stands in the report and in the page of an item."""
    spec = _spec(folder, _write(folder, "csv"))
    _run(capsys, "run", str(spec))
    _run(capsys, "report", "latest", "--out", "out")
    page = (folder / "out" / "report.html").read_text()
    assert "income -1.000" in page
    shown = _run(capsys, "show", "latest", "0")
    assert "income -1.000" in Path(shown["overlay"]).read_text()


def test_every_generic_method_agrees_on_a_linear_network(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Gradients, paths, gates closed one by one and Shapley values are one thing."""
    source = _write(folder, "csv")
    maps = {}
    for method in ("gradient_x_input", "integrated_gradients", "kernelshap"):
        home = str(folder / method)
        spec = _spec(
            folder, source, explain={"method": method}, metrics=["completeness"]
        )
        said = _run(capsys, "run", str(spec), "--home", home)
        assert said["items"]["done"] == 4
        file = next(Path(home).rglob("*.parquet"))
        with file.open("rb") as stream:
            maps[method] = [
                map_of(result)
                for result in read_artifact(stream)
                if result.status == "done"
            ]
    for method in ("integrated_gradients", "kernelshap"):
        for ours, other in zip(maps["gradient_x_input"], maps[method], strict=True):
            assert other == pytest.approx(ours, abs=2e-3)


@pytest.mark.parametrize("even", [False, True])
def test_batch_size_changes_no_metric(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    even: bool,
) -> None:
    """Where items may differ in size each is measured alone, to the last bit."""
    monkeypatch.setattr(RowsKind, "card", replace(RowsKind.card, even=even))
    source = _write(folder, "csv")
    found = []
    for size in (1, 2, 4):
        home = str(folder / f"b{size}")
        run = {"batch_size": size, "shard_size": 4, "threads": 1, "device": "cpu"}
        _run(capsys, "run", str(_spec(folder, source, run=run)), "--home", home)
        rows = []
        for file in sorted(Path(home).rglob("*.parquet")):
            with file.open("rb") as stream:
                rows += [(r.map_bytes, dict(r.metrics)) for r in read_artifact(stream)]
        found.append(rows)
    if not even:
        assert found[0] == found[1] == found[2]
    for one, two in zip(found[0], found[2], strict=True):
        assert one[0] == two[0]
        assert one[1] == pytest.approx(two[1], abs=1e-9)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"explain": {"method": "gradcam"}}, "not defined for items of kind table"),
        ({"metrics": ["road"]}, "'road' is not defined for items of kind table"),
        (
            {"metrics": [{"name": "deletion", "baseline": "blur"}]},
            "no other baseline than zero",
        ),
        ({"run": {"dtype": "bfloat16"}}, "compute in float32"),
        (
            {"explain": {"method": "kernelshap", "parameters": {"baseline": "mean"}}},
            "expected baseline to be zero",
        ),
    ],
)
def test_what_makes_no_sense_for_rows_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], said: str
) -> None:
    """One sentence and exit 2, and nothing is written."""
    spec = _spec(folder, _write(folder, "csv"), **change)
    assert run_command(["run", str(spec)]) == 2
    assert said in capsys.readouterr().err


def test_a_missing_column_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The nearest column is offered."""
    data = {
        "kind": "table",
        "source": _write(folder, "csv"),
        "columns": {"features": ["incom", "debt", "age"]},
    }
    assert run_command(["run", str(_spec(folder, "", data=data))]) == 2
    assert "Did you mean 'income'?" in capsys.readouterr().err


def test_a_table_that_changed_fails_its_rows(folder: Path) -> None:
    """A row that is not the one that was listed is never explained as if it were."""
    from pipeline.errors import ItemError, Reason
    from pipeline.paths import AllowedRoots
    from pipeline.reading import ItemReader
    from pipeline.records import RecordReader
    from pipeline.sources.records import RecordSource
    from pipeline.spec import ColumnsSpec

    file = folder / _write(folder, "csv")
    items = list(RecordSource(file, ColumnsSpec(features=FEATURES)).items())
    file.write_text(file.read_text().replace("Eve", "Eva"))
    reader = RecordReader(ItemReader(AllowedRoots([folder])))
    with pytest.raises(ItemError) as failure:
        reader.read(items[0].uri, items[0].size_bytes, items[0].version)
    assert failure.value.reason is Reason.FILE_CHANGED


def test_the_sanity_gate_looks_at_rows(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All checks but that of edges are made, and the run records them."""
    spec = _spec(
        folder,
        _write(folder, "csv"),
        sanity={"items": 5},
        metrics=["mprt", "random_logit", "smprt", "emprt", "relative_stability"],
    )
    _run(capsys, "run", str(spec))
    _run(capsys, "report", "latest", "--out", "out")
    report = json.loads((folder / "out" / "report.json").read_text())
    checks = {one["name"]: one for one in report["sanity"]["checks"]}
    assert checks["edge_detector"]["verdict"] == "absent"
    assert checks["batch_invariance"]["verdict"] == "pass"
    assert checks["parameter_randomisation"]["figures"]["n"] == 4
    assert checks["random_attribution"]["figures"]["n"] == 4
    row = next(r for r in _results(folder) if r.status == "done")
    assert "random_logit" in row.metrics
    assert -1 <= row.metrics["mprt"] <= 1


def test_the_full_profile_is_measured_of_rows(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every metric that is defined for the kind gives a value or a reason."""
    spec = _spec(folder, _write(folder, "csv"), metrics="full")
    _run(capsys, "run", str(spec))
    named = {
        value
        for card in METRICS.values()
        if "table" in card.kinds
        for value in card.values_for(complete=False)
    }
    assert "road_gap" not in named
    for row in _results(folder):
        if row.status == "done":
            assert {*row.metrics, *row.absences} == named


@pytest.mark.usefixtures("folder")
def test_kinds_are_told_of(capsys: pytest.CaptureFixture[str]) -> None:
    """`affidavit kinds` lists the kinds, and shows one's card."""
    assert run_command(["kinds"]) == 0
    assert "units are columns" in capsys.readouterr().out
    assert _run(capsys, "kinds", "table")["table"]["map_kind"] == "columns"
    found = _run(capsys, "inspect", "linear")
    assert (found["kind"], found["method"]) == ("table", "gradient_x_input")
    assert run_command(["inspect", "linear"]) == 0
    assert "table rows" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet"])
def test_rows_are_computed_again(
    folder: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    """Every row gives its record, the damaged one too; altered rows say nothing."""
    source = _write(folder, kind)
    _run(capsys, "run", str(_spec(folder, source)))
    found = _run(capsys, "reverify", "latest", "--fraction", "1")
    assert (found["verdict"], found["same"]) == ("agrees", len(ROWS))
    (folder / source).unlink()
    gone = _run(capsys, "reverify", "latest", "--fraction", "1", code=4)
    assert (gone["verdict"], gone["differing"]) == ("incomplete", 0)
    assert gone["reasons"].get("file_missing", 0) >= 1


@pytest.mark.parametrize(
    "odd",
    [
        '{"income": 1, "debt": 1, "age": 1, "id": 12345678901234567890}',
        r'{"income": 1, "debt": 1, "age": 1, "name": "\ud800"}',
    ],
    ids=["integer", "surrogate"],
)
def test_a_line_that_no_digest_can_hold_is_a_row_with_a_reason(
    folder: Path, capsys: pytest.CaptureFixture[str], odd: str
) -> None:
    """An integer that readers would round, or half a character, fails one row."""
    table = folder / _write(folder, "jsonl")
    table.write_text(table.read_text() + odd + "\n")
    said = _run(capsys, "run", str(_spec(folder, table.name)))
    assert said["items"] == {"total": 6, "done": 4, "failed": 2}
    assert _results(folder)[-1].reason == "row_unreadable"


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("[" * 100_000, "is not JSON"),
        (r'{"income": 1, "group": "\ud800"}', "half of a character"),
    ],
    ids=["nested", "surrogate"],
)
def test_a_table_that_cannot_be_listed_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    """One sentence and exit 2."""
    table = folder / "odd.jsonl"
    table.write_text(line + "\n")
    columns = {"features": FEATURES, "groups": ["group"]}
    data = {"kind": "table", "source": table.name, "columns": columns}
    assert run_command(["run", str(_spec(folder, "", data=data))]) == 2
    assert said in capsys.readouterr().err
