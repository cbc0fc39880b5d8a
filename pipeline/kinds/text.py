# SPDX-License-Identifier: Apache-2.0
"""Texts: read by the network's tokenizer, explained and shown by word."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from explain.parameters import resolved
from explain.text.content import TextTokens
from pipeline.errors import ItemError, ModelError, Reason, SpecError
from pipeline.kinds.card import KindCard
from pipeline.kinds.kind import UnitMap
from pipeline.kinds.text_card import TEXT_CARD
from pipeline.kinds.text_marks import marked_words
from pipeline.kinds.text_picture import ShownText, drawn_text, drawn_words
from pipeline.kinds.text_tokens import Span, TextTokenizer
from pipeline.kinds.text_windows import sentences_of, windows_of
from pipeline.records import Record
from pipeline.reports.inputs import Picture
from pipeline.spec import AuditSpec

if TYPE_CHECKING:
    from torch import nn

    from explain.gates import Content, GatedNetwork, Units

#: Networks often have rows for tokens that do not exist, up to such a multiple.
_ROUNDED_UP_TO = 128


@dataclass(frozen=True, slots=True, eq=False)
class TextContent:
    """One decoded text.

    Attributes:
        text: As it was read.
        spans: Where each word lies in it.
        tokens: As the network reads it.
        known: (W,) bool, whether the tokenizer knows any token of each word.
    """

    text: str
    spans: tuple[Span, ...]
    tokens: TextTokens
    known: npt.NDArray[np.bool_]

    @property
    def units(self) -> "Units":
        """One row of words."""
        return self.tokens.units


class TextKind:
    """Texts of one audit.

    A mask of a row is a list of spans, [[start, end], ...] in characters of the text:
    a word that touches one is marked.
    """

    def __init__(
        self,
        tokenizer: TextTokenizer,
        *,
        column: str | None,
        mask: str | None,
        options: dict[str, Any],
    ) -> None:
        self._tokenizer = tokenizer
        self._column = column
        self._mask = mask
        self._options = options
        self._baseline = (
            tokenizer.padding if options["baseline"] == "pad" else tokenizer.masked
        )

    @classmethod
    def open(cls, spec: AuditSpec) -> "TextKind":
        """Return the kind, the spec's tokenizer read.

        Args:
            spec: With absolute paths.

        Raises:
            SpecError: no tokenizer is named, or its package is not installed.
            ModelError: the tokenizer cannot be used.
        """
        if spec.model.tokenizer is None:
            raise SpecError(
                "data.kind: text needs model.tokenizer, the path of the network's"
                " tokenizer.json."
            )
        columns = spec.data.columns
        return cls(
            TextTokenizer.read(Path(spec.model.tokenizer)),
            column=columns.text,
            mask=columns.mask,
            options=resolved("kind 'text'", TEXT_CARD.options, spec.data.options),
        )

    @property
    def card(self) -> KindCard:
        """What audits say about texts."""
        return TEXT_CARD

    def decode(self, record: Record) -> TextContent:
        """Return the text as tokens and words.

        Raises:
            ItemError: `not_a_text`, `text_empty`, `text_unknown`, `text_too_long`, or
                `row_unreadable` where the column is missing.
        """
        text = self._text(record)
        found = self._tokenizer.tokenised(text)
        windows, words = windows_of(
            found,
            self._tokenizer,
            long=self._options["long"],
            limit=self._options["limit"],
            overlap=self._options["overlap"],
        )
        spans = found.spans[:words]
        tokens = TextTokens(windows, sentences_of(text, spans))
        return TextContent(text, spans, tokens, found.known[:words])

    def truth(self, record: Record, content: "Content") -> npt.NDArray[np.bool_] | None:
        """Return which words touch a marked span, (1, W).

        Raises:
            ItemError: `mask_unreadable`, or `mask_size_mismatch` of a span that is not
                in the text.
        """
        if self._mask is None or record.rows is None:
            return None
        text = _own(content)
        cell = record.rows[0].get(self._mask)
        return marked_words(cell, text.text, text.spans)

    def axis_labels(self, content: "Content") -> tuple[str, ...]:  # noqa: ARG002 - words are the item's own
        """Return nothing: a word's name would be the text itself."""
        return ()

    def check(self, model: "nn.Module") -> None:
        """Nothing happens if the network knows the tokenizer's tokens and the limit.

        Raises:
            ModelError: it does not.
        """
        from explain.text.network import embedding_of  # noqa: PLC0415 - torch

        size, rows = self._tokenizer.size, len(embedding_of(model).weight)
        if not size <= rows <= -(-size // _ROUNDED_UP_TO) * _ROUNDED_UP_TO:
            raise ModelError(
                f"The tokenizer has {size} tokens, but the network has embeddings of"
                f" {rows}; model.tokenizer must be the one that the network was trained"
                " with."
            )
        most = _most_tokens(model)
        if most is not None and self._options["limit"] > most:
            raise ModelError(
                f"The network reads {most} tokens at most, but data.options.limit is"
                f" {self._options['limit']}; set it to {most}."
            )

    def gated(
        self, model: "nn.Module", contents: "Sequence[Content]"
    ) -> "GatedNetwork":
        """Return the network that sees these texts through the gates of their words."""
        from explain.text.network import TextNetwork, TokenRules  # noqa: PLC0415

        rules = TokenRules(
            limit=self._options["limit"],
            padding=self._tokenizer.padding,
            baseline=self._baseline,
        )
        return TextNetwork(model, [_own(each).tokens for each in contents], rules)

    def draw(self, unit_map: UnitMap, record: Record | None) -> list[Picture]:
        """Return the text with its words marked, or the words' marks without it."""
        values, kept = unit_map.values[0], unit_map.mask[0]
        if record is not None:
            try:
                content = self.decode(record)
            except ItemError:
                return []
            if len(content.spans) == len(values):
                shown = ShownText(content.text, content.spans, values, kept)
                return [drawn_text(shown, unit_map.target)]
        return [drawn_words(values, kept, unit_map.target)]

    def _text(self, record: Record) -> str:
        if record.rows is None:
            try:
                text: Any = record.data.decode("utf-8-sig")
            except UnicodeDecodeError as exc:
                raise ItemError(Reason.NOT_A_TEXT) from exc
        else:
            column = self._column or "text"
            if column not in record.rows[0]:
                raise ItemError(Reason.ROW_UNREADABLE)
            text = record.rows[0][column]
            if text is None:
                # A CSV has no other way to say that a text is empty.
                raise ItemError(Reason.TEXT_EMPTY)
        if not isinstance(text, str):
            raise ItemError(Reason.NOT_A_TEXT)
        if not text.strip():
            raise ItemError(Reason.TEXT_EMPTY)
        return text


def _own(content: "Content") -> TextContent:
    if not isinstance(content, TextContent):
        raise TypeError(f"expected a text, got {type(content).__name__}")
    return content


def _most_tokens(model: "nn.Module") -> int | None:
    """Return how many tokens a network has positions for, None where unknown."""
    own = getattr(model, "max_tokens", None)
    if isinstance(own, int):
        return own
    config = getattr(model, "config", None)
    positions = getattr(config, "max_position_embeddings", None)
    if not isinstance(positions, int):
        return None
    # RoBERTa counts positions from behind that of padding.
    counted_from = getattr(config, "pad_token_id", None) or 0
    roberta = getattr(config, "model_type", "") == "roberta"
    return positions - (counted_from + 1 if roberta else 0)
