# SPDX-License-Identifier: Apache-2.0
"""Rows of tables as a kind of items: decoding, marks, checks and pictures."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from pipeline.domain import ItemResult, ItemStatus
from pipeline.errors import ItemError, ModelError, Reason, SpecError
from pipeline.kinds.kind import UnitMap, open_kind
from pipeline.kinds.table import TableKind
from pipeline.records import Record
from pipeline.spec import AuditSpec

COLUMNS = [
    {"name": "income", "kind": "numeric", "mean": 10.0, "std": 4.0},
    {
        "name": "housing",
        "kind": "category",
        "levels": ["own", "rent"],
        "frequencies": [0.75, 0.25],
    },
    {"name": "a<b", "kind": "numeric", "mean": 0.0},
]
ROW = {"income": "12", "housing": "rent", "a<b": "1", "marks": "income; a<b"}
RECORD = Record(data=b"", rows=(ROW,))


def opened(tmp_path: Path, **data: Any) -> TableKind:
    """Return the kind of an audit with those columns."""
    document = {
        "columns": COLUMNS,
        "reference": {"income": 2, "housing": "own", "a<b": 0},
    }
    path = tmp_path / "encoding.json"
    path.write_text(json.dumps(document))
    columns = {"features": ["income", "housing", "a<b"], "mask": "marks"}
    spec = AuditSpec.model_validate(
        {
            "audit": "rows",
            "model": {"source": "mlp", "encoding": str(path)},
            "data": {"kind": "table", "source": "t.csv", "columns": columns} | data,
        }
    )
    kind = open_kind(spec)
    assert isinstance(kind, TableKind)
    return kind


def unit_map(values: list[float], kept: list[bool]) -> UnitMap:
    """Return an explanation of one row."""
    result = ItemResult.__new__(ItemResult)
    object.__setattr__(result, "status", ItemStatus.DONE)
    return UnitMap(
        values=np.array([values], dtype=np.float32),
        mask=np.array([kept]),
        result=result,
        target="denied",
    )


def test_a_row_is_decoded_and_seen_through_gates(tmp_path: Path) -> None:
    """Closed gates show the training data, or the reference row if asked for."""
    kind = opened(tmp_path)
    content = kind.decode(RECORD)
    assert content.units == (1, 3)
    model = kind.gated(nn.Linear(4, 2), [content])
    assert model.rows(model.open_gates()).tolist() == [[0.5, 0.0, 1.0, 1.0]]
    assert model.rows(model.open_gates() * 0).tolist() == [[0.0, 0.75, 0.25, 0.0]]
    other = opened(tmp_path, options={"baseline": "reference"})
    model = other.gated(nn.Linear(4, 2), [other.decode(RECORD)])
    assert model.rows(model.open_gates() * 0).tolist() == [[-2.0, 1.0, 0.0, 0.0]]


def test_what_is_no_single_row_is_refused(tmp_path: Path) -> None:
    """A whole file, or several rows of one id, is no row of a table."""
    kind = opened(tmp_path)
    for record in (Record(data=b"x"), Record(data=b"", rows=(ROW, ROW))):
        with pytest.raises(ItemError) as caught:
            kind.decode(record)
        assert caught.value.reason is Reason.ROW_UNREADABLE


def test_marks_name_columns(tmp_path: Path) -> None:
    """Set off by semicolons; a name that is no column is an error of the row."""
    kind = opened(tmp_path)
    content = kind.decode(RECORD)
    found = kind.truth(RECORD, content)
    assert found is not None
    assert found.tolist() == [[True, False, True]]
    assert kind.truth(Record(data=b"", rows=(ROW | {"marks": None},)), content) is None
    with pytest.raises(ItemError) as caught:
        kind.truth(Record(data=b"", rows=(ROW | {"marks": "wealth"},)), content)
    assert caught.value.reason is Reason.MASK_UNREADABLE


def test_a_network_of_other_rows_is_refused(tmp_path: Path) -> None:
    """The sentence says how many numbers the encoding makes; the mode is kept."""
    kind = opened(tmp_path)
    network = nn.Sequential(nn.Linear(4, 2), nn.Dropout())
    kind.check(network)
    assert network.training
    with pytest.raises(ModelError, match="makes 4 numbers of a row, which the network"):
        kind.check(nn.Linear(5, 2))


def test_the_picture_has_signs_marks_and_escaped_cells(tmp_path: Path) -> None:
    """Nothing that stands in a row or a column's name is taken for a tag."""
    kind = opened(tmp_path)
    cells = ROW | {"housing": "<script>alert(1)</script>"}
    shown = kind.draw(
        unit_map([0.25, -1.5, 0.0], [True, False, False]),
        Record(data=b"", rows=(cells,)),
    )[0]
    assert "<script" not in shown.fragment
    assert "&lt;script&gt;" in shown.fragment
    assert shown.fragment.index("housing") < shown.fragment.index("income")
    assert "-1.5" in shown.fragment
    assert "+0.25" in shown.fragment
    assert shown.fragment.count(">kept<") == 1
    assert "a&lt;b" not in shown.fragment  # it has no part
    assert shown.title == "Reasons for denied, 2 of 3 columns"
    assert "12" not in shown.description


def test_without_the_row_no_cell_is_shown(tmp_path: Path) -> None:
    """Names of columns and numbers are what privacy leaves."""
    kind = opened(tmp_path)
    shown = kind.draw(unit_map([0.25, -1.5, 1.0], [True, False, True]), None)[0]
    assert "rent" not in shown.fragment
    assert "<th>Value</th>" not in shown.fragment
    assert "a&lt;b" in shown.fragment
    found = kind.reasons(unit_map([0.25, -1.5, 1.0], [True, False, True]), None)
    assert [one.column for one in found] == ["housing", "a<b", "income"]
    assert {one.cell for one in found} == {None}


def test_only_so_many_reasons_are_shown(tmp_path: Path) -> None:
    """As many as the audit says; a long cell is cut off."""
    kind = opened(tmp_path, options={"reasons": 1})
    cells = ROW | {"housing": "x" * 500}
    record = Record(data=b"", rows=(cells,))
    found = kind.reasons(unit_map([0.25, -1.5, 1.0], [True, False, True]), record)
    assert [one.column for one in found] == ["housing"]
    assert found[0].cell is not None
    assert len(found[0].cell) == 60
    empty = kind.draw(unit_map([0.0, 0.0, 0.0], [False] * 3), record)[0]
    assert "No column has a part" in empty.fragment


def test_an_audit_without_encoding_or_reference_is_refused(tmp_path: Path) -> None:
    """Each in one sentence, before anything is read."""
    spec = AuditSpec.model_validate(
        {
            "audit": "rows",
            "model": {"source": "mlp"},
            "data": {"kind": "table", "source": "t.csv"},
        }
    )
    with pytest.raises(SpecError, match=r"model\.encoding: an audit of table rows"):
        open_kind(spec)
    path = tmp_path / "encoding.json"
    path.write_text(json.dumps({"columns": COLUMNS}))
    data = {"kind": "table", "source": "t", "options": {"baseline": "reference"}}
    model = {"source": "mlp", "encoding": str(path)}
    given = {"audit": "rows", "model": model, "data": data}
    with pytest.raises(ModelError, match="has no reference row; add one"):
        open_kind(AuditSpec.model_validate(given))
    document = {
        "columns": COLUMNS,
        "reference": {"income": "x", "housing": "own", "a<b": 1},
    }
    path.write_text(json.dumps(document))
    with pytest.raises(ModelError, match=r"be encoded \(cell_not_a_number\)"):
        open_kind(AuditSpec.model_validate(given))


def test_the_kind_loads_without_torch() -> None:
    """Pages are drawn by processes that do not import it."""
    code = (
        "import sys, pipeline.kinds.table, pipeline.item_view;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_gates_of_the_kind_reach_the_network(tmp_path: Path) -> None:
    """The scores of open gates are those of the encoded row."""
    kind = opened(tmp_path)
    network = nn.Linear(4, 2)
    model = kind.gated(network, [kind.decode(RECORD)])
    expected = network(torch.tensor([[0.5, 0.0, 1.0, 1.0]]))
    assert torch.equal(model(model.open_gates()), expected)
