# SPDX-License-Identifier: Apache-2.0
"""The best keep-fraction of each class, fitted on items that have masks. No torch here.

The best fraction follows the size of the objects, which differs between classes. A
calibration is a plain document with a digest of its own, so that a run can name the
one it used.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from explain.errors import InvalidInputError, InvalidParameterError

_SCHEMA = "affidavit.calibration/1"
#: Bounds of the intervals: 95 % of the replicates lie between.
_BOUNDS = (2.5, 97.5)

Table = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFraction:
    """The fraction of one class, or of all together (target None).

    The interval of ``keep`` is of the fraction chosen in each replicate, that of
    ``iou`` is of the mean IoU at the fraction chosen from all items.
    """

    target: int | None
    items: int
    keep: float
    keep_low: float
    keep_high: float
    iou: float
    iou_low: float
    iou_high: float

    def __post_init__(self) -> None:
        keeps = (self.keep, self.keep_low, self.keep_high)
        shares = (self.iou, self.iou_low, self.iou_high)
        fine = all(0 < keep <= 1 for keep in keeps)
        fine &= all(0 <= share <= 1 for share in shares) and self.items >= 0
        if not fine or not (self.target is None or self.target >= 0):
            raise InvalidInputError(
                f"Expected fractions to keep above 0 and up to 1 and shares of 0 to 1"
                f" for {'all classes' if self.target is None else self.target}, got"
                f" {keeps} and {shares}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """Fitted fractions, and how they were fitted.

    Attributes:
        pooled: Of all items together, for classes that have none of their own.
        classes: Of the classes with enough items, in ascending order.
        fractions: The grid that was searched.
        min_items: Least items of a class for a fraction of its own.
        replicates: Of the bootstrap.
        seed: Of the bootstrap.
        excluded: Items left out: no truth, or a map that shows nothing.
    """

    pooled: ClassFraction
    classes: tuple[ClassFraction, ...]
    fractions: tuple[float, ...]
    min_items: int
    replicates: int
    seed: int
    excluded: int

    def document(self) -> dict[str, Any]:
        """Return the calibration as plain values."""
        body = asdict(self)
        body["classes"] = list(body["classes"])
        body["fractions"] = list(self.fractions)
        return {"schema": _SCHEMA, **body}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Calibration":
        """Return the calibration that a document holds.

        Raises:
            InvalidInputError: it is no calibration.
        """
        body = dict(document)
        if body.pop("schema", None) != _SCHEMA:
            raise InvalidInputError(
                f"Expected a calibration of schema {_SCHEMA}, got"
                f" {document.get('schema')!r}."
            )
        try:
            body["pooled"] = ClassFraction(**body["pooled"])
            body["classes"] = tuple(ClassFraction(**row) for row in body["classes"])
            body["fractions"] = tuple(float(part) for part in body["fractions"])
            return cls(**body)
        except InvalidInputError:
            raise
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(
                f"Expected a calibration document of schema {_SCHEMA}, got one that"
                f" lacks fields or has others; write it with `affidavit calibrate`."
            ) from error

    @property
    def digest(self) -> str:
        """SHA-256 of the document as JSON with sorted keys, in hexadecimal."""
        text = json.dumps(
            self.document(), sort_keys=True, separators=(",", ":"), allow_nan=False
        )
        return hashlib.sha256(text.encode("ascii")).hexdigest()


def fit_table(
    iou: Table,
    classes: Sequence[int],
    fractions: Sequence[float],
    *,
    min_items: int = 5,
    replicates: int = 1000,
    seed: int = 0,
) -> Calibration:
    """Return the fractions of the highest mean IoU, the smallest of equals.

    Items whose IoU is not a number at some fraction are left out and counted.

    Args:
        iou: (N, K), of each item at each fraction, as a sweep gives it.
        classes: (N,), the explained class of each item.
        fractions: (K,) in ascending order.
        min_items: Classes with fewer get no fraction of their own.
        replicates: How often the items are drawn anew for the intervals.
        seed: Of these draws; each class has its own, whatever other classes there
            are.

    Raises:
        InvalidInputError: shapes differ, or no item has an IoU.
        InvalidParameterError: a number is out of range.
    """
    iou = np.asarray(iou, dtype=np.float64)
    owners = np.asarray(classes, dtype=np.int64)
    if iou.ndim != 2 or iou.shape != (len(owners), len(fractions)):
        raise InvalidInputError(
            f"Expected an IoU for each of {len(owners)} items at each of"
            f" {len(fractions)} fractions, got {iou.shape}."
        )
    if min_items < 1 or replicates < 1 or list(fractions) != sorted(set(fractions)):
        raise InvalidParameterError(
            f"Expected ascending fractions and at least 1 item and 1 replicate, got"
            f" min_items {min_items} and replicates {replicates}."
        )
    measured = np.isfinite(iou).all(axis=1)
    if not measured.any():
        raise InvalidInputError(
            "Expected at least one item with a mask and a map that shows something,"
            " got none; a calibration needs masks."
        )
    table, owners = iou[measured], owners[measured]
    grid = np.asarray(fractions, dtype=np.float64)

    def fitted(rows: Table, target: int | None) -> ClassFraction:
        return _fitted(rows, grid, target, replicates, seed)

    targets, sizes = np.unique(owners, return_counts=True)
    return Calibration(
        pooled=fitted(table, None),
        classes=tuple(
            fitted(table[owners == target], int(target))
            for target in targets[sizes >= min_items]
        ),
        fractions=tuple(float(part) for part in fractions),
        min_items=min_items,
        replicates=replicates,
        seed=seed,
        excluded=int((~measured).sum()),
    )


def fit(maps: Any, truths: Any, classes: Any, **options: Any) -> Calibration:
    """Return the calibration of maps with true masks; see ``fit_table``.

    Args:
        maps: (N, H, W) float32 tensor, at the size of the masks.
        truths: (N, H, W) bool tensor.
        classes: (N,) whole numbers, the explained classes.
        options: Those of ``fit_table``, and ``fractions``; 1 to 100 % by default.
    """
    from explain.thresholds.sweep import PERCENTS, sweep_fractions  # noqa: PLC0415

    fractions = options.pop("fractions", PERCENTS)
    result = sweep_fractions(maps, truths, fractions)
    undefined = result.truth_sizes == 0
    iou = result.iou.masked_fill(undefined[:, None], float("nan"))
    owners = [int(target) for target in classes]
    return fit_table(iou.cpu().numpy(), owners, fractions, **options)


def _fitted(
    rows: Table, grid: Table, target: int | None, replicates: int, seed: int
) -> ClassFraction:
    """Return the best fraction of the rows with the intervals of a bootstrap."""
    items = len(rows)
    means = rows.mean(axis=0)
    best = int(means.argmax())
    stream = [seed, 0] if target is None else [seed, 1, target]
    generator = np.random.Generator(np.random.Philox(np.random.SeedSequence(stream)))
    chosen = np.empty(replicates)
    reached = np.empty(replicates)
    for replicate in range(replicates):
        drawn = generator.integers(0, items, size=items)
        weights = np.bincount(drawn, minlength=items) / items
        mean = weights @ rows
        chosen[replicate] = grid[mean.argmax()]
        reached[replicate] = mean[best]
    # An interval's end is a fraction of the grid, not something between two.
    keep_low, keep_high = np.percentile(chosen, _BOUNDS, method="nearest")
    iou_low, iou_high = np.percentile(reached, _BOUNDS)
    return ClassFraction(
        target=target,
        items=items,
        keep=float(grid[best]),
        keep_low=float(keep_low),
        keep_high=float(keep_high),
        iou=float(means[best]),
        iou_low=float(iou_low),
        iou_high=float(iou_high),
    )
