# SPDX-License-Identifier: Apache-2.0
"""The card of texts. No torch, no tokenizer here."""

from explain.kinds import TEXT
from explain.parameters import Parameter
from pipeline.kinds.card import KindCard

TEXT_CARD = KindCard(
    name=TEXT,
    title="texts",
    map_kind="words",
    default_method="gradient_x_input",
    home=("pipeline.kinds.text", "TextKind"),
    options={
        "long": Parameter(
            meaning=(
                "what becomes of a text of more tokens than the limit: refuse, it fails"
                " with text_too_long; truncate, its beginning alone is read; chunk, it"
                " is read through several windows whose logits are averaged"
            ),
            default="refuse",
            choices=("refuse", "truncate", "chunk"),
        ),
        "limit": Parameter(
            meaning="most tokens that the network reads at once, special ones included",
            default=512,
            low=8,
            high=8192,
        ),
        "overlap": Parameter(
            meaning="share of a window's tokens that the next window reads again",
            default=0.25,
            low=0.0,
            high=0.75,
        ),
        "baseline": Parameter(
            meaning=(
                "the token whose embedding stands for a word that is gone: pad, that of"
                " padding; mask, that of the masked token"
            ),
            default="pad",
            choices=("pad", "mask"),
        ),
    },
    suffixes=(".txt",),
    column="text",
    files=("tokenizer",),
    baseline="the embedding of the padding token, or of the mask token",
)
