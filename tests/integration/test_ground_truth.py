# SPDX-License-Identifier: Apache-2.0
"""Numbers of localisation can be traced to the mask that they refer to."""

import hashlib
import io
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.digests import record_digest
from pipeline.packing import read_artifact
from tests.support.workspace import SIDE, Workspace, write_csv


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Photographs, of which the first two have a mask and the third a broken one."""
    found = Workspace(folder=tmp_path / "work").lay_out(4)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    mask[10:40, 20:50] = 255
    for number in range(2):
        Image.fromarray(mask).save(found.folder / f"mask{number}.png")
    (found.folder / "mask2.png").write_bytes(b"no picture")
    names = ["mask0.png", "mask1.png", "mask2.png", ""]
    rows = [
        {"path": f"photos/{number:04d}.png", "mask": name}
        for number, name in enumerate(names)
    ]
    write_csv(found.folder / "items.csv", rows)
    return found


def masked_spec(workspace: Workspace) -> Path:
    """Return a spec that measures localisation."""
    return workspace.write_spec(
        data={"source": "items.csv", "columns": {"mask": "mask"}},
        metrics=["localisation"],
    )


def artifact_rows(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the rows of a run's artifacts."""
    tables = [pq.read_table(path) for path in document["artifacts"]]
    return [row for table in tables for row in table.to_pylist()]


def test_each_row_names_the_mask_that_was_read(workspace: Workspace) -> None:
    """Artifact and database hold the digest of the mask's bytes, null without one."""
    document = workspace.run(masked_spec(workspace))
    expected = [
        hashlib.sha256((workspace.folder / f"mask{n}.png").read_bytes()).hexdigest()
        for n in range(3)
    ]
    found = artifact_rows(document)
    assert [row["truth_sha256"] for row in found] == [*expected, None]
    assert found[2]["reason"] == "mask_unreadable"
    assert [row["truth_sha256"] for row in workspace.rows("items")] == [*expected, None]
    shown = workspace.call("show", "latest", "0", "--json").document
    assert shown["truth_sha256"] == expected[0]


def test_another_file_with_the_same_mask_is_another_result(
    workspace: Workspace,
) -> None:
    """Every number stays and the result digest does not: the truth is pinned."""
    before = workspace.run(masked_spec(workspace))
    path = workspace.folder / "mask1.png"
    again = io.BytesIO()
    Image.open(path).save(again, "PNG", compress_level=1)
    assert again.getvalue() != path.read_bytes()
    path.write_bytes(again.getvalue())
    after = workspace.run(masked_spec(workspace))
    old, new = artifact_rows(before), artifact_rows(after)
    assert [row["metrics"] for row in old] == [row["metrics"] for row in new]
    assert before["result_digest"] != after["result_digest"]
    assert (
        workspace.run(masked_spec(workspace))["result_digest"]
        == (after["result_digest"])
    )


def test_a_row_that_names_another_mask_is_found(workspace: Workspace) -> None:
    """`verify` holds the database's mask against the record, and passes a sound run."""
    workspace.run(masked_spec(workspace))
    assert workspace.call("verify", "latest", "--json").code == 0
    with closing(sqlite3.connect(workspace.database)) as connection:
        connection.execute(
            "UPDATE items SET truth_sha256 = ? WHERE item_index = 1", ("0" * 64,)
        )
        connection.commit()
    answer = workspace.call("verify", "latest", "--json")
    assert answer.code == 3
    kinds = {failure["kind"] for failure in answer.document["failures"]}
    assert "row_mismatch" in kinds


def test_a_record_without_a_mask_is_what_it_was(workspace: Workspace) -> None:
    """The mask enters the record only where there is one."""
    document = workspace.run(masked_spec(workspace))
    with Path(document["artifacts"][0]).open("rb") as stream:
        result = list(read_artifact(stream))[3]
    plain = record_digest(result, content_sha256="1" * 64)
    assert record_digest(result, content_sha256="1" * 64, truth_sha256=None) == plain
    assert record_digest(result, content_sha256="1" * 64, truth_sha256="2" * 64) != (
        plain
    )
