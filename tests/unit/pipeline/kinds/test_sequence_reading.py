# SPDX-License-Identifier: Apache-2.0
"""Sequences out of rows and .npy files, and what is wrong with some of them."""

import io
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ItemError, ModelError, Reason, SpecError
from pipeline.kinds.sequence import SequenceKind
from pipeline.kinds.sequence_decoding import npy_values
from pipeline.records import Record, Row
from pipeline.spec import AuditSpec

LONG = {"id": "who", "features": ["a", "b"]}
WIDE = {"features": ["t0", "t1", "t2", "t3"]}


def kind(
    columns: dict[str, Any] | None = None,
    arguments: dict[str, Any] | None = None,
    **options: Any,
) -> SequenceKind:
    """Return the kind of a spec with these columns and options."""
    return SequenceKind.open(
        AuditSpec.model_validate(
            {
                "audit": "sequences",
                "model": {"source": "lstm", "arguments": arguments or {}},
                "data": {
                    "kind": "sequence",
                    "source": "x",
                    "columns": columns or {},
                    "options": options,
                },
            }
        )
    )


def rows(*given: Row) -> Record:
    """Return a record of rows."""
    return Record(data=b"", rows=given)


def npy(array: npt.ArrayLike, **how: Any) -> Record:
    """Return a record of a .npy file."""
    file = io.BytesIO()
    np.save(file, np.asarray(array), **how)
    return Record(data=file.getvalue())


def reason(of: SequenceKind, record: Record) -> Reason:
    """Return why the record is no sequence."""
    with pytest.raises(ItemError) as failure:
        of.decode(record)
    return failure.value.reason


def test_long_rows_are_steps() -> None:
    """Texts of CSV and numbers of Parquet alike, normalised feature by feature."""
    found = kind(LONG, mean=[1, 10], std=[2, 5]).decode(
        rows({"who": "x", "a": "3", "b": "0"}, {"who": "x", "a": 1, "b": 2.5e1})
    )
    assert found.values.tolist() == [[1, -2], [0, 3]]
    assert found.values.dtype == np.float32
    assert found.units == (1, 2)
    assert found.baseline.tolist() == [0, 0]


def test_a_wide_row_is_one_feature_over_time() -> None:
    """Empty cells behind the end are no steps."""
    found = kind(WIDE).decode(rows({"t0": "1", "t1": "2", "t2": "4", "t3": None}))
    assert found.values.tolist() == [[1], [2], [4]]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["float64", "float16", "int8", ">i4", "uint16"])
def test_npy_files_are_steps_by_features(order: Any, dtype: str) -> None:
    """Of any real numbers, in either order of storage."""
    array = np.array([[1, 2, 3], [4, 5, 6]], dtype=dtype, order=order)
    found = kind(features=3).decode(npy(array))
    assert found.values.tolist() == array.tolist()
    single = kind(features=1).decode(npy(np.array([1, 2, 3], dtype=dtype)))
    assert single.values.tolist() == [[1], [2], [3]]


def test_units_and_baseline_are_options() -> None:
    """Features are named in artifacts where they are told apart; steps never."""
    record = npy([[1.0, 5.0], [3.0, 5.0], [5.0, 2.0]])
    for per, units, labels in (
        ("step", (1, 3), ()),
        ("feature", (2, 1), ("feature 1", "feature 2")),
        ("both", (2, 3), ("feature 1", "feature 2")),
    ):
        one = kind(arguments={"features": 2}, per=per, baseline="mean")
        found = one.decode(record)
        assert found.units == units
        assert one.axis_labels(found) == labels
        assert found.baseline.tolist() == [3, 4]


@pytest.mark.parametrize(
    ("columns", "given", "expected"),
    [
        (LONG, [{"a": "1", "b": None}], Reason.CELL_EMPTY),
        (LONG, [{"a": "1"}], Reason.CELL_EMPTY),
        (LONG, [{"a": "1", "b": "much"}], Reason.CELL_NOT_A_NUMBER),
        (LONG, [{"a": "1", "b": "1_0"}], Reason.CELL_NOT_A_NUMBER),
        (LONG, [{"a": True, "b": 1}], Reason.CELL_NOT_A_NUMBER),
        (LONG, [{"a": [1], "b": 1}], Reason.CELL_NOT_A_NUMBER),
        (LONG, [{"a": 10**400, "b": 1}], Reason.CELL_NOT_A_NUMBER),
        (LONG, [{"a": "nan", "b": 1}], Reason.CELL_NOT_FINITE),
        (LONG, [{"a": "-inf", "b": 1}], Reason.CELL_NOT_FINITE),
        (LONG, [{"a": "1e300", "b": 1}], Reason.CELL_NOT_FINITE),
        (WIDE, [dict.fromkeys(WIDE["features"])], Reason.SEQUENCE_EMPTY),
        (WIDE, [{"t0": 1, "t1": None, "t2": 2}], Reason.SEQUENCE_RAGGED),
        (WIDE, [{"t0": "x"}], Reason.CELL_NOT_A_NUMBER),
        (
            LONG | {"step": "t"},
            [{"a": 1, "b": 1, "t": 2}, {"a": 1, "b": 1, "t": 1}],
            Reason.STEPS_UNSORTED,
        ),
        (
            LONG | {"step": "t"},
            [{"a": 1, "b": 1, "t": "2"}, {"a": 1, "b": 1, "t": "2"}],
            Reason.STEPS_UNSORTED,
        ),
        (LONG | {"step": "t"}, [{"a": 1, "b": 1, "t": None}], Reason.CELL_EMPTY),
    ],
)
def test_bad_rows_have_a_reason(
    columns: dict[str, Any], given: list[Row], expected: Reason
) -> None:
    """Never a crash, and never a number that nobody measured."""
    assert reason(kind(columns), rows(*given)) is expected


def test_times_rise_as_numbers_or_as_texts() -> None:
    """9 comes before 10, and one day before the next."""
    one = kind(LONG | {"step": "t"})
    for times in (("9", "10"), ("2026-01-31", "2026-02-01"), (1, 1.5)):
        found = one.decode(rows(*({"a": 1, "b": 2, "t": time} for time in times)))
        assert found.units == (1, 2)


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (Record(data=b""), Reason.NOT_A_SEQUENCE),
        (Record(data=b"\x93NUMPY\x01\x00\x04\x00oops"), Reason.NOT_A_SEQUENCE),
        (npy(np.zeros((2, 2, 2))), Reason.NOT_A_SEQUENCE),
        (npy(np.float64(3)), Reason.NOT_A_SEQUENCE),
        (npy(np.array(["a", "b"])), Reason.NOT_A_SEQUENCE),
        (npy(np.array([{}, []], dtype=object)), Reason.NOT_A_SEQUENCE),
        (npy(np.zeros(3, dtype=complex)), Reason.NOT_A_SEQUENCE),
        (npy(np.zeros((0, 2))), Reason.SEQUENCE_EMPTY),
        (npy(np.zeros((2, 3))), Reason.SEQUENCE_RAGGED),
        (npy([[1.0, np.nan]]), Reason.CELL_NOT_FINITE),
        (npy(np.zeros((6, 2))), Reason.SEQUENCE_TOO_LONG),
    ],
)
def test_bad_files_have_a_reason(record: Record, expected: Reason) -> None:
    """Objects are never unpickled."""
    assert reason(kind(features=2, max_steps=5), record) is expected


def test_a_file_that_claims_more_than_it_holds_costs_nothing() -> None:
    """The header is held against the size before anything is allocated."""
    data = npy(np.zeros((2, 2))).data
    huge = data.replace(b"(2, 2)", b"(9999999999, 2)".ljust(6)[:15])
    for wrong in (huge, data[:-1], data + b"\0"):
        with pytest.raises(ItemError, match="not_a_sequence"):
            npy_values(wrong)


@settings(max_examples=200, deadline=None)
@given(
    data=st.binary(max_size=200), place=st.integers(0, 127), byte=st.integers(0, 255)
)
def test_no_bytes_crash_the_reader(data: bytes, place: int, byte: int) -> None:
    """Noise and files with one byte changed are numbers or have a reason."""
    altered = bytearray(npy(np.arange(6.0).reshape(3, 2)).data)
    altered[place] = byte
    for given_data in (data, bytes(altered)):
        try:
            found = npy_values(given_data)
        except ItemError:
            continue
        assert found.ndim == 2
        assert found.dtype == np.float64


def test_marked_steps_are_the_truth() -> None:
    """A row whose cell is neither empty nor zero nor no is marked."""
    one = kind(LONG | {"mask": "event"})
    cells = ["1", None, "0", "false", "yes", "no"]
    record = rows(*({"a": 1, "b": 2, "event": cell} for cell in cells))
    found = one.truth(record, one.decode(record))
    assert found is not None
    assert found.tolist() == [[True, False, False, False, True, False]]
    both = kind(LONG | {"mask": "event"}, per="both")
    marked = both.truth(record, both.decode(record))
    assert marked is not None
    assert marked.tolist() == found.tolist() * 2
    nothing = rows({"a": 1, "b": 2, "event": "0"})
    assert one.truth(nothing, one.decode(nothing)) is None
    assert kind(LONG).truth(record, one.decode(record)) is None


@pytest.mark.parametrize(
    ("columns", "options", "said"),
    [
        ({}, {}, "data.options.features"),
        ({"step": "t", "features": ["a"]}, {}, "data.columns.step"),
        ({"mask": "m", "features": ["a"]}, {}, "data.columns.mask"),
        ({"id": "who"}, {}, "data.columns.features"),
        (LONG, {"mean": [1, 2, 3]}, "expected one number or 2"),
        (LONG, {"std": [1, 2, 3]}, "data.options.std"),
        (WIDE, {"per": "feature"}, "data.options.per"),
        (LONG | {"mask": "m"}, {"per": "feature"}, "data.columns.mask marks steps"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    columns: dict[str, Any], options: dict[str, Any], said: str
) -> None:
    """One sentence names the key."""
    with pytest.raises(SpecError, match=said):
        kind(columns, **options)


@pytest.mark.parametrize(
    "options", [{"std": [0.0]}, {"per": "word"}, {"max_steps": 0}, {"mean": []}]
)
def test_options_out_of_range_are_refused(options: dict[str, Any]) -> None:
    """As the card of the kind says."""
    with pytest.raises(ValueError, match="kind 'sequence'"):
        kind(LONG, **options)


def test_a_network_of_other_features_is_refused() -> None:
    """Both numbers are named."""
    from pipeline.models.recurrent import gru

    network = gru.build(features=3, hidden=4, classes=2)
    kind({"id": "w", "features": ["a", "b", "c"]}).check(network)
    with pytest.raises(ModelError, match=r"takes 3 features a step.*names 2 \(a, b\)"):
        kind(LONG).check(network)


@pytest.mark.parametrize(
    "wrong", [{"hidden": 0}, {"layers": "two"}, {"classes": True}, {"features": None}]
)
def test_sizes_of_networks_are_checked(wrong: dict[str, Any]) -> None:
    """One sentence names the argument."""
    from pipeline.models.recurrent import bilstm

    with pytest.raises(ModelError, match=f"model.arguments.{next(iter(wrong))}"):
        bilstm.build(**({"features": 2, "hidden": 3, "classes": 2} | wrong))
