# SPDX-License-Identifier: Apache-2.0
"""Artifacts hold what was explained, exactly, and few bytes an item."""

import io
import secrets
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.domain import ItemResult, Level
from pipeline.errors import Reason
from pipeline.packing import (
    ARTIFACT_SCHEMA,
    RESIZE,
    SCHEMA_NAME,
    read_artifact,
    write_artifact,
)
from storage.states import ItemStatus

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "artifact.md"

FAILED = ItemResult(
    item_index=0,
    item_id="a" * 32,
    uri="/photos/0.png",
    input_sha256=None,
    subject_token=None,
    groups={},
    status=ItemStatus.FAILED,
    reason=Reason.FILE_MISSING,
    method="gradcam",
    target_rule="predicted",
    policy="fixed:keep=0.1",
)
DONE = replace(
    FAILED,
    item_index=1,
    input_sha256="b" * 64,
    subject_token="c" * 32,
    groups={"ward": "d" * 32, "sex": "e" * 32},
    status=ItemStatus.DONE,
    reason=Reason.INSUFFICIENT_SUPPORT,
    predicted=0,
    target=7,
    label=2**31 - 1,
    score=0.1 + 2**-56,
    map_kind="tokens",
    map_bytes=np.array([1, 0.5, 2**-24, 0], dtype="<f2").tobytes(),
    map_scale=float(np.float32(1.17e-38)),
    map_height=2,
    map_width=2,
    axis_labels=("the", "cät"),
    keep_requested=0.1,
    keep_achieved=1 / 3,
    cut=5e-324,
    metrics={"b": -0.0, "a": 1e308},
    absences={"localisation_iou": "no_ground_truth"},
    energy_retained=0.75,
    truth_sha256="f" * 64,
    mask_bits=b"\xa0",
    levels=(
        Level(keep_requested=0.25, keep_achieved=0.25, cut=1.0, energy_retained=0.6),
        Level(keep_requested=0.5, keep_achieved=0.5, cut=0.5, energy_retained=0.9),
    ),
)


def _written(path: Path, *results: ItemResult) -> list[ItemResult]:
    digest, size = write_artifact(path, results, metadata={"run": "r"})
    assert size == path.stat().st_size
    assert len(digest) == 64
    with path.open("rb") as stream:
        return list(read_artifact(stream))


def test_what_is_written_is_read_back_exactly(tmp_path: Path) -> None:
    """Every field survives, missing ones, tiny numbers and non-ASCII text included."""
    results = [FAILED, DONE, replace(FAILED, item_index=2)]
    read = _written(tmp_path / "a.parquet", *results)
    assert read == results
    assert np.signbit(read[1].metrics["b"])


def test_the_same_items_give_the_same_bytes(tmp_path: Path) -> None:
    """An artifact is a function of its rows, whatever order its mappings have."""
    turned = replace(DONE, metrics=dict(reversed(DONE.metrics.items())))
    first = write_artifact(tmp_path / "a.parquet", [DONE], metadata={})
    assert write_artifact(tmp_path / "b.parquet", [turned], metadata={}) == first


def test_the_file_says_what_it_is(tmp_path: Path) -> None:
    """Schema, version, how masks are rebuilt and the run's facts are in the file."""
    _written(tmp_path / "a.parquet", DONE)
    schema = pq.read_schema(tmp_path / "a.parquet")
    assert schema.equals(ARTIFACT_SCHEMA)
    assert schema.metadata[b"schema"].decode() == SCHEMA_NAME
    assert schema.metadata[b"resize"].decode() == RESIZE
    assert schema.metadata[b"run"] == b"r"


def test_what_is_no_artifact_is_refused(tmp_path: Path) -> None:
    """Other bytes and Parquet of another schema are an error, not an empty shard."""
    with pytest.raises(pa.ArrowInvalid):
        list(read_artifact(io.BytesIO(b"no parquet at all")))
    table = pq.read_table(_path(tmp_path)).drop_columns(["cut"])
    pq.write_table(table, tmp_path / "less.parquet")
    with (
        (tmp_path / "less.parquet").open("rb") as stream,
        pytest.raises(pa.ArrowInvalid, match="'cut'"),
    ):
        list(read_artifact(stream))


def _path(folder: Path) -> Path:
    write_artifact(folder / "a.parquet", [DONE], metadata={})
    return folder / "a.parquet"


def test_an_item_takes_at_most_300_bytes(tmp_path: Path) -> None:
    """256 items with 7x7 maps and eight metrics take 300 bytes each, or fewer.

    Measured: 223 bytes, 162 without metrics. Ids, digests and numbers are random here,
    as they are in life, so that nothing compresses that would not.
    """
    generator = np.random.default_rng(0)
    names = [f"metric_number_{number}" for number in range(8)]
    results = []
    for index in range(256):
        values = np.maximum(generator.normal(size=49), 0)
        results.append(
            replace(
                DONE,
                item_index=index,
                item_id=secrets.token_hex(16),
                uri=f"/data/photos/train/{index:06d}.jpg",
                input_sha256=secrets.token_hex(32),
                subject_token=None,
                groups={},
                reason=None,
                map_kind="pixels",
                axis_labels=(),
                absences={},
                predicted=int(generator.integers(1000)),
                target=int(generator.integers(1000)),
                label=int(generator.integers(1000)),
                score=float(generator.random()),
                map_bytes=(values / values.max()).astype("<f2").tobytes(),
                map_scale=float(np.float32(generator.random())),
                map_height=7,
                map_width=7,
                cut=float(np.float32(generator.random())),
                energy_retained=float(generator.random()),
                mask_bits=b"",
                levels=(),
                metrics={name: float(generator.random()) for name in names},
            )
        )
    _digest, size = write_artifact(tmp_path / "a.parquet", results, metadata={})
    assert size / 256 <= 300


def test_the_page_documents_the_schema() -> None:
    """docs/reference/artifact.md lists the file's columns in order, and no other."""
    rows = [
        line.split("|")[1:4]
        for line in PAGE.read_text(encoding="utf-8").splitlines()
        if line.startswith("| `")
    ]
    documented = [
        (name.strip().strip("`"), kind.strip().strip("`"), null.strip())
        for name, kind, null in rows
    ]
    assert documented == [
        (field.name, _kind(field.type), "yes" if field.nullable else "no")
        for field in ARTIFACT_SCHEMA
    ]
    text = PAGE.read_text(encoding="utf-8")
    assert SCHEMA_NAME in text
    assert RESIZE in text


def _kind(kind: pa.DataType) -> str:
    if pa.types.is_map(kind):
        return f"map<{_kind(kind.key_type)}, {_kind(kind.item_type)}>"
    if pa.types.is_struct(kind):
        fields = [f"{field.name}: {_kind(field.type)}" for field in kind]
        return f"struct<{', '.join(fields)}>"
    if pa.types.is_list(kind):
        return f"list<{_kind(kind.value_type)}>"
    names = {"halffloat": "float16", "float": "float32", "double": "float64"}
    return names.get(str(kind), str(kind))
