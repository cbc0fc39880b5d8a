# SPDX-License-Identifier: Apache-2.0
"""Two verifiers that share no code agree, on honest logs and on altered ones."""

import random
from collections.abc import Callable

import pytest

from ledger.checkpoint import Checkpoint, SigningKey
from ledger.entries import Action, Entry
from ledger.merkle import leaf_hash, root_of
from ledger.verifier import examine_entries
from tests.support.second_verifier import holds

KEY = SigningKey.generate("example.com/log")
STRANGER = SigningKey.generate("example.com/log")

Log = tuple[list[tuple[int, bytes, bytes]], list[str]]


def _body(number: int) -> bytes:
    return Entry(
        at=f"2026-11-23T08:00:{number % 60:02d}.000000Z",
        actor=f"user/u{number % 3}",
        action=list(Action)[number % len(Action)],
        object=f"run/r{number % 4}/shard/{number}",
        digest=f"{number:064x}",
        details={"count": number},
    ).to_bytes()


def _log(size: int, marks: list[int]) -> Log:
    bodies = [_body(number) for number in range(size)]
    leaves = [leaf_hash(body) for body in bodies]
    entries = [(n, body, leaves[n]) for n, body in enumerate(bodies)]
    notes = [
        KEY.sign(Checkpoint(KEY.name, mark, root_of(leaves[:mark]))) for mark in marks
    ]
    return entries, notes


def _both(log: Log) -> tuple[bool, bool]:
    entries, notes = log
    ours = examine_entries(entries, notes, KEY.verifier)
    return ours.ok, holds(entries, notes, str(KEY.verifier))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 31, 64, 100])
def test_both_accept_an_honest_log(size: int) -> None:
    """Any size with any checkpoints up to its end holds for both."""
    marks = sorted({1, (size + 1) // 2, size})
    assert _both(_log(size, marks)) == (True, True)


def _flip(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    changed = data[place] ^ (1 << rng.randrange(8))
    return data[:place] + bytes([changed]) + data[place + 1 :]


def _flip_body(log: Log, rng: random.Random) -> None:
    n = rng.randrange(len(log[0]))
    index, body, leaf = log[0][n]
    log[0][n] = (index, _flip(body, rng), leaf)


def _flip_body_and_leaf(log: Log, rng: random.Random) -> None:
    n = rng.randrange(len(log[0]))
    index, body, _leaf = log[0][n]
    changed = _flip(body, rng)
    log[0][n] = (index, changed, leaf_hash(changed))


def _flip_leaf(log: Log, rng: random.Random) -> None:
    n = rng.randrange(len(log[0]))
    index, body, leaf = log[0][n]
    log[0][n] = (index, body, _flip(leaf, rng))


def _drop(log: Log, rng: random.Random) -> None:
    del log[0][rng.randrange(len(log[0]))]


def _renumbered(log: Log) -> None:
    log[0][:] = [(n, body, leaf) for n, (_i, body, leaf) in enumerate(log[0])]


def _drop_and_renumber(log: Log, rng: random.Random) -> None:
    _drop(log, rng)
    _renumbered(log)


def _swap(log: Log, rng: random.Random) -> None:
    a, b = rng.sample(range(len(log[0])), 2)
    log[0][a], log[0][b] = log[0][b], log[0][a]
    if rng.random() < 0.5:
        _renumbered(log)


def _insert(log: Log, rng: random.Random) -> None:
    body = _body(rng.randrange(1000, 2000))
    log[0].insert(rng.randrange(len(log[0]) + 1), (0, body, leaf_hash(body)))
    _renumbered(log)


def _cut_tail(log: Log, rng: random.Random) -> None:
    del log[0][rng.randrange(1, len(log[0])) :]


def _drop_last_note(log: Log, _rng: random.Random) -> None:
    log[1].pop()


def _flip_note(log: Log, rng: random.Random) -> None:
    n = rng.randrange(len(log[1]))
    text = log[1][n]
    place = rng.randrange(len(text))
    other = rng.choice("ABCabc0189\n+/= ")
    if text[place] != other:
        log[1][n] = text[:place] + other + text[place + 1 :]
    else:
        log[1][n] = text[:place] + text[place + 1 :]


def _sign_as_stranger(log: Log, rng: random.Random) -> None:
    n = rng.randrange(len(log[1]))
    text = log[1][n].partition("\n\n")[0] + "\n"
    log[1][n] = STRANGER.sign_text(text)


def _rewrite_all(log: Log, _rng: random.Random) -> None:
    bodies = [_body(n + 500) for n in range(len(log[0]))]
    log[0][:] = [(n, body, leaf_hash(body)) for n, body in enumerate(bodies)]


MUTATIONS: list[Callable[[Log, random.Random], None]] = [
    _flip_body,
    _flip_body_and_leaf,
    _flip_leaf,
    _drop,
    _drop_and_renumber,
    _swap,
    _insert,
    _cut_tail,
    _drop_last_note,
    _flip_note,
    _sign_as_stranger,
    _rewrite_all,
]


def test_both_refuse_a_thousand_altered_logs() -> None:
    """Whatever was altered, neither accepts it, so they never disagree."""
    rng = random.Random(20261125)  # noqa: S311 - chooses what to break
    logs = {size: _log(size, sorted({2, size // 2, size})) for size in range(4, 14)}
    accepted = []
    for number in range(1000):
        mutation = MUTATIONS[number % len(MUTATIONS)]
        entries, notes = logs[rng.choice(sorted(logs))]
        log = (list(entries), list(notes))
        mutation(log, rng)
        verdict = _both(log)
        if verdict != (False, False):
            accepted.append((number, mutation.__name__, verdict))
    assert accepted == []
