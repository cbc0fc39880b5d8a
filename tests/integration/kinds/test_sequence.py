# SPDX-License-Identifier: Apache-2.0
"""Audits of sequences: the example on real recordings, and every form of source."""

import csv
import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from safetensors.torch import save_file

from pipeline.packing import read_artifact
from pipeline.stored_items import map_of
from tests.support.command_line import Answer, called, standing_in
from tests.support.declared_models import declared_models
from tests.support.sequences import FEATURES, network

EXAMPLE = Path(__file__).parents[3] / "examples" / "sequence" / "prepare.py"
NAMES = ["a", "b", "c"]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder to stand in; the architectures of this checkout are known."""
    with declared_models(), standing_in(tmp_path, home=tmp_path / "home", variables={}):
        yield tmp_path


def results(folder: Path) -> list[Any]:
    """Return the rows of all artifacts."""
    found = []
    for file in sorted((folder / "home" / "objects").rglob("*.parquet")):
        with file.open("rb") as stream:
            found += read_artifact(stream)
    return found


def failures(found: list[Any]) -> list[str | None]:
    """Return the reason of each item that failed, None of the others."""
    return [one.reason if one.status == "failed" else None for one in found]


def run(*arguments: object, code: int = 0) -> Answer:
    """Return the answer of a command that ends as expected."""
    answer = called(*arguments, "--json")
    assert answer.code == code, answer.err
    return answer


def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module that lays out the example."""
    spec = importlib.util.spec_from_file_location("prepare_sequence", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(importlib.sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


def prepared(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, int]:
    """Return the example's spec; its network learns for a short while only."""
    module = example(monkeypatch)
    monkeypatch.setattr(module, "EPOCHS", 4)
    found: tuple[Path, int] = module.prepare(folder)
    return found


def test_the_example_runs_end_to_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every recording is explained, drawn over time, and the run verifies."""
    spec, count = prepared(folder, monkeypatch)
    document = yaml.safe_load(spec.read_text())
    document |= {"metrics": ["completeness"], "criteria": []}
    document["run"] |= {"device": "cpu", "threads": 1}
    spec.write_text(yaml.safe_dump(document))
    said = run("run", spec).document
    assert said["items"] == {"total": count, "done": count, "failed": 0}
    found = results(folder)
    lengths = {map_of(result).shape[1] for result in found}
    assert len(lengths) > 10
    for result in found:
        assert result.map_kind == "steps"
        assert result.axis_labels == ()
        assert result.method == "hidden_state_gradient"
    assert run("verify", "latest").document["ok"]
    run("report", "latest", "--out", "out")
    page = (folder / "out" / "report.html").read_text()
    assert page.count("<polyline") >= 6
    assert 'class="kept"' in page
    assert ">importance<" in page
    shown = run("show", "latest", "0").document
    assert "<polyline" in Path(shown["overlay"]).read_text()
    # Persons are in tokens: no name of theirs is in the report or an artifact.
    assert "person 8" not in page
    for file in (folder / "home" / "objects").rglob("*.parquet"):
        assert b"person 8" not in file.read_bytes()


def test_the_example_names_the_package_that_it_lacks(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One sentence with the line that installs it, and exit 2."""
    module = example(monkeypatch)
    monkeypatch.setattr(module, "find_spec", lambda _name: None)
    assert module.main([str(folder / "demo")]) == 2
    assert "pip install 'affidavit[" in capsys.readouterr().err


def test_where_a_person_is_named_curves_are_not_drawn(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the audit says so, the report shows importance without the readings."""
    spec, _ = prepared(folder, monkeypatch)
    document = yaml.safe_load(spec.read_text())
    del document["privacy"]
    document |= {"metrics": [], "criteria": []}
    document["run"] |= {"device": "cpu", "threads": 1}
    spec.write_text(yaml.safe_dump(document))
    run("run", spec)
    run("report", "latest", "--out", "out")
    page = (folder / "out" / "report.html").read_text()
    assert "<polyline" not in page.split('class="drawn"', 1)[1]
    assert ">importance<" in page


def sequences() -> list[np.ndarray[Any, Any]]:
    """Return seeded sequences of different lengths, the first one of one step."""
    random = np.random.default_rng(4)
    return [
        random.standard_normal((length, FEATURES)).round(3) for length in (1, 5, 12, 8)
    ]


def written(folder: Path, form: str) -> dict[str, Any]:
    """Return the data section of the sequences in that form."""
    rows = [
        {"who": f"w{number}", **dict(zip(NAMES, map(float, step), strict=True))}
        for number, one in enumerate(sequences())
        for step in one
    ]
    data: dict[str, Any] = {"kind": "sequence"}
    columns = {"id": "who", "features": NAMES}
    if form == "csv":
        with (folder / "long.csv").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
        return data | {"source": "long.csv", "columns": columns}
    if form == "parquet":
        table = pa.Table.from_pylist(rows)
        pq.write_table(table, folder / "long.parquet", row_group_size=7)
        return data | {"source": "long.parquet", "columns": columns}
    (folder / "arrays").mkdir()
    for number, one in enumerate(sequences()):
        np.save(folder / "arrays" / f"w{number}.npy", one)
    if form == "folder":
        return data | {"source": "arrays"}
    lines = [f"arrays/w{number}.npy" for number in range(len(sequences()))]
    (folder / "manifest.csv").write_text("path\n" + "\n".join(lines) + "\n")
    return data | {"source": "manifest.csv"}


def audit(folder: Path, data: dict[str, Any], **sections: Any) -> Path:
    """Return the path of a spec over the seeded GRU."""
    save_file(network("gru").state_dict(), folder / "gru.safetensors")
    document = {
        "audit": "forms",
        "model": {
            "source": "gru",
            "weights": "gru.safetensors",
            "arguments": {"features": FEATURES, "hidden": 7, "classes": 4},
        },
        "data": data,
        "threshold": {"policy": "fixed", "keep": 0.4},
        "metrics": [],
        "run": {"batch_size": 3, "threads": 1, "device": "cpu"},
    } | sections
    path = folder / "audit.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.mark.parametrize("form", ["csv", "parquet", "folder", "manifest"])
def test_every_form_of_a_sequence_has_the_same_map(folder: Path, form: str) -> None:
    """Long tables and .npy files; a sequence of one step has nothing to be ranked."""
    run("run", audit(folder, written(folder, form)))
    found = results(folder)
    assert failures(found) == ["constant_map", None, None, None]
    from explain.methods import create_method
    from explain.sequences.content import SequenceContent
    from tests.support.sequences import gated

    for result, one in zip(found[1:], sequences()[1:], strict=True):
        behind = gated(network("gru"), [SequenceContent.of(one.astype(np.float32))])
        method = create_method("hidden_state_gradient", behind)
        expected = method.explain(behind.open_gates(), None).maps[0].numpy()
        assert map_of(result) == pytest.approx(expected, abs=2e-3, rel=2e-3)


def test_every_metric_and_the_sanity_gate_take_sequences(folder: Path) -> None:
    """The profile full, with weights drawn anew, has values for steps."""
    spec = audit(
        folder,
        written(folder, "csv"),
        metrics="full",
        sanity={"items": 2},
        threshold={"policy": "chunked", "keep": 0.4},
    )
    run("run", spec)
    found = results(folder)[1:]
    assert all(one.status == "done" for one in found)
    for one in found:
        for name in ("deletion_auc", "faithfulness_correlation", "mprt", "emprt"):
            assert np.isfinite(one.metrics[name])
        # Chunks are cut each at its own fraction.
        assert one.policy == "chunked:keep=0.4"
        assert one.keep_achieved > 0


def test_a_wide_table_is_a_sequence_a_row(folder: Path) -> None:
    """Of one feature; columns are steps, and rows may end early."""
    rows = [[0.5, -1.0, 2.0, 1.5], [1.0, 2.0, "", ""], ["", 1.0, "", ""]]
    header = ["t0", "t1", "t2", "t3"]
    with (folder / "wide.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([header, *rows])
    from pipeline.models.recurrent import lstm

    model = lstm.build(features=1, hidden=4, classes=2)
    save_file(model.state_dict(), folder / "wide.safetensors")
    columns = {"features": header}
    spec = audit(
        folder,
        {"kind": "sequence", "source": "wide.csv", "columns": columns},
        model={
            "source": "lstm",
            "weights": "wide.safetensors",
            "arguments": {"features": 1, "hidden": 4, "classes": 2},
        },
        explain={"method": "integrated_gradients"},
    )
    run("run", spec)
    found = results(folder)
    assert failures(found) == [None, None, "sequence_ragged"]
    assert [map_of(result).shape for result in found[:2]] == [(1, 4), (1, 2)]


def test_neighbours_change_no_stored_byte(folder: Path) -> None:
    """An item among others of other lengths has the same map, scale and score."""
    data = written(folder, "folder")
    run("run", audit(folder, data))
    before = [(one.map_bytes, one.map_scale, one.score) for one in results(folder)]
    # The same items at the same places of their batches, the others much longer.
    random = np.random.default_rng(9)
    for number in (0, 1):
        longer = random.standard_normal((70 + number, FEATURES))
        np.save(folder / "arrays" / f"w{number}.npy", longer)
    run("run", audit(folder, data), "--home", folder / "second" / "home")
    after = [
        (one.map_bytes, one.map_scale, one.score) for one in results(folder / "second")
    ]
    assert before[2:] == after[2:]
    assert before[1] != after[1]


@pytest.mark.parametrize(
    ("sections", "said"),
    [
        ({"explain": {"method": "gradcam"}}, "not defined for items of kind sequence"),
        ({"explain": {"method": "tree_shap"}}, "not defined for items of kind"),
    ],
)
def test_what_sequences_do_not_have_is_refused(
    folder: Path, sections: dict[str, Any], said: str
) -> None:
    """Exit 2 and one sentence."""
    answer = called("run", audit(folder, written(folder, "csv"), **sections))
    assert answer.code == 2
    assert said in answer.err


def test_a_method_over_steps_refuses_features(folder: Path) -> None:
    """The sentence names the option and another method."""
    data = written(folder, "csv") | {"options": {"per": "feature"}}
    answer = called("run", audit(folder, data))
    assert answer.code == 2
    assert "data.options.per to step" in answer.err
    spec = audit(folder, data, explain={"method": "integrated_gradients"})
    run("run", spec)
    found = results(folder)
    assert {map_of(one).shape for one in found if one.map_bytes} == {(3, 1)}
    assert found[1].axis_labels == tuple(NAMES)


def test_unsorted_ids_are_refused_when_listed(folder: Path) -> None:
    """Rows of one sequence must follow each other."""
    (folder / "long.csv").write_text("who,a,b,c\nx,1,2,3\ny,1,2,3\nx,1,2,3\n")
    columns = {"id": "who", "features": NAMES}
    data = {"kind": "sequence", "source": "long.csv", "columns": columns}
    answer = called("run", audit(folder, data))
    assert answer.code == 2
    assert "sort it by 'who'" in answer.err
