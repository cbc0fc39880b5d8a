# SPDX-License-Identifier: Apache-2.0
"""A small but complete report, and a way to change any part of it."""

import dataclasses
from collections.abc import Callable
from typing import Any

import pytest

from pipeline.aggregation import Aggregate
from pipeline.item_row import ItemRow
from pipeline.reports.inputs import (
    CriterionVerdict,
    Digests,
    LedgerFacts,
    Picture,
    ReportInputs,
    Timings,
)

MakeInputs = Callable[..., ReportInputs]


def sample_rows(count: int) -> list[ItemRow]:
    """Return items that are done; every third lacks ground truth, the last failed."""
    rows = [
        ItemRow(
            item_index=index,
            item_id=f"{index:032x}",
            status="done",
            reason="insufficient_support" if index == 1 else None,
            predicted=index % 3,
            target=index % 3,
            label=index % 2 if index % 4 else None,
            score=0.5 + index / (2.5 * count),
            keep_requested=0.1,
            keep_achieved=0.1 if index != 1 else 0.0625,
            metrics={
                "deletion_auc": 0.1234567 + index / (3 * count),
                **({} if index % 3 == 0 else {"localisation_iou": 0.2 + index / 99}),
            },
            absences={} if index % 3 else {"localisation": "no_ground_truth"},
        )
        for index in range(count - 1)
    ]
    return [
        *rows,
        ItemRow(
            item_index=count - 1,
            item_id=f"{count - 1:032x}",
            status="failed",
            reason="image_truncated",
        ),
    ]


def sample_inputs(rows: list[ItemRow] | None = None, **changes: Any) -> ReportInputs:
    """Return the inputs of a report over the rows, with fields changed."""
    rows = sample_rows(12) if rows is None else rows
    aggregate = Aggregate(seed=3, gallery_size=2)
    for row in rows:
        aggregate.add(row)
    inputs = ReportInputs(
        run_id="run-1",
        audit="small",
        state="done",
        spec={
            "audit": "small",
            "model": {"source": "torchvision:resnet18", "preprocess": {"crop": 224}},
            "data": {"source": "photos/"},
            "explain": {"method": "gradcam", "target": "predicted"},
            "threshold": {"policy": "fixed", "keep": 0.1},
            "metrics": ["deletion", "localisation"],
        },
        plan={"layer": "layer4", "batch_size": 4, "threads": 2, "device": "cpu"},
        digests=Digests(
            spec="a" * 64, model="b" * 64, manifest="c" * 64, result="d" * 64
        ),
        items_total=len(rows),
        counts=aggregate.counts(),
        summaries=aggregate.summaries(),
        gallery=aggregate.gallery(),
        gallery_mode="images",
        item_names={row.item_index: f"photo{row.item_index}.jpg" for row in rows},
        class_names=("cat", "dog", "bird"),
        criteria=(
            CriterionVerdict(
                criterion="deletion_auc.mean <= 0.4",
                verdict="pass",
                observed=0.27,
                bound=0.4,
            ),
        ),
        shards_total=3,
        timings=Timings(
            created=1_700_000_000.0, started=1_700_000_001.5, finished=None
        ),
        software={"affidavit": "0.1.0", "torch": "2.15.0"},
        ledger=LedgerFacts(
            origin="ledger.example/log",
            vkey="ledger.example/log+1234abcd+key",
            checkpoint="checkpoints/run-1",
            verify_command="affidavit verify run-1",
            artifacts="objects/run-1",
        ),
    )
    return dataclasses.replace(inputs, **changes)


@pytest.fixture
def make_inputs() -> MakeInputs:
    """Return the maker of report inputs."""
    return sample_inputs


@pytest.fixture
def make_rows() -> Callable[[int], list[ItemRow]]:
    """Return the maker of items."""
    return sample_rows


@pytest.fixture
def picture() -> Picture:
    """Return a picture small enough for any page."""
    return Picture(
        title="Input", description="A dot.", data_uri="data:image/webp;base64,AAAA"
    )
