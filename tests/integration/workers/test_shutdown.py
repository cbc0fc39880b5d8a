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
