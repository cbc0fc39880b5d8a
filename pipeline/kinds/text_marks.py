# SPDX-License-Identifier: Apache-2.0
"""Which words of a text a person marked: spans of characters in a cell."""

import json
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.errors import ItemError, Reason
from pipeline.kinds.text_tokens import Span


def marked_words(
    cell: Any, text: str, spans: tuple[Span, ...]
) -> npt.NDArray[np.bool_]:
    """Return which words touch a span of the cell, (1, W).

    Args:
        cell: [[start, end], ...] or the same as JSON; nothing where it is empty.
        text: The text.
        spans: Where each of its words lies.

    Raises:
        ItemError: `mask_unreadable`, or `mask_size_mismatch` of a span that is not in
            the text.
    """
    marked = np.zeros((1, len(spans)), np.bool_)
    for start, stop in _marks(cell):
        if not 0 <= start < stop <= len(text):
            raise ItemError(Reason.MASK_SIZE_MISMATCH)
        marked[0] |= [first < stop and start < last for first, last in spans]
    return marked


def _marks(cell: Any) -> list[Span]:
    try:
        marks = json.loads(cell) if isinstance(cell, str) else cell
    except ValueError as exc:
        raise ItemError(Reason.MASK_UNREADABLE) from exc
    if marks is None:
        return []
    found = []
    for mark in marks if isinstance(marks, list) else [marks]:
        pair = mark if isinstance(mark, list) else []
        if len(pair) != 2 or not all(type(end) is int for end in pair):
            raise ItemError(Reason.MASK_UNREADABLE)
        found.append((pair[0], pair[1]))
    return found
