# SPDX-License-Identifier: Apache-2.0
"""MaxBoxAcc: does a box around the map's largest part match that of the object?

Parts are found on the host, one image at a time and all its thresholds at once.

Source: Choe et al. 2020, "Evaluating Weakly Supervised Object Localization Methods
Right", equation 3. There one threshold serves all images; here each image has its
best, which is an upper bound.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from explain.metrics.batch import MetricBatch
from explain.metrics.column import MetricColumn, column
from explain.metrics.pixel_precision import scaled
from explain.metrics.truth import truth_of, without_truth
from explain.thresholds.components import areas, labelled, scientific

Box = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class MaxBoxAcc:
    """The best IoU of boxes over all thresholds, and whether it is enough."""

    iou: float = 0.5
    thresholds: int = 50

    @property
    def name(self) -> str:
        """The name that the metric is registered under."""
        return "max_box_acc"

    def measure(self, batch: MetricBatch) -> dict[str, MetricColumn]:
        """Return ``max_box_acc`` and ``max_box_iou``; no forward pass."""
        absent = without_truth(batch)
        skipped = torch.stack([where.cpu() for _, where in absent]).any(dim=0)
        maps, truth = scaled(batch.maps).cpu().numpy(), truth_of(batch).cpu().numpy()
        best = torch.full((len(maps),), torch.nan, dtype=torch.float64)
        for item in torch.nonzero(~skipped).flatten().tolist():
            best[item] = box_ious(maps[item], truth[item], self.thresholds).max()
        hit = torch.where(best.isnan(), best, (best >= self.iou).double())
        return {"max_box_acc": column(hit, absent), "max_box_iou": column(best, absent)}


def box_ious(
    scores: npt.NDArray[np.float64], truth: npt.NDArray[np.bool_], thresholds: int
) -> npt.NDArray[np.float64]:
    """Return the IoU of the boxes at each threshold 0, 1/T, .. (T - 1)/T.

    The means over images of these reaching an IoU give the paper's MaxBoxAcc as their
    largest.

    Shape: scores (H, W) in [0, 1], truth (H, W) -> (thresholds,).
    """
    cuts = np.arange(thresholds) / thresholds
    labels, count = labelled(scores[None] >= cuts[:, None, None])
    sizes = areas(labels, count)
    largest: dict[int, tuple[int, Box]] = {}
    boxes = scientific("scipy.ndimage").find_objects(labels)
    for number, (layer, rows, columns) in enumerate(boxes, start=1):
        held = largest.get(layer.start)
        if held is None or sizes[number] > held[0]:
            box = (rows.start, rows.stop, columns.start, columns.stop)
            largest[layer.start] = (int(sizes[number]), box)
    marked = np.argwhere(truth)
    (top, left), (bottom, right) = marked.min(axis=0), marked.max(axis=0)
    wanted = (int(top), int(bottom) + 1, int(left), int(right) + 1)
    return np.array([_iou(largest[layer][1], wanted) for layer in range(thresholds)])


def _iou(one: Box, two: Box) -> float:
    rows = min(one[1], two[1]) - max(one[0], two[0])
    columns = min(one[3], two[3]) - max(one[2], two[2])
    both = max(0, rows) * max(0, columns)
    sizes = [(box[1] - box[0]) * (box[3] - box[2]) for box in (one, two)]
    return both / (sum(sizes) - both)
