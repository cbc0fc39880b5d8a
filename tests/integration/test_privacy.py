# SPDX-License-Identifier: Apache-2.0
"""Where a subject column is named, no identifier leaves the table made for it."""

import contextlib
import json
import shutil
import sqlite3
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import affidavit
from tests.support.workspace import Workspace, photograph, write_csv

#: Identifiers as they might stand in real data, each found nowhere else by chance.
SEEDS = (
    "wilhelmina",  # the subjects
    "1957-03-14",  # the subjects
    "oncology-west",  # a group
    "quokka",  # in file names
    "MRN0042",  # in folder names
    "xylophonist",  # in labels that are no class
    "halfmoon",  # in masks' names
)

PRIVATE_TABLES = {"locations"}
#: Those that only the encrypted mapping knows.
ENCRYPTED = set(SEEDS[:3])


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished run over persons, read, shown and verified in every way there is."""
    workspace = Workspace(
        folder=tmp_path_factory.mktemp("private") / "work",
        variables={"AFFIDAVIT_LOG_LEVEL": "debug"},
    ).lay_out(0)
    scans = workspace.folder / "scans" / "MRN0042"
    scans.mkdir(parents=True)
    rows = []
    for number in range(6):
        name = f"quokka-{number}.png"
        photograph(number).save(scans / name)
        photograph(number).convert("L").save(scans / f"halfmoon-{number}.png")
        rows.append(
            {
                "path": f"scans/MRN0042/{name}",
                "mask": f"scans/MRN0042/halfmoon-{number}.png",
                "patient": f"wilhelmina 1957-03-14 {number % 3}",
                "ward": "oncology-west" if number % 2 else "oncology-east",
                "class": "xylophonist" if number == 4 else "cat",
            }
        )
    (scans / "quokka-5.png").write_bytes(b"no picture")
    write_csv(workspace.folder / "items.csv", rows)
    columns = {
        "label": "class",
        "mask": "mask",
        "subject": "patient",
        "groups": ["ward"],
    }
    spec = workspace.write_spec(
        data={"source": "items.csv", "columns": columns},
        metrics=["localisation"],
        run={"shard_size": 4},
    )
    transcript = []
    for arguments in (
        ("plan", spec),
        ("run", spec, "--json"),
        ("status", "latest"),
        ("report", "latest", "--out", "out", "--bundle", "bundle.zip"),
        ("show", "latest", "0", "--out", "out/0.png", "--json"),
        ("show", "latest", "4", "--json"),
        ("show", "latest", "5", "--json"),
        ("items", "latest"),
        ("items", "latest", "--failed", "--json"),
        ("verify", "latest", "--json"),
        ("verify", "bundle.zip", "--json"),
    ):
        answer = workspace.call(*arguments)
        assert answer.code == 0, (arguments, answer.err)
        transcript.append(answer.out + answer.err)
    (workspace.folder / "out" / "transcript.txt").write_text("\n".join(transcript))
    return workspace


def _hits(content: bytes) -> list[str]:
    lowered = content.lower()
    return [seed for seed in SEEDS if seed.lower().encode() in lowered]


def test_no_identifier_is_in_any_output(private: Workspace) -> None:
    """Artifacts, reports, pictures, bundle parts and everything printed hold none."""
    shutil.unpack_archive(private.folder / "bundle.zip", private.folder / "unpacked")
    paths = [
        path
        for folder in ("home/objects", "out", "unpacked")
        for path in (private.folder / folder).rglob("*")
        if path.is_file()
    ]
    assert len(paths) >= 10
    assert {str(path): _hits(path.read_bytes()) for path in paths} == {
        str(path): [] for path in paths
    }


def test_no_identifier_is_in_any_cell_of_an_artifact(private: Workspace) -> None:
    """Compressed columns hide text from a byte search, so cells are searched too."""
    rows = [
        row
        for path in sorted(private.objects.rglob("*.parquet"))
        for row in pq.read_table(path).to_pylist()
    ]
    assert len(rows) == 6
    for row in rows:
        assert _hits(repr(row).encode()) == []
        assert row["uri"] == row["item_id"]
    # Tokens still tell persons and wards apart.
    assert len({row["subject"] for row in rows}) == 3
    assert len({dict(row["groups"])["ward"] for row in rows}) == 2
    done = [row for row in rows if row["status"] == "done"]
    salted = {row["input_sha256"] for row in done}
    stored = {row["input_sha256"] for row in private.rows("items")}
    assert salted.isdisjoint(stored)
    masks = {row["truth_sha256"] for row in done}
    assert len(masks - {None}) == len(done)
    assert masks.isdisjoint(row["truth_sha256"] for row in private.rows("items"))


def test_no_identifier_is_in_any_other_table(private: Workspace) -> None:
    """Every SQL table but `locations` is free of identifiers."""
    with contextlib.closing(sqlite3.connect(private.database)) as connection:
        names = [
            name
            for (name,) in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table'"
            )
        ]
    assert {"items", "ledger_entries", "runs", "audits", "shards"} <= set(names)
    found = {name: _hits(repr(private.rows(name)).encode()) for name in names}
    assert {name for name, hits in found.items() if hits} == PRIVATE_TABLES
    assert set(found["locations"]) == set(SEEDS) - ENCRYPTED


def test_the_report_shows_maps_without_pictures(private: Workspace) -> None:
    """With a subject column the gallery has maps alone, and calls items by tokens."""
    report = json.loads((private.folder / "out" / "report.json").read_bytes())
    assert report["gallery"]["mode"] == "maps"
    tokens = {row["item_id"] for row in private.rows("items")}
    assert {entry["name"] for entry in report["gallery"]["entries"]} <= tokens


def test_lists_call_items_by_tokens(private: Workspace) -> None:
    """Where persons are meant, lists, tables and the report hold tokens for files."""
    tokens = {row["item_id"] for row in private.rows("items")}
    document = private.call("items", "latest", "--json").document
    assert {item["uri"] for item in document["items"]} == tokens
    with private.environment():
        frame = affidavit.results()
    assert set(frame["uri"]) == tokens
    report = json.loads((private.folder / "out" / "report.json").read_bytes())
    failed = report["scope"]["failed_items"]["listed"]
    assert failed
    assert all(item["name"] == item["item_id"] for item in failed)


def test_no_file_of_a_person_can_be_asked_for(private: Workspace) -> None:
    """`show` does not tell whether a file of that name was audited."""
    for name in ("quokka-0.png", "nobody.png"):
        answer = private.call("show", "latest", name)
        assert answer.code == 2
        assert f"has no item '{name}'" in answer.err


def test_two_runs_do_not_share_item_tokens(private: Workspace, tmp_path: Path) -> None:
    """A new run gives new tokens to items, the old ones to persons, the same digest."""
    shutil.copytree(private.folder, tmp_path / "work", symlinks=True)
    workspace = Workspace(folder=tmp_path / "work")
    first = workspace.rows("runs")[0]
    again = workspace.run(workspace.folder / "audit.yaml")
    assert again["result_digest"] == first["result_digest"]
    items = workspace.rows("items")
    assert len({row["item_id"] for row in items}) == 12
    assert len({row["subject_token"] for row in items}) == 3
    assert len({run["manifest_digest"] for run in workspace.rows("runs")}) == 2
