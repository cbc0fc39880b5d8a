# SPDX-License-Identifier: Apache-2.0
"""The JSON report: complete, canonical, and honest about what is missing."""

import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.item_row import ItemRow
from pipeline.reports.document import SCHEMA, build_document, document_bytes
from pipeline.reports.failed import LISTED_FAILED
from pipeline.reports.inputs import (
    CriterionVerdict,
    DeadShard,
    FailedItem,
    ReportInputs,
    Verdict,
)

MakeInputs = Callable[..., ReportInputs]
MakeRows = Callable[[int], list[ItemRow]]


def criterion(verdict: Verdict) -> CriterionVerdict:
    """Return a criterion that came out so."""
    observed = None if verdict == "incomplete" else 0.3
    return CriterionVerdict(
        criterion="m.mean <= 1", verdict=verdict, observed=observed, bound=1.0
    )


def test_the_report_has_all_its_sections(make_inputs: MakeInputs) -> None:
    """The keys of this schema version are there."""
    document = build_document(make_inputs())
    assert document["schema"] == SCHEMA == "affidavit.report/1"
    assert document.keys() == {
        "schema",
        "audit",
        "run",
        "verdict",
        "scope",
        "provenance",
        "method",
        "threshold",
        "metrics",
        "columns",
        "change",
        "sanity",
        "gallery",
        "limits",
        "evidence",
        "spec",
        "sections",
        "use",
        "model_record",
        "groups",
        "review",
        "reverified",
        "privacy",
        "signatures",
    }


def test_the_same_inputs_give_the_same_bytes(make_inputs: MakeInputs) -> None:
    """No clock, no chance and no memory address is in the report."""
    first, second = (document_bytes(build_document(make_inputs())) for _ in range(2))
    assert first == second


def test_the_bytes_read_back_as_the_document(make_inputs: MakeInputs) -> None:
    """The canonical bytes lose nothing."""
    document = build_document(make_inputs())
    assert json.loads(document_bytes(document)) == json.loads(json.dumps(document))


@pytest.mark.parametrize(
    ("verdicts", "missing", "overall"),
    [
        ([], 0, "none"),
        (["pass"], 0, "pass"),
        (["pass", "pass"], 0, "pass"),
        (["pass", "fail"], 0, "fail"),
        (["pass", "incomplete"], 0, "incomplete"),
        (["fail", "incomplete"], 0, "fail"),
        (["pass"], 5, "incomplete"),
        ([], 5, "incomplete"),
        (["fail"], 5, "fail"),
    ],
)
def test_the_verdict_is_never_kinder_than_its_parts(
    make_inputs: MakeInputs, verdicts: list[Verdict], missing: int, overall: str
) -> None:
    """One failure fails all; anything missing or unjudged forbids a pass."""
    base = make_inputs()
    document = build_document(
        make_inputs(
            criteria=[criterion(verdict) for verdict in verdicts],
            items_total=base.items_total + missing,
            state="incomplete" if missing else "done",
        )
    )
    assert document["verdict"]["overall"] == overall
    assert document["verdict"]["sentence"].endswith(".")


def test_items_of_dead_shards_are_counted_as_missing(make_inputs: MakeInputs) -> None:
    """Done, failed and missing add up to the manifest."""
    dead = DeadShard(shard_index=2, first_item=12, item_count=8, error="worker_lost")
    document = build_document(
        make_inputs(items_total=20, dead_shards=[dead], state="incomplete")
    )
    assert document["scope"]["items"] == {
        "total": 20,
        "done": 11,
        "failed": 1,
        "missing": 8,
    }
    assert document["scope"]["coverage"] == 11 / 20
    assert document["scope"]["dead_shards"][0]["error"] == "worker_lost"
    assert "Missing items" in {limit["topic"] for limit in document["limits"]}


def test_contradicting_counts_are_refused(make_inputs: MakeInputs) -> None:
    """More results than items means that something was counted twice."""
    with pytest.raises(ValueError, match="at most 5 items"):
        build_document(make_inputs(items_total=5))


def test_a_metric_without_values_is_reported_with_its_reasons(
    make_inputs: MakeInputs, make_rows: MakeRows
) -> None:
    """Reasons given for a metric apply to each of its values."""
    document = build_document(make_inputs())
    parts = {part["name"]: part for part in document["metrics"]}
    assert list(parts) == [
        "deletion_auc",
        "localisation_iou",
        "localisation_dice",
        "localisation_precision",
        "localisation_recall",
    ]
    dice = parts["localisation_dice"]
    assert (dice["n"], dice["mean"], dice["interval"]) == (0, None, None)
    absent = [row for row in make_rows(12) if "localisation" in row.absences]
    assert dice["absent"] == [
        {
            "reason": "no_ground_truth",
            "sentence": "The item came without a ground truth mask.",
            "count": len(absent),
        }
    ]


def test_each_metric_carries_its_definition(make_inputs: MakeInputs) -> None:
    """A number never travels without what it means."""
    definition = build_document(make_inputs())["metrics"][0]["definition"]
    for key in ("formula", "source", "baseline", "direction", "units", "does_not_show"):
        assert definition[key]


def test_a_metric_without_a_card_is_reported_all_the_same(
    make_inputs: MakeInputs,
) -> None:
    """A value from a plug-in is in the report, its definition openly absent."""
    rows = [
        ItemRow(item_index=i, item_id=str(i), status="done", metrics={"odd": i / 4})
        for i in range(4)
    ]
    document = build_document(make_inputs(rows, spec={"metrics": ["odd"]}))
    assert [part["name"] for part in document["metrics"]] == ["odd"]
    assert document["metrics"][0]["definition"]["formula"] is None
    assert document["metrics"][0]["mean"] == 0.375


def test_limits_are_never_empty(make_inputs: MakeInputs) -> None:
    """Even a run of nothing states what its report does not show."""
    document = build_document(make_inputs([], spec={}, criteria=()))
    assert len(document["limits"]) >= 2


def test_what_a_run_has_to_admit_is_in_the_limits(make_inputs: MakeInputs) -> None:
    """Failures, small samples, halved batches and notes each have their sentence."""
    document = build_document(
        make_inputs(not_comparable=True, notes=["The lens was dirty."])
    )
    topics = {limit["topic"] for limit in document["limits"]}
    assert {
        "Failed items",
        "Few values",
        "Not comparable",
        "Smaller masks than asked for",
    } <= topics
    assert document["limits"][-1]["text"] == "The lens was dirty."


def test_long_lists_are_replaced_by_their_digest(make_inputs: MakeInputs) -> None:
    """Five thousand class names do not bloat the report, yet can be checked."""
    names = [f"class number {i}" for i in range(5000)]
    document = build_document(make_inputs(plan={"classes": names}, class_names=names))
    classes = document["provenance"]["execution"]["classes"]
    assert classes["count"] == 5000
    assert len(classes["sha256"]) == 64
    assert document["scope"]["classes"]["known"] == 5000
    assert len(document_bytes(document)) < 100_000


def test_folders_of_the_planning_machine_are_not_reported(
    make_inputs: MakeInputs,
) -> None:
    """Home folders can hold a person's name, and help no reader."""
    plan = {"layer": "layer4", "roots": ["/home/somebody/photos"]}
    document = build_document(make_inputs(plan=plan))
    assert document["provenance"]["execution"] == {"layer": "layer4"}


def test_unknown_class_indices_are_numbered(make_inputs: MakeInputs) -> None:
    """Without names, or beyond them, a class is called by its number."""
    listed = build_document(make_inputs(class_names=("cat",)))["scope"]["classes"]
    assert [row["name"] for row in listed["listed"]] == ["cat", "class 1", "class 2"]
    unnamed = build_document(make_inputs(class_names=None))["scope"]["classes"]
    assert unnamed["known"] is None


@pytest.mark.parametrize("module", ["document", "html"])
def test_a_report_is_made_without_torch_numpy_or_pillow(module: str) -> None:
    """`affidavit report` starts quickly: nothing heavy is imported for it."""
    code = (
        f"import sys, pipeline.reports.{module};"
        "print(sorted({'torch', 'numpy', 'PIL', 'sqlalchemy'} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


def test_gallery_entries_say_what_was_seen(make_inputs: MakeInputs) -> None:
    """An entry names the item, the classes and the numbers it was chosen by."""
    entries: list[dict[str, Any]] = build_document(make_inputs())["gallery"]["entries"]
    best = entries[0]
    assert best["group"] == "best"
    assert best["name"] == "photo0.jpg"
    assert best["predicted"] == {"index": 0, "name": "cat"}
    assert best["rank_value"] == best["metrics"]["deletion_auc"] == 0.1234567


def test_failed_items_are_listed_and_the_rest_counted(make_inputs: MakeInputs) -> None:
    """The first hundred are there with name and reason, and how many more there are."""
    rows = [
        ItemRow(item_index=i, item_id=f"{i:032x}", status="failed", reason="file_empty")
        for i in range(130)
    ]
    failed = [
        FailedItem(
            item_index=row.item_index,
            item_id=row.item_id,
            name=f"{row.item_index}.png",
            reason="file_empty",
        )
        for row in rows
    ]
    document = build_document(make_inputs(rows, failed_items=failed))
    part = document["scope"]["failed_items"]
    assert LISTED_FAILED == len(part["listed"]) == 100
    assert part["more"] == 30
    assert part["listed"][7] == {
        "item_index": 7,
        "item_id": f"{7:032x}",
        "name": "7.png",
        "reason": "file_empty",
        "sentence": "The file has no bytes.",
    }
    # A report whose finaliser lists none still counts them.
    bare = build_document(make_inputs(rows))["scope"]["failed_items"]
    assert bare == {"listed": [], "more": 130}
