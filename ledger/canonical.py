# SPDX-License-Identifier: Apache-2.0
"""RFC 8785 canonical JSON (JCS): one value, one sequence of bytes, one digest.

`json.dumps(sort_keys=True)` is not it: numbers follow ECMAScript (1.0 is `1`),
and keys sort by UTF-16 code units, which differs from code points above U+FFFF.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping

from ledger.errors import CanonicalFormError

#: RFC 8785 section 3.2.2.3 with RFC 7493 section 2.2: integers beyond this lose
#: digits in an IEEE 754 double, so two readers could see two numbers.
MAX_SAFE_INTEGER = 2**53 - 1

# The escapes of the standard encoder without ASCII-folding are exactly those of
# RFC 8785 section 3.2.2.2: short forms where JSON has them, else lower-case \u00xx.
_quote = json.JSONEncoder(ensure_ascii=False).encode


def canonical_bytes(value: object) -> bytes:
    """Return the RFC 8785 bytes of a JSON value.

    Accepts None, bool, int, float, str, list, tuple and mappings with str keys.

    Raises:
        CanonicalFormError: a number is NaN, infinite or an unsafe integer, a
            string holds a lone surrogate, a key is not a string, a type is not
            JSON, or the nesting is too deep.

    Source: RFC 8785, section 3.2.
    """
    parts: list[str] = []
    try:
        _write(value, parts.append)
        return "".join(parts).encode("utf-8")
    except UnicodeEncodeError as exc:
        raise CanonicalFormError(
            f"string holds the lone surrogate U+{ord(exc.object[exc.start]):04X}, "
            "expected valid Unicode (RFC 8785 section 3.2.2.2)"
        ) from exc
    except RecursionError as exc:
        raise CanonicalFormError(
            "value is nested too deeply (or contains itself) to be canonical JSON"
        ) from exc


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of the bytes as 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def _write(value: object, emit: Callable[[str], None]) -> None:
    if isinstance(value, str):
        emit(_quote(value))
    elif value is None:
        emit("null")
    elif value is True:
        emit("true")
    elif value is False:
        emit("false")
    elif isinstance(value, int):
        emit(_integer(value))
    elif isinstance(value, float):
        emit(_number(value))
    elif isinstance(value, Mapping):
        _write_object(value, emit)
    elif isinstance(value, list | tuple):
        separator = "["
        for item in value:
            emit(separator)
            _write(item, emit)
            separator = ","
        emit("]" if value else "[]")
    else:
        raise CanonicalFormError(
            f"{type(value).__name__} is not a JSON type; expected None, bool, int, "
            "float, str, list, tuple or a mapping"
        )


def _write_object(value: Mapping[object, object], emit: Callable[[str], None]) -> None:
    separator = "{"
    for key in _sorted_keys(value):
        emit(separator)
        emit(_quote(key))
        emit(":")
        _write(value[key], emit)
        separator = ","
    emit("}" if value else "{}")


def _sorted_keys(value: Mapping[object, object]) -> list[str]:
    keys: list[str] = []
    ascii_only = True
    for key in value:
        if not isinstance(key, str):
            raise CanonicalFormError(
                f"object key is {type(key).__name__}, expected a string"
            )
        ascii_only = ascii_only and key.isascii()
        keys.append(key)
    if ascii_only:
        keys.sort()
    else:
        # RFC 8785 section 3.2.3: order of UTF-16 code units. Big-endian bytes
        # compare like the units; surrogates pass here and are refused at the end.
        keys.sort(key=lambda key: key.encode("utf-16-be", "surrogatepass"))
    return keys


def _integer(value: int) -> str:
    if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        raise CanonicalFormError(
            f"integer of {value.bit_length()} bits is beyond 2^53-1, where JSON "
            "readers lose digits; write it as a string"
        )
    # An IntEnum or a NumPy-like subclass has its own repr; the number must not.
    return int.__repr__(value)


def _number(value: float) -> str:
    """Return the ECMAScript text of a double.

    Source: ECMA-262, Number::toString with radix 10, as RFC 8785 section 3.2.2.3
    requires. Python's repr already gives the shortest digits that round-trip.
    """
    if not math.isfinite(value):
        raise CanonicalFormError(
            "number is NaN or infinite, which JSON cannot hold; write null or a reason"
        )
    if value == 0:
        return "0"  # also for -0.0
    text = float.__repr__(abs(value))
    sign = "-" if value < 0 else ""
    mantissa, _, exponent = text.partition("e")
    whole, _, fraction = mantissa.partition(".")
    digits = (whole + fraction).lstrip("0")
    # value = 0.DIGITS x 10^point
    point = len(whole) + int(exponent or 0) - (len(whole + fraction) - len(digits))
    digits = digits.rstrip("0")
    return sign + _place_point(digits, point)


def _place_point(digits: str, point: int) -> str:
    if len(digits) <= point <= 21:
        return digits + "0" * (point - len(digits))
    if 0 < point <= 21:
        return f"{digits[:point]}.{digits[point:]}"
    if -6 < point <= 0:
        return "0." + "0" * -point + digits
    mantissa = digits if len(digits) == 1 else f"{digits[0]}.{digits[1:]}"
    return f"{mantissa}e{point - 1:+d}"
