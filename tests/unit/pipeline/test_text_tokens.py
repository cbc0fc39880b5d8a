# SPDX-License-Identifier: Apache-2.0
"""From a text to words: pieces merged, special tokens apart, windows of whole words."""

import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from explain.text.content import NO_WORD
from pipeline.errors import ItemError, ModelError, Reason, SpecError
from pipeline.kinds.text_tokens import TextTokenizer, Tokenised
from pipeline.kinds.text_windows import MOST_WORDS, sentences_of, windows_of
from tests.support.tokenizers_of_texts import byte_level, saved, unsplit, wordpiece


def words_of(tokenizer: Any, text: str) -> list[str]:
    """Return the letters of each word."""
    found = TextTokenizer(tokenizer).tokenised(text)
    return [text[start:stop] for start, stop in found.spans]


def test_pieces_of_wordpiece_are_one_word() -> None:
    """Pieces marked with ## go with what they continue; punctuation stands apart."""
    text = "The film was  unbelievable, UNbelievable!"
    found = TextTokenizer(wordpiece()).tokenised(text)
    words = [text[start:stop] for start, stop in found.spans]
    assert words == ["The", "film", "was", "unbelievable", ",", "UNbelievable", "!"]
    assert found.words.tolist() == [0, 1, 2, 3, 3, 3, 4, 5, 5, 5, 6]
    assert found.known.all()


def test_pieces_of_byte_level_bpe_are_one_word() -> None:
    """A leading space is no letter of a word; bytes of one sign stay together."""
    text = "the film was good, unbelievably   \u00fcber \U0001f600\n\nfilm"
    assert words_of(byte_level(), text) == [
        "the",
        "film",
        "was",
        "good",
        ",",
        "unbelievably",
        "\u00fcber",
        "\U0001f600",
        "film",
    ]
    found = TextTokenizer(byte_level()).tokenised(text)
    pieces = np.bincount(found.words[found.words != NO_WORD])
    assert pieces[1] == 1
    # A letter of two bytes and a sign of four that was never seen.
    assert pieces[5] > 1
    assert pieces[6] > 2
    assert pieces[7] >= 4


def test_without_a_split_of_its_own_white_space_parts_the_words() -> None:
    """A tokenizer that sees a text as one piece still gives words."""
    assert words_of(unsplit(), "the film  was thefilm") == [
        "the",
        "film",
        "was",
        "thefilm",
    ]


def test_truncation_and_padding_of_the_file_are_not_followed(tmp_path: Path) -> None:
    """What becomes of long texts is the audit's word, not the tokenizer's."""
    tokenizer = TextTokenizer.read(saved(wordpiece(), tmp_path))
    assert len(tokenizer.tokenised("the film was good , the film").tokens) == 7
    assert tokenizer.before.tolist() == [2]
    assert tokenizer.behind.tolist() == [3]
    assert (tokenizer.padding, tokenizer.masked, tokenizer.size) == (0, 4, 16)


def test_special_tokens_within_a_text_are_no_words() -> None:
    """Whoever writes [SEP] writes the special token, which never ranks."""
    found = TextTokenizer(wordpiece()).tokenised("the [SEP] film [MASK]")
    assert found.words.tolist() == [0, NO_WORD, 1, NO_WORD]


def test_an_unknown_word_among_known_ones_is_a_word() -> None:
    """It is explained like any other, and known as unknown."""
    found = TextTokenizer(wordpiece()).tokenised("the xylophone film")
    assert found.known.tolist() == [True, False, True]
    assert found.tokens.tolist() == [5, 1, 6]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("xylophone zither", Reason.TEXT_UNKNOWN),
        ("\u200b", Reason.TEXT_EMPTY),
        ("[SEP]", Reason.TEXT_EMPTY),
        ("\x00\x01", Reason.TEXT_EMPTY),
    ],
)
def test_texts_without_anything_to_explain_have_a_reason(
    text: str, reason: Reason
) -> None:
    """Nothing known and nothing at all are told apart."""
    with pytest.raises(ItemError) as caught:
        TextTokenizer(wordpiece()).tokenised(text)
    assert caught.value.reason is reason


@settings(max_examples=150, deadline=None)
@given(text=st.text(max_size=60), family=st.sampled_from([wordpiece, byte_level]))
def test_words_of_any_text_lie_in_order_and_apart(text: str, family: Any) -> None:
    """Whatever is written, spans are of the text, in order, without white space."""
    try:
        found = TextTokenizer(family()).tokenised(text)
    except ItemError:
        return
    for start, stop in found.spans:
        assert 0 <= start < stop <= len(text)
        assert text[start:stop] == text[start:stop].strip()
    assert all(first[0] <= second[0] for first, second in pairwise(found.spans))
    words = found.words[found.words != NO_WORD]
    assert np.array_equal(np.unique(words), np.arange(len(found.spans)))
    assert (np.diff(words) >= 0).all()


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"\xff\xfe", b'{"model": {"type": "Strange"}}']
)
def test_a_file_that_is_no_tokenizer_is_told(tmp_path: Path, content: bytes) -> None:
    """Any damage is one sentence that names the key."""
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=r"model\.tokenizer"):
        TextTokenizer.read(path)
    with pytest.raises(ModelError, match="cannot be read"):
        TextTokenizer.read(tmp_path / "none.json")


def test_without_padding_token_a_tokenizer_is_refused() -> None:
    """The message says which token is missing."""
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece

    bare = Tokenizer(WordPiece({"[UNK]": 0, "a": 1}, unk_token="[UNK]"))
    with pytest.raises(ModelError, match="no token for padding"):
        TextTokenizer(bare)


def test_a_missing_extra_is_named_with_its_install_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the package the audit is refused in one sentence."""
    path = saved(wordpiece(), tmp_path)
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(SpecError, match=r"pip install 'affidavit\[text\]'"):
        TextTokenizer.read(path)


def tokenised(pieces: list[int]) -> Tokenised:
    """Return a text whose words have so many tokens each."""
    tokens = np.arange(10, 10 + sum(pieces))
    return Tokenised(
        tokens,
        np.repeat(np.arange(len(pieces)), pieces),
        tuple((2 * word, 2 * word + 1) for word in range(len(pieces))),
        np.ones(len(pieces), np.bool_),
    )


def read_through(
    pieces: list[int], limit: int, long: str, overlap: float = 0.25
) -> Any:
    """Return the words of each window, and how many there are."""
    windows, count = windows_of(
        tokenised(pieces),
        TextTokenizer(wordpiece()),
        long=long,
        limit=limit,
        overlap=overlap,
    )
    for window in windows:
        assert len(window.tokens) <= limit
        assert window.tokens[0] == 2
        assert window.tokens[-1] == 3
        assert window.words[0] == window.words[-1] == NO_WORD
    return [sorted(set(window.words[1:-1].tolist())) for window in windows], count


def test_a_text_within_the_limit_is_one_window() -> None:
    """Special tokens count: eight tokens fit a limit of ten."""
    assert read_through([1] * 8, 10, "refuse") == ([[0, 1, 2, 3, 4, 5, 6, 7]], 8)
    with pytest.raises(ItemError) as caught:
        read_through([1] * 9, 10, "refuse")
    assert caught.value.reason is Reason.TEXT_TOO_LONG


def test_truncation_keeps_whole_words_from_the_first_on() -> None:
    """A word that does not fit as a whole is left out."""
    assert read_through([1, 3, 2, 4, 1], 10, "truncate") == ([[0, 1, 2]], 3)


def test_windows_overlap_by_the_share_that_is_asked_for() -> None:
    """Of eight tokens a quarter is read again."""
    found, count = read_through([1] * 20, 10, "chunk")
    assert count == 20
    assert found == [
        list(range(8)),
        list(range(6, 14)),
        list(range(12, 20)),
    ]
    apart, _count = read_through([1] * 20, 10, "chunk", 0.0)
    assert apart == [list(range(8)), list(range(8, 16)), list(range(16, 20))]


@settings(max_examples=300, deadline=None)
@given(
    pieces=st.lists(st.integers(1, 8), min_size=1, max_size=60),
    overlap=st.sampled_from([0.0, 0.25, 0.75]),
)
def test_every_word_is_read_whole_in_some_window(
    pieces: list[int], overlap: float
) -> None:
    """No word is torn or left out, and each window brings something new."""
    found, count = read_through(pieces, 10, "chunk", overlap)
    assert count == len(pieces)
    assert sorted({word for window in found for word in window}) == list(range(count))
    assert all(later[-1] > earlier[-1] for earlier, later in pairwise(found))
    sizes = [sum(pieces[word] for word in window) for window in found]
    assert max(sizes) <= 8


@pytest.mark.parametrize("long", ["truncate", "chunk"])
def test_a_word_longer_than_a_window_is_refused(long: str) -> None:
    """It could only be read torn."""
    with pytest.raises(ItemError) as caught:
        read_through([9, 1], 10, long)
    assert caught.value.reason is Reason.TEXT_TOO_LONG


def test_a_text_of_too_many_words_is_refused_however_it_is_read() -> None:
    """There is a bound to what one item may take."""
    with pytest.raises(ItemError) as caught:
        read_through([1] * (MOST_WORDS + 1), 10, "chunk")
    assert caught.value.reason is Reason.TEXT_TOO_LONG


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("a b. c d! e", [0, 0, 1, 1, 2]),
        ('a "b." c', [0, 0, 1]),
        ("a\n\nb c", [0, 1, 1]),
        ("a 3.5 b", [0, 0, 0]),
        ("... a", [0]),
        ("a\u3002b", [0, 1]),
    ],
)
def test_sentences_end_at_stops_before_white_space(
    text: str, sentences: list[int]
) -> None:
    """A number's point ends nothing; numbering starts at the first word."""
    letters = [place for place, char in enumerate(text) if char.isalnum()]
    starts = [
        n
        for n in letters
        if n == 0 or not (text[n - 1].isalnum() or text[n - 1] == ".")
    ]
    spans = tuple((start, start + 1) for start in starts)
    assert sentences_of(text, spans).tolist() == sentences
