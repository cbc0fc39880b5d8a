# SPDX-License-Identifier: Apache-2.0
"""What may be claimed without a hint, while another shard is in work."""

from typing import Any

import pytest
import sqlalchemy as sa

from storage.claiming_ahead import claim_ahead, claim_ahead_in_run
from storage.leases import claim_next, release
from storage.states import RunState
from tests.support.planted import plant_run, set_shard, shard, shard_ids


def _ahead(engine: sa.Engine, queue: str = "cpu") -> Any:
    return claim_ahead(engine, queue, worker="worker/a", lease_s=60)


def test_shards_are_claimed_in_order_and_once(engine: sa.Engine) -> None:
    """Each claim takes the next shard that nobody has, until there is none."""
    run_id = plant_run(engine, shards=3)
    taken = [_ahead(engine) for _ in range(4)]
    assert [claim and claim.shard_index for claim in taken] == [0, 1, 2, None]
    assert all(shard(engine, i).state == "running" for i in shard_ids(engine, run_id))


def test_the_more_urgent_run_goes_first(engine: sa.Engine) -> None:
    """A shard of a run with a higher priority is claimed before older ones."""
    plant_run(engine)
    urgent = plant_run(engine, priority=5)
    assert _ahead(engine).run_id == urgent


def test_hinted_shards_are_left_to_whoever_follows_the_hint(engine: sa.Engine) -> None:
    """A shard that a hint is out for is not taken."""
    run_id = plant_run(engine, shards=2)
    set_shard(engine, shard_ids(engine, run_id)[0], dispatched_at=1.0)
    assert _ahead(engine).shard_index == 1
    assert _ahead(engine) is None


def test_a_shard_that_was_attempted_is_not_claimed_ahead(engine: sa.Engine) -> None:
    """An innocent shard can lose one attempt to a neighbour, and never a second."""
    run_id = plant_run(engine, shards=1)
    claim = claim_next(engine, run_id, worker="worker/a", lease_s=60)
    assert claim is not None
    release(engine, claim)
    assert _ahead(engine) is None
    assert claim_ahead_in_run(engine, run_id, worker="worker/a", lease_s=60) is None
    assert claim_next(engine, run_id, worker="worker/a", lease_s=60) is not None


def test_a_shard_with_one_attempt_is_not_claimed_ahead(engine: sa.Engine) -> None:
    """Where a killed worker would end it, a shard is not claimed before its turn."""
    run_id = plant_run(engine, shards=1, max_attempts=1)
    assert _ahead(engine) is None
    assert claim_ahead_in_run(engine, run_id, worker="worker/a", lease_s=60) is None


@pytest.mark.parametrize("state", [RunState.CANCELLED, RunState.FINALISING])
def test_runs_that_are_not_open_have_nothing_to_claim(
    engine: sa.Engine, state: RunState
) -> None:
    """A run that was stopped or is being finalised gives no claims."""
    run_id = plant_run(engine)
    with engine.begin() as connection:
        connection.execute(
            sa.text("UPDATE runs SET state = :state"), {"state": state.value}
        )
    assert _ahead(engine) is None
    assert claim_ahead_in_run(engine, run_id, worker="worker/a", lease_s=60) is None


def test_other_queues_are_left_alone(engine: sa.Engine) -> None:
    """A CPU worker takes nothing of the GPU's queue."""
    plant_run(engine, queue="gpu")
    assert _ahead(engine) is None
    assert _ahead(engine, "gpu") is not None
