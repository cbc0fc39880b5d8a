# SPDX-License-Identifier: Apache-2.0
"""Attention of texts: equal to slow oracles, summed by word, never at padding."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from explain.errors import (
    InvalidInputError,
    InvalidTargetError,
    UnsupportedModelError,
)
from explain.frozen import frozen
from explain.methods import create_method
from explain.methods.method import Attribution
from explain.text.attention import attention_pass
from explain.text.cards import TEXT_CARDS
from explain.text.content import NO_WORD, TextTokens
from explain.text.generic_attention import TextGenericAttention
from explain.text.network import TextNetwork
from explain.text.rollout import TextRollout
from tests.support.texts import (
    FAMILIES,
    classifier,
    network_over,
    some_texts,
    surrounded,
    text_of,
)

METHODS = {"rollout": TextRollout, "generic": TextGenericAttention}


def explained(
    name: str, network: TextNetwork, targets: Tensor | None = None
) -> Attribution:
    """Return the method's attribution of all texts."""
    return METHODS[name](network).explain(network.open_gates(), targets)


def eager_attention(
    model: nn.Module, tokens: np.ndarray, target: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Return weights and gradients of attention, written out by hand in float64."""
    model = model.double()
    model.set_attn_implementation("eager")
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    ids = torch.from_numpy(tokens)[None]
    found = model(input_ids=ids, output_attentions=True)
    slopes = torch.autograd.grad(found.logits[0, target], found.attentions)
    return [w[0].detach() for w in found.attentions], [s[0] for s in slopes]


def by_hand(row: Tensor, words: np.ndarray, count: int) -> Tensor:
    """Return the row's numbers summed by word, one token after the other."""
    sums = torch.zeros(count, dtype=torch.float64)
    for place, word in enumerate(words):
        if word != NO_WORD:
            sums[word] += row[place]
    return sums


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_rollout_is_the_product_of_all_blocks(family: str) -> None:
    """The map is the first token's row of the whole product, summed by word."""
    texts = some_texts()
    found = explained("rollout", network_over(classifier(family), texts)).maps
    for item, text in enumerate(texts):
        window = text.windows[0]
        weights, _slopes = eager_attention(classifier(family), window.tokens, 0)
        rollout = torch.eye(len(window.tokens), dtype=torch.float64)
        for block in weights:
            mean = block.mean(dim=0)
            rollout = (mean + torch.eye(len(mean), dtype=mean.dtype)) / 2 @ rollout
        assert torch.allclose(rollout.sum(dim=1), torch.ones(len(rollout)).double())
        expected = by_hand(rollout[0], window.words, text.units[1])
        own = found[item, 0, : text.units[1]].double()
        assert torch.allclose(own, expected, atol=1e-5)
        assert not found[item, 0, text.units[1] :].any()


@pytest.mark.parametrize("family", ["bert", "roberta", "distilbert"])
def test_generic_attention_is_the_papers_whole_matrix(family: str) -> None:
    """The map is the first token's row of R - I, built from the first block up."""
    texts = some_texts()
    targets = torch.tensor([2, 0, 1, 1, 2])
    network = network_over(classifier(family), texts)
    found = explained("generic", network, targets).maps
    for item, text in enumerate(texts):
        window = text.windows[0]
        weights, slopes = eager_attention(
            classifier(family), window.tokens, int(targets[item])
        )
        eye = torch.eye(len(window.tokens), dtype=torch.float64)
        relevant = eye
        for block, slope in zip(weights, slopes, strict=True):
            mean = (block * slope).clamp(min=0).mean(dim=0)
            relevant = relevant + mean @ relevant
        expected = by_hand((relevant - eye)[0], window.words, text.units[1])
        own = found[item, 0, : text.units[1]].double()
        assert torch.allclose(own, expected, atol=1e-4 * float(expected.max()))
        assert not found[item, 0, text.units[1] :].any()


class TwoTokens(nn.Module):
    """One head of attention whose weights are known, read by the mean of tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(60, 1)
        self.words.weight.data = torch.arange(60.0)[:, None]

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the embedding."""
        return self.words

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (mean of mixed values, its negative)."""
        values = self.words(input_ids)[:, None]
        scores = values @ values.transpose(2, 3) * 0.1
        scores = scores.masked_fill(~attention_mask, -torch.inf)
        mixed = (functional.softmax(scores, dim=-1) @ values)[:, 0, :, 0]
        seen = attention_mask[:, 0, 0].float()
        mean = (mixed * seen).sum(dim=1) / seen.sum(dim=1)
        return torch.stack([mean, -mean], dim=1)


def two_words() -> TextTokens:
    """Return a text of the tokens 5 and 10, without special tokens."""
    from explain.text.content import Window

    window = Window(np.array([5, 10]), np.array([0, 1]))
    return TextTokens((window,), np.zeros(2, np.int64))


def test_attention_of_two_tokens_by_hand() -> None:
    """Rollout and generic attention of a softmax written out, with a pencil."""
    network = network_over(TwoTokens(), [two_words()])
    # Scores 0.1 * [[25, 50], [50, 100]]: the first token gives sigmoid(-2.5) to itself.
    first, second = 1 / (1 + np.exp(2.5)), 1 / (1 + np.exp(5.0))
    rollout = explained("rollout", network).maps[0, 0]
    own = (1 + first + second) / 4
    assert rollout.tolist() == pytest.approx([own, 1 - own], abs=1e-6)
    # dy/dA[i, j] = value[j] / 2: mean row of ReLU(A * slope).
    generic = explained("generic", network, torch.tensor([0])).maps[0, 0]
    expected = [
        (first + second) / 2 * 2.5,
        ((1 - first) + (1 - second)) / 2 * 5.0,
    ]
    assert generic.tolist() == pytest.approx(expected, rel=1e-5)
    # Of the negated score every product is negative, so nothing speaks for it.
    against = explained("generic", network, torch.tensor([1]))
    assert not against.maps.any()


def test_a_network_without_attention_to_tell_has_a_uniform_rollout() -> None:
    """Equal tokens attend equally, so a mean over them reads each alike."""
    from explain.text.content import Window

    window = Window(np.full(4, 7), np.arange(4))
    network = network_over(TwoTokens(), [TextTokens((window,), np.zeros(4, np.int64))])
    rollout = explained("rollout", network).maps[0, 0]
    assert rollout.tolist() == pytest.approx([0.25] * 4)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_head_reads_the_first_token_or_all_of_them(family: str) -> None:
    """Who reads is seen from the gradient: a class token, or the mean over tokens."""
    network = network_over(classifier(family), [text_of([1, 1, 1])])
    with frozen(network):
        (rows,) = network.passes(network.open_gates())
        seen = attention_pass(network, rows, network.open_gates())
        readers = seen.readers(seen.slopes(seen.logits[:, 0].sum())[-1])[0, 0]
    if family == "minilm":
        assert readers[:5].tolist() == pytest.approx([0.2] * 5)
    else:
        assert readers[:5].tolist() == [1.0, 0.0, 0.0, 0.0, 0.0]
    assert not readers[5:].any()


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_map_has_the_same_bits_in_any_batch(name: str, family: str) -> None:
    """Neither padding nor neighbours touch a text's map."""
    network = network_over(classifier(family), some_texts())
    together = explained(name, network)
    for item, text in enumerate(network.texts):
        alone = explained(name, network.only(item))
        words = text.units[1]
        assert torch.equal(alone.maps[0, 0], together.maps[item, 0, :words])
        assert torch.equal(alone.logits[0], together.logits[item])


@pytest.mark.parametrize("name", METHODS)
def test_several_targets_share_the_forward_pass(name: str) -> None:
    """A row of targets gives the maps that each target has alone."""
    network = network_over(classifier("distilbert"), some_texts()[:2])
    both = explained(name, network, torch.tensor([[0, 2], [1, 0]]))
    assert both.maps.shape == (2, 2, *network.field)
    for column in range(2):
        one = explained(name, network, both.targets[:, column])
        assert torch.equal(one.maps, both.maps[:, column])


def test_generic_attention_differs_between_classes_and_rollout_does_not() -> None:
    """The class plays a part in one of them only."""
    network = network_over(classifier("distilbert"), some_texts()[1:3])
    for name, differs in (("generic", True), ("rollout", False)):
        maps = explained(name, network, torch.tensor([[0, 1], [0, 1]])).maps
        assert bool((maps[:, 0] != maps[:, 1]).any()) is differs


@pytest.mark.parametrize("name", METHODS)
def test_windows_of_a_text_are_averaged(name: str) -> None:
    """The map of a text in two windows is the mean of the windows' own maps."""
    model = classifier("distilbert")
    tokens, words = np.arange(10, 22), np.arange(12)
    halves = (surrounded(tokens[:8], words[:8]), surrounded(tokens[5:], words[5:]))
    text = TextTokens(halves, np.zeros(12, np.int64))
    target = torch.tensor([1])
    found = explained(name, network_over(model, [text]), target).maps[0, 0]
    expected = torch.zeros(12)
    for start, stop in ((0, 8), (5, 12)):
        own = surrounded(tokens[start:stop], np.arange(stop - start))
        part = TextTokens((own,), np.zeros(stop - start, np.int64))
        maps = explained(name, network_over(model, [part]), target).maps[0, 0]
        expected[start:stop] += maps / 2
    assert torch.allclose(found, expected, atol=1e-6)


def test_methods_of_texts_are_created_by_name() -> None:
    """What the cards of texts describe can be created for a network over texts."""
    network = network_over(classifier("minilm"), some_texts()[:1])
    for card in TEXT_CARDS:
        assert create_method(card.name, network).name == card.name
        assert card.kinds == ("text",)


@pytest.mark.parametrize("name", METHODS)
def test_a_network_is_given_back_as_it_was(name: str) -> None:
    """Modes, gradients and hooks are as before, also after an error."""
    model = classifier("distilbert").train()
    network = network_over(model, some_texts()[:2])
    for targets in (None, torch.tensor([0, 9])):
        if targets is None:
            explained(name, network)
        else:
            with pytest.raises(InvalidTargetError):
                explained(name, network, targets)
        assert all(module.training for module in model.modules())
        assert all(p.requires_grad and p.grad is None for p in model.parameters())
        assert not model.get_input_embeddings()._forward_hooks


def test_without_attention_the_methods_say_what_to_take_instead() -> None:
    """A bag of words has no attention; a picture is no text."""

    class Bag(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(60, 2)

        def get_input_embeddings(self) -> nn.Embedding:
            return self.words

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:  # noqa: ARG002
            return self.words(input_ids).sum(dim=1)

    for name, method in METHODS.items():
        with pytest.raises(UnsupportedModelError, match="gradient_x_input"):
            explained(name, network_over(Bag(), [text_of([1])]))
        with pytest.raises(InvalidInputError, match="kind text"):
            method(nn.Linear(2, 2))
