# SPDX-License-Identifier: Apache-2.0
"""Fitting a keep-fraction a class on the stored maps of a run that has masks.

Nothing is explained again: maps come from the artifacts, ground truths from the masks
of the manifest. The reading is one ledger entry, made before anything is handed out.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from explain.thresholds.calibration import Calibration, fit_table
from explain.thresholds.sweep import PERCENTS, sweep_fractions
from ledger.entries import Action
from pipeline.deeds import record_deed
from pipeline.errors import SourceError
from pipeline.explained_items import explained_items
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from storage.tables import RunTable

#: Maps that are swept at once.
BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Marked:
    """One explained item with its ground truth, both at the input's size."""

    attribution: npt.NDArray[np.float32]
    truth: npt.NDArray[np.bool_]
    target: int


def calibrate(
    services: Services,
    run: RunTable,
    *,
    min_items: int = 5,
    on_items: Callable[[int], None] = lambda _count: None,
) -> Calibration:
    """Return the fractions that gave each class the highest mean IoU.

    Args:
        services: Database, store and settings.
        run: A run with masks, of any method and policy.
        min_items: Classes with fewer items with masks share the pooled fraction.
        on_items: Told how many more items were looked at.

    Raises:
        SourceError: no item of the run has both a map and a mask.
    """
    record_deed(
        services,
        Action.RESULTS_READ,
        f"run/{run.id}",
        details={"purpose": "calibration"},
    )
    tables: list[npt.NDArray[np.float64]] = []
    classes: list[int] = []
    for batch in _batches(_marked(services, run, on_items)):
        tables.append(_iou(batch))
        classes += [item.target for item in batch]
    if not classes:
        raise SourceError(
            f"No item of the run {run.id} has both a map and a ground truth mask; name "
            "a column of masks under data.columns.mask and run the audit again."
        )
    plan = RunPlan.from_json(run.plan)
    return fit_table(
        np.concatenate(tables), classes, PERCENTS, min_items=min_items, seed=plan.seed
    )


def _iou(batch: Sequence[_Marked]) -> npt.NDArray[np.float64]:
    """Return each item's IoU at each fraction, NaN where the truth marks nothing."""
    maps = torch.from_numpy(np.stack([item.attribution for item in batch]))
    truths = torch.from_numpy(np.stack([item.truth for item in batch]))
    swept = sweep_fractions(maps, truths, PERCENTS)
    empty = (swept.truth_sizes == 0)[:, None]
    found: npt.NDArray[np.float64] = swept.iou.masked_fill(empty, torch.nan).numpy()
    return found


def _batches(items: Iterator[_Marked]) -> Iterator[list[_Marked]]:
    waiting: list[_Marked] = []
    for item in items:
        waiting.append(item)
        if len(waiting) == BATCH:
            yield waiting
            waiting = []
    if waiting:
        yield waiting


def _marked(
    services: Services, run: RunTable, on_items: Callable[[int], None]
) -> Iterator[_Marked]:
    """Yield the explained items that have a mask."""
    for item in explained_items(
        services, run, wanted=lambda row: bool(row.mask_uri), on_items=on_items
    ):
        if item.prepared.truth is not None and item.result.target is not None:
            yield _Marked(
                attribution=item.attribution,
                truth=item.prepared.truth,
                target=item.result.target,
            )
