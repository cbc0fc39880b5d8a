# SPDX-License-Identifier: Apache-2.0
"""The demo of tables, end to end: real decisions, a network, boosted trees."""

import csv
import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from affidavit.cli.app import run_command
from pipeline.models.loading import load_model
from pipeline.packing import read_artifact
from pipeline.spec import ModelSpec
from pipeline.stored_items import map_of

EXAMPLE = Path(__file__).parents[3] / "examples" / "table"
ROWS = 12


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    """Return the module of the example, which is no package."""
    found = spec_from_file_location("examples_table_prepare", EXAMPLE / "prepare.py")
    assert found is not None
    assert found.loader is not None
    module = module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def prepared(prepare: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder that was prepared with a few rows."""
    folder = tmp_path_factory.mktemp("table")
    assert prepare.main([str(folder), "--rows", str(ROWS)]) == 0
    return folder


@pytest.fixture
def demo(prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the folder; results go elsewhere, into a new home."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFIDAVIT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AFFIDAVIT_ALLOWED_ROOTS", f"{prepared}:{tmp_path}")
    return prepared


def said(
    capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0
) -> dict[str, Any]:
    """Return what a command prints as JSON."""
    capsys.readouterr()
    found = run_command([*arguments, "--json"])
    answer = capsys.readouterr()
    assert found == code, answer.err
    document: dict[str, Any] = json.loads(answer.out)
    return document


def changed(demo: Path, name: str, tmp_path: Path, **sections: Any) -> Path:
    """Return a copy of the spec, beside it, with some keys of sections changed."""
    spec: dict[str, Any] = yaml.safe_load((demo / name).read_text())
    for section, change in sections.items():
        merged = spec.get(section)
        spec[section] = merged | change if isinstance(merged, dict) else change
    path = demo / f"{tmp_path.name}.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def results() -> list[Any]:
    """Return the rows of the only run's artifacts, in order."""
    found = []
    for file in sorted(Path("home").rglob("*.parquet")):
        with file.open("rb") as stream:
            found += read_artifact(stream)
    return found


@pytest.mark.parametrize("name", ["audit.yaml", "audit-trees.yaml"])
def test_the_demo_runs_and_is_verified(
    demo: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """Every row has signed reasons that add up; report and item page show them."""
    run = said(capsys, "run", str(demo / name))
    assert run["items"] == {"total": ROWS, "done": ROWS, "failed": 0}
    assert [one["verdict"] for one in run["criteria"]] == ["pass", "pass"]
    assert said(capsys, "verify", "latest")["ok"]
    shown = said(capsys, "show", "latest", "1")
    reasons = shown["reasons"]
    # Columns without any part are no reasons: trees split on few.
    assert 5 <= len(reasons) <= 8
    with (demo / "decisions.csv").open() as stream:
        row = list(csv.DictReader(stream))[1]
    parts = [abs(reason["value"]) for reason in reasons]
    assert parts == sorted(parts, reverse=True)
    assert all(reason["cell"] == row[reason["column"]] for reason in reasons)
    assert any(reason["kept"] for reason in reasons)
    assert all(reason["value"] > 0 for reason in reasons if reason["kept"])
    page = Path(shown["overlay"]).read_text()
    assert page.count("<tr><td>") == len(reasons)
    said(capsys, "report", "latest", "--out", "out")
    report = Path("out/report.html").read_text()
    assert "Reasons for" in report
    assert reasons[0]["column"] in report
    assert "race" in report  # results are broken down by it
    first = results()[0]
    assert first.map_kind == "columns"
    assert first.axis_labels[0] == "loan_thousands"


def test_show_tells_the_reasons_as_text(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line a reason, the weightiest first, with the row's cell."""
    run_command(["run", str(demo / "audit.yaml")])
    capsys.readouterr()
    assert run_command(["show", "latest", "0"]) == 0
    lines = [
        line for line in capsys.readouterr().out.splitlines() if "  reason " in line
    ]
    assert len(lines) == 8
    assert " = " in lines[0]


def test_what_is_stored_is_the_networks_own_change(
    demo: Path, prepare: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    """The parts of a row sum to its score less the baseline row's, recomputed here."""
    said(capsys, "run", str(demo / "audit.yaml"))
    from pipeline.kinds.table_cells import baseline_numbers, row_numbers
    from pipeline.kinds.table_encoding import read_encoding

    encoding = read_encoding(demo / "encoding.json")
    model = yaml.safe_load((demo / "audit.yaml").read_text())["model"]
    spec = ModelSpec.model_validate(model)
    network = load_model(spec, weights=demo / "network.safetensors").module.eval()
    with (demo / "decisions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    baseline = torch.from_numpy(baseline_numbers(encoding))[None]
    for row, result in zip(rows, results(), strict=True):
        numbers = row_numbers(encoding, {k: v or None for k, v in row.items()})
        with torch.no_grad():
            change = network(torch.from_numpy(numbers)[None]) - network(baseline)
        found = float(map_of(result).sum())
        expected = float(change[0, result.target])
        assert found == pytest.approx(expected, abs=2e-2 + 2e-3 * abs(expected))
    assert set(prepare.FEATURES) == set(encoding.names)


def test_one_worker_or_more_rows_a_batch_give_the_same_trees(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trees answer row by row, so neither batch nor shard touches what is stored."""
    found = []
    for place, size in enumerate((1, 5)):
        run = {"batch_size": size, "shard_size": 5 * size}
        spec = changed(demo, "audit-trees.yaml", tmp_path, run=run)
        home = str(tmp_path / f"h{place}")
        said(capsys, "run", str(spec), "--home", home)
        stored = []
        for file in sorted(Path(home).rglob("*.parquet")):
            with file.open("rb") as stream:
                stored += [(r.map_bytes, r.map_scale) for r in read_artifact(stream)]
        found.append(stored)
    assert found[0] == found[1]
    assert len(found[0]) == ROWS


def test_trees_have_no_weights_that_could_be_random(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Metrics that draw weights anew say nothing of trees, rather than 1."""
    metrics = ["mprt", "smprt", "emprt", "random_logit"]
    path = changed(demo, "audit-trees.yaml", tmp_path, metrics=metrics, criteria=[])
    said(capsys, "run", str(path))
    for result in results():
        assert result.metrics["random_logit"] is not None
        for name in ("mprt", "mprt_full", "smprt", "emprt"):
            assert result.metrics.get(name) is None
            assert result.absences[name] == "blank_randomised"


def test_a_subject_column_leaves_no_cell_behind(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Artifacts, report and item page hold names of columns and numbers alone."""
    with (demo / "decisions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    for number, row in enumerate(rows):
        row["price_thousands"] = f"{7310000 + number}.125"
        row["person"] = f"Ann-{number}"
    with (demo / "persons.csv").open("w") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    spec = yaml.safe_load((demo / "audit.yaml").read_text())
    columns = spec["data"]["columns"] | {"subject": "person"}
    data = {"source": "persons.csv", "columns": columns}
    path = changed(demo, "audit.yaml", tmp_path, data=data, criteria=[])
    said(capsys, "run", str(path))
    shown = said(capsys, "show", "latest", "1")
    assert {reason["cell"] for reason in shown["reasons"]} == {None}
    page = Path(shown["overlay"]).read_text()
    said(capsys, "report", "latest", "--out", "out")
    report = Path("out/report.html").read_text()
    assert "price_thousands" in report + page
    for text in (report, page, json.dumps(shown)):
        assert "73100" not in text
        assert "Ann-" not in text
    for result in results():
        assert not any("73100" in label for label in result.axis_labels)


def test_each_bad_row_fails_alone_with_its_reason(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The others are explained, and the report counts what is not."""
    with (demo / "decisions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    rows[1]["income_thousands"] = "much"
    rows[2]["income_thousands"] = "nan"
    rows[3]["income_thousands"] = ""
    rows[4]["meets_guidelines"] = "perhaps"
    with (demo / "bad.csv").open("w") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    encoding = json.loads((demo / "encoding.json").read_text())
    for column in encoding["columns"]:
        if column["name"] in {"income_thousands", "meets_guidelines"}:
            column["missing" if column["kind"] == "numeric" else "unknown"] = "refuse"
        if column["name"] == "meets_guidelines":
            total = sum(column["frequencies"])
            column["frequencies"] = [part / total for part in column["frequencies"]]
    (demo / "strict.json").write_text(json.dumps(encoding))
    path = changed(
        demo,
        "audit.yaml",
        tmp_path,
        data={"source": "bad.csv"},
        model={"encoding": "strict.json"},
        criteria=[],
    )
    run = said(capsys, "run", str(path))
    assert run["items"] == {"total": ROWS, "done": ROWS - 4, "failed": 4}
    assert [one.reason for one in results() if one.reason][:4] == [
        "cell_not_a_number",
        "cell_not_finite",
        "cell_empty",
        "category_unknown",
    ]


@pytest.mark.parametrize(
    ("name", "sections", "message"),
    [
        (
            "audit.yaml",
            {"data": {"columns": {"features": ["incom_thousands"]}}},
            "did you mean 'income_thousands'",
        ),
        (
            "audit.yaml",
            {"data": {"columns": {"features": ["income_thousands", "race"]}}},
            "the encoding has no column 'race'",
        ),
        ("audit.yaml", {"model": {"encoding": None}}, "model.encoding: an audit of"),
        ("audit.yaml", {"model": {"encoding": "decisions.csv"}}, "is not JSON"),
        (
            "audit.yaml",
            {"model": {"arguments": {"inputs": 5, "classes": 2}}},
            "do not fit the architecture",
        ),
        (
            "audit-trees.yaml",
            {"explain": {"method": "integrated_gradients"}},
            "has no gradient; use tree_shap",
        ),
        (
            "audit-trees.yaml",
            {"explain": {"method": "deeplift"}},
            "use tree_shap for a tree model",
        ),
        ("audit.yaml", {"explain": {"method": "tree_shap"}}, "tree models only"),
        ("audit.yaml", {"explain": {"method": "gradcam"}}, "not defined for items"),
    ],
)
def test_a_hopeless_audit_is_refused_in_one_sentence(
    demo: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    sections: dict[str, Any],
    message: str,
) -> None:
    """Exit 2, before anything is explained."""
    path = changed(demo, name, tmp_path, **sections)
    assert run_command(["run", str(path)]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_column_that_the_table_lacks_is_named(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The nearest one of the file is offered."""
    text = (demo / "decisions.csv").read_text().replace("cosigner", "co_signer", 1)
    (demo / "renamed.csv").write_text(text)
    path = changed(demo, "audit.yaml", tmp_path, data={"source": "renamed.csv"})
    assert run_command(["run", str(path)]) == 2
    error = capsys.readouterr().err
    assert "has no column 'cosigner'" in error
    assert "Did you mean 'co_signer'?" in error


def test_an_encoding_of_other_rows_is_refused(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One level more than the network was trained with, for networks and trees."""
    encoding = json.loads((demo / "encoding.json").read_text())
    column = encoding["columns"][-1]
    column["levels"].append("2")
    column["frequencies"].append(0.0)
    (demo / "wider.json").write_text(json.dumps(encoding))
    for name in ("audit.yaml", "audit-trees.yaml"):
        path = changed(demo, name, tmp_path, model={"encoding": "wider.json"})
        assert run_command(["run", str(path)]) == 2
        assert "numbers of a row, which the network does not take" in (
            capsys.readouterr().err
        )


def test_a_pickle_is_refused_and_never_opened(
    demo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The refusal is an entry of the ledger."""
    import pickle

    (demo / "model.pkl").write_bytes(pickle.dumps({"a": np.zeros(3)}))
    model = {"weights": "model.pkl"}
    path = changed(demo, "audit-trees.yaml", tmp_path, model=model)
    assert run_command(["run", str(path)]) == 2
    assert "is a pickle, which runs code" in capsys.readouterr().err


def test_inspect_tells_the_kind_of_trees_and_networks(
    demo: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Trees have a method of their own, networks those with gradients."""
    weights = str(demo / "trees.json")
    found = said(capsys, "inspect", "xgboost", "--weights", weights)
    assert (found["kind"], found["method"]) == ("table", "tree_shap")
    assert "deeplift" not in found["methods"]
    assert "kernelshap" in found["methods"]


def test_the_models_are_worth_explaining(
    demo: Path, prepare: ModuleType, tmp_path: Path
) -> None:
    """On rows set aside both rank approvals well above chance; neither sees race."""
    from pipeline.kinds.table_cells import row_numbers
    from pipeline.kinds.table_encoding import read_encoding

    prepare.prepare(tmp_path / "whole")
    encoding = read_encoding(tmp_path / "whole" / "encoding.json")
    with (tmp_path / "whole" / "decisions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 497
    cells = [{k: v or None for k, v in row.items()} for row in rows]
    numbers = torch.from_numpy(np.stack([row_numbers(encoding, c) for c in cells]))
    approved = np.array([row["decision"] == "approved" for row in rows])
    for name in ("audit.yaml", "audit-trees.yaml"):
        spec = ModelSpec.model_validate(
            yaml.safe_load((demo / name).read_text())["model"]
        )
        weights = tmp_path / "whole" / str(spec.weights)
        model = load_model(spec, weights=weights).module.eval()
        with torch.no_grad():
            scores = model(numbers).diff(dim=1)[:, 0].numpy()
        ranks = scores[approved][:, None] - scores[~approved][None]
        auc = float((ranks > 0).mean() + 0.5 * (ranks == 0).mean())
        assert auc > 0.75
    assert not {"race", "sex", "decision"} & set(encoding.names)
