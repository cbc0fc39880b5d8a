# SPDX-License-Identifier: Apache-2.0
"""Forgetting a subject: requested, verified, held or planned, executed, checked.

Each step is one transaction with its ledger entry, and the whole can be called again
until it is through: what is done stays done, what is not is done then.
"""

import json
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from ledger.entries import Action
from pipeline.access.policy import RequestKind
from pipeline.access.second_word import require_second_word
from pipeline.digests import document_digest
from pipeline.privacy.certificate import certify
from pipeline.privacy.rewriting import rewrite_report, rewrite_shard
from pipeline.run_entries import entries_of
from pipeline.services import Services
from pipeline.signing import seal
from storage.engine import epoch_now, reading, transaction
from storage.erasures import (
    erasures_of,
    holds_on,
    leftovers_of,
    open_erasure,
    places_of,
)
from storage.errors import StateConflictError, UnknownSubjectError
from storage.events import record
from storage.objects.errors import ObjectNotFoundError
from storage.privacy_states import ErasureState
from storage.runs import get_run, list_shards
from storage.scrubbing import scrub
from storage.states import FINAL_RUN_STATES
from storage.tables import ErasureTable, ItemTable, LocationTable

_ACTIONS = {
    ErasureState.VERIFIED: Action.ERASURE_VERIFIED,
    ErasureState.HELD: Action.ERASURE_HELD,
    ErasureState.PLANNED: Action.ERASURE_PLANNED,
    ErasureState.EXECUTED: Action.ERASURE_EXECUTED,
    ErasureState.CHECKED: Action.ERASURE_CHECKED,
}


def erase(services: Services, token: str, *, identity_verified: bool) -> ErasureTable:
    """Return the erasure as far as it came: certified, or what it waits for.

    Args:
        services: Database, stores and keys.
        token: The subject.
        identity_verified: Whether somebody vouches for who asks; without, the request
            is noted and nothing is erased.

    Raises:
        UnknownSubjectError: nobody and nothing has the token.
        AccessRefusedError: a second principal has not agreed yet.
        StateConflictError: a run with the subject is under way.
    """
    require_known(services, token)
    erasure = _requested(services, token)
    if erasure.state == ErasureState.REQUESTED:
        if not identity_verified:
            return erasure
        erasure = _move(services, erasure, ErasureState.VERIFIED)
    if erasure.state in {ErasureState.VERIFIED, ErasureState.HELD}:
        if _is_held(services, token):
            if erasure.state != ErasureState.HELD:
                erasure = _move(services, erasure, ErasureState.HELD)
            return erasure
        require_second_word(
            services, RequestKind.ERASURE, f"subject/{token}", {"erase": token}
        )
        erasure = _move(
            services, erasure, ErasureState.PLANNED, plan=plan_of(services, token)
        )
    return carry_out(services, erasure)


def carry_out(services: Services, erasure: ErasureTable) -> ErasureTable:
    """Return the planned erasure, carried out, checked and, with the key, certified."""
    if erasure.state == ErasureState.PLANNED:
        note_in_journal(services, erasure.subject_token, erasure.id)
        counts = _execute(services, erasure)
        erasure = _move(services, erasure, ErasureState.EXECUTED, counts=counts)
    if erasure.state == ErasureState.EXECUTED:
        _check(services, erasure)
        erasure = _move(services, erasure, ErasureState.CHECKED)
    if erasure.state == ErasureState.CHECKED:
        erasure = certify(services, erasure)
    seal(services)
    return erasure


def require_known(services: Services, token: str) -> None:
    """Nothing happens if something is, or was, known about the token.

    Raises:
        UnknownSubjectError: nobody and nothing has it.
    """
    known = (
        places_of(services.engine, token, erased=True)
        or erasures_of(services.engine, token)
        or services.vault.identity_of(token) is not None
    )
    if not known:
        raise UnknownSubjectError(
            f"No subject has the token '{token[:40]}'; 'affidavit subject find' tells "
            "a person's."
        )


def _requested(services: Services, token: str) -> ErasureTable:
    with transaction(services.engine) as session:
        erasure, is_new = open_erasure(session, token, requested_by=services.actor)
        if is_new:
            _record(services, session, Action.ERASURE_REQUESTED, erasure)
    seal(services)
    return erasure


def _move(
    services: Services, erasure: ErasureTable, state: ErasureState, **values: Any
) -> ErasureTable:
    """Return the erasure in its new state, which the ledger tells of."""
    with transaction(services.engine) as session:
        row = session.get_one(ErasureTable, erasure.id)
        row.state = state
        for name, value in values.items():
            setattr(row, name, value)
        details = {
            name: number
            for name, number in (row.counts or {}).items()
            if state in {ErasureState.EXECUTED, ErasureState.CHECKED}
        }
        digest = document_digest(row.plan) if row.plan is not None else None
        _record(services, session, _ACTIONS[state], row, digest=digest, **details)
    return row


def _record(
    services: Services,
    session: Any,
    action: Action,
    erasure: ErasureTable,
    *,
    digest: str | None = None,
    **details: Any,
) -> None:
    record(
        session,
        action,
        f"subject/{erasure.subject_token}",
        actor=services.actor,
        digest=digest,
        details={"erasure": erasure.id, **details},
    )


def _is_held(services: Services, token: str) -> bool:
    """Whether a legal hold on the subject, or on a run with it, outranks this."""
    runs = places_of(services.engine, token)
    objects = [f"subject/{token}", *(f"run/{run}" for run in runs)]
    with reading(services.engine) as session:
        return bool(holds_on(session, objects))


def plan_of(services: Services, token: str) -> dict[str, Any]:
    """Return what is to be rewritten and deleted: random names and counts alone.

    Raises:
        StateConflictError: a run with the subject is under way.
    """
    runs = []
    for run_id, items in places_of(services.engine, token).items():
        run = get_run(services.engine, run_id)
        if run.state not in FINAL_RUN_STATES:
            raise StateConflictError(
                f"The run {run_id} with this subject is {run.state}; let it end, or "
                f"stop it with 'affidavit cancel {run_id}', then do it again."
            )
        shards = {
            shard.shard_index: shard.object_key
            for shard in list_shards(services.engine, run_id)
            if any(
                shard.first_item <= item < shard.first_item + shard.item_count
                for item in items
            )
        }
        runs.append(
            {
                "run": run_id,
                "items": len(items),
                "shards": sorted(shards),
                "objects": [key for key in shards.values() if key is not None],
                "report": sorted(((run.summary or {}).get("report") or {}).values()),
            }
        )
    return {"runs": runs}


def _execute(services: Services, erasure: ErasureTable) -> dict[str, int]:
    """Return counts of what was done; what an earlier attempt did is passed over."""
    token = erasure.subject_token
    counts = dict.fromkeys(("runs", "items", "shards", "objects", "versions"), 0)
    places = places_of(services.engine, token)
    planned = (erasure.plan or {})["runs"]
    everything = places_of(services.engine, token, erased=True)
    for part in planned:
        run = get_run(services.engine, part["run"])
        mine = places.get(run.id, [])
        if mine:
            said = entries_of(services, run.id, by_index=True)
            for shard in list_shards(services.engine, run.id):
                bounds = range(shard.first_item, shard.first_item + shard.item_count)
                items = {item for item in mine if item in bounds}
                if items:
                    rewrite_shard(
                        services, run, shard, items, said, erasure_id=erasure.id
                    )
        replaced = _report_keys(services, run.id, everything, erasure)
        for key in [*part["objects"], *replaced]:
            gone = services.store.erase(key)
            counts["versions"] += gone
            counts["objects"] += bool(gone)
        counts["runs"] += 1
        counts["items"] += part["items"]
        counts["shards"] += len(part["shards"])
    counts["identities"] = services.vault.forget(token, erasure.id)
    scrub(services.engine, [LocationTable.__tablename__, ItemTable.__tablename__])
    return counts


def _report_keys(
    services: Services,
    run_id: str,
    places: Mapping[str, list[int]],
    erasure: ErasureTable,
) -> list[str]:
    """Return the keys of reports that another one has replaced."""
    run = get_run(services.engine, run_id)
    rewrite_report(
        services, run, frozenset(places.get(run_id, ())), erasure_id=erasure.id
    )
    now = get_run(services.engine, run_id)
    named = set(((now.summary or {}).get("report") or {}).values())
    planned = next(p for p in (erasure.plan or {})["runs"] if p["run"] == run_id)
    return [key for key in planned["report"] if key not in named]


def _check(services: Services, erasure: ErasureTable) -> None:
    """Nothing happens if nothing of the subject is found any more.

    Raises:
        StateConflictError: something is; the erasure goes on when it is called again.
    """
    token = erasure.subject_token
    left = leftovers_of(services.engine, token)
    left += services.vault.identity_of(token) is not None
    for part in (erasure.plan or {})["runs"]:
        for key in part["objects"]:
            try:
                services.store.stat(key)
            except ObjectNotFoundError:
                continue
            left += 1
    if left:
        with transaction(services.engine) as session:
            session.get_one(ErasureTable, erasure.id).state = ErasureState.PLANNED
        raise StateConflictError(
            f"The erasure {erasure.id} left {left} traces; do it again, and if that "
            "does not help look whether the store refuses to delete."
        )


def note_in_journal(services: Services, token: str, erasure_id: str) -> None:
    """The journal outside the database names the erasure, on the disk."""
    path = services.settings.resolved_erasure_journal
    if (token, erasure_id) in read_journal(services).items():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    line = json.dumps({"erasure": erasure_id, "token": token, "at": now})
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    with os.fdopen(descriptor, "a", encoding="ascii") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())


def read_journal(services: Services) -> dict[str, str]:
    """Return token to erasure as the journal lists them; a torn line is passed over."""
    path = services.settings.resolved_erasure_journal
    found: dict[str, str] = {}
    if not path.exists():
        return found
    for line in path.read_text(encoding="ascii", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            found[str(entry["token"])] = str(entry["erasure"])
        except (ValueError, KeyError, TypeError):
            continue
    return found


def replay(services: Services) -> list[ErasureTable]:
    """Return the erasures that were repeated: what a restore brought back is gone.

    Holds do not stop this: what is replayed was decided before the restore.

    Raises:
        StateConflictError: a run with such a subject is under way.
    """
    wanted = services.vault.erased() | read_journal(services)
    repeated = []
    for token, erasure_id in sorted(wanted.items()):
        back = leftovers_of(services.engine, token)
        if not back and services.vault.identity_of(token) is None:
            continue
        plan = plan_of(services, token)
        with transaction(services.engine) as session:
            row = session.get(ErasureTable, erasure_id)
            if row is None:
                row = ErasureTable(
                    id=erasure_id,
                    subject_token=token,
                    requested_by=services.actor,
                    created_at=session.scalar(_now()) or 0.0,
                )
                session.add(row)
            row.state = ErasureState.PLANNED
            row.plan, row.certificate, row.finished_at = plan, None, None
            _record(
                services,
                session,
                Action.ERASURE_PLANNED,
                row,
                digest=document_digest(plan),
            )
        repeated.append(carry_out(services, row))
    with transaction(services.engine) as session:
        record(
            session,
            Action.ERASURES_REPLAYED,
            "erasures",
            actor=services.actor,
            details={"known": len(wanted), "repeated": len(repeated)},
        )
    seal(services)
    return repeated


def _now() -> Any:
    import sqlalchemy as sa  # noqa: PLC0415

    return sa.select(epoch_now())
