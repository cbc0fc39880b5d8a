# SPDX-License-Identifier: Apache-2.0
"""Erasures and holds as rows, and what a subject's rows become."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.orm import Session

from storage.engine import epoch_now, reading
from storage.errors import StateConflictError
from storage.privacy_states import ErasureState
from storage.scrubbing import scrubbing
from storage.subjects import new_token
from storage.tables import (
    ErasureTable,
    ItemTable,
    LegalHoldTable,
    LocationTable,
    RunTable,
    ShardTable,
)

#: Reason and status of an erased item's row, as `pipeline.errors` and `states` name it.
ERASED_ROW: Mapping[str, Any] = {
    "subject_token": None,
    "status": "failed",
    "reason": "subject_erased",
    "input_sha256": None,
    "predicted": None,
    "target": None,
    "label": None,
    "score": None,
    "keep_requested": None,
    "keep_achieved": None,
    "cut": None,
    "metrics": {},
    "absences": {},
    "truth_sha256": None,
    # The leaf stays in its tree; without the salt it says nothing.
    "leaf_salt": None,
}


def open_erasure(
    session: Session, token: str, *, requested_by: str
) -> tuple[ErasureTable, bool]:
    """Return the erasure of the subject that is under way, and whether it is new."""
    found = session.scalars(
        sa.select(ErasureTable)
        .where(
            ErasureTable.subject_token == token,
            ErasureTable.state != ErasureState.CERTIFIED,
        )
        .order_by(ErasureTable.created_at)
    ).first()
    if found is not None:
        return found, False
    made = ErasureTable(
        id=new_token()[:12],
        subject_token=token,
        state=ErasureState.REQUESTED,
        requested_by=requested_by,
        created_at=session.scalar(sa.select(epoch_now())) or 0.0,
    )
    session.add(made)
    session.flush()
    return made, True


def erasures_of(engine: sa.Engine, token: str | None = None) -> list[ErasureTable]:
    """Return the erasures of a subject, or all, the oldest first."""
    query = sa.select(ErasureTable).order_by(ErasureTable.created_at, ErasureTable.id)
    if token is not None:
        query = query.where(ErasureTable.subject_token == token)
    with reading(engine) as session:
        return list(session.scalars(query))


def holds_on(session: Session, objects: Sequence[str]) -> list[LegalHoldTable]:
    """Return the holds on any of the objects that are not released."""
    return list(
        session.scalars(
            sa.select(LegalHoldTable)
            .where(
                LegalHoldTable.object.in_(objects), LegalHoldTable.released_at.is_(None)
            )
            .order_by(LegalHoldTable.placed_at)
        )
    )


def place_hold(
    session: Session, obj: str, reason: str, *, placed_by: str
) -> LegalHoldTable:
    """Return the hold, from now on in force.

    Raises:
        StateConflictError: the object is held already.
    """
    if holds_on(session, [obj]):
        raise StateConflictError(f"'{obj}' is held already; one hold is enough.")
    made = LegalHoldTable(
        id=new_token()[:12],
        object=obj,
        reason=reason,
        placed_by=placed_by,
        placed_at=session.scalar(sa.select(epoch_now())) or 0.0,
    )
    session.add(made)
    session.flush()
    return made


def release_holds(session: Session, obj: str) -> list[LegalHoldTable]:
    """Return the holds on the object, which are released.

    Raises:
        StateConflictError: there is none.
    """
    found = holds_on(session, [obj])
    if not found:
        raise StateConflictError(f"There is no hold on '{obj}'.")
    now = session.scalar(sa.select(epoch_now()))
    for one in found:
        one.released_at = now
    return found


def places_of(
    engine: sa.Engine, token: str, *, erased: bool = False
) -> dict[str, list[int]]:
    """Return the subject's items by run, in order; by default those not erased yet."""
    query = (
        sa.select(LocationTable.run_id, LocationTable.item_index)
        .where(LocationTable.subject_token == token)
        .order_by(LocationTable.run_id, LocationTable.item_index)
    )
    if not erased:
        query = query.where(LocationTable.erased_place.is_(None))
    found: dict[str, list[int]] = {}
    with reading(engine) as session:
        for row in session.execute(query):
            found.setdefault(row.run_id, []).append(row.item_index)
    return found


def leftovers_of(engine: sa.Engine, token: str) -> int:
    """Return how many rows still tell something of the subject."""
    with reading(engine) as session:
        places = session.scalar(
            sa.select(sa.func.count())
            .select_from(LocationTable)
            .where(
                LocationTable.subject_token == token,
                LocationTable.erased_place.is_(None),
            )
        )
        items = session.scalar(
            sa.select(sa.func.count())
            .select_from(ItemTable)
            .where(ItemTable.subject_token == token)
        )
    return int(places or 0) + int(items or 0)


def name_artifact(
    session: Session, shard_id: int, *, old_key: str, key: str, sha256: str, size: int
) -> None:
    """The shard names the new artifact.

    Raises:
        StateConflictError: it no longer names the old one.
    """
    row = session.execute(
        sa.update(ShardTable)
        .where(ShardTable.id == shard_id, ShardTable.object_key == old_key)
        .values(object_key=key, sha256=sha256, size_bytes=size)
        .returning(ShardTable.id)
        .execution_options(synchronize_session=False)
    ).one_or_none()
    if row is None:
        raise StateConflictError(
            "Somebody else rewrote the same shard just now; do it again."
        )


def erase_rows(session: Session, run_id: str, places: Mapping[int, str]) -> None:
    """The items' rows tell nothing any more, but that there was one.

    Args:
        session: The caller's transaction.
        run_id: The run.
        places: Item index to the salted digest that its manifest row had.
    """
    scrubbing(session)
    for index, place in places.items():
        session.execute(
            sa.update(ItemTable)
            .where(ItemTable.run_id == run_id, ItemTable.item_index == index)
            .values(dict(ERASED_ROW))
            .execution_options(synchronize_session=False)
        )
        session.execute(
            sa.update(LocationTable)
            .where(LocationTable.run_id == run_id, LocationTable.item_index == index)
            .values(
                uri=sa.literal("erased/").concat(LocationTable.item_id),
                size_bytes=None,
                version=None,
                label=None,
                mask_uri=None,
                salt=None,
                erased_place=place,
            )
            .execution_options(synchronize_session=False)
        )


def name_report(session: Session, run_id: str, keys: dict[str, str]) -> None:
    """The run's summary names the new report."""
    run = session.get_one(RunTable, run_id)
    run.summary = {**(run.summary or {}), "report": keys}
