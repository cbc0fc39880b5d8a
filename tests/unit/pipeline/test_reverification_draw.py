# SPDX-License-Identifier: Apache-2.0
"""What is computed again is drawn: by the run and the ledger's root, by nobody else."""

import dataclasses
import hashlib
import json
from collections import Counter
from typing import Any

import pytest

from pipeline.reverification.draw import Batch, DrawKey, batches_of, drawn
from pipeline.reverification.outcome import Difference, Outcome, Verdict

KEY = DrawKey(run_id="run-1", seed=7, tree_size=42, root="ab" * 32)


def test_batches_lie_in_shards_and_end_with_them() -> None:
    """Shards are cut at multiples of the batch size; the last batch ends early."""
    found = batches_of([(0, 8), (16, 6)], 4)
    assert found == [
        Batch(number=0, first_item=0, item_count=4),
        Batch(number=1, first_item=4, item_count=4),
        Batch(number=4, first_item=16, item_count=4),
        Batch(number=5, first_item=20, item_count=2),
    ]


def test_the_draw_can_be_made_again_by_anyone() -> None:
    """A second implementation from the words of the decision draws the same batches."""
    batches = batches_of([(0, 400)], 4)
    text = (
        '{"root":"' + "ab" * 32 + '","run":"run-1","schema":"affidavit.reverify/1",'
        '"seed":"7","tree_size":42}'
    )
    secret = hashlib.sha256(text.encode()).digest()
    order = sorted(
        range(100), key=lambda n: hashlib.sha256(secret + n.to_bytes(8, "big")).digest()
    )
    assert [b.number for b in drawn(batches, 0.05, KEY)] == sorted(order[:5])


@pytest.mark.parametrize(
    "change",
    [{"run_id": "run-2"}, {"seed": 8}, {"tree_size": 43}, {"root": "ac" * 32}],
    ids=lambda change: next(iter(change)),
)
def test_each_part_of_the_key_moves_the_draw(change: dict[str, Any]) -> None:
    """Another run, seed, size or root draws other batches."""
    batches = batches_of([(0, 1000)], 4)
    other = dataclasses.replace(KEY, **change)
    assert drawn(batches, 0.1, KEY) != drawn(batches, 0.1, other)


@pytest.mark.parametrize("fraction", [0.001, 0.05, 0.3, 0.999, 1.0])
def test_a_draw_holds_the_fraction_and_no_batch_more(fraction: float) -> None:
    """Without any of its batches it would hold less than was asked for."""
    batches = batches_of([(0, 203)], 4)
    taken = drawn(batches, fraction, KEY)
    items = sum(batch.item_count for batch in taken)
    assert items >= fraction * 203
    assert items - 4 < fraction * 203
    assert taken == sorted(taken, key=lambda batch: batch.number)
    assert len(set(taken)) == len(taken)


def test_every_batch_has_the_same_chance() -> None:
    """Over 2,000 roots each of 10 batches is drawn about as often as the others."""
    batches = batches_of([(0, 40)], 4)
    seen: Counter[int] = Counter()
    for size in range(2000):
        key = dataclasses.replace(KEY, tree_size=size)
        seen.update(batch.number for batch in drawn(batches, 0.1, key))
    # Chi-squared with 9 degrees of freedom: above 27.9 with probability 0.001.
    assert sum((seen[n] - 200) ** 2 / 200 for n in range(10)) < 27.9


def _outcome(**counts: Any) -> Outcome:
    return Outcome(key=KEY, fraction=0.1, items_total=40, batches=1, drawn=4, **counts)


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (_outcome(same=4, rows_hold=True), Verdict.AGREES),
        (_outcome(same=4, rows_hold=None), Verdict.AGREES),
        (_outcome(same=4, rows_hold=False), Verdict.DIFFERS),
        (_outcome(same=3, differing=1, stopped=True), Verdict.DIFFERS),
        (_outcome(same=3, not_computed=Counter(file_missing=1)), Verdict.INCOMPLETE),
        (_outcome(same=1, stopped=True), Verdict.STOPPED),
    ],
)
def test_the_verdict_is_never_kinder_than_the_counts(
    outcome: Outcome, verdict: Verdict
) -> None:
    """A difference outweighs all, and what was not computed never agrees."""
    assert outcome.verdict is verdict


def test_differences_are_all_counted_and_the_first_are_named() -> None:
    """A run that differs everywhere does not fill the memory with names."""
    outcome = _outcome()
    for index in range(150):
        outcome.differs(
            Difference(item_index=index, item_id="x", stored="a", computed="b")
        )
    assert (outcome.differing, len(outcome.differences)) == (150, 100)
    assert json.loads(json.dumps(outcome.facts()))["differing"] == 150
