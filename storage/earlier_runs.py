# SPDX-License-Identifier: Apache-2.0
"""Earlier runs of an audit, and what they say of items, by where the items are."""

from collections.abc import Iterator
from typing import Any

import sqlalchemy as sa

from storage.engine import reading
from storage.states import RunState
from storage.tables import AuditTable, ItemTable, LocationTable, RunTable

#: States of runs whose results count: others may still change.
REPORTED_STATES = (RunState.DONE, RunState.INCOMPLETE)

#: Rows in memory at a time.
CHUNK = 2000

#: Runs looked at for one that can be compared; mostly the first can.
RUNS_AT_ONCE = 5


def reported_runs(
    engine: sa.Engine, name: str, *, spec_digest: str, model_digest: str
) -> list[str]:
    """Return the runs of the audit that compute the same, the oldest first."""
    with reading(engine) as session:
        return list(
            session.scalars(
                sa.select(RunTable.id)
                .join(AuditTable, AuditTable.id == RunTable.audit_id)
                .where(
                    AuditTable.name == name,
                    RunTable.state.in_(REPORTED_STATES),
                    RunTable.spec_digest == spec_digest,
                    RunTable.model_digest == model_digest,
                )
                .order_by(RunTable.created_at, RunTable.id)
            )
        )


def runs_before(engine: sa.Engine, name: str, created_at: float) -> Iterator[RunTable]:
    """Yield the reported runs of the audit that are older, the newest first.

    Runs over the failed items of another are left out: they say nothing of the rest.
    """
    before = created_at
    while True:
        with reading(engine) as session:
            found = session.scalars(
                sa.select(RunTable)
                .join(AuditTable, AuditTable.id == RunTable.audit_id)
                .where(
                    AuditTable.name == name,
                    RunTable.state.in_(REPORTED_STATES),
                    RunTable.created_at < before,
                    RunTable.parent_run_id.is_(None),
                )
                .order_by(RunTable.created_at.desc())
                .limit(RUNS_AT_ONCE)
            ).all()
        if not found:
            return
        yield from found
        before = found[-1].created_at


def iterate_outcomes(engine: sa.Engine, run_id: str) -> Iterator[Any]:
    """Yield where each item of a run is and how it came out, in manifest order.

    Rows have `uri, size_bytes, version, label, mask_uri, status, input_sha256,
    truth_sha256`; the status is None where the item's shard is dead. Items that
    repeat an earlier one are left out.
    """
    with reading(engine) as session:
        rows = session.execute(
            sa.select(
                LocationTable.uri,
                LocationTable.size_bytes,
                LocationTable.version,
                LocationTable.label,
                LocationTable.mask_uri,
                ItemTable.status,
                ItemTable.input_sha256,
                ItemTable.truth_sha256,
            )
            .outerjoin(
                ItemTable,
                sa.and_(
                    ItemTable.run_id == LocationTable.run_id,
                    ItemTable.item_index == LocationTable.item_index,
                ),
            )
            .where(LocationTable.run_id == run_id, LocationTable.duplicate_of.is_(None))
            .order_by(LocationTable.item_index)
            .execution_options(yield_per=CHUNK)
        )
        yield from rows
