# SPDX-License-Identifier: Apache-2.0
"""What is asked again and again reads an index on PostgreSQL, not the whole table."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from storage.engine import transaction
from storage.finalisers import claim_finaliser, finalisable_runs
from storage.leases import claim_next, claim_shard, expire_leases, heartbeat
from storage.runs import get_progress
from tests.support.planted import (
    claimed,
    let_lease_run_out,
    plant_run,
    plant_worker,
    run,
    services_of,
    shard_ids,
)
from workers.dispatch import dispatch

#: Enough for the planner to prefer an index where there is one.
OTHER_SHARDS = 20_000


@contextmanager
def statements(engine: sa.Engine) -> Iterator[list[tuple[str, Any]]]:
    """Lend a list that gathers every statement with its parameters."""
    seen: list[tuple[str, Any]] = []

    def note(_c: Any, _cursor: Any, text: str, values: Any, *_rest: Any) -> None:
        seen.append((text, values))

    sa.event.listen(engine, "before_cursor_execute", note)
    yield seen
    sa.event.remove(engine, "before_cursor_execute", note)


@pytest.fixture
def crowded(postgres_engine: sa.Engine) -> tuple[sa.Engine, str]:
    """A run beside one with very many shards that are done."""
    crowd = plant_run(postgres_engine, shards=1)
    run_id = plant_run(postgres_engine, shards=4)
    with transaction(postgres_engine) as session:
        session.execute(
            sa.text(
                "INSERT INTO shards (run_id, shard_index, first_item, item_count, "
                "state, attempt, max_attempts, batches_done) "
                "SELECT :run, n, 0, 1, 'done', 1, 3, 0 "
                "FROM generate_series(1, :count) AS n"
            ),
            {"run": crowd, "count": OTHER_SHARDS},
        )
    with postgres_engine.connect().execution_options(
        isolation_level="AUTOCOMMIT"
    ) as connection:
        connection.execute(sa.text("ANALYZE"))
    return postgres_engine, run_id


def test_no_hot_query_scans_all_shards(
    crowded: tuple[sa.Engine, str], tmp_path: Path
) -> None:
    """Claim, heartbeat, sweep, progress and finaliser each find their rows by index."""
    engine, run_id = crowded
    services = services_of(engine, tmp_path)
    plant_worker(engine, "cpu")
    first, second, *_ = shard_ids(engine, run_id)
    claim = claimed(engine, first)
    claimed(engine, second)
    let_lease_run_out(engine, second)
    actions: list[Callable[[], object]] = [
        lambda: heartbeat(engine, claim, lease_s=60, batches_done=1),
        lambda: expire_leases(engine, actor="worker/w"),
        lambda: claim_shard(engine, second, worker="worker/w", lease_s=60),
        lambda: claim_next(engine, run_id, worker="worker/w", lease_s=60),
        lambda: get_progress(engine, run(engine, run_id)),
        lambda: claim_finaliser(engine, run_id, lease_s=60),
        lambda: finalisable_runs(engine),
        lambda: dispatch(services, lambda _shard, _queue: None),
    ]
    with statements(engine) as seen:
        for action in actions:
            action()
    about_shards = [pair for pair in seen if re.search(r"\bshards\b", pair[0])]
    assert len(about_shards) >= len(actions)
    with engine.connect() as connection:
        for text, values in about_shards:
            plan = connection.exec_driver_sql(f"EXPLAIN {text}", values).scalars().all()
            assert "Seq Scan on shards" not in "\n".join(plan), (text, plan)
            connection.rollback()
    services.close()
