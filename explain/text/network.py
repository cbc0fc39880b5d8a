# SPDX-License-Identifier: Apache-2.0
"""A classifier of tokens that sees some texts through the gates of their words.

A gate scales the embeddings of its word's tokens between that of the baseline token
and their own; positions stay, and special tokens and padding have no gate:

    e(g) = b + g * (e - b)

A text in several windows has the mean of their logits.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from explain.errors import InvalidInputError, UnsupportedModelError
from explain.gates import GatedNetwork
from explain.text.content import NO_WORD, TextTokens
from explain.text.passes import Pass, grouped, in_order, passes
from explain.text.words import over_tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRules:
    """What must be known of a network and its tokenizer beside the weights.

    Attributes:
        limit: Most tokens that the network takes, special ones included.
        padding: The token that stands behind a window's own.
        baseline: The token whose embedding stands for an absent word.
    """

    limit: int
    padding: int
    baseline: int


class TextNetwork(GatedNetwork):
    """A user's network over some texts.

    The network is called with ``input_ids`` (R, L) int64 and ``attention_mask``
    (R, 1, L, L) bool, True where a token may look, and returns logits (R, K), or an
    object that has them as ``logits``; its ``get_input_embeddings`` returns the
    embedding of the tokens. Classifiers of the package transformers are like that.
    """

    def __init__(
        self,
        network: nn.Module,
        texts: Sequence[TextTokens],
        rules: TokenRules,
    ) -> None:
        super().__init__([text.units for text in texts])
        self.network = network
        self.texts = tuple(texts)
        self.rules = rules
        self._embedding = embedding_of(network)
        weight = self._embedding.weight
        self._refuse_strange_tokens(len(weight))
        self._groups = grouped(self.texts, rules.limit, rules.padding, weight.device)

    def _refuse_strange_tokens(self, known: int) -> None:
        for text in self.texts:
            for window in text.windows:
                if len(window.tokens) > self.rules.limit:
                    raise InvalidInputError(
                        f"Expected at most {self.rules.limit} tokens in a window, got"
                        f" {len(window.tokens)}."
                    )
                if window.tokens.min() < 0 or window.tokens.max() >= known:
                    raise InvalidInputError(
                        f"Expected tokens 0 to {known - 1}, those that the network"
                        f" has embeddings of; got {window.tokens.max()}."
                    )

    def only(self, item: int) -> "TextNetwork":
        """Return the network over that text alone; its numbers are the same there."""
        return TextNetwork(self.network, self.texts[item : item + 1], self.rules)

    def forward(self, gates: Tensor) -> Tensor:
        """Return the logits of the texts seen through the gates.

        Shape: gates (M, 1, 1, W), M a multiple of N -> (M, K).
        """
        rows, where = self._distinct(gates)
        logits = [self.run(each, rows) for each in self.passes(rows)]
        found = self.averaged(torch.cat(logits), len(rows))
        return found if where is None else found[where]

    def _distinct(self, gates: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the gates without repetitions, and where each row is among them.

        A curve of a hundred steps over a text of seven words asks eight questions; a
        row's logits are the same wherever it stands. With a graph, or over several
        texts, the gates are returned as they are.
        """
        if len(self.texts) > 1 or len(gates) == 1 or gates.requires_grad:
            return gates, None
        flat, where = torch.unique(gates.flatten(1), dim=0, return_inverse=True)
        return flat.reshape(-1, *gates.shape[1:]), where

    def passes(self, gates: Tensor) -> list[Pass]:
        """Return the passes that show the texts through the gates.

        Raises:
            InvalidInputError: the gates are not one field a copy of each text.
        """
        if gates.shape[1:] != (1, *self.field):
            raise InvalidInputError(
                f"Expected gates (M, 1, {self.field[0]}, {self.field[1]}), got"
                f" {tuple(gates.shape)}."
            )
        self.item_of_rows(len(gates))
        copies = len(gates) // len(self.texts)
        return list(passes(self._groups, copies))

    def run(self, each: Pass, gates: Tensor) -> Tensor:
        """Return the logits of a pass's rows that count, (used, K)."""
        return self.run_whole(each, gates)[: each.used]

    def run_whole(self, each: Pass, gates: Tensor) -> Tensor:
        """Return the logits of all rows of a pass, (R, K)."""
        length = each.tokens.shape[1]
        mask = each.seen[:, None, None, :].expand(-1, -1, length, -1)
        with self._gated(each, gates):
            found = self.network(input_ids=each.tokens, attention_mask=mask)
        return logits_of(found, len(each.tokens))

    def averaged(self, values: Tensor, rows: int) -> Tensor:
        """Return values of all passes' rows that count as means over windows.

        Shape: (rows of all windows, ...) -> (M, ...).
        """
        copies = rows // len(self.texts)
        ordered = values[in_order(self._groups, copies)]
        counts = [len(text.windows) for text in self.texts]
        if all(count == 1 for count in counts):
            return ordered
        parts = torch.split(ordered, [count * copies for count in counts])
        return torch.cat(
            [
                part.reshape(count, copies, *part.shape[1:]).mean(dim=0)
                for part, count in zip(parts, counts, strict=True)
            ]
        )

    @contextmanager
    def _gated(self, each: Pass, gates: Tensor) -> Iterator[None]:
        """Within, the network's embeddings of tokens are those seen through the gates.

        The hook is taken off again by whatever path.
        """
        weight = self._embedding.weight
        chosen = gates.reshape(len(gates), -1)[each.gates].to(weight.dtype)
        of_token = over_tokens(chosen, each.words)
        # A token without a word is what it is.
        of_token = torch.where(each.words == NO_WORD, 1.0, of_token)[:, :, None]

        def gate(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            # Exact at both ends, unlike b + g * (e - b).
            return torch.lerp(weight[self.rules.baseline], output, of_token)

        hook = self._embedding.register_forward_hook(gate)
        try:
            yield
        finally:
            hook.remove()


def embedding_of(network: nn.Module) -> nn.Embedding:
    """Return the network's embedding of tokens.

    Raises:
        UnsupportedModelError: it names none.
    """
    named = getattr(network, "get_input_embeddings", None)
    embedding = named() if callable(named) else None
    if not isinstance(embedding, nn.Embedding):
        raise UnsupportedModelError(
            "Expected a network of texts with a method get_input_embeddings() that"
            " returns the nn.Embedding of its tokens; use a classifier of the package"
            " transformers or add the method."
        )
    return embedding


def logits_of(found: Any, rows: int) -> Tensor:
    """Return the class logits in what a network of texts returned.

    Raises:
        UnsupportedModelError: there are none, one row a text.
    """
    logits = found if isinstance(found, Tensor) else getattr(found, "logits", None)
    if not isinstance(logits, Tensor) or logits.ndim != 2 or len(logits) != rows:
        raise UnsupportedModelError(
            "Expected class logits (R, K) from the network of texts, one row a text;"
            " it must be a classifier of whole texts, not of tokens."
        )
    return logits
