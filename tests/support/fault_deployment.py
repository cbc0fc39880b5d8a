# SPDX-License-Identifier: Apache-2.0
"""Real servers behind proxies with workers on them, to be broken by tests."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from pipeline.services import Services
from pipeline.settings import Settings
from storage.engine import create_engine
from tests.support.deployment import Deployment, deployed
from tests.support.fault_audit import undisturbed, write_dataset
from tests.support.fault_rig import FaultRig
from tests.support.places import StorePlace
from tests.support.s3_fault_proxy import s3_fault_proxy
from tests.support.servers import serve_postgres, serve_redis, serve_s3
from tests.support.tcp_proxy import tcp_proxy

#: Short, so that a fault costs seconds.
LEASE_S = 3.0
IMPATIENT = {
    "AFFIDAVIT_LEASE_S": str(LEASE_S),
    "AFFIDAVIT_HINT_TIMEOUT_S": "4",
    "AFFIDAVIT_BACKOFF_S": "0.5",
}


@contextmanager
def fault_rig(folder: Path) -> Iterator[FaultRig]:
    """Lend a deployment with a control worker, two CPU workers and a beat."""
    spec = write_dataset(folder)
    expected = undisturbed(folder, spec)
    with ExitStack() as stack:
        redis = stack.enter_context(serve_redis())
        postgres = stack.enter_context(serve_postgres())
        s3 = stack.enter_context(serve_s3())
        broker_line = stack.enter_context(tcp_proxy(_port(redis.url)))
        database_line = stack.enter_context(tcp_proxy(_port(postgres.url)))
        store = stack.enter_context(s3_fault_proxy(_port(s3.url)))
        direct = postgres.create_database()
        config = replace(s3.config, endpoint_url=f"http://127.0.0.1:{store.port}")
        deployment = stack.enter_context(
            deployed(
                folder,
                database_url=_behind(direct, database_line.port),
                place=StorePlace(url=f"s3://{s3.create_bucket()}/audits", s3=config),
                broker_url=_behind(redis.url, broker_line.port),
                AFFIDAVIT_S3_READ_TIMEOUT_S="2",
                **IMPATIENT,
            )
        )
        rig = FaultRig(
            deployment=deployment,
            spec=spec,
            expected=expected,
            redis=redis,
            postgres=postgres,
            s3=s3,
            broker_line=broker_line,
            database_line=database_line,
            store=store,
            services=_services(deployment),
            engine=create_engine(direct),
        )
        with _at_work(rig, "control-1", "cpu-1", "cpu-2"):
            yield rig


@contextmanager
def rig_with_a_folder_store(
    other: FaultRig, folder: Path, objects: Path
) -> Iterator[FaultRig]:
    """Lend a deployment on another's servers, whose one worker stores in a folder.

    The worker's log goes nowhere, so that no limit on what it may write meets it.
    """
    database = other.postgres.create_database()
    with deployed(
        folder,
        database_url=database,
        place=StorePlace(url=str(objects), s3=None),
        broker_url=other.redis.url,
        AFFIDAVIT_BROKER_PREFIX="folder:",
        AFFIDAVIT_ALLOWED_ROOTS=str(other.spec.parent),
        **IMPATIENT,
    ) as deployment:
        rig = FaultRig(
            deployment=deployment,
            spec=other.spec,
            expected=other.expected,
            redis=other.redis,
            postgres=other.postgres,
            s3=other.s3,
            broker_line=other.broker_line,
            database_line=other.database_line,
            store=other.store,
            services=_services(deployment),
            engine=create_engine(database),
        )
        with _at_work(rig, "control-3", "cpu-3", log=Path(os.devnull)):
            yield rig


@contextmanager
def _at_work(rig: FaultRig, *names: str, log: Path | None = None) -> Iterator[None]:
    """Supervised workers and a beat; a worker's queue is the first part of its name."""
    try:
        for name in names:
            rig.start(name, name.partition("-")[0], log=log)
        rig.supervise()
        rig.deployment.start("beat", "beat")
        rig.deployment.wait_for_workers(*names)
        yield
    finally:
        rig.stop()
        rig.services.close()
        rig.engine.dispose()


def _services(deployment: Deployment) -> Services:
    """Return the deployment as somebody who submits reaches it."""
    prefix = "AFFIDAVIT_"
    values: dict[str, Any] = {
        name.removeprefix(prefix).lower(): value
        for name, value in deployment.environment.items()
        if name.startswith(prefix)
    }
    return Services(settings=Settings(**values), actor="test/submitter")


def _port(url: str) -> int:
    return int(url.rpartition(":")[2].partition("/")[0])


def _behind(url: str, port: int) -> str:
    """Return the URL with the proxy's port."""
    return url.replace(f":{_port(url)}/", f":{port}/")
