# SPDX-License-Identifier: Apache-2.0
"""A worker that is told to stop in mid-shard: nothing waits for its lease."""

import os
import signal
from pathlib import Path

from storage.runs import list_shards
from tests.support.deployment import deployed
from tests.support.places import StorePlace
from tests.support.workspace import Workspace

ITEMS = 64


def test_sigterm_gives_back_what_is_in_work_and_what_was_claimed_ahead(
    broker_url: str, sqlite_url: str, folder_place: StorePlace, tmp_path: Path
) -> None:
    """The worker ends by itself in time; nothing is left running, lost or counted.

    The lease is an hour long: whoever waited for it would never see the run's end.
    """
    folder = tmp_path / "d"
    # Shards that take long, in small batches.
    Workspace(folder=folder).lay_out(ITEMS).write_spec(
        explain={"method": "occlusion"},
        run={"batch_size": 2, "shard_size": 16, "threads": 1, "device": "cpu"},
    )
    with deployed(
        folder,
        database_url=sqlite_url,
        place=folder_place,
        broker_url=broker_url,
        AFFIDAVIT_LEASE_S="3600",
        # The others are without a hint, so that they may be claimed ahead.
        AFFIDAVIT_DISPATCH_WINDOW="1",
    ) as deployment:
        worker = deployment.start_worker("cpu-1", "cpu")
        deployment.wait_for_workers("cpu-1")
        run = deployment.call("submit", "audit.yaml", "--json").document["run"]
        engine = deployment.engine()

        def states() -> list[str]:
            return [shard.state for shard in list_shards(engine, run)]

        deployment.wait_until(
            lambda: states().count("running") > 1, "nothing is claimed ahead"
        )
        os.kill(worker.pid, signal.SIGTERM)
        deployment.wait_until(
            lambda: not worker.is_running, "the worker does not end on SIGTERM"
        )
        shards = list_shards(engine, run)
        engine.dispose()
        assert {shard.state for shard in shards} <= {"pending", "done"}
        assert all(shard.lease_until is None for shard in shards)
        assert {shard.deaths + shard.failures for shard in shards} == {0}
        waiting = [shard for shard in shards if shard.state == "pending"]
        # What was taken is given back: as many attempts are left as before.
        assert [shard for shard in waiting if shard.attempt]
        assert {shard.max_attempts - shard.attempt for shard in waiting} == {3}
        assert deployment.call("workers", "--json").document["workers"] == []
