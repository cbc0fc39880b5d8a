# SPDX-License-Identifier: Apache-2.0
"""The digest of a document of plain values. No torch here."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any


def digest_of(document: Mapping[str, Any]) -> str:
    """Return SHA-256 of the document as JSON with sorted keys, in hexadecimal.

    Raises:
        ValueError: a number is NaN or infinite.
    """
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()
