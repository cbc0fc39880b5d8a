# SPDX-License-Identifier: Apache-2.0
"""One run told in JSON, HTML, CSV and Parquet: the same numbers in all four."""

import csv
import json
import re
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from tests.support.workspace import CLASSES, Workspace, photograph, write_csv

FIGURES = ("mean", "std", "min", "p05", "p25", "median", "p75", "p95", "max")


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A finished multi-level run with groups and criteria, exported."""
    workspace = Workspace(folder=tmp_path_factory.mktemp("exports") / "w").lay_out(0)
    (workspace.folder / "photos").rmdir()
    photos = workspace.folder / "photos"
    photos.mkdir()
    rows = []
    for number in range(24):
        photograph(number).save(photos / f"{number}.png")
        rows.append(
            {
                "path": f"photos/{number}.png",
                "class": CLASSES[number % 2],
                "site": "north" if number % 3 else "south",
            }
        )
    (photos / "5.png").write_bytes(b"no picture")
    write_csv(workspace.folder / "items.csv", rows)
    spec = workspace.write_spec(
        data={
            "source": "items.csv",
            "columns": {"label": "class", "groups": ["site"]},
        },
        threshold={"policy": "multi_level"},
        metrics=["confidence_retained", "completeness", "localisation"],
        criteria=[
            "completeness.completeness_energy.mean >= 0 with 95% confidence",
            "completeness_energy.mean >= 0 by group:site",
            "score.mean >= 0",
        ],
        run={"shard_size": 8, "batch_size": 8},
    )
    workspace.run(spec)
    answer = workspace.call(
        "report", "latest", "--out", "out", "--export", "tables", "--json"
    )
    assert answer.code == 0, answer.err
    assert [Path(path).name for path in answer.document["exported_to"]] == [
        "items.csv",
        "items.parquet",
        "aggregates.csv",
        "aggregates.parquet",
    ]
    return workspace


def report(workspace: Workspace) -> dict[str, Any]:
    """Return the JSON report."""
    document: dict[str, Any] = json.loads(
        (workspace.folder / "out" / "report.json").read_text()
    )
    return document


def table(workspace: Workspace, stem: str) -> list[dict[str, Any]]:
    """Return a Parquet table's rows, once its CSV is seen to say the same."""
    folder = workspace.folder / "tables"
    rows: list[dict[str, Any]] = pq.read_table(folder / f"{stem}.parquet").to_pylist()
    with (folder / f"{stem}.csv").open(encoding="utf-8", newline="") as text:
        lines = list(csv.DictReader(text))
    assert len(lines) == len(rows)
    for line, row in zip(lines, rows, strict=True):
        assert line.keys() == row.keys()
        for name, value in row.items():
            if isinstance(value, float):
                assert float(line[name]) == value
            else:
                assert line[name] == ("" if value is None else str(value))
    return rows


def test_aggregates_are_those_of_the_json_report(exported: Workspace) -> None:
    """Each figure and interval of each value and part is bit for bit the report's."""
    rows = {
        (row["value"], row["by"], row["part"]): row
        for row in table(exported, "aggregates")
    }
    document = report(exported)
    seen = 0
    for part in (*document["metrics"], *document["columns"]):
        whole = rows[part["name"], "all", None]
        assert whole["n"] == part["n"]
        assert [whole[name] for name in FIGURES] == [part[name] for name in FIGURES]
        if part["interval"]:
            assert whole["interval_low"] == part["interval"]["low"]
            assert whole["interval_method"] == part["interval"]["method"]
        for dimension in part["breakdowns"]:
            for listed in dimension["listed"]:
                row = rows[part["name"], dimension["by"], str(listed["part"])]
                assert (row["n"], row["mean"]) == (listed["n"], listed["mean"])
                interval = listed["interval"] or {"low": None, "high": None}
                assert row["interval_low"] == interval["low"]
                assert row["interval_high"] == interval["high"]
                seen += 1
    assert seen >= 8
    for level in document["threshold"]["levels"]:
        row = rows["energy_retained", "level", repr(level["keep_requested"])]
        assert (row["n"], row["mean"]) == (level["n"], level["energy_retained"])
        assert row["interval_low"] == level["interval"]["low"]
    assert sum(key[1] == "level" for key in rows) == 4


def test_the_page_shows_the_same_numbers(exported: Workspace) -> None:
    """Every mean and interval of values and parts stands exactly in the HTML."""
    page = (exported.folder / "out" / "report.html").read_text()
    shown = {float(text) for text in re.findall(r'<data value="([^"]+)"', page)}
    document = report(exported)
    parts = [*document["metrics"], *document["columns"]]
    rows = [r for p in parts for d in p["breakdowns"] for r in d["listed"]]
    for figures in (*parts, *rows):
        if figures["n"]:
            assert figures["mean"] in shown
        if figures["interval"]:
            assert {figures["interval"]["low"], figures["interval"]["high"]} <= shown
    for level in document["threshold"]["levels"]:
        assert level["energy_retained"] in shown
    assert "By explained class" in page
    assert "By site" in page
    assert re.search(r'<svg class="plot levels"', page)
    assert page.count("</dt><dd>studentised bootstrap") >= 1


def test_items_add_up_to_the_aggregates(exported: Workspace) -> None:
    """The rows of the items give the report's counts and means, groups included."""
    items = table(exported, "items")
    document = report(exported)
    assert len(items) == 24
    assert sum(row["status"] == "failed" for row in items) == 1
    part = next(p for p in document["metrics"] if p["name"] == "completeness_energy")
    values = [row["completeness_energy"] for row in items if row["status"] == "done"]
    assert part["mean"] == pytest.approx(sum(values) / len(values), rel=1e-12)
    by_site = next(d for d in part["breakdowns"] if d["by"] == "group:site")
    for listed in by_site["listed"]:
        own = [
            row["completeness_energy"]
            for row in items
            if row["group:site"] == listed["part"] and row["status"] == "done"
        ]
        assert listed["n"] == len(own)
        assert listed["mean"] == pytest.approx(sum(own) / len(own), rel=1e-12)
    assert items[0]["absences"] == "localisation_dice=no_ground_truth;" + ";".join(
        f"localisation_{name}=no_ground_truth"
        for name in ("iou", "precision", "recall")
    )


def test_levels_rise_and_criteria_say_what_is_behind_them(exported: Workspace) -> None:
    """More positions hold more energy; each verdict names its values and interval."""
    document = report(exported)
    levels = document["threshold"]["levels"]
    assert [row["n"] for row in levels] == [23] * 4
    energies = [row["energy_retained"] for row in levels]
    assert energies == sorted(energies)
    confident, by_site, plain = document["verdict"]["criteria"]
    assert [c["verdict"] for c in (confident, by_site, plain)] == ["pass"] * 3
    assert confident["n"] == by_site["n"] == plain["n"] == 23
    assert confident["interval"]["independent"] == 23
    assert {part["part"] for part in by_site["parts"]} == {"north", "south"}
    verified = exported.call("verify", "latest", "--json")
    assert verified.document["ok"], verified.out


def test_an_export_is_a_deed_and_needs_a_place(exported: Workspace) -> None:
    """The ledger tells of it; where nothing can be written nothing is recorded."""

    def deeds() -> int:
        return sum(
            b"results:exported" in row["body"]
            for row in exported.rows("ledger_entries")
        )

    before = deeds()
    assert before == 1
    (exported.folder / "file").write_text("")
    answer = exported.call("report", "latest", "--export", "file")
    assert answer.code == 4
    assert "file" in answer.err
    assert deeds() == before


def test_power_plans_from_a_run(exported: Workspace) -> None:
    """The run's deviation leads to numbers that shrink with the margin that matters."""
    arguments = ("power", "--metric", "completeness_energy", "--from", "latest")
    small = exported.call(*arguments, "--margin", "0.01", "--json").document
    large = exported.call(*arguments, "--margin", "0.05", "--json").document
    part = next(
        p for p in report(exported)["metrics"] if p["name"] == "completeness_energy"
    )
    assert small["sd"] == pytest.approx(part["std"])
    assert small["values"] == 23
    for kind in ("criterion", "paired", "equivalence"):
        assert small["plans"][kind]["items"] > large["plans"][kind]["items"]
    told = exported.call("power", "--sd", "0.12", "--margin", "0.02")
    assert told.code == 0
    assert "285 items" in told.out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--margin", "0.1"), "give either --from"),
        (("--margin", "0.1", "--from", "latest"), "needs --metric"),
        (("--margin", "0", "--sd", "0.1"), "margin above 0"),
        (("--margin", "0.1", "--sd", "0.1", "--correlation", "1"), "between -1 and 1"),
        (
            ("--margin", "0.1", "--from", "latest", "--metric", "completeness_enrgy"),
            "did you mean completeness_energy",
        ),
    ],
)
def test_a_senseless_plan_is_one_sentence(
    exported: Workspace, arguments: tuple[str, ...], message: str
) -> None:
    """Bad options exit 2 and say what to mend."""
    answer = exported.call("power", *arguments)
    assert answer.code == 2
    assert message in answer.err
