# SPDX-License-Identifier: Apache-2.0
"""A control round mends whatever was lost, once, however many rounds there are."""

import errno
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
import structlog
from structlog.testing import capture_logs

import pipeline.finalising
import workers.recovery
from ledger.entries import Action, Entry
from pipeline.evidence import require_covered
from pipeline.finaliser_keeper import FinaliserKeeper
from pipeline.finalising import finalise
from pipeline.reports.html import render_html
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.signing import seal
from pipeline.spec import AuditSpec
from storage.engine import epoch_now, reading, transaction
from storage.errors import DatabaseUnavailableError, StateConflictError
from storage.finalisers import claim_finaliser
from storage.leases import expire_leases
from storage.ledger_writer import latest_checkpoint, read_checkpoints, read_entries
from storage.runs import resume_run, retry_dead_shards
from storage.states import RunState, ShardState
from storage.tables import LedgerHeadTable, OutboxTable, RunTable
from tests.support.planted import (
    at_once,
    claimed,
    finish,
    let_lease_run_out,
    plant_run,
    plant_worker,
    run,
    services_of,
    set_run,
    shard,
    shard_ids,
)
from workers.process_state import STOP_FILE_VARIABLE, ProcessState
from workers.recovery import look_after
from workers.shard_task import run_shard

SPEC = {
    "audit": "a",
    "model": {"source": "torchvision:resnet18"},
    "data": {"source": "photos/"},
    "privacy": {"gallery": "none"},
}
PLAN = RunPlan(
    layer="layer4",
    layer_reason="named",
    method="gradcam",
    target="predicted",
    policy="fixed",
    policy_arguments={"keep": 0.1},
    metrics=[],
    cards={"method": {}, "policy": {}, "metrics": {}},
    batch_size=2,
    threads=1,
    dtype="float32",
    device="cpu",
    seed=0,
    input_shape=[3, 8, 8],
    map_shape=[2, 2],
    std=[1.0],
    class_count=2,
    classes=["cat", "dog"],
    roots=[],
    forwards_per_item=0,
    item_seconds=None,
    shard_size=2,
)


@pytest.fixture
def services(engine: sa.Engine, tmp_path: Path) -> Iterator[Services]:
    """Services on a fresh database with a live worker, and a folder for the rest."""
    found = services_of(engine, tmp_path, hint_timeout_s=60)
    plant_worker(engine, "cpu")
    yield found
    found.close()


def real_run(engine: sa.Engine, **more: Any) -> str:
    """Return the id of a run that can be finalised."""
    spec = AuditSpec.model_validate(SPEC).model_dump(mode="json")
    return plant_run(engine, spec=spec, plan=PLAN.to_json(), **more)


def finish_all(engine: sa.Engine, run_id: str) -> None:
    """Every shard of the run is done."""
    for shard_id in shard_ids(engine, run_id):
        finish(engine, claimed(engine, shard_id))


def ordered(engine: sa.Engine) -> list[Entry]:
    """Return the ledger's entries."""
    return [Entry.parse(body) for _index, body, _leaf in read_entries(engine)]


def test_a_round_finds_what_was_lost(services: Services) -> None:
    """Silent attempts end, unclaimed shards are hinted, entries are ordered."""
    engine = services.engine
    silent, waiting = shard_ids(engine, real_run(engine))
    claimed(engine, silent)
    let_lease_run_out(engine, silent)
    hints: list[int] = []
    look_after(services, publish=lambda shard_id, _queue: hints.append(shard_id))
    assert hints == [waiting]  # the other one backs off
    assert shard(engine, silent).state == ShardState.PENDING
    actions = [entry.action for entry in ordered(engine)]
    assert actions[-2:] == [Action.SHARD_EXPIRED, Action.KEY_CREATED]
    with reading(engine) as session:
        assert session.scalar(sa.select(sa.func.count(OutboxTable.id))) == 0


def test_rounds_at_once_finalise_a_run_once(services: Services) -> None:
    """Three rounds together write one report, one end and a checkpoint over both."""
    engine = services.engine
    run_id = real_run(engine)
    finish_all(engine, run_id)
    look = [lambda: look_after(services, publish=lambda *_hint: None)] * 3
    at_once(look)
    row = run(engine, run_id)
    assert row.state == RunState.DONE
    assert row.finaliser_attempt == 1
    assert row.result_digest is not None
    assert sorted(services.store.keys("runs/")) == [
        f"runs/{run_id}/report.f1.html",
        f"runs/{run_id}/report.f1.json",
    ]
    actions = [entry.action for entry in ordered(engine)]
    assert actions.count(Action.REPORT_WRITTEN) == 1
    assert actions.count(Action.RUN_FINALISED) == 1
    note = latest_checkpoint(engine)
    assert note is not None
    assert int(note.splitlines()[1]) == len(actions)
    look_after(services, publish=lambda *_hint: None)
    assert run(engine, run_id).finaliser_attempt == 1


def test_a_report_may_take_longer_than_the_lease(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two control workers do not take a run from each other while one is at it."""
    slow = services_of(engine, tmp_path, lease_s=0.9)
    run_id = real_run(engine)
    finish_all(engine, run_id)

    def render(*arguments: Any) -> str:
        time.sleep(3)
        return render_html(*arguments)

    monkeypatch.setattr(pipeline.finalising, "render_html", render)

    def look_often() -> None:
        for _ in range(12):
            look_after(slow, publish=lambda *_hint: None)
            time.sleep(0.3)

    at_once([look_often] * 2)
    row = run(engine, run_id)
    assert (row.state, row.finaliser_attempt) == (RunState.DONE, 1)
    slow.close()


def test_a_finaliser_that_hangs_is_replaced(services: Services) -> None:
    """Without a step done, the lease is not renewed for ever."""
    engine = services.engine
    run_id = real_run(engine)
    finish_all(engine, run_id)
    fence = claim_finaliser(engine, run_id, lease_s=0.6)
    assert fence == 1
    with FinaliserKeeper(engine, run_id, fence=fence, lease_s=0.6, stall_s=0.1):
        time.sleep(1.2)
        assert claim_finaliser(engine, run_id, lease_s=60) == 2


@pytest.mark.parametrize(
    ("error", "state"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), RunState.FINALISING),
        (OSError(errno.EIO, "Input/output error"), RunState.FINALISING),
        (OSError("no number: a library cannot read some bytes"), RunState.FAILED),
        (ValueError("a fault"), RunState.FAILED),
    ],
)
def test_a_full_disk_fails_no_run(
    sqlite_engine: sa.Engine,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    state: RunState,
) -> None:
    """What passes leaves the run to its next finaliser; a fault ends it with a word."""
    services = services_of(sqlite_engine, tmp_path)
    run_id = real_run(sqlite_engine)
    finish_all(sqlite_engine, run_id)

    def refuse(*_arguments: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.finalising, "render_html", refuse)
        look_after(services, publish=lambda *_hint: None)
    row = run(sqlite_engine, run_id)
    assert row.state == state
    if state == RunState.FINALISING:
        set_run(sqlite_engine, run_id, finaliser_lease_until=epoch_now() - 1)
        look_after(services, publish=lambda *_hint: None)
        assert run(sqlite_engine, run_id).state == RunState.DONE
    services.close()


def test_a_run_with_dead_shards_ends_incomplete(services: Services) -> None:
    """What is missing is said in the report, and there is no digest to compare."""
    engine = services.engine
    run_id = real_run(engine, max_attempts=1)
    dead, done = shard_ids(engine, run_id)
    claimed(engine, dead)
    let_lease_run_out(engine, dead)
    finish(engine, claimed(engine, done))
    look_after(services, publish=lambda *_hint: None)
    row = run(engine, run_id)
    assert (row.state, row.result_digest) == (RunState.INCOMPLETE, None)
    with services.store.open(f"runs/{run_id}/report.f1.json") as stream:
        report = json.load(stream)
    assert report["scope"]["dead_shards"][0]["error"] == "lease_expired"
    assert report["scope"]["items"]["missing"] == 2


def test_what_nobody_signed_is_signed_by_a_later_round(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends between a run's end and its checkpoint costs a minute."""
    engine = services.engine
    run_id = real_run(engine)
    finish_all(engine, run_id)

    class Killed(BaseException):
        """The process ended here."""

    def kill(*_arguments: Any, **_named: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(pipeline.finalising, "write_signed_checkpoint", kill)
        with pytest.raises(Killed):
            look_after(services, publish=lambda *_hint: None)
    assert run(engine, run_id).state == RunState.DONE
    assert latest_checkpoint(engine) is None
    look_after(services, publish=lambda *_hint: None)
    note = latest_checkpoint(engine)
    assert note is not None
    assert int(note.splitlines()[1]) == len(ordered(engine))
    # A ledger that goes on growing is signed once in a while, not in each round.
    real_run(engine)
    look_after(services, publish=lambda *_hint: None)
    assert latest_checkpoint(engine) == note
    monkeypatch.setattr(workers.recovery, "CHECKPOINT_INTERVAL_S", 0.0)
    look_after(services, publish=lambda *_hint: None)
    assert latest_checkpoint(engine) != note


def test_the_key_that_a_round_makes_is_in_the_ledger(services: Services) -> None:
    """Who verifies learns from the ledger itself since when a key has signed."""
    engine = services.engine
    for _ in range(2):
        finish_all(engine, real_run(engine))
        look_after(services, publish=lambda *_hint: None)
    made = [e for e in ordered(engine) if e.action == Action.KEY_CREATED]
    public = services.settings.resolved_signing_key.with_name("ledger.key.pub")
    assert [entry.details["vkey"] for entry in made] == [public.read_text().strip()]


def test_a_broken_ledger_raises_an_alarm_and_stops_no_work(
    services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is signed or ordered any more, hints and reports go on."""
    engine = services.engine
    finish_all(engine, real_run(engine))
    look_after(services, publish=lambda *_hint: None)
    before = list(read_checkpoints(engine))
    with transaction(engine) as session:
        session.execute(sa.update(LedgerHeadTable).values(frontier=["00" * 32]))
    second, waiting = real_run(engine), real_run(engine)
    finish_all(engine, second)
    hints: list[int] = []
    monkeypatch.setattr(workers.recovery, "CHECKPOINT_INTERVAL_S", 0.0)
    with capture_logs() as lines:
        look_after(services, publish=lambda shard_id, _queue: hints.append(shard_id))
    alarms = [line for line in lines if line["event"] == "ledger_broken"]
    assert {line["log_level"] for line in alarms} == {"critical"}
    assert hints == shard_ids(engine, waiting)
    assert run(engine, second).state == RunState.DONE
    assert list(read_checkpoints(engine)) == before


def test_only_a_runs_last_end_covers_its_bundle(services: Services) -> None:
    """Retried, and incomplete again: a checkpoint over the first end is not enough."""
    engine = services.engine
    run_id = real_run(engine, shards=1, max_attempts=1)
    (only,) = shard_ids(engine, run_id)
    claimed(engine, only)
    let_lease_run_out(engine, only)
    look_after(services, publish=lambda *_hint: None)
    require_covered(services, run(engine, run_id))
    retry_dead_shards(engine, run_id, attempts=1, actor="user/tester")
    claimed(engine, only)
    let_lease_run_out(engine, only)
    expire_leases(engine, actor="worker/tester")
    assert finalise(services, run_id, key=None) == RunState.INCOMPLETE
    with pytest.raises(StateConflictError, match="No signed checkpoint"):
        require_covered(services, run(engine, run_id))
    seal(services)
    require_covered(services, run(engine, run_id))


def test_a_run_that_cannot_be_finalised_keeps_nobody_waiting(
    services: Services,
) -> None:
    """It fails with a sentence, others are finalised, and `resume` tries again."""
    engine = services.engine
    bad, good = real_run(engine), real_run(engine)
    for run_id in (bad, good):
        finish_all(engine, run_id)
    plan = run(engine, bad).plan
    set_run(engine, bad, plan=plan | {"unknown": 1}, created_at=1.0)
    with capture_logs() as lines:
        look_after(services, publish=lambda *_hint: None)
    assert "finalising_failed" in {line["event"] for line in lines}
    assert run(engine, good).state == RunState.DONE
    row = run(engine, bad)
    assert row.state == RunState.FAILED
    assert row.error == (
        "Its report could not be written (TypeError); mend the cause and run "
        f"'affidavit resume {bad}'."
    )
    set_run(engine, bad, plan=plan)
    resume_run(engine, bad, actor="user/tester")
    look_after(services, publish=lambda *_hint: None)
    assert run(engine, bad).state == RunState.DONE


def test_an_exposed_signing_key_stops_reports_only(services: Services) -> None:
    """Without a usable key nothing is finalised, yet leases, hints and order go on."""
    engine = services.engine
    ready, waiting = real_run(engine, shards=1), real_run(engine, shards=1)
    finish_all(engine, ready)
    services.settings.resolved_signing_key.write_text("no key")
    hints: list[int] = []
    with capture_logs() as lines:
        look_after(services, publish=lambda shard_id, _queue: hints.append(shard_id))
    assert "signing_key_unusable" in {line["event"] for line in lines}
    assert hints == shard_ids(engine, waiting)
    assert run(engine, ready).state == RunState.RUNNING
    assert Action.SHARD_FINISHED in {entry.action for entry in ordered(engine)}
    services.settings.resolved_signing_key.unlink()
    look_after(services, publish=lambda *_hint: None)
    assert run(engine, ready).state == RunState.DONE


def test_a_store_that_is_away_is_tried_again(services: Services) -> None:
    """The run stays at its finaliser and ends well when the store is back."""
    engine = services.engine
    run_id = real_run(engine)
    finish_all(engine, run_id)
    broken = Services(
        settings=services.settings.model_copy(
            update={
                "object_store_url": "s3://bucket/x",
                "s3_endpoint_url": "http://127.0.0.1:9",
            }
        ),
        actor="worker/tester",
    )
    with capture_logs() as lines:
        look_after(broken, publish=lambda *_hint: None)
    broken.close()
    assert "finalising_broken_off" in {line["event"] for line in lines}
    assert run(engine, run_id).state == RunState.FINALISING
    set_run(engine, run_id, finaliser_lease_until=epoch_now() - 1)
    look_after(services, publish=lambda *_hint: None)
    row = run(engine, run_id)
    assert (row.state, row.finaliser_attempt) == (RunState.DONE, 2)


def test_a_round_without_a_database_is_one_line(tmp_path: Path) -> None:
    """The task neither fails nor prints a traceback; the next round tries again."""
    engine = sa.create_engine("postgresql+psycopg://u:very-secret@127.0.0.1:9/db")
    services = services_of(engine, tmp_path)
    with capture_logs() as lines:
        look_after(services, publish=lambda *_hint: None)
        run_shard(ProcessState(services), 1, publish=lambda *_hint: None)
    assert [(line["event"], line["error"]) for line in lines] == [
        ("round_broken_off", DatabaseUnavailableError.__name__),
        ("shard_not_claimed", DatabaseUnavailableError.__name__),
    ]
    services.close()


def test_a_hint_that_is_stale_changes_nothing(services: Services) -> None:
    """Doubled, late and senseless hints are dropped without a trace."""
    engine = services.engine
    run_id = real_run(engine)
    held, done = shard_ids(engine, run_id)
    claimed(engine, held)
    finish(engine, claimed(engine, done))
    state = ProcessState(services)
    with reading(engine) as session:
        before = session.scalar(sa.select(sa.func.count(OutboxTable.id)))
    for shard_id in (held, done, done, -1, 2**62):
        run_shard(state, shard_id, publish=lambda *_hint: None)
    with reading(engine) as session:
        assert session.scalar(sa.select(sa.func.count(OutboxTable.id))) == before


def test_a_worker_that_is_asked_to_stop_claims_nothing(
    services: Services, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hint is left to others."""
    engine = services.engine
    first = shard_ids(engine, real_run(engine))[0]
    monkeypatch.setenv(STOP_FILE_VARIABLE, str(tmp_path / "stop"))
    (tmp_path / "stop").touch()
    run_shard(ProcessState(services), first, publish=lambda *_hint: None)
    assert shard(engine, first).attempt == 0


def test_a_shard_whose_network_does_not_load_fails_its_attempt(
    services: Services,
) -> None:
    """The worker lives, the failure has a name and a ledger entry, the rest goes on."""
    engine = services.engine
    run_id = real_run(engine)
    set_run(engine, run_id, plan={"batch_size": 2})
    first, second = shard_ids(engine, run_id)
    hints: list[int] = []
    with capture_logs() as lines:
        run_shard(
            ProcessState(services),
            first,
            publish=lambda shard_id, _queue: hints.append(shard_id),
        )
    row = shard(engine, first)
    assert (row.state, row.error) == (ShardState.PENDING, "TypeError")
    assert hints == [second]
    failed = next(line for line in lines if line["event"] == "shard_failed")
    assert failed["error"] == "TypeError"
    assert structlog.contextvars.get_contextvars() == {}


def test_a_lease_is_kept_while_a_network_loads(
    sqlite_engine: sa.Engine, tmp_path: Path
) -> None:
    """A slow start of a worker does not cost it the shard."""
    services = services_of(sqlite_engine, tmp_path, lease_s=1.5)
    first = shard_ids(sqlite_engine, real_run(sqlite_engine))[0]
    renewed: list[bool] = []

    class SlowState(ProcessState):
        """A process whose network takes two leases to load, and is then bad."""

        def context(self, run: RunTable) -> Any:
            before = shard(sqlite_engine, first).lease_until or 0
            time.sleep(3)
            after = shard(sqlite_engine, first).lease_until or 0
            renewed.append(after > before + 1)
            raise ValueError(run.id)

    run_shard(SlowState(services), first, publish=lambda *_hint: None)
    assert renewed == [True]
    assert shard(sqlite_engine, first).error == "ValueError"
    services.close()
