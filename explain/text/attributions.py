# SPDX-License-Identifier: Apache-2.0
"""What the methods of texts share: their network, and their maps as attributions."""

from torch import Tensor, nn

from explain.errors import InvalidInputError
from explain.methods.input_forward import like_targets, spoiled
from explain.methods.method import Attribution
from explain.text.network import TextNetwork


def required(model: nn.Module) -> TextNetwork:
    """Return the model, refusing what is not a network over texts.

    Raises:
        InvalidInputError: it is something else.
    """
    if not isinstance(model, TextNetwork):
        raise InvalidInputError(
            f"Expected a network over texts, got {type(model).__name__}; this method"
            f" explains items of kind text only."
        )
    return model


def of_words(
    logits: Tensor,
    classes: Tensor,
    maps: Tensor,
    blank: Tensor,
    *,
    halved: bool = False,
) -> Attribution:
    """Return maps of words as an attribution, NaN where a logit is not finite.

    Shape: logits (N, K), classes (N,) or (N, T), maps (N, T, W), blank (N, T) bool.
    """
    logits = logits.detach().float()
    fields = spoiled(maps.float()[:, :, None, :], logits, classes)
    return Attribution(
        logits=logits,
        targets=classes,
        maps=like_targets(fields, classes),
        zero_gradient=like_targets(blank, classes),
        halved=halved,
    )
