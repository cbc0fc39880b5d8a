# SPDX-License-Identifier: Apache-2.0
"""The fourteen sections: what the records say, and plainly where there are none."""

import json
import re
from typing import Any

import pytest

from pipeline.aggregation import Aggregate
from pipeline.item_row import ItemRow
from pipeline.reports.audit_facts import (
    Approval,
    AuditHistory,
    ModelVersion,
    ReverificationFact,
    SignOffFact,
    ThresholdPeriod,
)
from pipeline.reports.disparities import disparities_part
from pipeline.reports.document import build_document, document_bytes
from pipeline.reports.html import render_html
from pipeline.reports.outcomes import wilson
from pipeline.reports.sections import SECTIONS
from tests.unit.pipeline.reports.conftest import MakeInputs, sample_inputs

#: Sections that the sample's records say nothing of.
SILENT = {"use", "sanity", "groups", "review", "change", "signatures"}


def _section(document: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [one for one in document["sections"] if one["name"] == name]
    return dict(found)


def _period(keep: float, approval: Approval | None = None) -> ThresholdPeriod:
    return ThresholdPeriod(
        policy="fixed",
        parameters={"keep": keep},
        first_run=f"run-{keep}",
        first_at=1.7e9,
        last_at=1.7e9,
        runs=2,
        approval=approval,
    )


def _signed(verdict: str, report_verdict: str, hours: float) -> SignOffFact:
    return SignOffFact(
        run="earlier",
        verdict=verdict,
        report_verdict=report_verdict,
        report_sha256="e" * 64,
        signed_by="principal/rex",
        signed_at=1.7e9 + hours * 3600,
        run_finished_at=1.7e9,
    )


def test_there_are_fourteen_numbered_sections(make_inputs: MakeInputs) -> None:
    """Each has its number, its title and a sentence, in JSON and on the page."""
    document = build_document(make_inputs())
    assert [one["number"] for one in document["sections"]] == list(range(1, 15))
    assert [one["name"] for one in document["sections"]] == [n for n, _ in SECTIONS]
    page = render_html(document)
    heads = re.findall(r'<h2><span class="no">(\d+)</span>([^<]+)</h2>', page)
    assert heads == [(str(i), title) for i, (_, title) in enumerate(SECTIONS, 1)]
    assert all(one["says"] for one in document["sections"])


def test_a_section_without_records_says_so(make_inputs: MakeInputs) -> None:
    """What nobody recorded is named as missing, and no number stands in for it."""
    document = build_document(make_inputs())
    silent = {one["name"] for one in document["sections"] if not one["has_records"]}
    assert silent == SILENT
    for name in silent:
        assert "no records" in _section(document, name)["says"].lower()
    assert document["review"]["median_hours"] is None
    assert document["groups"]["gaps"] == []
    assert document["use"]["tier"] is None
    assert render_html(document).count("none-recorded") >= len(SILENT)


def test_no_report_claims_more_than_evidence(make_inputs: MakeInputs) -> None:
    """No page has the words of a certificate: people decide what is met."""
    page = render_html(build_document(make_inputs())).lower()
    assert "produces evidence for" in page
    for claim in ("compliant", "complies", "certified", "in compliance"):
        assert claim not in page


def test_what_the_audit_declares_is_shown_as_declared(make_inputs: MakeInputs) -> None:
    """Owner, tier, use and basis come from the spec; what is missing is named."""
    spec = dict(make_inputs().spec)
    spec["model"] = spec["model"] | {
        "record": {"owner": "Model risk", "tier": "high", "intended_use": "Triage."}
    }
    spec["privacy"] = {"legal_basis": "public_task", "retention": "half_year"}
    document = build_document(make_inputs(spec=spec))
    assert document["use"]["owner"] == "Model risk"
    assert _section(document, "use")["has_records"]
    assert "Not declared: not intended." in _section(document, "use")["says"]
    page = render_html(document)
    assert "Triage." in page
    assert "public task (Art. 6(1) GDPR)" in page
    assert document["privacy"]["retention_days"] == 183


@pytest.mark.parametrize(
    ("periods", "has_principals", "sentence"),
    [
        ([_period(0.1)], False, "the one that the audit's first run set"),
        (
            [
                _period(0.1),
                _period(
                    0.2,
                    Approval(
                        request="r1",
                        requested_by="principal/sue",
                        approved_by="principal/rex",
                        approved_at=1.7e9,
                    ),
                ),
            ],
            True,
            "changed 1 time: a second principal agreed to each change",
        ),
        (
            [_period(0.1), _period(0.2), _period(0.1)],
            False,
            "agreed to 0 of them; the installation has no principals",
        ),
    ],
)
def test_the_threshold_has_a_history(
    make_inputs: MakeInputs,
    periods: list[ThresholdPeriod],
    has_principals: bool,
    sentence: str,
) -> None:
    """Each change is there with who agreed to it, or with nobody."""
    history = AuditHistory(
        runs=4,
        thresholds=periods,
        has_principals=has_principals,
        models=[
            ModelVersion(
                sha256="b" * 64,
                source="torchvision:resnet18",
                version="2.1",
                first_run="run-0",
                first_at=1.6e9,
                last_at=1.7e9,
                runs=4,
            )
        ],
    )
    document = build_document(make_inputs(history=history))
    assert sentence in _section(document, "method")["says"]
    page = render_html(document)
    assert page.count("no approval on record") == sum(
        period.approval is None for period in periods[1:]
    )
    assert ("principal/rex" in page) == any(p.approval for p in periods)
    assert (
        "4 runs of this audit had 1 version" in _section(document, "provenance")["says"]
    )


def test_review_counts_agreement_overrides_and_time(make_inputs: MakeInputs) -> None:
    """Who accepts a failed report, or rejects a passed one, overrides it."""
    signed = [
        _signed("accept", "pass", 2),
        _signed("accept", "fail", 4),
        _signed("reject", "fail", 9),
        _signed("accept", "none", 1),
    ]
    document = build_document(make_inputs(history=AuditHistory(sign_offs=signed)))
    review = document["review"]
    assert (review["count"], review["accepted"], review["rejected"]) == (4, 3, 1)
    assert (review["with_verdict"], review["agreed"], review["overrides"]) == (3, 2, 1)
    assert review["median_hours"] == 3
    assert "3 h 0 min from the end of the run" in re.sub(
        r"<[^>]+>", "", render_html(document)
    )


def test_earlier_reverifications_are_in_the_evidence(make_inputs: MakeInputs) -> None:
    """The next report tells how the recomputation of an earlier run came out."""
    made = ReverificationFact(
        run="earlier",
        verdict="differs",
        made_by="principal/ann",
        made_at=1.7e9,
        facts={"items": 40, "same": 38, "differing": 2, "not_computed": 0},
    )
    document = build_document(make_inputs(history=AuditHistory(reverifications=[made])))
    assert document["reverified"]["listed"][0]["differing"] == 2
    assert "computed again 1 time" in _section(document, "evidence")["says"]
    assert "differs" in render_html(document)


def _row(name: str, mean: float, n: int, half: float) -> dict[str, Any]:
    return {
        "name": name,
        "n": n,
        "few": n < 30,
        "mean": mean,
        "interval": {"low": mean - half, "high": mean + half},
    }


@pytest.mark.parametrize(
    ("half", "overlap"), [(0.01, False), (0.3, True)], ids=["apart", "overlapping"]
)
def test_gaps_are_between_groups_that_are_large_enough(
    half: float, overlap: bool
) -> None:
    """A group with few values is counted and not compared, however far away it is."""
    part = {
        "name": "deletion_auc",
        "title": "Deletion AUC",
        "definition": {"direction": "lower is better"},
        "breakdowns": [
            {"by": "class", "parts": 0, "listed": [], "more": {"parts": 0, "n": 0}},
            {
                "by": "group:site",
                "parts": 5,
                "listed": [
                    _row("north", 0.2, 50, half),
                    _row("south", 0.5, 40, half),
                    _row("west", 0.4, 35, half),
                    _row("tiny", 0.9, 3, half),
                ],
                "more": {"parts": 1, "n": 2},
            },
        ],
    }
    (gap,) = disparities_part([part], ["site"])["gaps"]
    assert (gap["lowest"]["name"], gap["highest"]["name"]) == ("north", "south")
    assert gap["gap"] == pytest.approx(0.3)
    assert (gap["compared"], gap["few"], gap["not_listed"]) == (3, 1, 1)
    assert gap["intervals_overlap"] is overlap


def test_a_report_of_an_earlier_version_still_gives_a_page() -> None:
    """What is kept for years has none of the new parts and can still be drawn."""
    document = build_document(sample_inputs())
    new = {
        *("sections", "use", "model_record", "groups", "review", "reverified"),
        *("privacy", "signatures"),
    }
    old = json.loads(
        document_bytes({k: v for k, v in document.items() if k not in new})
    )
    del old["evidence"]["ledger_size"], old["evidence"]["signed_size"]
    page = render_html(old)
    assert "said nothing of this" in page
    assert len(re.findall("<h2>", page)) == len(SECTIONS)


def test_predictions_are_counted_by_group(make_inputs: MakeInputs) -> None:
    """Each group's share of right predictions has Wilson's interval, and a gap."""
    rows = [
        ItemRow(
            item_index=index,
            item_id=f"{index:032x}",
            status="failed" if index % 10 == 9 else "done",
            reason="image_truncated" if index % 10 == 9 else None,
            predicted=None if index % 10 == 9 else 0,
            label=(index // 2) % 2 if index % 2 else 0,
            groups={"site": "north" if index % 2 else "south"},
        )
        for index in range(80)
    ]
    aggregate = Aggregate(groups=["site"])
    for row in rows:
        aggregate.add(row)
    spec = dict(make_inputs().spec)
    spec["data"] = {"source": "x", "columns": {"groups": ["site"]}}
    inputs = make_inputs(rows=[], spec=spec, counts=aggregate.counts(), items_total=80)
    document = build_document(inputs)
    (column,) = document["groups"]["outcomes"]
    south, north = column["listed"][1], column["listed"][0]
    assert (north["name"], north["items"], north["failed"]) == ("north", 40, 8)
    assert (south["labelled"], south["correct"]) == (40, 40)
    own = [r for r in rows if r.groups["site"] == "north" and r.status == "done"]
    right = sum(r.label == r.predicted for r in own)
    assert (north["labelled"], north["correct"]) == (len(own), right)
    assert column["gap"] == pytest.approx(1 - right / len(own))
    assert _section(document, "groups")["has_records"]
    assert "Predictions by site" in render_html(document)


@pytest.mark.parametrize(("correct", "total"), [(0, 30), (15, 30), (30, 30), (7, 41)])
def test_the_interval_of_a_share_is_wilsons(correct: int, total: int) -> None:
    """It agrees with statsmodels' to the last digits that matter."""
    proportion = pytest.importorskip("statsmodels.stats.proportion")
    low, high = proportion.proportion_confint(correct, total, method="wilson")
    found = wilson(correct, total)
    assert found["low"] == pytest.approx(low, abs=1e-12)
    assert found["high"] == pytest.approx(high, abs=1e-12)
