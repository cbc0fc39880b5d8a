# SPDX-License-Identifier: Apache-2.0
"""A worker that is told to stop in mid-shard: nothing waits for its lease."""

import os
import signal
from pathlib import Path

from storage.runs import list_shards
from tests.support.deployment import deployed
from tests.support.places import StorePlace
from tests.support.workspace import Workspace

ITEMS = 100


def test_sigterm_gives_the_shard_back_within_the_grace_period(
    broker_url: str, sqlite_url: str, folder_place: StorePlace, tmp_path: Path
) -> None:
    """The worker ends by itself, its shard is pending, and no attempt is counted.

    The lease is an hour long: whoever waited for it would never see the run's end.
    """
    folder = tmp_path / "d"
    # Shards that take long, in small batches.
    workspace = Workspace(folder=folder).lay_out(ITEMS)
    workspace.write_spec(
        explain={"method": "occlusion"},
        run={"batch_size": 2, "shard_size": ITEMS, "threads": 1, "device": "cpu"},
    )
    with deployed(
        folder,
        database_url=sqlite_url,
        place=folder_place,
        broker_url=broker_url,
        AFFIDAVIT_LEASE_S="3600",
    ) as deployment:
        worker = deployment.start_worker("cpu-1", "cpu")
        deployment.wait_for_workers("cpu-1")
        run = deployment.call("submit", "audit.yaml", "--json").document["run"]
        engine = deployment.engine()
        deployment.wait_until(
            lambda: list_shards(engine, run)[0].state == "running",
            "nobody claims the shard",
        )
        os.kill(worker.pid, signal.SIGTERM)
        deployment.wait_until(
            lambda: not worker.is_running, "the worker does not end on SIGTERM"
        )
        shard = list_shards(engine, run)[0]
        engine.dispose()
        assert (shard.state, shard.attempt, shard.deaths) == ("pending", 1, 0)
        assert shard.lease_until is None
        # What was taken is given back: as many attempts are left as before.
        assert shard.max_attempts - shard.attempt == 3
        workers = deployment.call("workers", "--json").document["workers"]
        assert workers == []


def test_sigterm_gives_back_what_was_claimed_ahead(
    broker_url: str, sqlite_url: str, folder_place: StorePlace, tmp_path: Path
) -> None:
    """Nothing is left running or counted, whatever was claimed, read or written."""
    folder = tmp_path / "d"
    workspace = Workspace(folder=folder).lay_out(24)
    workspace.write_spec(
        explain={"method": "occlusion"},
        run={"batch_size": 4, "shard_size": 8, "threads": 1, "device": "cpu"},
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

        def running() -> int:
            return sum(s.state == "running" for s in list_shards(engine, run))

        deployment.wait_until(lambda: running() > 1, "nothing is claimed ahead")
        os.kill(worker.pid, signal.SIGTERM)
        deployment.wait_until(
            lambda: not worker.is_running, "the worker does not end on SIGTERM"
        )
        shards = list_shards(engine, run)
        engine.dispose()
        assert {shard.state for shard in shards} <= {"pending", "done"}
        assert all(shard.lease_until is None for shard in shards)
        waiting = [shard for shard in shards if shard.state == "pending"]
        assert waiting
        assert {shard.deaths + shard.failures for shard in shards} == {0}
        assert {shard.max_attempts - shard.attempt for shard in waiting} == {3}
