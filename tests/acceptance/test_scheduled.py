# SPDX-License-Identifier: Apache-2.0
"""A scheduled audit on real Redis, PostgreSQL and S3, with two beats and workers."""

from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from storage.engine import transaction
from storage.schedule_slots import last_slots
from storage.tables import RunTable, ScheduleTable
from tests.support.deployment import Deployment, deployed
from tests.support.places import StorePlace
from tests.support.workspace import Workspace, photograph

pytestmark = pytest.mark.timeout(600)

ITEMS = 6


def _document(deployment: Deployment, *arguments: str) -> Any:
    answer = deployment.call("schedule", *arguments, "--json")
    assert answer.code == 0, answer.err
    return answer.document


def test_a_missed_slot_has_one_run_and_the_next_only_what_is_new(
    tmp_path: Path, broker_url: str, postgres_url: str, s3_place: StorePlace
) -> None:
    """Two beats and a tick a second make one run a slot, planned by a worker."""
    spec = (
        Workspace(folder=tmp_path)
        .lay_out(ITEMS)
        .write_spec(
            schedule={
                "cron": "0 * * * *",
                "timezone": "Europe/Berlin",
                "incremental": True,
            },
        )
    )
    with deployed(
        tmp_path, database_url=postgres_url, place=s3_place, broker_url=broker_url
    ) as deployment:
        added = _document(deployment, "add", str(spec))
        engine = deployment.engine()
        # As if nothing had been running for the last three hours.
        with transaction(engine) as session:
            session.execute(
                sa.update(ScheduleTable).values(
                    next_slot=ScheduleTable.next_slot - 3 * 3600
                )
            )
        deployment.start_worker("control-1", "control")
        deployment.start_worker("cpu-1", "cpu")
        for name in ("beat-1", "beat-2"):
            deployment.start(name, "beat")

        def states() -> list[str]:
            return [slot.state for slot in last_slots(engine, added["schedule"])]

        deployment.wait_until(lambda: states() == ["planned"], "no run is planned")
        (slot,) = last_slots(engine, added["schedule"])
        assert slot.run_id is not None
        first = deployment.wait_for_state(slot.run_id, "done", "incomplete")
        assert first["state"] == "done", deployment.logs()
        assert first["items"] == {"total": ITEMS, "done": ITEMS, "failed": 0}
        assert (first["schedule"], first["slot"]) == (added["schedule"], slot.slot)

        # Another picture, and a run that a person asks for: it takes that one alone.
        for number in range(ITEMS + 1):
            photograph(number).save(tmp_path / "photos" / f"{number:04d}.png")
        _document(deployment, "run-now", added["schedule"])
        deployment.wait_until(
            lambda: states() == ["planned", "planned"], "the asked run is not planned"
        )
        second = deployment.wait_for_state(
            last_slots(engine, added["schedule"])[0].run_id or "", "done", "incomplete"
        )
        assert second["items"]["total"] == 1, second["incremental"]
        assert second["incremental"]["unchanged"] == ITEMS
        assert second["incremental"]["hashed"] == ITEMS, "the files were written anew"
        assert second["change"]["previous"] == first["run"]

        with engine.connect() as connection:
            runs = connection.scalar(sa.select(sa.func.count()).select_from(RunTable))
        assert runs == 2
        assert _document(deployment, "list")["schedules"][0]["missed"] == 2
        verdict = deployment.call("verify", second["run"], "--json")
        assert verdict.code == 0, verdict.out
        engine.dispose()
