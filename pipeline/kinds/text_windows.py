# SPDX-License-Identifier: Apache-2.0
"""What of a text the network reads at once, and where its sentences end."""

import re

import numpy as np
import numpy.typing as npt

from explain.text.content import NO_WORD, Window
from pipeline.errors import ItemError, Reason
from pipeline.kinds.text_tokens import Span, TextTokenizer, Tokenised

#: A text of more words than that is not taken, however it is read.
MOST_WORDS = 50_000
#: What ends a sentence: a full stop and the like before white space, or an empty line.
_SENTENCE_END = re.compile(
    r"[.!?\u2026]+[\"')\]\u201d\u2019]*\s+|[\u3002\uff01\uff1f]+|\n\s*\n"
)


def windows_of(
    text: Tokenised, tokenizer: TextTokenizer, *, long: str, limit: int, overlap: float
) -> tuple[tuple[Window, ...], int]:
    """Return the windows that a text is read through, and how many words they hold.

    No word is torn apart. Words of the result are those from the first one on.

    Args:
        text: The text.
        tokenizer: Adds the special tokens around each window.
        long: What becomes of a text that is longer than the limit.
        limit: Most tokens of a window, special ones included.
        overlap: Share of a window's tokens that the next one reads again.

    Raises:
        ItemError: `text_too_long`.
    """
    room = limit - len(tokenizer.before) - len(tokenizer.behind)
    count = len(text.spans)
    if count > MOST_WORDS or room < 1:
        raise ItemError(Reason.TEXT_TOO_LONG)
    if len(text.tokens) <= room:
        return (_window(text, tokenizer, 0, len(text.tokens)),), count
    if long == "refuse":
        raise ItemError(Reason.TEXT_TOO_LONG)
    starts = _word_starts(text)
    if long == "truncate":
        stop = _last_fitting(starts, 0, room)
        words = int(text.words[:stop].max()) + 1
        if not words:
            raise ItemError(Reason.TEXT_EMPTY)
        return (_window(text, tokenizer, 0, stop),), words
    found = _overlapping(starts, room, overlap)
    windows = [_window(text, tokenizer, start, stop) for start, stop in found]
    return tuple(one for one in windows if (one.words != NO_WORD).any()), count


def _overlapping(
    starts: npt.NDArray[np.int64], room: int, overlap: float
) -> list[tuple[int, int]]:
    """Return where windows start and end that cover all tokens."""
    end = int(starts[-1])
    start, stop = 0, _last_fitting(starts, 0, room)
    found = [(start, stop)]
    while stop < end:
        # The latest start that reads as much again as is asked for, and goes on.
        early = starts[(starts > start) & (starts <= stop - int(overlap * room))]
        start = int(early[-1]) if len(early) else stop
        if _last_fitting(starts, start, room) <= stop:
            start = stop
        stop = _last_fitting(starts, start, room)
        found.append((start, stop))
    return found


def sentences_of(text: str, spans: tuple[Span, ...]) -> npt.NDArray[np.int64]:
    """Return the sentence of each word, in rising order from 0 without gaps.

    Shape: (W,) int64.
    """
    ends = np.array([found.end() for found in _SENTENCE_END.finditer(text)], np.int64)
    starts = np.array([start for start, _stop in spans], np.int64)
    behind = np.searchsorted(ends, starts, side="right")
    return np.unique(behind, return_inverse=True)[1].astype(np.int64)


def _window(text: Tokenised, tokenizer: TextTokenizer, start: int, stop: int) -> Window:
    before, behind = tokenizer.before, tokenizer.behind
    return Window(
        np.concatenate([before, text.tokens[start:stop], behind]),
        np.concatenate(
            [
                np.full(len(before), NO_WORD, np.int64),
                text.words[start:stop],
                np.full(len(behind), NO_WORD, np.int64),
            ]
        ),
    )


def _word_starts(text: Tokenised) -> npt.NDArray[np.int64]:
    """Return where a window may start or end: at words, and at what is no word."""
    changed = text.words[1:] != text.words[:-1]
    free = text.words[1:] == NO_WORD
    places = np.flatnonzero(changed | free) + 1
    return np.concatenate([[0], places, [len(text.tokens)]])


def _last_fitting(starts: npt.NDArray[np.int64], start: int, room: int) -> int:
    """Return where a window from ``start`` ends at the latest.

    Raises:
        ItemError: not one word fits.
    """
    stop = int(starts[np.searchsorted(starts, start + room, side="right") - 1])
    if stop <= start:
        raise ItemError(Reason.TEXT_TOO_LONG)
    return stop
