# SPDX-License-Identifier: Apache-2.0
"""Audits of texts, end to end: the example, a folder of transformers, bad input."""

import csv
import json
import sqlite3
import sys
from contextlib import closing
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from affidavit.cli.app import run_command
from pipeline.domain import ItemResult
from pipeline.packing import read_artifact
from pipeline.stored_items import map_of, mask_of
from tests.support.texts import classifier
from tests.support.tokenizers_of_texts import saved, wordpiece

EXAMPLE = Path(__file__).parents[3] / "examples" / "text"
TEXTS = [
    "the film was good",
    "The film was unbelievable, the film was BAD!",
    "good, good. the film was unbelievable. the film was bad.",
    "bad film",
    "was the film good",
    "the film was bad, bad, bad",
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a small DistilBERT as transformers saves it."""
    model = classifier("distilbert", classes=2)
    model.config.id2label = {0: "against", 1: "for"}
    model.save_pretrained(tmp_path / "net")
    saved(wordpiece(), tmp_path / "net")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AFFIDAVIT_HOME", str(tmp_path / "home"))
    return tmp_path


def spec_of(folder: Path, source: str, **sections: Any) -> Path:
    """Return the path of a spec over the source."""
    spec: dict[str, Any] = {
        "audit": "texts",
        "model": {"source": "transformers:net"},
        "data": {
            "kind": "text",
            "source": source,
            "columns": {"text": "body"},
            "options": {"limit": 32},
        },
        "threshold": {"policy": "fixed", "keep": 0.3},
        "metrics": [{"name": "deletion", "steps": 5}],
        "run": {"batch_size": 4, "shard_size": 4, "threads": 1, "device": "cpu"},
    } | sections
    path = folder / "audit.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def written(folder: Path, rows: list[dict[str, Any]], suffix: str = "jsonl") -> str:
    """Return the name of a file of these rows."""
    file = folder / f"texts.{suffix}"
    if suffix == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    elif suffix == "csv":
        with file.open("w", newline="") as stream:
            writer = csv.DictWriter(stream, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    else:
        pq.write_table(pa.Table.from_pylist(rows), file)
    return file.name


def run(
    capsys: pytest.CaptureFixture[str], *arguments: str, code: int = 0
) -> dict[str, Any]:
    """Return what the command says, which must end with the code."""
    capsys.readouterr()
    found = run_command([*arguments, "--json"])
    answer = capsys.readouterr()
    assert found == code, answer.err
    document: dict[str, Any] = json.loads(answer.out)
    return document


def results(home: Path) -> list[ItemResult]:
    """Return the rows of a run in order."""
    found = []
    for file in sorted(home.rglob("*.parquet")):
        with file.open("rb") as stream:
            found += read_artifact(stream)
    return sorted(found, key=lambda row: row.item_index)


@pytest.mark.parametrize("suffix", ["csv", "jsonl", "parquet"])
def test_a_folder_of_transformers_is_audited(
    folder: Path, capsys: pytest.CaptureFixture[str], suffix: str
) -> None:
    """Files, classes and tokenizer come from the folder; maps have a place a word."""
    source = written(folder, [{"body": text} for text in TEXTS], suffix)
    said = run(capsys, "run", str(spec_of(folder, source)))
    assert said["items"] == {"total": 6, "done": 6, "failed": 0}
    words = [4, 10, 14, 2, 4, 8]
    for row, count in zip(results(folder / "home"), words, strict=True):
        assert map_of(row).shape == (1, count)
        assert row.map_kind == "words"
        assert not row.axis_labels
        assert mask_of(row, (1, count)).sum() <= max(1, np.ceil(0.3 * count))
    assert run(capsys, "verify", "latest")["ok"]
    run(capsys, "report", "latest", "--out", "out")
    with closing(sqlite3.connect(folder / "home" / "affidavit.db")) as database:
        (plan,) = database.execute("SELECT plan FROM runs").fetchone()
    # What shapes network and words is pinned beside the weights.
    assert set(json.loads(plan)["files"]) == {"config", "tokenizer"}
    page = (folder / "out" / "report.html").read_text()
    # The folder's own names of the classes, in the legend.
    assert ">for against<" in page or ">for for<" in page
    assert "unbelievable" in page


@pytest.mark.parametrize(
    "method", ["text_rollout", "text_generic_attention", "text_hierarchy", "occlusion"]
)
def test_batches_and_shards_change_no_stored_byte(
    folder: Path, capsys: pytest.CaptureFixture[str], method: str
) -> None:
    """A text has the same map in any batch, in any order, to the bit."""
    stored: list[dict[str, bytes]] = []
    for number, (size, texts) in enumerate([(4, TEXTS), (2, TEXTS), (4, TEXTS[::-1])]):
        source = written(folder, [{"body": text} for text in texts])
        spec = spec_of(
            folder,
            source,
            explain={"method": method},
            metrics=[],
            run={"batch_size": size, "shard_size": 4, "threads": 1, "device": "cpu"},
        )
        home = folder / f"home{number}"
        run(capsys, "run", str(spec), "--home", str(home))
        rows = results(home)
        found = {text: row.map_bytes for text, row in zip(texts, rows, strict=True)}
        stored.append(found)
    assert all(stored[0].values())
    assert stored[0] == stored[1] == stored[2]


def test_bad_texts_fail_alone_with_their_reasons(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each kind of bad text is a reason, and the others go on."""
    rows: list[dict[str, Any]] = [
        {"body": "the film"},
        {"body": ""},
        {"body": 7},
        {"body": "the film " * 20},
        {"body": "zither"},
        {"other": "the film"},
        {"body": "good"},
        {"body": "good film"},
    ]
    said = run(capsys, "run", str(spec_of(folder, written(folder, rows))))
    assert said["items"] == {"total": 8, "done": 2, "failed": 6}
    reasons = [
        row.reason if row.status == "failed" else None
        for row in results(folder / "home")
    ]
    assert reasons == [
        None,
        "text_empty",
        "not_a_text",
        "text_too_long",
        "text_unknown",
        "row_unreadable",
        # One word has nothing to rank it against.
        "constant_map",
        None,
    ]


def test_long_texts_are_read_in_windows_or_cut(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is refused by default is read as the audit says."""
    source = written(folder, [{"body": "the film was good. " * 20}])
    for long, words in (("chunk", 100), ("truncate", 30)):
        data = {
            "kind": "text",
            "source": source,
            "columns": {"text": "body"},
            "options": {"limit": 32, "long": long},
        }
        home = folder / long
        spec = spec_of(folder, source, data=data, metrics=[])
        run(capsys, "run", str(spec), "--home", str(home))
        assert map_of(results(home)[0]).shape == (1, words)


def test_where_subjects_are_named_no_word_is_stored_or_shown(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Artifacts and the report hold maps of numbered words, nothing of the text."""
    rows = [
        {"body": f"{text} unbelievable", "who": f"p{n}"} for n, text in enumerate(TEXTS)
    ]
    data = {
        "kind": "text",
        "source": written(folder, rows),
        "columns": {"text": "body", "subject": "who"},
        "options": {"limit": 32},
    }
    run(capsys, "run", str(spec_of(folder, "", data=data)))
    run(capsys, "report", "latest", "--out", "out")
    page = (folder / "out" / "report.html").read_bytes()
    assert b"words by number, without the text" in page
    stored = [file.read_bytes() for file in (folder / "home").rglob("*.parquet")]
    for content in (page, (folder / "out" / "report.json").read_bytes(), *stored):
        assert b"unbeliev" not in content


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model": {"source": "transformers:nowhere"}}, "there is no folder 'nowhere'"),
        ({"model": {"source": "transformers:empty"}}, "has no config.json"),
        ({"explain": {"method": "gradcam"}}, "not defined for items of kind text"),
        (
            {"data": {"kind": "text", "source": "t.jsonl",
                      "options": {"long": "wrap"}}},
            "expected long to be one of refuse, truncate, chunk",
        ),
        (
            {"data": {"kind": "text", "source": "texts.jsonl",
                      "columns": {"text": "body"}}},
            "reads 64 tokens at most, but data.options.limit is 512; set it to 64",
        ),
        (
            {"data": {"kind": "text", "source": "texts.jsonl",
                      "columns": {"text": "bdy"}, "options": {"limit": 32}}},
            "None of the first 1 items can be explained (row_unreadable)",
        ),
    ],
)  # fmt: skip
def test_what_makes_no_sense_for_texts_is_refused(
    folder: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], said: str
) -> None:
    """One sentence, exit 2, nothing written."""
    (folder / "empty").mkdir()
    source = written(folder, [{"body": "the film"}])
    assert run_command(["run", str(spec_of(folder, source, **change))]) == 2
    assert said in capsys.readouterr().err


@pytest.fixture(scope="module")
def prepare() -> ModuleType:
    """Return the module of the example, which is no package."""
    found = spec_from_file_location("examples_text_prepare", EXAMPLE / "prepare.py")
    assert found is not None
    assert found.loader is not None
    module = module_from_spec(found)
    sys.modules[found.name] = module
    found.loader.exec_module(module)
    return module


def test_the_example_runs_and_shows_its_words(
    prepare: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The real encoder with its trained head sorts messages, and its report shows."""
    monkeypatch.setenv("AFFIDAVIT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(prepare, "MOST", 24)
    monkeypatch.setattr(prepare, "AUDITED", 1)
    spec, accuracy = prepare.prepare(tmp_path / "demo")
    assert accuracy > 0.8
    # A second call keeps the weights.
    assert prepare.prepare(tmp_path / "demo") == (spec, None)
    document = yaml.safe_load(spec.read_text())
    document["metrics"] = ["completeness"]
    document["criteria"] = ["items_failed.count <= 0"]
    document["run"] |= {"batch_size": 2, "threads": 1, "device": "cpu"}
    spec.write_text(yaml.safe_dump(document))
    said = run(capsys, "run", str(spec))
    assert said["items"] == {"total": 4, "done": 4, "failed": 0}
    assert run(capsys, "verify", "latest")["ok"]
    run(capsys, "report", "latest", "--out", str(tmp_path / "out"))
    page = (tmp_path / "out" / "report.html").read_text()
    messages = [
        json.loads(line)["text"]
        for line in (tmp_path / "demo" / "messages.jsonl").read_text().splitlines()
    ]
    assert page.count('<figure class="drawn"') == 4
    longest = max(
        " ".join(messages).replace("?", " ").replace(".", " ").split(), key=len
    )
    assert longest in page
    for row in results(tmp_path / "home"):
        # IG is complete: the sum of the map is f(text) - f(text of padding).
        assert row.metrics["completeness_residual_relative"] < 0.1


def test_the_example_says_which_package_is_missing(
    prepare: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without its extra the example is one sentence and exit 2."""
    monkeypatch.setattr(prepare, "find_spec", lambda _name: None)
    assert prepare.main([str(tmp_path)]) == 2
    assert "pip install 'affidavit[text-demo]'" in capsys.readouterr().err


def test_a_folder_of_transformers_is_inspected(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`affidavit inspect` says that the network takes texts, and by which methods."""
    assert (folder / "net").is_dir()
    found = run(capsys, "inspect", "transformers:net")
    assert (found["kind"], found["units"]) == ("text", "words")
    assert found["weights"] is not None
    assert "text_generic_attention" in found["methods"]


def test_a_folder_of_files_is_audited_against_its_labels(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each .txt is a text, its subfolder its label; other files are no items."""
    for label, text in (("for", "the film was good"), ("against", "the film was bad")):
        (folder / "texts" / label).mkdir(parents=True)
        (folder / "texts" / label / "a.txt").write_text(text)
    (folder / "texts" / "for" / "notes.md").write_text("no text to explain")
    data = {"kind": "text", "source": "texts", "options": {"limit": 32}}
    spec = spec_of(
        folder, "", data=data, explain={"target": "label"}, metrics=["completeness"]
    )
    said = run(capsys, "run", str(spec))
    assert said["items"] == {"total": 2, "done": 2, "failed": 0}
    assert sorted(row.target for row in results(folder / "home")) == [0, 1]
