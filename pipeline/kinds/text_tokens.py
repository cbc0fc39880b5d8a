# SPDX-License-Identifier: Apache-2.0
"""From a text to tokens and words, by the network's own tokenizer.

A word is what the tokenizer splits a text into before it looks for tokens: at white
space and punctuation for BERT and DistilBERT, as GPT-2 splits for RoBERTa. Where it
splits nothing, words are what white space parts. Special tokens belong to no word, and
neither do tokens of white space.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from explain.text.content import NO_WORD
from pipeline.errors import ItemError, ModelError, Reason, SpecError

Whole = npt.NDArray[np.int64]
#: Start and end of a word, in characters of the text.
Span = tuple[int, int]

_PADDING = ("[PAD]", "<pad>")
_MASKS = ("[MASK]", "<mask>")
_UNKNOWN = ("[UNK]", "<unk>")
_MOST_BYTES = 64_000_000


@dataclass(frozen=True, slots=True, eq=False)
class Tokenised:
    """A text as tokens, without the special ones around it.

    Attributes:
        tokens: (L,) int64.
        words: (L,) int64, the word of each token, ``NO_WORD`` of those without.
        spans: Where each word lies in the text.
        known: (W,) bool, whether the tokenizer knows any token of each word.
    """

    tokens: Whole
    words: Whole
    spans: tuple[Span, ...]
    known: npt.NDArray[np.bool_]


class TextTokenizer:
    """A tokenizer.json, read.

    Attributes:
        size: How many tokens it knows: the largest number and one.
        before, behind: The special tokens around a text.
        padding: The token of padding.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Take the tokenizer of the package tokenizers.

        Raises:
            ModelError: it has no token of padding.
        """
        tokenizer.no_truncation()
        tokenizer.no_padding()
        self._tokenizer = tokenizer
        self.size = max(tokenizer.get_vocab(with_added_tokens=True).values()) + 1
        self.padding = self._named(_PADDING, "padding")
        unknown = [tokenizer.token_to_id(name) for name in _UNKNOWN]
        self._unknown = [number for number in unknown if number is not None]
        self._special = [
            number
            for number, token in tokenizer.get_added_tokens_decoder().items()
            if token.special and number not in self._unknown
        ]
        self.before, self.behind = self._around()

    @classmethod
    def read(cls, path: Path) -> "TextTokenizer":
        """Return the tokenizer of a file.

        Raises:
            SpecError: the package tokenizers is not installed.
            ModelError: the file is no tokenizer.json.
        """
        try:
            from tokenizers import Tokenizer  # noqa: PLC0415 - an extra
        except ModuleNotFoundError as exc:
            raise SpecError(
                "data.kind: text needs the package tokenizers, which is not installed;"
                " install it with: pip install 'affidavit[text]'."
            ) from exc
        try:
            content = path.read_bytes()
        except OSError as exc:
            raise ModelError(
                f"The tokenizer {path} cannot be read ({exc.strerror}); check"
                " model.tokenizer."
            ) from exc
        try:
            if len(content) > _MOST_BYTES:
                raise ValueError("too large")  # noqa: TRY301 - as any other damage
            return cls(Tokenizer.from_str(content.decode("utf-8")))
        except ModelError:
            raise
        except Exception as exc:
            # The package raises plain exceptions for whatever is wrong with a file.
            raise ModelError(
                f"The tokenizer {path} cannot be used; model.tokenizer must name a"
                " tokenizer.json, as the package tokenizers saves it."
            ) from exc

    @property
    def masked(self) -> int:
        """The token that stands for a masked word.

        Raises:
            ModelError: there is none.
        """
        return self._named(_MASKS, "a masked word")

    def tokenised(self, text: str) -> Tokenised:
        """Return the text as tokens and words.

        Raises:
            ItemError: `text_empty`, or `text_unknown` where no token is known.
        """
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        tokens = np.array(encoding.ids, np.int64)
        parts = self._parts(encoding, text)
        spans: list[Span] = []
        words = np.full(len(tokens), NO_WORD, np.int64)
        last: int | None = None
        for place, part in enumerate(parts):
            start, stop = _trimmed(text, *encoding.offsets[place])
            if part is None or start == stop or tokens[place] in self._special:
                last = None
                continue
            if part == last:
                spans[-1] = (spans[-1][0], max(spans[-1][1], stop))
            else:
                spans.append((start, stop))
            last = part
            words[place] = len(spans) - 1
        if not spans:
            raise ItemError(Reason.TEXT_EMPTY)
        known = np.zeros(len(spans), np.bool_)
        known[words[(words != NO_WORD) & ~np.isin(tokens, self._unknown)]] = True
        if not known.any():
            raise ItemError(Reason.TEXT_UNKNOWN)
        return Tokenised(tokens, words, tuple(spans), known)

    def _parts(self, encoding: Any, text: str) -> list[int | None]:
        """Return which part of the text each token is of, None of no part."""
        if self._tokenizer.pre_tokenizer is not None:
            return list(encoding.word_ids)
        spaces = np.array([True, *(char.isspace() for char in text)])
        parts = np.cumsum(spaces[:-1] & ~spaces[1:])
        found: list[int | None] = []
        for start, stop in encoding.offsets:
            first = _trimmed(text, start, stop)[0]
            found.append(int(parts[first]) if first < len(text) else None)
        return found

    def _around(self) -> tuple[Whole, Whole]:
        """Return the special tokens before and behind a text."""
        # Any text will do, as long as the tokenizer makes something of it.
        plain = self._tokenizer.encode("a", add_special_tokens=False).ids
        whole = self._tokenizer.encode("a", add_special_tokens=True).ids
        for start in range(len(whole) - len(plain) + 1):
            if whole[start : start + len(plain)] == plain:
                return (
                    np.array(whole[:start], np.int64),
                    np.array(whole[start + len(plain) :], np.int64),
                )
        raise ModelError("The tokenizer changes a text when it adds special tokens.")

    def _named(self, names: tuple[str, ...], what: str) -> int:
        for name in names:
            number = self._tokenizer.token_to_id(name)
            if number is not None:
                return int(number)
        raise ModelError(
            f"The tokenizer has no token for {what} ({' or '.join(names)}); it does not"
            " fit a network of this kind."
        )


def _trimmed(text: str, start: int, stop: int) -> Span:
    """Return the span without white space at its ends."""
    while start < stop and text[start].isspace():
        start += 1
    while stop > start and text[stop - 1].isspace():
        stop -= 1
    return start, stop
