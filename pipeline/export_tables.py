# SPDX-License-Identifier: Apache-2.0
"""The columns of exported tables: a row an item, and a row an aggregate.

Aggregates are those of the report's JSON, number for number. Items are the stored rows.
Of persons there are tokens only, as everywhere outside the two tables made for them.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from pipeline.item_row import KEEP_ACHIEVED, SCORE, ItemRow
from storage.item_listing import ListedItem

#: Columns of every item, before its groups and values.
_ITEM_COLUMNS = {
    "item_index": pa.int64(),
    "item_id": pa.string(),
    "uri": pa.string(),
    "subject": pa.string(),
    "status": pa.string(),
    "reason": pa.string(),
    "predicted": pa.int64(),
    "target": pa.int64(),
    "label": pa.int64(),
    "score": pa.float64(),
    "keep_requested": pa.float64(),
    "keep_achieved": pa.float64(),
}
#: What the curve of a policy with several masks is drawn of.
LEVEL_VALUE = "energy_retained"
_FIGURES = ("mean", "std", "min", "p05", "p25", "median", "p75", "p95", "max")
AGGREGATE_SCHEMA = pa.schema(
    [
        ("value", pa.string()),
        ("by", pa.string()),
        ("part", pa.string()),
        ("name", pa.string()),
        ("n", pa.int64()),
        ("independent", pa.int64()),
        *((name, pa.float64()) for name in _FIGURES),
        ("quantile_error", pa.float64()),
        ("interval_low", pa.float64()),
        ("interval_high", pa.float64()),
        ("interval_confidence", pa.float64()),
        ("interval_method", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ItemColumns:
    """Which groups and values the items of a run have columns for."""

    groups: tuple[str, ...]
    values: tuple[str, ...]

    @classmethod
    def of(cls, report: Mapping[str, Any], groups: Sequence[str]) -> "ItemColumns":
        """Return the columns of a run: the values that its report tells of."""
        names = [part["name"] for part in report["metrics"]]
        extra = [name for name in names if name not in {SCORE, KEEP_ACHIEVED}]
        return cls(groups=tuple(groups), values=tuple(extra))

    @property
    def schema(self) -> pa.Schema:
        """Name and type of each column."""
        return pa.schema(
            [
                *_ITEM_COLUMNS.items(),
                *((f"group:{name}", pa.string()) for name in self.groups),
                *((name, pa.float64()) for name in self.values),
                ("absences", pa.string()),
            ]
        )

    def row(self, item: ListedItem, found: ItemRow | None, uri: str) -> dict[str, Any]:
        """Return an item as a row; one whose shard is not done has no values."""
        row: dict[str, Any] = dict.fromkeys(self.schema.names)
        row |= {"item_index": item.item_index, "item_id": item.item_id, "uri": uri}
        if found is None:
            return row | {"status": "missing"}
        row |= {
            name: getattr(found, name)
            for name in _ITEM_COLUMNS
            if name not in {"item_index", "item_id", "uri", "subject"}
        }
        row["subject"] = found.subject_token
        row |= {f"group:{name}": found.groups.get(name) for name in self.groups}
        row |= {name: found.metrics.get(name) for name in self.values}
        row["absences"] = (
            ";".join(f"{name}={why}" for name, why in sorted(found.absences.items()))
            or None
        )
        return row


def aggregate_rows(report: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield each value over all items, then by the parts that the report lists.

    The curve of a policy with several masks comes last, a row a level.
    """
    for part in (*report["metrics"], *report["columns"]):
        yield _aggregate(part["name"], "all", None, None, part)
        for dimension in part.get("breakdowns", ()):
            for row in dimension["listed"]:
                yield _aggregate(
                    part["name"], dimension["by"], row["part"], row["name"], row
                )
    for level in report["threshold"]["levels"]:
        yield _aggregate(
            LEVEL_VALUE,
            "level",
            repr(level["keep_requested"]),
            None,
            {**level, "mean": level[LEVEL_VALUE]},
        )


def _aggregate(
    value: str, by: str, part: Any, name: str | None, figures: Mapping[str, Any]
) -> dict[str, Any]:
    interval = figures["interval"] or {}
    independent = figures.get("independent", interval.get("independent"))
    return {
        "value": value,
        "by": by,
        "part": None if part is None else str(part),
        "name": name,
        "n": figures["n"],
        "independent": independent,
        **{figure: figures.get(figure) for figure in _FIGURES},
        "quantile_error": figures.get("quantile_error"),
        "interval_low": interval.get("low"),
        "interval_high": interval.get("high"),
        "interval_confidence": interval.get("confidence"),
        "interval_method": interval.get("method"),
    }
