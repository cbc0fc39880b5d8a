# SPDX-License-Identifier: Apache-2.0
"""A small BERT whose head reads the mean over tokens: the shape of MiniLM-L6.

It needs nothing but torch. Without arguments it has the sizes of all-MiniLM-L6-v2
(extra `text-demo` brings those weights, `examples/texts` trains a head on them).

Sources: Devlin et al. 2019, "BERT", section 3; Wang et al. 2020, "MiniLM"; Reimers and
Gurevych 2019, "Sentence-BERT", section 3 (the mean over tokens).
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.architecture import Architecture

_EPSILON = 1e-12


class _Block(nn.Module):
    """Attention among all tokens, then a layer for each, normalised behind each."""

    def __init__(self, hidden: int, heads: int, inner: int) -> None:
        super().__init__()
        self._heads = heads
        self.query = nn.Linear(hidden, hidden)
        self.key = nn.Linear(hidden, hidden)
        self.value = nn.Linear(hidden, hidden)
        self.mixed = nn.Linear(hidden, hidden)
        self.mixed_norm = nn.LayerNorm(hidden, eps=_EPSILON)
        self.wide = nn.Linear(hidden, inner)
        self.narrow = nn.Linear(inner, hidden)
        self.narrow_norm = nn.LayerNorm(hidden, eps=_EPSILON)

    def forward(self, states: Tensor, mask: Tensor) -> Tensor:
        """Return the states behind the block, (R, L, hidden)."""
        read = functional.scaled_dot_product_attention(
            self._split(self.query(states)),
            self._split(self.key(states)),
            self._split(self.value(states)),
            attn_mask=mask,
        )
        merged = read.transpose(1, 2).flatten(2)
        states = self.mixed_norm(states + self.mixed(merged))
        widened = functional.gelu(self.wide(states))
        normalised: Tensor = self.narrow_norm(states + self.narrow(widened))
        return normalised

    def _split(self, states: Tensor) -> Tensor:
        """Return the heads on an axis of their own: (R, H, L, d)."""
        rows, length, hidden = states.shape
        apart = states.view(rows, length, self._heads, hidden // self._heads)
        return apart.transpose(1, 2)


class MiniLm(nn.Module):
    """A classifier of texts.

    Attributes:
        max_tokens: Most tokens that it takes.
    """

    def __init__(
        self,
        classes: int = 2,
        *,
        vocabulary: int = 30522,
        positions: int = 512,
        hidden: int = 384,
        layers: int = 6,
        heads: int = 12,
        inner: int = 1536,
    ) -> None:
        super().__init__()
        if min(classes, vocabulary, positions, hidden, layers, heads, inner) < 1:
            raise ValueError("every size must be at least 1")
        if hidden % heads:
            raise ValueError(f"hidden {hidden} must be a multiple of heads {heads}")
        self.max_tokens = positions
        self.words = nn.Embedding(vocabulary, hidden)
        self.places = nn.Embedding(positions, hidden)
        #: Of two segments, of which a text that stands alone is the first.
        self.segments = nn.Embedding(2, hidden)
        self.norm = nn.LayerNorm(hidden, eps=_EPSILON)
        self.blocks = nn.ModuleList(_Block(hidden, heads, inner) for _ in range(layers))
        self.head = nn.Linear(hidden, classes)

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the embedding of the tokens."""
        return self.words

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the logits.

        Shape: input_ids (R, L) int64, attention_mask (R, 1, L, L) bool -> (R, K).
        """
        logits: Tensor = self.head(self.embedded(input_ids, attention_mask))
        return logits

    def embedded(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return the mean over each text's tokens, (R, hidden)."""
        places = self.places.weight[: input_ids.shape[1]]
        states = self.norm(self.words(input_ids) + places + self.segments.weight[0])
        for block in self.blocks:
            states = block(states, attention_mask)
        seen = attention_mask[:, 0, 0, :, None].to(states.dtype)
        total: Tensor = (states * seen).sum(dim=1)
        return total / seen.sum(dim=1).clamp(min=torch.finfo(states.dtype).tiny)


#: The tensors of a block by their names here, and where BERT keeps them.
_OF_BERT = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "mixed": "attention.output.dense",
    "mixed_norm": "attention.output.LayerNorm",
    "wide": "intermediate.dense",
    "narrow": "output.dense",
    "narrow_norm": "output.LayerNorm",
}


def from_bert(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a BERT encoder, as transformers names them, by our names.

    The head is not among them, and neither is what BERT has behind its last block.
    """
    found = {
        "words.weight": state["embeddings.word_embeddings.weight"],
        "places.weight": state["embeddings.position_embeddings.weight"],
        "segments.weight": state["embeddings.token_type_embeddings.weight"],
    }
    parts = {"norm": "embeddings.LayerNorm"}
    number = 0
    while f"encoder.layer.{number}.output.dense.weight" in state:
        parts |= {
            f"blocks.{number}.{own}": f"encoder.layer.{number}.{theirs}"
            for own, theirs in _OF_BERT.items()
        }
        number += 1
    for own, theirs in parts.items():
        for kind in ("weight", "bias"):
            found[f"{own}.{kind}"] = state[f"{theirs}.{kind}"]
    return found


architecture = Architecture(build=MiniLm)
