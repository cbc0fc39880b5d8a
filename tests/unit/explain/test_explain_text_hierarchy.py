# SPDX-License-Identifier: Apache-2.0
"""Occlusion from sentences to words, on a network whose answer is known."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from explain.context import ItemContext
from explain.draws import ItemDraws
from explain.text.content import TextTokens, Window
from explain.text.hierarchy import TextHierarchy, largest_share
from explain.text.network import TextNetwork, TokenRules


class Evidence(nn.Module):
    """Sums a number a token into the logit of class 1; the baseline token's is 0."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 1)
        self.words.weight.data = torch.zeros(20, 1)
        self.asked = 0

    def get_input_embeddings(self) -> nn.Embedding:
        """Return the embedding."""
        return self.words

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Return (0, sum of evidence)."""
        self.asked += len(input_ids)
        seen = attention_mask[:, 0, 0, :, None]
        total = (self.words(input_ids) * seen).sum(dim=(1, 2))
        return torch.stack([torch.zeros_like(total), total], dim=1)


def evidence(**weights: float) -> Evidence:
    """Return the network in which tokens t5, t6, ... have these weights."""
    model = Evidence()
    for name, weight in weights.items():
        model.words.weight.data[int(name[1:]), 0] = weight
    return model


def text(*sentences: list[int]) -> TextTokens:
    """Return a text of these sentences, a token a word."""
    tokens = np.concatenate([np.array(one, np.int64) for one in sentences])
    of = np.repeat(np.arange(len(sentences)), [len(one) for one in sentences])
    return TextTokens((Window(tokens, np.arange(len(tokens))),), of)


def explained(
    model: Evidence, texts: list[TextTokens], share: float = 0.8, target: int = 1
) -> tuple[Tensor, Tensor]:
    """Return maps (N, W) and which are blank."""
    network = TextNetwork(model, texts, TokenRules(limit=64, padding=0, baseline=0))
    found = TextHierarchy(network, share=share).explain(
        network.open_gates(),
        torch.full((len(texts),), target),
        ItemContext(draws=ItemDraws.counted(len(texts)), chunk=7),
    )
    return found.maps[:, 0], found.zero_gradient


def fall(total: float, part: float) -> float:
    """Return how far the probability falls when the part is gone."""
    return float(1 / (1 + np.exp(-total)) - 1 / (1 + np.exp(part - total)))


def test_only_words_of_the_sentences_that_matter_are_looked_at() -> None:
    """Words of kept sentences have the fall of occlusion, all others nothing."""
    model = evidence(t5=1.5, t6=0.2, t7=-0.5)
    found, blank = explained(model, [text([5, 8, 7], [6, 8], [8, 8, 8])])
    # Sentence falls are of 1.0, 0.2 and 0: the first makes up 0.8 of their sum.
    expected = [fall(1.2, 1.5), 0.0, fall(1.2, -0.5), 0, 0, 0, 0, 0]
    assert found[0].tolist() == pytest.approx(expected, abs=1e-6)
    assert not blank.any()
    whole, _blank = explained(model, [text([5, 8, 7], [6, 8], [8, 8, 8])], share=1.0)
    assert whole[0, 3] == pytest.approx(fall(1.2, 0.2), abs=1e-6)
    assert not whole[0, 4:].any()


def test_it_asks_once_a_sentence_and_once_a_word_of_those_kept() -> None:
    """A text of eight sentences of eight words costs 8 + 8 passes, not 64."""
    model = evidence(t5=1.0)
    sentences = [[8] * 8 for _ in range(8)]
    sentences[3][2] = 5
    found, _blank = explained(model, [text(*sentences)])
    assert int(found[0].argmax()) == 3 * 8 + 2
    # The whole text twice, 8 sentences and 8 words; 64 tokens go in rows of two.
    assert model.asked == 2 * 2 + 2 * (8 + 2)


def test_texts_of_a_batch_are_looked_at_one_by_one() -> None:
    """Each text has its own sentences; what lies behind a shorter text is zero."""
    model = evidence(t5=1.5, t6=0.7)
    texts = [text([5], [8]), text([8, 8, 6], [8, 8]), text([8], [8])]
    found, blank = explained(model, texts)
    for item, one in enumerate(texts):
        alone, _blank = explained(model, [one])
        assert torch.equal(found[item, : one.units[1]], alone[0])
        assert not found[item, one.units[1] :].any()
    assert blank.tolist() == [False, False, True]


def test_where_every_sentence_speaks_against_the_least_one_is_looked_at() -> None:
    """A map is not blank because the class was predicted against the evidence."""
    found, blank = explained(evidence(t5=-1.0, t6=-2.0), [text([5, 8], [6, 8])])
    assert found[0, 0] == pytest.approx(fall(-3.0, -1.0), abs=1e-6)
    assert not found[0, 1:].any()
    assert not blank.any()


@pytest.mark.parametrize(
    ("falls", "share", "kept"),
    [
        ([0.5, 0.3, 0.2], 0.5, [True, False, False]),
        ([0.5, 0.3, 0.2], 0.51, [True, True, False]),
        ([0.2, 0.3, 0.5], 1.0, [True, True, True]),
        ([0.4, 0.4, 0.0], 0.5, [True, False, False]),
        ([-0.1, -0.2, -0.3], 0.8, [True, False, False]),
        ([0.5, 0.0, -0.5], 1.0, [True, False, False]),
    ],
)
def test_the_fewest_that_make_up_the_share(
    falls: list[float], share: float, kept: list[bool]
) -> None:
    """Largest first, equals in order, one at least, none that does not fall."""
    assert largest_share(torch.tensor([falls]), share)[0].tolist() == kept
