# SPDX-License-Identifier: Apache-2.0
"""Settings in a report: long lists are replaced by their length and digest."""

from collections.abc import Iterable, Mapping
from typing import Any

from ledger.canonical import canonical_bytes, sha256_hex

#: Longer lists are named by their digest.
LISTED_VALUES = 50


def abridged(value: Any) -> Any:
    """Return the value with long lists replaced by their length and digest."""
    if isinstance(value, Mapping):
        return {str(key): abridged(part) for key, part in value.items()}
    if isinstance(value, str) or not isinstance(value, Iterable):
        return value
    parts = list(value)
    if len(parts) > LISTED_VALUES:
        return {"count": len(parts), "sha256": sha256_hex(canonical_bytes(parts))}
    return [abridged(part) for part in parts]
