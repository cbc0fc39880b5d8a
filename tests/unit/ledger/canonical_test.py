# SPDX-License-Identifier: Apache-2.0
"""RFC 8785: our canonical JSON against the clause's vectors and another library."""

import enum
import math
import struct

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from ledger.canonical import MAX_SAFE_INTEGER, canonical_bytes, sha256_hex
from ledger.errors import CanonicalFormError

# RFC 8785, appendix B: IEEE 754 bits and the ECMAScript text.
APPENDIX_B = [
    ("0000000000000000", "0"),
    ("8000000000000000", "0"),
    ("0000000000000001", "5e-324"),
    ("8000000000000001", "-5e-324"),
    ("7fefffffffffffff", "1.7976931348623157e+308"),
    ("ffefffffffffffff", "-1.7976931348623157e+308"),
    ("4340000000000000", "9007199254740992"),
    ("c340000000000000", "-9007199254740992"),
    ("4430000000000000", "295147905179352830000"),
    ("44b52d02c7e14af5", "9.999999999999997e+22"),
    ("44b52d02c7e14af6", "1e+23"),
    ("44b52d02c7e14af7", "1.0000000000000001e+23"),
    ("444b1ae4d6e2ef4e", "999999999999999700000"),
    ("444b1ae4d6e2ef4f", "999999999999999900000"),
    ("444b1ae4d6e2ef50", "1e+21"),
    ("3eb0c6f7a0b5ed8c", "9.999999999999997e-7"),
    ("3eb0c6f7a0b5ed8d", "0.000001"),
    ("41b3de4355555553", "333333333.3333332"),
    ("41b3de4355555554", "333333333.33333325"),
    ("41b3de4355555555", "333333333.3333333"),
    ("41b3de4355555556", "333333333.3333334"),
    ("41b3de4355555557", "333333333.33333343"),
    ("becbf647612f3696", "-0.0000033333333333333333"),
    ("43143ff3c1cb0959", "1424953923781206.2"),
]

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-MAX_SAFE_INTEGER, MAX_SAFE_INTEGER)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"])), inner, max_size=4
        )
    ),
    max_leaves=12,
)


@pytest.mark.parametrize(("bits", "text"), APPENDIX_B)
def test_numbers_follow_appendix_b(bits: str, text: str) -> None:
    """Each double of RFC 8785 appendix B has the text that the appendix gives."""
    (number,) = struct.unpack(">d", bytes.fromhex(bits))
    assert canonical_bytes(number) == text.encode()


def test_the_example_of_section_3_2_2() -> None:
    """The sample object of RFC 8785 section 3.2.2 has the bytes of section 3.2.4."""
    value = {
        "numbers": [333333333.33333329, 1e30, 4.50, 2e-3, 1e-27],
        "string": '€$\u000f\nA\'B"\\\\"/',
        "literals": [None, True, False],
    }
    expected = (
        '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,'
        '1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}'
    )
    assert canonical_bytes(value) == expected.encode()


def test_keys_sort_by_utf_16_units() -> None:
    """The sample of RFC 8785 section 3.2.3 comes in the order that it states."""
    value = {
        "\u20ac": "Euro Sign",
        "\r": "Carriage Return",
        "\ufb33": "Hebrew Letter Dalet With Dagesh",
        "1": "One",
        "\U0001f600": "Emoji: Grinning Face",
        "\u0080": "Control",
        "\u00f6": "Latin Small Letter O With Diaeresis",
    }
    order = [
        "Carriage Return",
        "One",
        "Control",
        "Latin Small",
        "Euro Sign",
        "Emoji",
        "Hebrew",
    ]
    text = canonical_bytes(value).decode()
    assert sorted(order, key=text.index) == order


@given(json_values)
def test_agrees_with_another_library(value: object) -> None:
    """Any JSON value has the bytes that the rfc8785 package gives."""
    assert canonical_bytes(value) == rfc8785.dumps(value)  # type: ignore[arg-type]


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_lose_nothing(number: float) -> None:
    """The text of a double reads back as the same double, the sign of zero aside."""
    assert float(canonical_bytes(number)) == number


@pytest.mark.parametrize(
    "value",
    [
        math.nan,
        math.inf,
        -math.inf,
        [1, {"a": math.nan}],
        MAX_SAFE_INTEGER + 1,
        -MAX_SAFE_INTEGER - 1,
        2**5000,
        "\ud800",
        {"\udfff": 1},
        {"é": 1, "\ud800": 2},
        {1: "a"},
        {None: "a"},
        b"bytes",
        {1, 2},
        object(),
    ],
)
def test_what_json_cannot_hold_is_refused(value: object) -> None:
    """A value without a canonical form raises, however deep it sits."""
    with pytest.raises(CanonicalFormError):
        canonical_bytes({"deep": [value]})


def test_a_value_that_contains_itself_is_refused() -> None:
    """A cycle ends in our error, not in the interpreter's."""
    cycle: list[object] = []
    cycle.append(cycle)
    with pytest.raises(CanonicalFormError, match="nested too deeply"):
        canonical_bytes(cycle)


def test_subclasses_are_written_as_what_they_are() -> None:
    """An enum member or a float subclass with its own repr is written as its value."""

    class Colour(enum.IntEnum):
        RED = 7

    class Name(enum.StrEnum):
        ME = "me"

    class Odd(float):
        def __repr__(self) -> str:
            return "Odd()"

    value = [Colour.RED, Name.ME, Odd(0.5), (1, 2), {}, [], True]
    assert canonical_bytes(value) == b'[7,"me",0.5,[1,2],{},[],true]'


def test_sha256_hex_is_lower_case_hexadecimal() -> None:
    """The digest of the empty string is the published one."""
    assert sha256_hex(b"") == (
        "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    )
