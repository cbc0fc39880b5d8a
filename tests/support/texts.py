# SPDX-License-Identifier: Apache-2.0
"""Small networks of texts with seeded weights, and texts made of numbers."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from explain.text.content import NO_WORD, TextTokens, Window
from explain.text.network import TextNetwork, TokenRules

#: Tokens that stand around a text, and those with rules.
FIRST, LAST, PAD, MASK = 2, 3, 0, 4
VOCABULARY = 60
LIMIT = 64
RULES = TokenRules(limit=LIMIT, padding=PAD, baseline=MASK)
FAMILIES = ("bert", "roberta", "distilbert", "minilm")


def classifier(family: str, *, classes: int = 3, layers: int = 2) -> nn.Module:
    """Return a small classifier of the family, its weights large enough to matter."""
    torch.manual_seed(7)
    model = _built(family, classes, layers).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1 and "embed" not in name.lower():
                parameter.mul_(6.0 if family != "minilm" else 2.0)
    return model


def _built(family: str, classes: int, layers: int) -> nn.Module:
    if family == "minilm":
        from pipeline.models.minilm import MiniLm

        return MiniLm(
            classes,
            vocabulary=VOCABULARY,
            positions=LIMIT,
            hidden=24,
            layers=layers,
            heads=3,
            inner=32,
        )
    import transformers

    sizes = {"vocab_size": VOCABULARY, "num_labels": classes, "pad_token_id": PAD}
    if family == "distilbert":
        return transformers.DistilBertForSequenceClassification(
            transformers.DistilBertConfig(
                dim=24,
                hidden_dim=32,
                n_layers=layers,
                n_heads=3,
                max_position_embeddings=LIMIT,
                **sizes,
            )
        )
    configs = {
        "bert": (transformers.BertConfig, transformers.BertForSequenceClassification),
        "roberta": (
            transformers.RobertaConfig,
            transformers.RobertaForSequenceClassification,
        ),
    }
    of_config, of_network = configs[family]
    return of_network(
        of_config(
            hidden_size=24,
            intermediate_size=32,
            num_hidden_layers=layers,
            num_attention_heads=3,
            max_position_embeddings=LIMIT + 1,
            **sizes,
        )
    )


def text_of(
    words: Sequence[int], *, seed: int = 0, per_sentence: int = 5
) -> TextTokens:
    """Return a text of one window whose words have so many tokens each."""
    generator = np.random.default_rng([seed, *words])
    tokens = generator.integers(5, VOCABULARY, sum(words))
    of_word = np.repeat(np.arange(len(words)), words)
    return TextTokens(
        (surrounded(tokens, of_word),), np.arange(len(words)) // per_sentence
    )


def surrounded(tokens: np.ndarray, words: np.ndarray) -> Window:
    """Return a window: the tokens between the special ones."""
    return Window(
        np.concatenate([[FIRST], tokens, [LAST]]).astype(np.int64),
        np.concatenate([[NO_WORD], words, [NO_WORD]]).astype(np.int64),
    )


def some_texts() -> list[TextTokens]:
    """Return texts of several lengths, some words of several tokens."""
    return [
        text_of([1, 2, 1], seed=1),
        text_of([1] * 12 + [3, 1], seed=2),
        text_of([2, 1, 1, 4, 1, 1, 2, 1, 1, 1, 5, 1], seed=3),
        text_of([1], seed=4),
        text_of([1, 1, 3, 1, 1, 1] * 5, seed=5),
    ]


def network_over(
    model: nn.Module, texts: Sequence[TextTokens], rules: TokenRules = RULES
) -> TextNetwork:
    """Return the network over the texts."""
    return TextNetwork(model, texts, rules)
