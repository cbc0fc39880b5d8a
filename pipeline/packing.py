# SPDX-License-Identifier: Apache-2.0
"""The artifact: one Parquet file a shard, one row an explanation.

The schema is documented in `docs/reference/artifact.md`; a test holds both equal.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.domain import ItemResult, Level
from pipeline.errors import Reason
from storage.states import ItemStatus

#: Version of the artifact's schema, in the file's metadata.
SCHEMA_NAME = "affidavit.artifact/1"
#: How a mask is rebuilt from a map; recorded because it changes the mask.
RESIZE = "bilinear, align_corners=False"

ARTIFACT_SCHEMA = pa.schema(
    [
        pa.field("item_index", pa.int64(), nullable=False),
        pa.field("item_id", pa.string(), nullable=False),
        pa.field("uri", pa.string(), nullable=False),
        pa.field("input_sha256", pa.string()),
        pa.field("subject", pa.string()),
        pa.field("groups", pa.map_(pa.string(), pa.string())),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string()),
        pa.field("method", pa.string(), nullable=False),
        pa.field("target_rule", pa.string(), nullable=False),
        pa.field("policy", pa.string(), nullable=False),
        pa.field("predicted", pa.int32()),
        pa.field("target", pa.int32()),
        pa.field("label", pa.int32()),
        pa.field("score", pa.float64()),
        pa.field("map_kind", pa.string(), nullable=False),
        pa.field("axis_labels", pa.list_(pa.string())),
        pa.field("map", pa.list_(pa.float16())),
        pa.field("map_scale", pa.float32()),
        pa.field("map_height", pa.int32(), nullable=False),
        pa.field("map_width", pa.int32(), nullable=False),
        pa.field("keep_requested", pa.float64()),
        pa.field("keep_achieved", pa.float64()),
        pa.field("cut", pa.float64()),
        pa.field("metrics", pa.map_(pa.string(), pa.float64())),
        pa.field("absences", pa.map_(pa.string(), pa.string())),
        pa.field("energy_retained", pa.float64()),
        pa.field("mask", pa.binary()),
        pa.field(
            "levels",
            pa.list_(
                pa.struct(
                    [
                        pa.field("keep_requested", pa.float64()),
                        pa.field("keep_achieved", pa.float64()),
                        pa.field("cut", pa.float64()),
                        pa.field("energy_retained", pa.float64()),
                    ]
                )
            ),
        ),
        pa.field("truth_sha256", pa.string()),
    ]
)
#: Columns that artifacts of earlier versions do not have.
_LATER_COLUMNS = frozenset({"energy_retained", "mask", "levels", "truth_sha256"})


def write_artifact(
    path: Path, results: Sequence[ItemResult], *, metadata: Mapping[str, str]
) -> tuple[str, int]:
    """Return the hex SHA-256 and the size in bytes of the file now at the path.

    Args:
        path: Where to write.
        results: The shard's explanations in manifest order.
        metadata: Facts for the file's metadata: digests, run, shard, conventions.
    """
    table = _table(results).replace_schema_metadata(
        {"schema": SCHEMA_NAME, "resize": RESIZE, **metadata}
    )
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=9,
        # Dictionaries and statistics cost more than they save on so few rows, except
        # where the same word stands in every row.
        use_dictionary=[
            "status",
            "reason",
            "method",
            "target_rule",
            "policy",
            "map_kind",
            "metrics.key_value.key",
            "groups.key_value.key",
        ],
        write_statistics=False,
        store_schema=True,
    )
    with path.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return digest, path.stat().st_size


def _table(results: Sequence[ItemResult]) -> pa.Table:
    columns: dict[str, list[object]] = {name: [] for name in ARTIFACT_SCHEMA.names}
    for result in results:
        for name, value in _row(result).items():
            columns[name].append(value)
    arrays = [
        pa.array(columns[field.name], type=field.type) for field in ARTIFACT_SCHEMA
    ]
    return pa.Table.from_arrays(arrays, schema=ARTIFACT_SCHEMA)


def _row(result: ItemResult) -> dict[str, object]:
    values = np.frombuffer(result.map_bytes, dtype="<f2")
    return {
        "item_index": result.item_index,
        "item_id": result.item_id,
        "uri": result.uri,
        "input_sha256": result.input_sha256,
        "subject": result.subject_token,
        "groups": sorted(result.groups.items()),
        "status": result.status.value,
        "reason": result.reason.value if result.reason else None,
        "method": result.method,
        "target_rule": result.target_rule,
        "policy": result.policy,
        "predicted": result.predicted,
        "target": result.target,
        "label": result.label,
        "score": result.score,
        "map_kind": result.map_kind,
        "axis_labels": list(result.axis_labels),
        "map": values,
        "map_scale": result.map_scale,
        "map_height": result.map_height,
        "map_width": result.map_width,
        "keep_requested": result.keep_requested,
        "keep_achieved": result.keep_achieved,
        "cut": result.cut,
        "metrics": sorted(result.metrics.items()),
        "absences": sorted(result.absences.items()),
        "energy_retained": result.energy_retained,
        "mask": result.mask_bits or None,
        "levels": [asdict(level) for level in result.levels] or None,
        "truth_sha256": result.truth_sha256,
    }


def read_artifact(stream: BinaryIO) -> Iterator[ItemResult]:
    """Yield the explanations of an artifact in order.

    Raises:
        pyarrow.ArrowInvalid: the bytes are not Parquet, or of another schema.
    """
    file = pq.ParquetFile(pa.PythonFile(stream, mode="r"))
    names = set(file.schema_arrow.names)
    expected = [name for name in ARTIFACT_SCHEMA.names if name not in _LATER_COLUMNS]
    missing = [name for name in expected if name not in names]
    if missing:
        raise pa.ArrowInvalid(f"The artifact lacks the column '{missing[0]}'.")
    for batch in file.iter_batches(batch_size=1024):
        for row in batch.to_pylist():
            yield _result(row)


def _result(row: dict[str, object]) -> ItemResult:
    fields = dict(row)
    values = np.asarray(fields.pop("map") or [], dtype="<f2")
    reason = fields.pop("reason")
    levels = fields.pop("levels", None) or []
    return ItemResult(
        **(
            fields
            | {
                "map_bytes": values.tobytes(),
                "subject_token": fields.pop("subject"),
                "status": ItemStatus(str(fields["status"])),
                "reason": Reason(str(reason)) if reason is not None else None,
                "groups": dict(fields["groups"] or []),  # type: ignore[call-overload]
                "metrics": dict(fields["metrics"] or []),  # type: ignore[call-overload]
                "absences": dict(fields["absences"] or []),  # type: ignore[call-overload]
                "axis_labels": tuple(fields["axis_labels"] or ()),  # type: ignore[arg-type]
                "energy_retained": fields.pop("energy_retained", None),
                "mask_bits": fields.pop("mask", None) or b"",
                "levels": tuple(Level(**level) for level in levels),  # type: ignore[attr-defined]
            }
        )
    )
