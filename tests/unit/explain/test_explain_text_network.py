# SPDX-License-Identifier: Apache-2.0
"""Texts behind gates: the network as it is, words that share a gate, no neighbours."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explain.errors import InvalidInputError, UnsupportedModelError
from explain.frozen import frozen
from explain.text.content import NO_WORD, TextTokens, Window
from explain.text.network import TextNetwork, TokenRules, embedding_of
from explain.text.passes import SHORTEST, padded_length
from explain.text.words import by_word, over_tokens
from tests.support.texts import (
    FAMILIES,
    LIMIT,
    MASK,
    PAD,
    RULES,
    VOCABULARY,
    classifier,
    network_over,
    some_texts,
    surrounded,
    text_of,
)


def plain_logits(model: nn.Module, tokens: np.ndarray) -> Tensor:
    """Return what the network says of tokens without any padding."""
    ids = torch.from_numpy(np.asarray(tokens, np.int64))[None]
    mask = torch.ones(1, 1, ids.shape[1], ids.shape[1], dtype=torch.bool)
    found = model(input_ids=ids, attention_mask=mask)
    return (found if isinstance(found, Tensor) else found.logits)[0]


@pytest.mark.parametrize("family", FAMILIES)
def test_open_gates_show_the_texts_as_they_are(family: str) -> None:
    """Behind open gates the network says of a text what it says of its tokens."""
    model, texts = classifier(family), some_texts()
    network = network_over(model, texts)
    with frozen(model), torch.no_grad():
        logits = network(network.open_gates())
        for text, row in zip(texts, logits, strict=True):
            expected = plain_logits(model, text.windows[0].tokens)
            assert torch.allclose(row, expected, atol=1e-5)
    assert float(logits.std(dim=0).min()) > 1e-3


@pytest.mark.parametrize("family", FAMILIES)
def test_closed_gates_show_the_baseline_token_for_every_word(family: str) -> None:
    """Behind closed gates words are the baseline token; special tokens stay."""
    model, texts = classifier(family), some_texts()
    network = network_over(model, texts)
    with frozen(model), torch.no_grad():
        logits = network(torch.zeros_like(network.open_gates()))
        for text, row in zip(texts, logits, strict=True):
            window = text.windows[0]
            tokens = np.where(window.words == NO_WORD, window.tokens, MASK)
            assert torch.allclose(row, plain_logits(model, tokens), atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_text_has_the_same_bits_in_any_batch(family: str) -> None:
    """Logits and gradients of a text do not depend on its neighbours, to the bit."""
    model, texts = classifier(family), some_texts()
    network = network_over(model, texts)
    with frozen(model):
        logits, slopes = logits_and_slopes(network)
        for item, text in enumerate(texts):
            words = text.units[1]
            alone = logits_and_slopes(network.only(item))
            assert torch.equal(alone[0][0], logits[item])
            assert torch.equal(alone[1][0, 0, 0], slopes[item, 0, 0, :words])
            assert not slopes[item, 0, 0, words:].any()
        backwards = network_over(model, texts[::-1])
        assert torch.equal(logits_and_slopes(backwards)[0].flip(0), logits)


def logits_and_slopes(network: TextNetwork) -> tuple[Tensor, Tensor]:
    """Return logits, and the gradient of class 1 at the gates."""
    gates = network.open_gates().requires_grad_()
    logits = network(gates)
    (slopes,) = torch.autograd.grad(logits[:, 1].sum(), gates)
    return logits.detach(), slopes


def test_copies_of_a_text_are_seen_through_their_own_gates() -> None:
    """Rows of one item lie one after the other, each with the gates of its own."""
    model, texts = classifier("distilbert"), some_texts()
    network = network_over(model, texts)
    generator = torch.Generator().manual_seed(3)
    gates = torch.rand(len(texts) * 3, *network.open_gates().shape[1:]).round_()
    gates = torch.where(torch.rand(gates.shape, generator=generator) < 0.5, gates, 1.0)
    with frozen(model), torch.no_grad():
        together = network(gates)
        for item in range(len(texts)):
            words = texts[item].units[1]
            rows = gates[item * 3 : item * 3 + 3, :, :, :words]
            assert torch.equal(network.only(item)(rows), together[item * 3 :][:3])


def test_equal_questions_are_asked_once() -> None:
    """Copies with the same gates cost one row, and each gets its answer."""
    model = classifier("minilm")
    network = network_over(model, [text_of([1, 2, 1])])
    rows: list[int] = []
    model.register_forward_hook(lambda *given: rows.append(len(given[2])))
    gates = torch.tensor([[0.0, 1, 1], [1, 1, 1], [0, 1, 1], [0, 0, 1]] * 20)
    with frozen(model), torch.no_grad():
        together = network(gates[:, None, None])
        assert rows == [8]
        for row, own in zip(gates[:4], together[:4], strict=True):
            assert torch.equal(network(row[None, None, None])[0], own)
    assert torch.equal(together[:4], together[76:])


def test_the_gradient_at_a_gate_is_that_of_its_tokens_embeddings() -> None:
    """It is the sum over the word's tokens of (e - b) . d y / d e."""
    model = classifier("bert").double()
    text = text_of([1, 3, 1, 2], seed=9)
    network = network_over(model, [text])
    weight = embedding_of(model).weight.detach()
    window = text.windows[0]
    ids = torch.from_numpy(window.tokens)
    own = weight[ids][None].clone().requires_grad_()
    with frozen(model):
        score = model(inputs_embeds=own).logits[0, 1]
        (slope,) = torch.autograd.grad(score, own)
        found = logits_and_slopes(network)[1].flatten()
    products = ((own - weight[MASK]) * slope).sum(dim=2)[0].detach()
    for word in range(4):
        expected = products[torch.from_numpy(window.words) == word].sum()
        assert abs(float(found[word] - expected)) < 1e-6 * float(products.abs().max())


@pytest.mark.parametrize("family", ["distilbert", "minilm"])
def test_integrated_gradients_equal_captums(family: str) -> None:
    """IG from closed to open gates is captum's from baseline tokens, by word."""
    captum = pytest.importorskip("captum.attr")
    from explain.methods import create_method

    model = classifier(family)
    text = text_of([1, 2, 1, 1, 3], seed=4)
    network = network_over(model, [text])
    window = text.windows[0]
    ids = torch.from_numpy(window.tokens)[None]
    baselines = torch.where(torch.from_numpy(window.words)[None] == NO_WORD, ids, MASK)

    def forward(tokens: Tensor) -> Tensor:
        length = tokens.shape[1]
        mask = torch.ones(len(tokens), 1, length, length, dtype=torch.bool)
        found = model(input_ids=tokens, attention_mask=mask)
        return found if isinstance(found, Tensor) else found.logits

    oracle = captum.LayerIntegratedGradients(forward, embedding_of(model))
    with frozen(model):
        peer = oracle.attribute(
            ids, baselines, target=2, n_steps=64, method="gausslegendre"
        )
        method = create_method(
            "integrated_gradients", network, steps=64, baseline="zero"
        )
        found = method.explain(network.open_gates(), torch.tensor([2]))
        change = network(network.open_gates()) - network(
            torch.zeros_like(network.open_gates())
        )
    expected = by_word(peer.sum(dim=2), torch.from_numpy(window.words)[None], 5)[0]
    bound = 1e-4 * float(expected.abs().max())
    assert torch.allclose(found.maps.flatten(), expected, atol=bound)
    total = float(change.detach()[0, 2])
    assert abs(float(expected.sum()) - total) < 1e-3 * max(1.0, abs(total))


def test_a_text_in_two_windows_has_the_mean_of_their_logits() -> None:
    """Windows are averaged, and a word that lies in both has one gate."""
    model = classifier("roberta")
    tokens, words = np.arange(10, 22), np.arange(12)
    halves = (surrounded(tokens[:8], words[:8]), surrounded(tokens[5:], words[5:]))
    text = TextTokens(halves, np.zeros(12, np.int64))
    network = network_over(model, [text_of([1, 1], seed=1), text])
    with frozen(model), torch.no_grad():
        gates = network.open_gates()
        gates[1, 0, 0, 6] = 0
        found = network(gates)[1]
        each = []
        for half in halves:
            shown = np.where(half.words == 6, MASK, half.tokens)
            each.append(plain_logits(model, shown))
        assert torch.allclose(found, torch.stack(each).mean(dim=0), atol=1e-5)


def test_numbers_are_summed_by_word_in_order() -> None:
    """A word's sum is that of its tokens; a token without a word counts nowhere."""
    words = torch.tensor([[NO_WORD, 0, 0, 1, 2, 2, 2, NO_WORD]])
    values = torch.tensor([[9.0, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 9.0]])
    assert by_word(values, words, 4).tolist() == [[3.0, 4.0, 56.0, 0.0]]
    assert over_tokens(torch.tensor([[5.0, 6.0, 7.0, 8.0]]), words).tolist() == [
        [0.0, 5.0, 5.0, 6.0, 7.0, 7.0, 7.0, 0.0]
    ]


def test_spreading_over_tokens_has_the_gradient_of_a_sum() -> None:
    """The hand-written derivative agrees with finite differences."""
    words = torch.tensor([[NO_WORD, 0, 0, 1], [0, 1, 1, NO_WORD]])
    values = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: over_tokens(v, words) ** 2, values)


def test_padded_lengths_waste_a_third_at_most() -> None:
    """A window is padded to a length of few, never beyond the limit."""
    for tokens in range(1, 513):
        length = padded_length(tokens, 512)
        assert tokens <= length <= 512
        assert length == SHORTEST or length <= 1.5 * tokens
    assert len({padded_length(tokens, 512) for tokens in range(1, 513)}) == 11
    assert padded_length(60, 60) == 60


def test_no_hook_is_left_behind_when_the_network_breaks() -> None:
    """After an error within the network its embedding is as it was."""

    class Broken(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(VOCABULARY, 4)

        def get_input_embeddings(self) -> nn.Embedding:
            return self.words

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:  # noqa: ARG002
            self.words(input_ids)
            raise RuntimeError("broken")

    model = Broken()
    network = network_over(model, [text_of([1, 1])])
    with pytest.raises(RuntimeError, match="broken"):
        network(network.open_gates())
    assert not model.words._forward_hooks


@pytest.mark.parametrize(
    ("texts", "rules", "said"),
    [
        ([text_of([1] * 20)], {"limit": 16}, "at most 16 tokens"),
        ([TextTokens((Window(np.array([99]), np.array([0])),), np.zeros(1, np.int64))],
         {}, "tokens 0 to 59"),
    ],
)  # fmt: skip
def test_texts_that_the_network_cannot_read_are_refused(
    texts: list[TextTokens], rules: dict[str, Any], said: str
) -> None:
    """Too long a window and tokens without embedding are told, not looked up."""
    asked = TokenRules(**({"limit": LIMIT, "padding": PAD, "baseline": MASK} | rules))
    with pytest.raises(InvalidInputError, match=said):
        TextNetwork(classifier("minilm"), texts, asked)


def test_gates_of_another_field_are_refused() -> None:
    """Gates must be one field a copy of each text."""
    network = network_over(classifier("minilm"), [text_of([1, 1, 1])])
    with pytest.raises(InvalidInputError, match=r"gates \(M, 1, 1, 3\)"):
        network(torch.ones(1, 1, 1, 2))


@pytest.mark.parametrize(
    ("windows", "words", "said"),
    [
        ([], 1, "at least one word"),
        ([([5], [0])], 2, "words 0 to 1"),
        ([([5, 6], [0])], 1, "a word for each token"),
        ([([], [])], 1, "at least one token"),
    ],
)
def test_what_is_no_text_is_refused(
    windows: list[tuple[list[int], list[int]]], words: int, said: str
) -> None:
    """A text has words, and each lies in a window."""
    with pytest.raises(InvalidInputError, match=said):
        TextTokens(
            tuple(
                Window(np.array(tokens, np.int64), np.array(of, np.int64))
                for tokens, of in windows
            ),
            np.zeros(words, np.int64),
        )


def test_a_network_without_embedding_or_logits_is_refused() -> None:
    """The message says what a network of texts must have."""
    with pytest.raises(UnsupportedModelError, match="get_input_embeddings"):
        TextNetwork(nn.Linear(2, 2), [text_of([1])], RULES)

    class Tagger(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words = nn.Embedding(VOCABULARY, 4)

        def get_input_embeddings(self) -> nn.Embedding:
            return self.words

        def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:  # noqa: ARG002
            return self.words(input_ids)

    network = network_over(Tagger(), [text_of([1])])
    with pytest.raises(UnsupportedModelError, match="not of tokens"):
        network(network.open_gates())
