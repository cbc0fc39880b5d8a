# SPDX-License-Identifier: Apache-2.0
"""Redis, PostgreSQL and S3 fail in mid-run; the run's result stays the same."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml

from storage.objects.s3 import s3_client
from tests.support.fault_audit import SHARDS
from tests.support.fault_rig import FaultRig
from tests.support.s3_fault_proxy import Fault

pytestmark = pytest.mark.timeout(3600)


@pytest.mark.parametrize("keeps", [True, False], ids=["aof", "no-aof"])
def test_redis_is_killed(rig: FaultRig, *, keeps: bool) -> None:
    """A Redis that comes back, with what it had or empty, costs no shard."""
    run = rig.submit()
    rig.wait_for_done(run, SHARDS // 6)
    rig.redis.kill()
    if not keeps:
        rig.redis.lose_files()
    time.sleep(1)
    rig.redis.restart()
    rig.require_exact(run)


def test_redis_is_emptied(rig: FaultRig) -> None:
    """FLUSHALL in mid-run: the hints are sent again."""
    run = rig.submit()
    rig.wait_for_done(run, SHARDS // 6)
    rig.redis.clear()
    rig.require_exact(run)


def test_postgresql_is_killed_and_comes_back(rig: FaultRig) -> None:
    """A database that crashes in mid-run: what was committed counts, no more."""
    run = rig.submit()
    rig.wait_for_done(run, SHARDS // 6)
    rig.postgres.kill()
    time.sleep(1)
    rig.postgres.restart()
    rig.require_exact(run)


def test_connections_are_cut(rig: FaultRig) -> None:
    """All connections to PostgreSQL and Redis are cut, time and again."""
    run = rig.submit()
    cut = 0
    for part in range(1, 6):
        rig.wait_for_done(run, part * SHARDS // 8)
        cut += rig.database_line.cut()
        cut += rig.broker_line.cut()
        time.sleep(0.2)
    assert cut
    rig.require_exact(run)


@pytest.mark.parametrize("fault", list(Fault))
def test_the_object_store_answers_badly(rig: FaultRig, fault: Fault) -> None:
    """Inputs and artifacts go through an S3 server that fails one request in four."""
    spec = _pictures_in_s3(rig)
    chance = random.SystemRandom()

    def plan(method: str, _path: str) -> Fault | None:
        wanted = {"GET"} if fault is Fault.TRUNCATED else {"GET", "PUT", "HEAD"}
        return fault if method in wanted and chance.random() < 0.25 else None

    run = rig.submit(spec)
    rig.store.plan = plan
    # Silence is dear: each costs the client's whole patience.
    wanted = 6 if fault is Fault.SILENCE else 30
    rig.store.silence_s = 3.0
    rig.wait_until(
        lambda: rig.store.done[fault] >= wanted, f"the store never does {fault}"
    )
    rig.store.plan = lambda _method, _path: None
    rig.require_exact(run)


def _pictures_in_s3(rig: FaultRig) -> Path:
    """Return the spec of the same audit over the same pictures, from a bucket."""
    path = rig.spec.with_name("bucket.yaml")
    if not path.exists():
        bucket, client = rig.s3.create_bucket(), s3_client(rig.s3.config)
        for picture in (rig.spec.parent / "pictures").iterdir():
            client.put_object(
                Bucket=bucket, Key=f"in/{picture.name}", Body=picture.read_bytes()
            )
        spec = yaml.safe_load(rig.spec.read_text())
        spec["data"] = {"source": f"s3://{bucket}/in/"}
        path.write_text(yaml.safe_dump(spec))
    return path


def test_killed_between_the_object_and_its_row(rig: FaultRig) -> None:
    """PUT done, then the worker dies: the object is an orphan, the shard is redone."""
    struck: list[str] = []

    def kill(method: str, path: str, status: int) -> None:
        if method == "PUT" and status == 200 and "/shards/" in path and not struck:
            # Nobody else is asked: the answer has not left the proxy yet.
            for name in ("cpu-1", "cpu-2"):
                child = rig.child(name)
                if child is not None:
                    child.kill()
            struck.append(path.partition("/audits/")[2])

    rig.store.after = kill
    run = rig.submit()
    rig.wait_for_end(run)
    assert struck
    assert rig.leftovers(run) >= set(struck)
    rig.require_exact(run)
    assert rig.leftovers(run) == set()


@pytest.fixture
def shifted_clock(rig: FaultRig) -> Iterator[psycopg.Connection]:
    """Yield a connection to a database whose clock can be stepped.

    The sessions' search path finds `skewed.clock_timestamp()` before the real one.
    """
    name = rig.services.engine.url.database
    with psycopg.connect(rig.postgres.url, autocommit=True, dbname=name) as connection:
        connection.execute("CREATE SCHEMA IF NOT EXISTS skewed")
        connection.execute(
            "CREATE TABLE IF NOT EXISTS skewed.step AS SELECT interval '0' AS by"
        )
        connection.execute(
            "CREATE OR REPLACE FUNCTION skewed.clock_timestamp() RETURNS timestamptz"
            " LANGUAGE sql VOLATILE AS"
            " 'SELECT pg_catalog.clock_timestamp() + by FROM skewed.step'"
        )
        connection.execute(
            f"ALTER DATABASE {name} SET search_path = skewed, pg_catalog, public"
        )
        rig.database_line.cut()
        try:
            yield connection
        finally:
            connection.execute(f"ALTER DATABASE {name} RESET search_path")
            rig.database_line.cut()


@pytest.mark.parametrize("step", ["1 hour", "-1 hour"])
def test_the_clock_steps(
    rig: FaultRig, shifted_clock: psycopg.Connection, step: str
) -> None:
    """The clock that leases go by jumps ahead, or back, in mid-run."""
    rig.calm()
    run = rig.submit()
    rig.wait_for_done(run, SHARDS // 6)
    shifted_clock.execute("UPDATE skewed.step SET by = %s::interval", [step])
    rig.require_exact(run)
    shifted_clock.execute("UPDATE skewed.step SET by = interval '0'")
