# SPDX-License-Identifier: Apache-2.0
"""The documents say what the code says."""

import re
from pathlib import Path

import pytest
from pydantic import BaseModel

from explain.methods.cards import METHODS
from explain.metrics.cards import METRICS
from explain.thresholds.cards import POLICIES
from pipeline.criteria import AGGREGATES, DRIFT_AGGREGATES, OPERATORS, PSEUDO_METRICS
from pipeline.spec import (
    AuditSpec,
    ColumnsSpec,
    DataSpec,
    ExplainSpec,
    ModelSpec,
    PreprocessSpec,
    PrivacySpec,
    RunSpec,
    SanitySpec,
    ScheduleSpec,
    ThresholdSpec,
)
from storage.states import SlotError, SlotState

ROOT = Path(__file__).resolve().parents[3]
SECTIONS: dict[str, type[BaseModel]] = {
    "Top level": AuditSpec,
    "model": ModelSpec,
    "model.preprocess": PreprocessSpec,
    "data": DataSpec,
    "data.columns": ColumnsSpec,
    "explain": ExplainSpec,
    "threshold": ThresholdSpec,
    "privacy": PrivacySpec,
    "sanity": SanitySpec,
    "run": RunSpec,
    "schedule": ScheduleSpec,
}


@pytest.mark.parametrize("title", SECTIONS)
def test_the_spec_page_lists_each_key_of_a_section_and_no_other(title: str) -> None:
    """docs/reference/spec.md names exactly the keys that the section has."""
    page = (ROOT / "docs/reference/spec.md").read_text()
    part = page.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]
    listed = re.findall(r"^\| `(\w+)` \|", part, flags=re.MULTILINE)
    assert listed == list(SECTIONS[title].model_fields)


def test_the_spec_page_names_each_aggregate_operator_and_pseudo_metric() -> None:
    """docs/reference/spec.md tells the whole grammar of criteria."""
    page = (ROOT / "docs/reference/spec.md").read_text()
    part = page.split("\n## Criteria\n", 1)[1].split("\n## ", 1)[0]
    drift = (*DRIFT_AGGREGATES, *PSEUDO_METRICS["drift"])
    for word in (*AGGREGATES, *OPERATORS, *PSEUDO_METRICS, *drift):
        assert word in part, word


def test_the_command_page_names_each_state_and_error_of_a_slot() -> None:
    """docs/reference/cli.md tells what `schedule list` can say of a slot."""
    page = (ROOT / "docs/reference/cli.md").read_text()
    for word in (*SlotState, *SlotError):
        assert f"`{word.value}`" in page, word


def test_how_it_computes_names_each_measured_value() -> None:
    """docs/how-it-computes.md has a row for every value of every metric."""
    page = (ROOT / "docs/how-it-computes.md").read_text()
    for card in METRICS.values():
        for value in card.values_for(complete=True):
            short = "_" + value.rpartition("_")[2]
            assert value in page or f"`{short}`" in page, value


def test_the_readme_is_short_and_its_links_lead_somewhere() -> None:
    """README has at most 600 words and no link to a file that is not there."""
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 600
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        if "://" not in target:
            assert (ROOT / target).exists(), target


def test_the_readme_counts_methods_policies_and_metrics() -> None:
    """The numbers in the README are those of the registries."""
    text = (ROOT / "README.md").read_text()
    assert f"{len(METHODS)} [methods]" in text
    assert f"{len(POLICIES)} [policies]" in text
    assert f"{len(METRICS)} [metrics]" in text


@pytest.mark.parametrize("page", sorted((ROOT / "docs/adr").glob("*.md")), ids=str)
def test_an_adr_has_its_number_and_its_four_parts(page: Path) -> None:
    """Each decision is numbered like its file and has status to consequences."""
    text = page.read_text()
    number = int(page.name[:4])
    assert text.startswith(f"# {number}. ")
    for part in ("Status:", "## Context", "## Decision", "## Consequences"):
        assert part in text
    assert len(text.split()) <= 400
