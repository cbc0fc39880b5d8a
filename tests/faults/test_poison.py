# SPDX-License-Identifier: Apache-2.0
"""What kills each worker that touches it is found; everything else is finished."""

from collections.abc import Callable

import pytest
import yaml

from storage.runs import get_run, retry_dead_shards
from storage.states import RunState, ShardState
from storage.tables import ShardTable
from tests.support.fault_audit import ITEMS_A_SHARD, SHARDS
from tests.support.fault_rig import FaultRig

pytestmark = pytest.mark.timeout(3600)

#: The shard that kills, and one of its items.
SHARD = SHARDS // 2
ITEM = ITEMS_A_SHARD * SHARD + 1


def _kill_whoever_touches(
    rig: FaultRig, run: str, touched: Callable[[ShardTable], bool]
) -> None:
    """The run has ended; each worker that touched the shard was killed."""

    def shard() -> ShardTable:
        return rig.shards(run)[SHARD]

    def over(attempt: int) -> bool:
        now = shard()
        return now.attempt != attempt or now.state != ShardState.RUNNING

    def ended() -> bool:
        now = shard()
        if now.state == ShardState.RUNNING and touched(now):
            child = rig.child((now.worker or "").partition("/")[2].partition("@")[0])
            if child is not None:
                child.kill()
            rig.wait_until(lambda: over(now.attempt), "nobody notices the death")
        return rig.state(run) in {RunState.DONE, RunState.INCOMPLETE}

    rig.wait_until(ended, "the run does not end", every_s=0.002)


def test_a_poison_item_is_found_and_the_rest_finish(rig: FaultRig) -> None:
    """An item that kills each worker that touches it fails alone, for that reason."""
    run = rig.submit()
    # In single steps it is known what is in work; before, the shard is enough.
    _kill_whoever_touches(
        rig, run, lambda shard: shard.deaths < 2 or shard.current_item == ITEM
    )
    found = rig.items(run)
    assert found[ITEM].reason == "killed_worker"
    records = {index: row.record_digest for index, row in found.items()}
    assert records.pop(ITEM) != rig.expected.records[ITEM]
    assert records == {k: v for k, v in rig.expected.records.items() if k != ITEM}
    rig.require_exact(run, digest=get_run(rig.engine, run).result_digest)


def test_a_poison_shard_is_given_up_and_the_rest_finish(rig: FaultRig) -> None:
    """After its attempts the shard is dead; retried without the poison it is done."""
    attempts = 3
    spec = yaml.safe_load(rig.spec.read_text())
    spec["run"]["max_attempts"] = attempts
    path = rig.spec.with_name("mortal.yaml")
    path.write_text(yaml.safe_dump(spec))
    run = rig.submit(path)
    _kill_whoever_touches(rig, run, lambda _shard: True)
    assert rig.state(run) == RunState.INCOMPLETE
    shards = rig.shards(run)
    assert (shards[SHARD].state, shards[SHARD].attempt) == (ShardState.DEAD, attempts)
    assert [s.state for s in shards].count(ShardState.DONE) == SHARDS - 1
    assert set(rig.items(run)) == {
        index
        for index in range(SHARDS * ITEMS_A_SHARD)
        if index // ITEMS_A_SHARD != SHARD
    }
    assert get_run(rig.engine, run).result_digest is None
    retry_dead_shards(rig.engine, run, attempts=attempts, actor="test/retrier")
    rig.require_exact(run)
