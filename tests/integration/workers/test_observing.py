# SPDX-License-Identifier: Apache-2.0
"""A deployment as its operator sees it: metrics, workers, watching, refusals."""

import json
import os
import pty
import re
import select
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from typing import Any

import psutil
import pytest
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from pipeline.software import software_versions
from storage.runs import list_runs
from tests.support.deployment import PATIENCE_S, Deployment, deployed
from tests.support.places import StorePlace
from tests.support.planted import plant_run, shard, shard_ids
from tests.support.processes import free_port, tell_reaper
from tests.support.servers import PostgresServer, RedisServer, S3Server
from tests.support.workspace import Workspace

ITEMS = 10
COUNTED = "counted.txt"
Samples = dict[tuple[str, tuple[str, ...]], float]


@pytest.fixture(scope="module")
def observed(
    redis_server: RedisServer,
    postgres_server: PostgresServer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Deployment]:
    """A control and a CPU worker that serve metrics, and a finished run."""
    redis_server.ensure_running()
    redis_server.clear()
    postgres_server.ensure_running()
    folder = tmp_path_factory.mktemp("observed")
    Workspace(folder=folder / "d").lay_out(ITEMS).write_spec()
    (folder / "d" / "photos" / "0003.png").write_bytes(b"no picture")
    with deployed(
        folder / "d",
        database_url=postgres_server.create_database(),
        place=StorePlace(url=str(folder / "objects"), s3=None),
        broker_url=redis_server.url,
        AFFIDAVIT_METRICS_PORT="0",
    ) as deployment:
        deployment.start_worker("control-1", "control")
        deployment.variables["AFFIDAVIT_METRICS_PORT"] = str(free_port())
        deployment.start_worker("cpu-1", "cpu")
        deployment.start("beat", "beat")
        deployment.wait_for_workers("control-1", "cpu-1")
        submitted = deployment.call("submit", "audit.yaml", "--json")
        assert submitted.code == 0, submitted.err
        run = submitted.document["run"]
        deployment.variables["RUN"] = run
        deployment.wait_for_state(run, "done")
        # Kept now: a later test may replace the process that counted.
        counted = page(workers(deployment)["cpu-1"]["metrics"])
        (folder / COUNTED).write_text(counted)
        yield deployment


def workers(deployment: Deployment) -> dict[str, Any]:
    """Return what `affidavit workers` tells of each worker, by name."""
    answer = deployment.call("workers", "--json")
    assert answer.code == 0, answer.err
    return {worker["worker"]: worker for worker in answer.document["workers"]}


def page(url: str) -> str:
    """Return what a worker serves."""
    with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 - our own
        return str(answer.read().decode())


def samples(text: str) -> Samples:
    """Return the value of each series, by name and its labels in alphabetical order."""
    return {
        (
            sample.name,
            tuple(sample.labels[name] for name in sorted(sample.labels)),
        ): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def eventually(deployment: Deployment, url: str, key: Any, value: float) -> None:
    """The series of that page gets that value."""
    deployment.wait_until(
        lambda: samples(page(url)).get(key) == value,
        f"{key} does not become {value}",
        every_s=1.0,
    )


def test_workers_are_shown_with_their_address_and_software(
    observed: Deployment,
) -> None:
    """Each live worker has queue, device, version, metrics and what it is doing."""
    found = workers(observed)
    assert set(found) == {"control-1", "cpu-1"}
    assert found["cpu-1"]["device"] == "cpu"
    assert found["cpu-1"]["software"] == software_versions()
    assert found["cpu-1"]["version"] == software_versions()["affidavit"]
    port = observed.variables["AFFIDAVIT_METRICS_PORT"]
    assert found["cpu-1"]["metrics"] == f"http://127.0.0.1:{port}/metrics"
    assert (found["cpu-1"]["run"], found["cpu-1"]["shard"]) == (None, None)
    assert abs(found["cpu-1"]["clock_ahead_s"]) < 5
    assert found["control-1"]["queue"] == "control"
    answer = observed.call("workers")
    assert "cpu-1" in answer.out
    assert port in answer.out


def test_a_compute_worker_counts_what_it_did(observed: Deployment) -> None:
    """Items, shards, stages and bytes of the finished run are in its metrics."""
    found = samples((observed.folder.parent / COUNTED).read_text())
    assert found["affidavit_items_total", ("done",)] == ITEMS - 1
    assert found["affidavit_items_total", ("failed",)] == 1
    assert found["affidavit_shards_total", ("finished",)] == 3
    assert found["affidavit_shards_total", ("failed",)] == 0
    assert found["affidavit_model_loads_total", ()] == 1
    assert found["affidavit_batch_occupancy_ratio_count", ()] == 3
    assert found["affidavit_batch_occupancy_ratio_sum", ()] == ITEMS / 4
    for stage, count in {
        "claim": 3,
        "wait": 3,
        "explain": 3,
        "pack": 3,
        "put": 3,
        "finish": 3,
        "load": 1,
    }.items():
        assert found["affidavit_stage_seconds_count", (stage,)] >= count, stage
        assert found["affidavit_stage_seconds_sum", (stage,)] > 0, stage
    photos = (observed.folder / "photos").iterdir()
    size = sum(path.stat().st_size for path in photos)
    assert found["affidavit_read_bytes_total", ()] == size
    assert found["affidavit_written_bytes_total", ()] > 0
    version = software_versions()["affidavit"]
    assert found["affidavit_worker_info", ("cpu", version)] == 1


def test_the_control_worker_tells_of_the_installation(
    request: pytest.FixtureRequest, observed: Deployment
) -> None:
    """Runs, shards, workers and the ledger are counted in SQL at the scrape."""
    url = workers(observed)["control-1"]["metrics"]
    found = samples(page(url))
    assert found["affidavit_database_up", ()] == 1
    assert found["affidavit_runs", ("done",)] == 1
    assert found["affidavit_live_workers", ("cpu", "cpu")] == 1
    assert found["affidavit_live_workers", ("none", "control")] == 1
    # A test that cancelled a run may just have ended.
    eventually(observed, url, ("affidavit_queue_shards", ("cpu", "pending")), 0)
    # Nobody works on the other queue, so its shard waits.
    engine = observed.engine()
    request.addfinalizer(engine.dispose)
    run = plant_run(engine, queue="gpu", shards=2)
    eventually(observed, url, ("affidavit_queue_shards", ("gpu", "pending")), 2)
    found = samples(page(url))
    assert found["affidavit_oldest_pending_shard_age_seconds", ("gpu",)] > 0
    assert found["affidavit_queue_idle_seconds", ("gpu",)] > 0
    assert observed.call("cancel", run).code == 0
    eventually(observed, url, ("affidavit_queue_shards", ("gpu", "pending")), 0)
    assert samples(page(url))["affidavit_queue_idle_seconds", ("gpu",)] == 0
    engine.dispose()


def test_metrics_hold_no_ids_and_follow_the_conventions(observed: Deployment) -> None:
    """No run, file, worker or address is in any page; names have the prefix."""
    for worker in workers(observed).values():
        text = page(worker["metrics"])
        for secret in (observed.variables["RUN"], ".png", "photos", worker["worker"]):
            assert secret not in text
        for family in text_string_to_metric_families(text):
            assert re.fullmatch(r"(affidavit|process)_[a-z_]+", family.name)
            assert family.documentation
        counters = re.findall(r"^# TYPE (\S+) counter$", text, flags=re.MULTILINE)
        assert counters
        assert all(name.endswith("_total") for name in counters)


def test_a_new_child_serves_on_the_same_port(observed: Deployment) -> None:
    """After SIGKILL of the pool process the next one opens the door again."""
    found = workers(observed)["cpu-1"]
    before = samples(page(found["metrics"]))["process_start_time_seconds", ()]
    (worker,) = [
        process
        for process in psutil.process_iter()
        if process.ppid() == os.getpid() and "cpu-1" in " ".join(process.cmdline())
    ]
    (child,) = [c for c in worker.children() if "spawn_main" in " ".join(c.cmdline())]
    child.kill()

    def born_again() -> bool:
        try:
            text = page(found["metrics"])
        except OSError:
            return False
        return samples(text)["process_start_time_seconds", ()] > before

    observed.wait_until(born_again, "nobody serves metrics after a kill", every_s=0.5)


def test_a_run_of_other_software_is_refused_and_says_so(
    request: pytest.FixtureRequest, observed: Deployment
) -> None:
    """No attempt is counted, `status` names both versions, and the gauge rises."""
    control = workers(observed)["control-1"]["metrics"]
    engine = observed.engine()
    request.addfinalizer(engine.dispose)
    run = plant_run(
        engine,
        plan={
            "batch_size": 2,
            "device": "cpu",
            "versions": software_versions() | {"torch": "1.0.0"},
        },
    )
    key = ("affidavit_runs_without_able_worker", ("cpu",))
    eventually(observed, control, key, 1)
    answer = observed.call("status", run, "--json")
    torch = software_versions()["torch"]
    (refusal, remedy) = answer.document["warnings"]
    assert "'cpu-1' does not take run" in refusal
    assert f"it has torch {torch}, the run was planned with torch 1.0.0" in refusal
    assert "no live worker can take run" in remedy
    assert workers(observed)["cpu-1"]["refuses"] == [run]
    first = shard(engine, shard_ids(engine, run)[0])
    assert (first.attempt, first.state, first.dispatched_at) == (0, "pending", None)
    # As a hint that reaches a worker all the same, in a queue of several kinds.
    observed_hint(observed, first.id)
    worker = samples(page(workers(observed)["cpu-1"]["metrics"]))
    refused = worker["affidavit_hints_total", ("refused",)]
    assert refused >= 1
    assert shard(engine, first.id).attempt == 0
    assert observed.call("cancel", run).code == 0
    engine.dispose()


def observed_hint(deployment: Deployment, shard_id: int) -> None:
    """A hint about the shard was followed by the CPU worker."""
    from pipeline.settings import Settings
    from workers.app import create_app
    from workers.hints import publisher

    settings = Settings(
        home=deployment.folder,
        broker_url=SecretStr(deployment.variables["AFFIDAVIT_BROKER_URL"]),
    )
    app = create_app(settings)
    publisher(app)(shard_id, "cpu")
    app.close()
    url = workers(deployment)["cpu-1"]["metrics"]
    deployment.wait_until(
        lambda: samples(page(url))["affidavit_hints_total", ("refused",)] > 0,
        "the hint is not refused",
    )


def test_a_missing_bucket_is_said_before_any_work(
    request: pytest.FixtureRequest, observed: Deployment, s3_server: S3Server
) -> None:
    """Worker, submit and doctor exit 4 with one sentence; no run is made."""
    s3_server.ensure_running()
    place = StorePlace(url="s3://no-such-bucket/audits", s3=s3_server.config)
    other = Workspace(
        folder=observed.folder,
        variables={**observed.variables, **place.environment()},
    )
    engine = observed.engine()
    request.addfinalizer(engine.dispose)
    before = len(list_runs(engine))
    for arguments in (("worker",), ("submit", "audit.yaml"), ("doctor",)):
        answer = other.call(*arguments)
        assert answer.code == 4, arguments
        assert "'no-such-bucket' does not exist" in answer.out + answer.err
    assert len(list_runs(engine)) == before


def test_doctor_warns_of_a_clock_that_is_off(
    observed: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than five seconds are a warning, which --production takes for a fault."""
    workspace = Workspace(folder=observed.folder, variables=observed.variables)
    monkeypatch.setattr("storage.clock.clock_ahead_s", lambda _engine: -60.0)
    document = workspace.call("doctor", "--json").document
    (clock,) = [check for check in document["checks"] if check["part"] == "clock"]
    assert (clock["ok"], clock["warning"]) == (True, True)
    assert "60 s behind the database's" in clock["says"]
    assert workspace.call("doctor", "--production").code == 4


def test_watching_on_a_terminal_draws_the_run(
    request: pytest.FixtureRequest, observed: Deployment
) -> None:
    """State, progress, speed, shards and warnings are drawn; JSON ends it all."""
    engine = observed.engine()
    request.addfinalizer(engine.dispose)
    run = plant_run(engine, queue="gpu", shards=3)
    primary, secondary = pty.openpty()
    process = subprocess.Popen(
        observed.command("status", run, "--watch", "--json"),
        env=observed.environment | {"TERM": "xterm", "COLUMNS": "100"},
        cwd=observed.folder,
        stdout=subprocess.PIPE,
        stderr=secondary,
    )
    tell_reaper(process.pid)
    os.close(secondary)
    drawn = b""
    deadline = time.monotonic() + PATIENCE_S
    while b"0 of 6 items" not in drawn and time.monotonic() < deadline:
        if select.select([primary], [], [], 0.5)[0]:
            drawn += os.read(primary, 65536)
    assert observed.call("cancel", run).code == 0
    out, _err = process.communicate(timeout=PATIENCE_S)
    tell_reaper(-process.pid)
    os.close(primary)
    engine.dispose()
    text = drawn.decode()
    assert "0 of 6 items (0.0%)" in text
    assert "shards: 3 pending (queue gpu)" in text
    assert "no worker is alive on the queue 'gpu'" in text
    document = json.loads(out)
    assert (document["run"], document["state"]) == (run, "cancelled")
