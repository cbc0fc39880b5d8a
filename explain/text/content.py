# SPDX-License-Identifier: Apache-2.0
"""One text as numbers: its tokens, and which word each of them belongs to."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from explain.errors import InvalidInputError

if TYPE_CHECKING:
    from explain.gates import Units

#: The word of a token that belongs to none: special tokens and padding.
NO_WORD = -1

Whole = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Tokens that the network sees at once.

    Attributes:
        tokens: (L,) int64, with the special tokens that the network expects.
        words: (L,) int64, the word of each token, ``NO_WORD`` of special tokens.
    """

    tokens: Whole
    words: Whole

    def __post_init__(self) -> None:
        """Refuse a window without tokens, or with another number of words' indices."""
        if self.tokens.ndim != 1 or self.tokens.shape != self.words.shape:
            raise InvalidInputError(
                f"Expected a word for each token, got {self.tokens.shape} tokens and"
                f" {self.words.shape} words."
            )
        if not len(self.tokens):
            raise InvalidInputError("Expected at least one token in a window.")


@dataclass(frozen=True, slots=True, eq=False)
class TextTokens:
    """One text as the network reads it.

    A text that is longer than the network's limit is seen through several windows,
    whose logits are averaged; a word that lies in two of them has one gate.

    Attributes:
        windows: At least one; every word lies in one at least.
        sentences: (W,) int64, the sentence of each word, in rising order from 0.
    """

    windows: tuple[Window, ...]
    sentences: Whole

    def __post_init__(self) -> None:
        """Refuse what is no text: no words, words of no window, unknown words."""
        if not len(self.sentences) or not self.windows:
            raise InvalidInputError("Expected a text of at least one word.")
        words = np.concatenate([window.words for window in self.windows])
        seen = np.unique(words[words != NO_WORD])
        if not np.array_equal(seen, np.arange(len(self.sentences))):
            raise InvalidInputError(
                f"Expected the windows to hold the words 0 to"
                f" {len(self.sentences) - 1}, each at least once."
            )

    @property
    def units(self) -> "Units":
        """One row of words."""
        return (1, len(self.sentences))
