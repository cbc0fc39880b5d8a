# SPDX-License-Identifier: Apache-2.0
"""Who is blamed when attempts end badly: the shard, then the item in work."""

import pytest
import sqlalchemy as sa

from ledger.entries import Action
from storage.errors import FencedOutError
from storage.leases import Blame, Claim, expire_leases, fail_attempt, release
from storage.runs import retry_dead_shards
from storage.states import ShardState
from storage.suspects import (
    MOST_EXTRA_ATTEMPTS,
    list_suspects,
    name_item_in_work,
)
from tests.support.planted import (
    claimed,
    end_back_off,
    entries,
    finish,
    let_lease_run_out,
    plant_run,
    shard,
    shard_ids,
)


def _die(engine: sa.Engine, claim: Claim, item: int | None = None) -> None:
    """The claim's worker dies, with that item in work; a sweep finds out."""
    if item is not None:
        name_item_in_work(
            engine, claim.shard_id, attempt=claim.attempt, item_index=item
        )
    let_lease_run_out(engine, claim.shard_id)
    assert expire_leases(engine, actor="worker/control") == 1
    end_back_off(engine, claim.shard_id)


def test_two_strikes_condemn_an_item(engine: sa.Engine) -> None:
    """After two deaths items are named; the one named twice is left out for good."""
    first = shard_ids(engine, plant_run(engine))[0]
    for _attempt in range(2):
        claim = claimed(engine, first)
        assert not claim.single_steps
        _die(engine, claim)
    for _attempt in range(2):
        claim = claimed(engine, first)
        assert claim.single_steps
        assert claim.condemned == {}
        _die(engine, claim, item=1)
    claim = claimed(engine, first)
    assert claim.condemned == {1: "killed_worker"}
    finish(engine, claim)
    # Five attempts, though three were allowed: each strike gave one more.
    assert shard(engine, first).state == ShardState.DONE
    told = entries(engine, action=Action.ITEM_CONDEMNED)
    assert [dict(entry.details) for entry in told] == [
        {"item": 1, "reason": "killed_worker"}
    ]


def test_one_strike_each_condemns_nobody(engine: sa.Engine) -> None:
    """Workers killed at random, each time with another item in work, cost no item."""
    first = shard_ids(engine, plant_run(engine, max_attempts=9))[0]
    for item in (None, None, 0, 1):
        _die(engine, claimed(engine, first), item=item)
    assert claimed(engine, first).condemned == {}
    assert [s.strikes for s in list_suspects(engine, first)] == [1, 1]


def test_a_claim_that_takes_over_gives_the_strike(engine: sa.Engine) -> None:
    """Without a sweep the next claim finds the death and the item in work."""
    first = shard_ids(engine, plant_run(engine, max_attempts=9))[0]
    for item in (None, None, 1, 1):
        claim = claimed(engine, first)
        if item is not None:
            name_item_in_work(engine, first, attempt=claim.attempt, item_index=item)
        let_lease_run_out(engine, first)
    assert claimed(engine, first).condemned == {1: "killed_worker"}
    assert shard(engine, first).deaths == 4


def test_strikes_end(engine: sa.Engine) -> None:
    """A shard that dies at ever other items is dead after a bounded number."""
    run_id = plant_run(engine, shards=1, shard_size=40)
    first = shard_ids(engine, run_id)[0]
    attempts = 0
    while shard(engine, first).state != ShardState.DEAD:
        claim = claimed(engine, first)
        _die(engine, claim, item=attempts if claim.single_steps else None)
        attempts += 1
        assert attempts < 100
    assert attempts == 3 + MOST_EXTRA_ATTEMPTS
    retry_dead_shards(engine, run_id, attempts=3, actor="user/tester")
    assert list_suspects(engine, first) == []
    assert not claimed(engine, first).single_steps


def test_an_item_can_break_the_computation(engine: sa.Engine) -> None:
    """Errors with the item alone count like deaths, under a reason of their own."""
    first = shard_ids(engine, plant_run(engine))[0]
    for blames in (Blame.SHARD, Blame.SHARD, Blame.ITEM, Blame.ITEM):
        claim = claimed(engine, first)
        if blames is Blame.ITEM:
            name_item_in_work(engine, first, attempt=claim.attempt, item_index=0)
        fail_attempt(engine, claim, error="ValueError", blames=blames)
        end_back_off(engine, first)
    assert claimed(engine, first).condemned == {0: "broke_computation"}


def test_servers_that_fail_make_no_suspects(engine: sa.Engine) -> None:
    """A store that is away is nobody's doing: no single steps, no strike."""
    first = shard_ids(engine, plant_run(engine, max_attempts=9))[0]
    for _attempt in range(3):
        claim = claimed(engine, first)
        fail_attempt(engine, claim, error="StorageError", blames=Blame.NOBODY)
        end_back_off(engine, first)
    assert not claimed(engine, first).single_steps


def test_a_shard_given_back_names_nobody(engine: sa.Engine) -> None:
    """A worker that stops politely leaves no item under suspicion."""
    first = shard_ids(engine, plant_run(engine))[0]
    claim = claimed(engine, first)
    name_item_in_work(engine, first, attempt=claim.attempt, item_index=1)
    release(engine, claim)
    assert shard(engine, first).current_item is None
    _die(engine, claimed(engine, first))
    assert list_suspects(engine, first) == []


def test_a_stale_claim_names_nobody(engine: sa.Engine) -> None:
    """A worker that lost its lease cannot put an item into the row."""
    first = shard_ids(engine, plant_run(engine))[0]
    stale = claimed(engine, first)
    _die(engine, stale)
    claimed(engine, first)
    with pytest.raises(FencedOutError):
        name_item_in_work(engine, first, attempt=stale.attempt, item_index=0)
    assert shard(engine, first).current_item is None
