# SPDX-License-Identifier: Apache-2.0
"""The encoding of a table: what cells become, and each way to get it wrong."""

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from pipeline.errors import ItemError, ModelError, Reason
from pipeline.kinds.table_cells import baseline_numbers, row_numbers
from pipeline.kinds.table_encoding import (
    Encoding,
    encoding_schema,
    read_encoding,
    require_features,
)

REFERENCE = Path(__file__).parents[3] / "docs/reference"
INCOME = {"name": "income", "kind": "numeric", "mean": 10.0, "std": 4.0}
HOUSING = {
    "name": "housing",
    "kind": "category",
    "levels": ["own", "rent"],
    "frequencies": [0.75, 0.25],
}
AGE = {"name": "age", "kind": "numeric", "mean": 40.0, "scale": False}


def encoding(**changes: Any) -> Encoding:
    """Return the three columns, with more said of each."""
    return Encoding.model_validate(
        {
            "columns": [
                {**INCOME, **changes.pop("income", {})},
                {**HOUSING, **changes.pop("housing", {})},
                {**AGE, **changes.pop("age", {})},
            ],
            **changes,
        }
    )


def test_a_row_becomes_its_numbers() -> None:
    """Scaled, one for its level among zeros, and as it is, in order."""
    found = row_numbers(
        encoding(), {"age": 31, "income": "12", "housing": "rent", "name": "Ann"}
    )
    assert found.dtype == np.float32
    assert found.tolist() == [0.5, 0.0, 1.0, 31.0]


def test_the_baseline_is_the_training_data() -> None:
    """The mean of numbers, scaled or not, and the shares of levels."""
    assert baseline_numbers(encoding()).tolist() == [0.0, 0.75, 0.25, 40.0]


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({"housing": "own", "age": "1"}, Reason.COLUMN_MISSING),
        ({"income": None, "housing": "own", "age": "1"}, Reason.CELL_EMPTY),
        ({"income": "", "housing": "own", "age": "1"}, Reason.CELL_EMPTY),
        ({"income": "much", "housing": "own", "age": "1"}, Reason.CELL_NOT_A_NUMBER),
        ({"income": "1_000", "housing": "own", "age": "1"}, Reason.CELL_NOT_A_NUMBER),
        ({"income": " 1", "housing": "own", "age": "1"}, Reason.CELL_NOT_A_NUMBER),
        ({"income": "0x1f", "housing": "own", "age": "1"}, Reason.CELL_NOT_A_NUMBER),
        ({"income": "\u0661", "housing": "own", "age": "1"}, Reason.CELL_NOT_A_NUMBER),
        ({"income": True, "housing": "own", "age": "1"}, Reason.CELL_NOT_A_NUMBER),
        ({"income": [1], "housing": "own", "age": "1"}, Reason.CELL_NOT_A_NUMBER),
        ({"income": "NaN", "housing": "own", "age": "1"}, Reason.CELL_NOT_FINITE),
        ({"income": "-inf", "housing": "own", "age": "1"}, Reason.CELL_NOT_FINITE),
        ({"income": "1e999", "housing": "own", "age": "1"}, Reason.CELL_NOT_FINITE),
        ({"income": 10**400, "housing": "own", "age": "1"}, Reason.CELL_NOT_FINITE),
        ({"income": float("nan"), "housing": "own", "age": 1}, Reason.CELL_NOT_FINITE),
        ({"income": "1", "housing": "own", "age": "1e39"}, Reason.CELL_NOT_FINITE),
        ({"income": "1", "housing": "boat", "age": "1"}, Reason.CATEGORY_UNKNOWN),
        ({"income": "1", "housing": "Own", "age": "1"}, Reason.CATEGORY_UNKNOWN),
        ({"income": "1", "housing": {"a": 1}, "age": "1"}, Reason.CATEGORY_UNKNOWN),
        ({"income": "1", "housing": None, "age": "1"}, Reason.CELL_EMPTY),
    ],
)
def test_a_cell_that_is_not_what_its_column_holds_has_a_reason(
    cells: dict[str, Any], reason: Reason
) -> None:
    """Each fails its row alone; nothing is guessed."""
    with pytest.raises(ItemError) as caught:
        row_numbers(encoding(), cells)
    assert caught.value.reason is reason


def test_what_is_missing_or_unknown_may_be_allowed() -> None:
    """The mean for a number, zeros for a category, a level of its own for nothing."""
    lenient = encoding(income={"missing": "mean"}, housing={"unknown": "zero"})
    cells = {"income": None, "housing": "boat", "age": 1}
    assert row_numbers(lenient, cells).tolist() == [0.0, 0.0, 0.0, 1.0]
    named = encoding(housing={"levels": ["own", ""]})
    cells = {"income": 10, "housing": None, "age": 1}
    assert row_numbers(named, cells).tolist() == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize("cell", [2, 2.0, "2"])
def test_levels_of_whole_numbers_are_the_same_in_every_format(cell: Any) -> None:
    """CSV has text, Parquet and JSON lines have numbers."""
    numbered = encoding(housing={"levels": ["1", "2"]})
    cells = {"income": 10, "housing": cell, "age": 1}
    assert row_numbers(numbered, cells).tolist() == [0.0, 0.0, 1.0, 1.0]


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ("{", "is not JSON"),
        ([], "input should be"),
        ({"columns": []}, r"at columns: list should have at least 1"),
        ({"columns": [INCOME, INCOME]}, "the column 'income' is named twice"),
        ({"columns": [{**INCOME, "std": 0.0}]}, r"at columns\.0\.std.*greater than 0"),
        ({"columns": [{**INCOME, "std": "4"}]}, r"at columns\.0\.std.*valid number"),
        ({"columns": [{**INCOME, "sd": 4}]}, r"at columns\.0\.sd: extra inputs"),
        ({"columns": [{**INCOME, "kind": "number"}]}, r"at columns\.0"),
        ({"columns": [{**INCOME, "missing": "zero"}]}, r"at columns\.0\.missing"),
        ({"columns": [{"kind": "numeric", "mean": 0}]}, r"at columns\.0\.name"),
        ({"columns": [{**HOUSING, "levels": ["a", "a"]}]}, "a level is named twice"),
        ({"columns": [{**HOUSING, "levels": ["a"]}]}, "1 levels need as many"),
        ({"columns": [{**HOUSING, "frequencies": [0.5, 0.1]}]}, "must sum to 1"),
        ({"columns": [{**HOUSING, "frequencies": [1.5, -0.5]}]}, "frequencies"),
        ({"columns": [INCOME], "reference": {}}, "reference must name every column"),
        (
            {"columns": [INCOME], "reference": {"income": 1, "age": 2}},
            "no other; see 'age'",
        ),
    ],
)
def test_a_wrong_encoding_is_one_sentence(
    document: Any, said: str, tmp_path: Path
) -> None:
    """It says where the mistake lies."""
    path = tmp_path / "encoding.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document))
    with pytest.raises(ModelError, match=said) as caught:
        read_encoding(path)
    assert "\n" not in str(caught.value)


def test_infinite_numbers_are_refused(tmp_path: Path) -> None:
    """Python's JSON knows Infinity; the encoding does not."""
    path = tmp_path / "encoding.json"
    path.write_text(json.dumps({"columns": [{**INCOME, "mean": float("inf")}]}))
    with pytest.raises(ModelError, match=r"at columns\.0\.mean: input should be a fin"):
        read_encoding(path)
    with pytest.raises(ModelError, match="cannot be read"):
        read_encoding(tmp_path / "none.json")


def test_shares_may_miss_what_becomes_zeros() -> None:
    """Where unknown categories are zeros, some of the training data were unknown."""
    assert encoding(housing={"unknown": "zero", "frequencies": [0.5, 0.25]})


def test_features_must_be_the_encodings_columns() -> None:
    """In any order; a column that is missing or strange is named."""
    require_features(["age", "income", "housing"], encoding())
    require_features([], encoding())
    with pytest.raises(ModelError, match="no column 'incom'; did you mean 'income'"):
        require_features(["incom", "housing", "age"], encoding())
    with pytest.raises(ModelError, match="needs the column 'housing' as well"):
        require_features(["income", "age"], encoding())


def test_the_published_schema_and_example_are_current() -> None:
    """The schema equals the code's, and both accept the page's example."""
    published = json.loads((REFERENCE / "table-encoding.schema.json").read_text())
    assert published == encoding_schema()
    page = (REFERENCE / "table-encoding.md").read_text("utf-8")
    example = json.loads(page.split("```json\n")[1].split("```")[0])
    jsonschema.Draft202012Validator(published).validate(example)
    assert Encoding.model_validate(example).names == ["income", "housing"]
