# SPDX-License-Identifier: Apache-2.0
"""Creating a run is one transaction: all of it is there, or none of it."""

import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Barrier, BrokenBarrierError
from typing import Any, cast

import pytest
import sqlalchemy as sa

from pipeline import run_creation
from pipeline.domain import SourceItem
from pipeline.errors import SourceError
from pipeline.labels import ClassNames
from pipeline.outlook import ForeseenSource
from pipeline.planning import PreparedAudit
from pipeline.run_creation import create_run
from pipeline.run_origin import RunOrigin
from pipeline.run_plan import RunPlan
from pipeline.services import Services
from pipeline.spec import AuditSpec
from storage.engine import reading
from storage.errors import FencedOutError
from storage.manifests import iterate_locations
from storage.schedule_slots import claim_slot, due_slots, last_slots
from storage.schedules import request_slot
from storage.states import RunState, ShardState
from storage.tables import RunTable, ShardTable, SubjectTable
from tests.support.planted import at_once, entries, run, services_of, snapshot
from tests.support.planted_schedules import plant_schedule

CHUNK = 20


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few items make several chunks."""
    monkeypatch.setattr(run_creation, "CHUNK", CHUNK)


class ListedSource:
    """A source that lists what it was given, and may break off."""

    kind = "csv"

    def __init__(self, items: list[SourceItem], *, breaks: bool = False) -> None:
        self._items = items
        self._breaks = breaks

    def items(self) -> Iterator[SourceItem]:
        """Yield the items, then break off if so told."""
        yield from self._items
        if self._breaks:
            raise SourceError("The listing broke off.")


def people(count: int) -> list[SourceItem]:
    """Return items about persons, of one site each; two of three are duplicates."""
    return [
        SourceItem(
            uri=f"/scans/{number - number % 3}.png",
            size_bytes=number,
            version=None,
            label=None,
            mask_uri=None,
            subject=f"person-{number // 2}",
            groups={"site": f"site-{number // 20}"},
        )
        for number in range(count)
    ]


def prepared(items: list[SourceItem], *, breaks: bool = False) -> PreparedAudit:
    """Return an audit as planning leaves it, without a network."""
    spec = AuditSpec.model_validate(
        {
            "audit": "people",
            "model": {"source": "torchvision:resnet18"},
            "data": {
                "source": "people.csv",
                "columns": {"subject": "person", "groups": ["site", "sex"]},
            },
            "run": {"max_attempts": 4},
        }
    )
    plan: dict[str, Any] = {
        "layer": "layer4",
        "layer_reason": "named",
        "method": "gradcam",
        "target": "predicted",
        "policy": "fixed",
        "policy_arguments": {"keep": 0.1},
        "metrics": [],
        "cards": {},
        "batch_size": 2,
        "threads": 1,
        "dtype": "float32",
        "device": "cpu",
        "seed": 0,
        "input_shape": [3, 8, 8],
        "map_shape": [2, 2],
        "std": [1.0],
        "class_count": 2,
        "classes": None,
        "roots": [],
        "forwards_per_item": 0,
        "item_seconds": None,
        "shard_size": 20,
    }
    source = ListedSource(items, breaks=breaks)
    return PreparedAudit(
        written=spec,
        resolved=spec,
        plan=RunPlan(**plan),
        spec_sha256="0" * 64,
        model_sha256="1" * 64,
        source=source,
        foreseen=ForeseenSource(source, spec, ClassNames(None, count=2)),
        executor=cast("Any", None),
    )


@pytest.fixture
def services(engine: sa.Engine, tmp_path: Path) -> Iterator[Services]:
    """Services on a fresh database."""
    found = services_of(engine, tmp_path)
    yield found
    found.close()


def test_a_run_is_created_whole(engine: sa.Engine, services: Services) -> None:
    """Manifest, tokens, shards and the ledger's entry belong together."""
    count = CHUNK * 2 + 10
    told: list[int] = []
    run_id = create_run(
        services, prepared(people(count)), queue="cpu", on_items=told.append
    )
    row = run(engine, run_id)
    assert (row.state, row.items_total, row.shards_total) == (
        RunState.QUEUED,
        count,
        3,
    )
    assert told == [CHUNK, CHUNK, 10]
    with reading(engine) as session:
        shards = session.scalars(
            sa.select(ShardTable).order_by(ShardTable.shard_index)
        ).all()
        kinds = Counter(session.scalars(sa.select(SubjectTable.kind)))
    assert [(s.first_item, s.item_count) for s in shards] == [
        (0, 20),
        (20, 20),
        (40, 10),
    ]
    assert {(s.state, s.attempt, s.max_attempts) for s in shards} == {
        (ShardState.PENDING, 0, 4)
    }
    assert kinds == {"subject": 25, "group:site": 3}
    rows = list(iterate_locations(engine, run_id))
    assert [found.item_index for found in rows] == list(range(count))
    assert len({found.item_id for found in rows}) == count
    assert len({found.salt for found in rows}) == count
    doubled = sum(found.duplicate_of is not None for found in rows)
    (entry,) = entries(engine)
    assert entry.digest == row.manifest_digest
    assert (
        entry.details["duplicates"] == doubled == sum(n % 3 > 0 for n in range(count))
    )


def test_a_listing_that_breaks_off_leaves_nothing(
    engine: sa.Engine, services: Services
) -> None:
    """No run, audit, token, location, shard or entry outlives the exception."""
    before = snapshot(engine)
    with pytest.raises(SourceError, match="broke off"):
        create_run(services, prepared(people(CHUNK + 5), breaks=True), queue="cpu")
    assert snapshot(engine) == before


def test_an_interrupt_while_listing_leaves_nothing(
    engine: sa.Engine, services: Services
) -> None:
    """Ctrl-C in the middle of planning is as if nothing had been asked."""

    def interrupt(_count: int) -> None:
        raise KeyboardInterrupt

    before = snapshot(engine)
    with pytest.raises(KeyboardInterrupt):
        create_run(services, prepared(people(5)), queue="cpu", on_items=interrupt)
    assert snapshot(engine) == before


def test_planners_at_once_agree_on_tokens(
    engine: sa.Engine, services: Services
) -> None:
    """Plans that meet the same persons in opposite order neither wait nor disagree."""
    forwards = people(CHUNK * 2)
    backwards = forwards[::-1]
    # The audit is there already, else the second planner would wait for its row.
    create_run(services, prepared(people(1)), queue="cpu")
    both_half_way = Barrier(2)

    def wait(_count: int) -> None:
        with suppress(BrokenBarrierError):  # the other one may have to wait for us
            both_half_way.wait(0.5)

    def plan(items: list[SourceItem]) -> str:
        return create_run(services, prepared(items), queue="cpu", on_items=wait)

    ids = at_once([lambda: plan(forwards), lambda: plan(backwards)])
    first, second = (list(iterate_locations(engine, run_id)) for run_id in ids)
    assert [found.subject_token for found in first] == [
        found.subject_token for found in reversed(second)
    ]
    assert [found.groups for found in first] == [
        found.groups for found in reversed(second)
    ]
    with reading(engine) as session:
        assert session.scalar(sa.select(sa.func.count(SubjectTable.token))) == 22
        assert session.scalar(sa.select(sa.func.count(RunTable.id))) == 3


def test_a_planner_that_lost_its_slot_leaves_no_run(
    engine: sa.Engine, services: Services
) -> None:
    """Run and end of slot are one transaction: a stale planner writes neither."""
    found = plant_schedule(engine)
    request_slot(engine, found, actor="user/tester")
    (slot_id,) = due_slots(engine)
    stale = claim_slot(engine, slot_id, worker="worker/a", lease_s=0)
    time.sleep(0.01)
    owner = claim_slot(engine, slot_id, worker="worker/b", lease_s=60)
    before = snapshot(engine)
    with pytest.raises(FencedOutError):
        create_run(
            services, prepared(people(8)), queue="cpu", origin=RunOrigin(slot=stale)
        )
    assert snapshot(engine) == before
    run_id = create_run(
        services, prepared(people(8)), queue="cpu", origin=RunOrigin(slot=owner)
    )
    (slot,) = last_slots(engine, found)
    assert (slot.state, slot.run_id) == ("planned", run_id)
    assert run(engine, run_id).origin == {
        "schedule": found,
        "slot": slot.slot,
        "manual": True,
    }
