# SPDX-License-Identifier: Apache-2.0
"""The kind of texts: what is decoded, checked, marked and drawn."""

import json
from html import unescape
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import torch

from pipeline.errors import ItemError, ModelError, Reason, SpecError
from pipeline.kinds.kind import UnitMap, open_kind
from pipeline.kinds.text import TextKind
from pipeline.kinds.text_picture import MOST_SHOWN, ShownText, drawn_text, drawn_words
from pipeline.models.minilm import MiniLm
from pipeline.records import Record
from pipeline.spec import AuditSpec
from tests.support.texts import classifier
from tests.support.tokenizers_of_texts import byte_level, saved, wordpiece


def spec_of(tokenizer: Path | None, **data: Any) -> AuditSpec:
    """Return a spec of texts."""
    return AuditSpec.model_validate(
        {
            "audit": "texts",
            "model": {
                "source": "minilm",
                "tokenizer": None if tokenizer is None else str(tokenizer),
            },
            "data": {"kind": "text", "source": "texts.jsonl"} | data,
        }
    )


@pytest.fixture
def kind(tmp_path: Path) -> TextKind:
    """The kind, with a small tokenizer and marked spans."""
    opened = open_kind(
        spec_of(
            saved(wordpiece(), tmp_path),
            columns={"text": "body", "mask": "marked"},
            options={"limit": 12},
        )
    )
    assert isinstance(opened, TextKind)
    return opened


def row(**cells: Any) -> Record:
    """Return a record of one row."""
    return Record(data=json.dumps(cells).encode(), rows=(cells,))


def test_the_method_of_a_spec_without_one_is_the_kinds_own(tmp_path: Path) -> None:
    """An audit of texts that names no method takes gradient x input."""
    spec = spec_of(saved(wordpiece(), tmp_path))
    assert spec.explain.method == "gradient_x_input"


def test_a_row_becomes_tokens_and_words(kind: TextKind) -> None:
    """The text of the column is read as the network reads it."""
    found = kind.decode(row(body="The film was unbelievable. Good!", label="x"))
    assert found.units == (1, 7)
    assert found.tokens.windows[0].tokens.tolist() == [
        2,
        5,
        6,
        7,
        8,
        9,
        10,
        14,
        11,
        15,
        3,
    ]
    assert found.tokens.sentences.tolist() == [0, 0, 0, 0, 0, 1, 1]
    assert kind.axis_labels(found) == ()


def test_a_file_is_a_text(kind: TextKind) -> None:
    """A .txt file is the text itself, with or without a mark of its encoding."""
    for data in (b"the film", b"\xef\xbb\xbfthe film"):
        assert kind.decode(Record(data=data)).text == "the film"


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        (row(body=""), Reason.TEXT_EMPTY),
        (row(body=" \n\t"), Reason.TEXT_EMPTY),
        (row(body=None), Reason.TEXT_EMPTY),
        (row(other="the film"), Reason.ROW_UNREADABLE),
        (row(body=12), Reason.NOT_A_TEXT),
        (row(body=["the"]), Reason.NOT_A_TEXT),
        (Record(data=b"\xff\xfe\x00"), Reason.NOT_A_TEXT),
        (Record(data=b""), Reason.TEXT_EMPTY),
        (row(body="zither"), Reason.TEXT_UNKNOWN),
        (row(body="the film " * 6), Reason.TEXT_TOO_LONG),
    ],
)
def test_bad_input_is_a_reason(kind: TextKind, record: Record, reason: Reason) -> None:
    """Each way in which an item is no text to explain has its code."""
    with pytest.raises(ItemError) as caught:
        kind.decode(record)
    assert caught.value.reason is reason


def test_words_that_touch_a_marked_span_are_the_truth(kind: TextKind) -> None:
    """Spans are in characters; an empty cell marks nothing."""
    text = "the film was unbelievable"
    record = row(body=text, marked=[[4, 8], [15, 17]])
    content = kind.decode(record)
    assert kind.truth(record, content).tolist() == [[False, True, False, True]]
    written = row(body=text, marked="[[0, 3]]")
    assert kind.truth(written, content).tolist() == [[True, False, False, False]]
    assert not kind.truth(row(body=text, marked=None), content).any()
    assert kind.truth(Record(data=text.encode()), content) is None


@pytest.mark.parametrize(
    ("marked", "reason"),
    [
        ("[[0, 3", Reason.MASK_UNREADABLE),
        ("all", Reason.MASK_UNREADABLE),
        ([[0]], Reason.MASK_UNREADABLE),
        ([[0, "3"]], Reason.MASK_UNREADABLE),
        (True, Reason.MASK_UNREADABLE),
        ([[4, 99]], Reason.MASK_SIZE_MISMATCH),
        ([[3, 3]], Reason.MASK_SIZE_MISMATCH),
        ([[-2, 3]], Reason.MASK_SIZE_MISMATCH),
    ],
)
def test_marks_that_fit_no_text_are_a_reason(
    kind: TextKind, marked: Any, reason: Reason
) -> None:
    """A mark that cannot be read and one outside the text are told apart."""
    record = row(body="the film", marked=marked)
    with pytest.raises(ItemError) as caught:
        kind.truth(record, kind.decode(record))
    assert caught.value.reason is reason


def test_a_tokenizer_of_another_network_is_refused(tmp_path: Path) -> None:
    """More tokens than embeddings, or far fewer, do not belong together."""
    sizes = {"hidden": 6, "heads": 2, "layers": 1, "inner": 4, "positions": 16}
    own = open_kind(spec_of(saved(wordpiece(), tmp_path), options={"limit": 16}))
    own.check(MiniLm(2, vocabulary=16, **sizes))
    own.check(MiniLm(2, vocabulary=128, **sizes))
    for vocabulary in (15, 129):
        with pytest.raises(ModelError, match=r"has 16 tokens.*model\.tokenizer"):
            own.check(MiniLm(2, vocabulary=vocabulary, **sizes))
    other = open_kind(spec_of(saved(byte_level(), tmp_path)))
    with pytest.raises(ModelError, match="trained with"):
        other.check(MiniLm(2, vocabulary=16, **sizes))


@pytest.mark.parametrize(("family", "most"), [("roberta", 64), ("bert", 65)])
def test_a_limit_beyond_the_networks_positions_is_refused(
    tmp_path: Path, family: str, most: int
) -> None:
    """The message says what to set; RoBERTa counts from behind its padding."""
    model = classifier(family)
    for limit, fits in ((most, True), (most + 1, False)):
        opened = open_kind(
            spec_of(saved(wordpiece(), tmp_path), options={"limit": limit})
        )
        if fits:
            opened.check(model)
        else:
            with pytest.raises(ModelError, match=f"set it to {most}"):
                opened.check(model)


def test_the_baseline_is_the_token_that_the_audit_names(tmp_path: Path) -> None:
    """A word that is gone shows padding, or the mask token."""
    path = saved(wordpiece(), tmp_path)
    torch.manual_seed(0)
    model = MiniLm(2, vocabulary=16, hidden=6, heads=2, layers=1, inner=4, positions=16)
    answers = []
    for baseline, token in (("pad", 0), ("mask", 4)):
        opened = open_kind(spec_of(path, options={"baseline": baseline, "limit": 16}))
        content = opened.decode(row(text="the film"))
        network = opened.gated(model.eval(), [content])
        with torch.no_grad():
            found = network(torch.zeros(1, 1, 1, 2))
            ids = torch.tensor([[2, token, token, 3]])
            mask = torch.ones(1, 1, 4, 4, dtype=torch.bool)
            assert torch.allclose(found, model(ids, mask), atol=1e-6)
        answers.append(found)
    assert not torch.equal(*answers)


def test_a_spec_without_tokenizer_is_told() -> None:
    """The message names the key."""
    with pytest.raises(SpecError, match=r"model\.tokenizer"):
        open_kind(spec_of(None))


def unit_map(values: list[float], kept: list[bool]) -> UnitMap:
    """Return an explanation; the item's row is not looked at."""
    result: Any = None
    return UnitMap(
        values=np.array([values], np.float32),
        mask=np.array([kept]),
        result=result,
        target="good & <b>cheap</b>",
    )


def parsed(fragment: str) -> ET.Element:
    """Return the fragment, which must be well-formed."""
    whole = fragment.replace("&nbsp;", " ")
    return ET.fromstring(f"<div>{whole}</div>")  # noqa: S314 - our own


def test_the_picture_is_the_text_with_its_words_marked(kind: TextKind) -> None:
    """Signs have colours, words against are dashed, kept ones framed, text escaped."""
    text = "The <film> was\n unbelievable & good"
    values = [0.5, 0.0, -1.0, 0.01, 0.2, 0.1, 0.3, -0.2]
    kept = [True, False, False, False, True, False, False, False]
    (picture,) = kind.draw(unit_map(values, kept), row(body=text))
    body, legend = parsed(picture.fragment)
    assert "".join(body.itertext()) == text
    marks = {mark.text: mark.get("style", "") for mark in body}
    assert "47,127,184,0.28" in marks["The"]
    assert "outline" in marks["The"]
    assert "200,100,27,0.55" in marks["film"]
    assert "dashed" in marks["film"]
    assert "outline" not in marks["film"]
    assert "<" not in marks
    assert ">" not in marks
    assert "The" in picture.description
    assert "good & <b>cheap</b>" in unescape("".join(legend.itertext()))
    for forbidden in ("<script", "<b>", "href", "src="):
        assert forbidden not in picture.fragment


def test_without_the_item_nothing_of_it_is_shown(kind: TextKind) -> None:
    """Where the text may not be shown, words are numbers."""
    (picture,) = kind.draw(unit_map([0.5, -1.0], [True, False]), None)
    body, _legend = parsed(picture.fragment)
    assert [mark.text for mark in body] == ["1", "2"]
    assert "1 are kept" in picture.description


def test_a_text_that_changed_is_not_shown_with_marks_of_another(kind: TextKind) -> None:
    """Marks go to words only where there are as many."""
    drawn = kind.draw(unit_map([0.5, -1.0], [True, False]), row(body="the film was"))
    assert "film" not in drawn[0].fragment
    assert kind.draw(unit_map([0.5], [True]), row(body="")) == []


def test_of_a_long_text_the_part_that_matters_most_is_shown() -> None:
    """A bounded number of words in a row, around the strongest."""
    count = 3 * MOST_SHOWN
    text = " ".join(f"w{number}" for number in range(count))
    spans, start = [], 0
    for word in text.split():
        spans.append((start, start + len(word)))
        start += len(word) + 1
    values = np.zeros(count, np.float32)
    values[2 * MOST_SHOWN] = 1.0
    shown = ShownText(text, tuple(spans), values, values > 0)
    picture = drawn_text(shown, "x")
    assert f"w{2 * MOST_SHOWN}" in picture.fragment
    assert "w0 " not in picture.fragment
    assert f"of {count}: those in a row" in picture.fragment
    without = drawn_words(values, values > 0, "x")
    assert str(2 * MOST_SHOWN + 1) in without.fragment
    assert len(without.fragment) < 24_000


def test_what_was_not_read_is_shown_faint(tmp_path: Path) -> None:
    """Behind the limit a text is cut, and the picture says so by its shade."""
    opened = open_kind(
        spec_of(saved(wordpiece(), tmp_path), options={"limit": 8, "long": "truncate"})
    )
    text = "the film was good , the film was bad"
    record = row(text=text)
    assert opened.decode(record).units == (1, 6)
    (picture,) = opened.draw(unit_map([1.0] * 6, [False] * 6), record)
    body, _legend = parsed(picture.fragment)
    assert "".join(body.itertext()) == text
    assert body[-1].text == " film was bad"
    assert "opacity" in body[-1].get("style", "")


def test_letters_that_no_page_can_hold_are_replaced() -> None:
    """Control characters become a sign; the words around them stay."""
    shown = ShownText(
        "a\x00b \x1b[0m c", ((0, 3), (9, 10)), np.ones(2, np.float32), np.ones(2, bool)
    )
    picture = drawn_text(shown, "x")
    assert "\x00" not in picture.fragment + picture.description
    assert "a\ufffdb" in picture.fragment
    parsed(picture.fragment)
