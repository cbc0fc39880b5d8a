# SPDX-License-Identifier: Apache-2.0
"""A text with its words marked, as HTML that can be read on screen and on paper.

Blue speaks for the class and orange against it, stronger where it matters more. Words
against it are underlined with dashes as well, and kept words are framed, so that a
print without colours tells the same. Every text is escaped.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt

from pipeline.reports.inputs import Picture

Span = tuple[int, int]
Values = npt.NDArray[np.float32]
Kept = npt.NDArray[np.bool_]

#: Words of one picture; of a longer text the part that matters most is shown.
MOST_SHOWN = 300
#: Letters of what was not read that are shown behind the last word.
_MOST_UNREAD = 200
#: Kept words that the description names.
_NAMED = 20
#: Red, green and blue; the colours are those of reasons of table rows.
_FOR, _AGAINST = "47,127,184", "200,100,27"
#: Opacity of the strongest word: letters stay readable on it, in light and dark.
_STRONGEST = 0.55
#: Words that matter less than this share of the strongest one are not marked.
_FAINTEST = 0.04
_FRAME = "outline:1.5px solid currentColor;outline-offset:-1px"
_DASHES = "text-decoration:underline dashed"


@dataclass(frozen=True, slots=True, eq=False)
class ShownText:
    """What a picture is drawn from.

    Attributes:
        text: The text.
        spans: Where each word lies in it.
        values: (W,) float32, signed.
        kept: (W,) bool.
    """

    text: str
    spans: tuple[Span, ...]
    values: Values
    kept: Kept


def drawn_text(shown: ShownText, target: str) -> Picture:
    """Return the text with its words marked."""
    first, behind = _part(shown.values)
    named = [
        " ".join(shown.text[start:stop].split())
        for (start, stop), kept in zip(shown.spans, shown.kept, strict=True)
        if kept
    ]
    more = ", ..." if len(named) > _NAMED else ""
    return _picture(
        "".join(_marked(shown, first, behind)),
        f"The text. Kept words: {', '.join(named[:_NAMED]) or 'none'}{more}.",
        target,
        _excerpt(first, behind, len(shown.spans)),
    )


def drawn_words(values: Values, kept: Kept, target: str) -> Picture:
    """Return the words' marks without the text: their numbers in order."""
    first, behind = _part(values)
    strengths = _strengths(values)
    words = " ".join(
        _word(
            str(word + 1), float(values[word]), strengths[word], kept=bool(kept[word])
        )
        for word in range(first, behind)
    )
    return _picture(
        words,
        f"{len(values)} words by number, without the text; {int(kept.sum())} are kept.",
        target,
        _excerpt(first, behind, len(values)),
    )


def _part(values: Values) -> tuple[int, int]:
    """Return which words are shown: all, or those in a row that matter most."""
    if len(values) <= MOST_SHOWN:
        return 0, len(values)
    sums = np.concatenate([[0.0], np.cumsum(np.abs(values, dtype=np.float64))])
    first = int(np.argmax(sums[MOST_SHOWN:] - sums[:-MOST_SHOWN]))
    return first, first + MOST_SHOWN


def _strengths(values: Values) -> list[float]:
    """Return the values with 1 as the largest magnitude."""
    wide = np.nan_to_num(values.astype(np.float64))
    largest = np.abs(wide).max(initial=0.0)
    return [float(value) for value in (wide / largest if largest > 0 else wide)]


def _marked(shown: ShownText, first: int, behind: int) -> Iterator[str]:
    """Yield the words with their marks, and what stands between them."""
    strengths = _strengths(shown.values)
    start = shown.spans[first][0] if first else 0
    if first:
        yield "\u2026 "
    for word in range(first, behind):
        begin, end = shown.spans[word]
        yield escape(_printable(shown.text[start:begin]))
        yield _word(
            shown.text[begin:end],
            float(shown.values[word]),
            strengths[word],
            kept=bool(shown.kept[word]),
        )
        start = end
    if behind < len(shown.spans):
        yield " \u2026"
        return
    rest = _printable(shown.text[start:])
    if rest.strip():
        cut = rest[:_MOST_UNREAD] + ("\u2026" if len(rest) > _MOST_UNREAD else "")
        yield f'<span style="opacity:.55">{escape(cut)}</span>'


def _word(letters: str, value: float, strength: float, *, kept: bool) -> str:
    styles = []
    if abs(strength) >= _FAINTEST:
        colour = _FOR if strength > 0 else _AGAINST
        styles.append(f"background:rgba({colour},{_STRONGEST * abs(strength):.2f})")
        if strength < 0:
            styles.append(_DASHES)
    if kept:
        styles.append(_FRAME)
    shown = escape(_printable(letters))
    if not styles:
        return shown
    return f'<span style="{";".join(styles)}" title="{value:+.3g}">{shown}</span>'


def _picture(marked: str, description: str, target: str, note: str) -> Picture:
    """Return the marked words with their legend below."""
    legend = " &nbsp; ".join(
        (
            _word(f"for {target or 'the class'}", 1.0, 0.8, kept=False),
            _word("against", -1.0, -0.8, kept=False),
            _word("kept", 0.0, 0.0, kept=True),
        )
    )
    said = f" &nbsp; {escape(note)}" if note else ""
    return Picture(
        title="Words",
        description=_printable(description),
        fragment=(
            '<p dir="auto" style="white-space:pre-wrap;overflow-wrap:anywhere;'
            f'line-height:1.8;margin:0">{marked}</p>'
            f'<p style="font-size:.8em;margin:.6em 0 0">{legend}{said}</p>'
        ),
    )


def _excerpt(first: int, behind: int, count: int) -> str:
    if behind - first == count:
        return ""
    return f"Words {first + 1} to {behind} of {count}: those in a row that matter most."


def _printable(text: str) -> str:
    """Return the text with a sign in place of what no page can hold."""
    return "".join(
        char if char in "\n\t" or char.isprintable() or char.isspace() else "\ufffd"
        for char in text
    )
