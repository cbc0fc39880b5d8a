# SPDX-License-Identifier: Apache-2.0
"""What is owed to a person who asks: what was processed, how, and who has seen it.

Each claim names the index of the ledger's entry that vouches for it; None where the
entry still waits for its place.
"""

from collections.abc import Iterator
from typing import Any

from ledger.entries import Action, Entry
from ledger.errors import FormatError
from pipeline.access.second_word import approvals_of
from pipeline.access.threshold_change import audit_object
from pipeline.deeds import record_deed
from pipeline.labels import ClassNames
from pipeline.privacy.erasing import require_known
from pipeline.services import Services
from storage.engine import reading
from storage.erasures import erasures_of, holds_on, places_of
from storage.items import find_items
from storage.ledger_writer import read_entries
from storage.manifests import find_location
from storage.reviews import sign_offs_of
from storage.runs import get_run, list_shards
from storage.tables import ItemTable, RunTable

#: Deeds by which somebody sees or gets what is about a subject of a run.
DISCLOSURES = frozenset(
    {
        Action.REPORT_READ,
        Action.ITEM_READ,
        Action.RESULTS_READ,
        Action.RESULTS_EXPORTED,
        Action.EVIDENCE_EXPORTED,
        Action.SUBJECT_READ,
        Action.SUBJECT_EXPORTED,
    }
)


def subject_report(
    services: Services, token: str, *, exported: bool = False
) -> dict[str, Any]:
    """Return the whole report as JSON values; that it was made is recorded first.

    Args:
        services: Database and keys.
        token: The subject.
        exported: Whether it is handed to the person: it then says who it is about,
            and where the inputs are.

    Raises:
        UnknownSubjectError: nobody and nothing has the token.
    """
    require_known(services, token)
    action = Action.SUBJECT_EXPORTED if exported else Action.SUBJECT_READ
    record_deed(services, action, f"subject/{token}")
    places = places_of(services.engine, token, erased=True)
    index = _Index(services, token, places)
    document: dict[str, Any] = {
        "subject": token,
        "runs": [
            _run(services, get_run(services.engine, run_id), items, index, exported)
            for run_id, items in places.items()
        ],
        "disclosures": index.disclosures,
        "holds": _holds(services, token, list(places)),
        "erasures": [
            {"erasure": row.id, "state": row.state, "requested_at": row.created_at}
            for row in erasures_of(services.engine, token)
        ],
        "automated_decision": "The scores were computed without a person; reviews and "
        "overrides of single results are not recorded by this version.",
    }
    if exported:
        document["identity"] = services.vault.identity_of(token)
    return document


class _Index:
    """Where in the ledger the entries are that vouch for a report's claims."""

    def __init__(
        self, services: Services, token: str, places: dict[str, list[int]]
    ) -> None:
        self._by_object: dict[tuple[str, Action], int] = {}
        self.disclosures: list[dict[str, Any]] = []
        ids = {
            location.item_id
            for run_id, items in places.items()
            for item in items
            if (location := find_location(services.engine, run_id, str(item)))
        }
        for place, entry in _entries(services):
            self._by_object[entry.object, entry.action] = place
            if entry.action in DISCLOSURES and _concerns(entry, token, places, ids):
                self.disclosures.append(
                    {
                        "at": entry.at,
                        "recipient": entry.actor,
                        "what": entry.action.value,
                        "object": entry.object,
                        "purpose": entry.details.get("purpose"),
                        "ledger_index": place,
                    }
                )

    def of(self, obj: str, *actions: Action) -> int | None:
        """Return the index of the last such entry about the object."""
        found = [self._by_object.get((obj, action)) for action in actions]
        return max((place for place in found if place is not None), default=None)


def _entries(services: Services) -> Iterator[tuple[int, Entry]]:
    for place, body, _leaf in read_entries(services.engine):
        try:
            yield place, Entry.parse(body)
        except FormatError:
            continue  # `verify` names it


def _concerns(
    entry: Entry, token: str, places: dict[str, list[int]], ids: set[str]
) -> bool:
    kind, _, rest = entry.object.partition("/")
    if kind == "subject":
        return rest == token
    run, _, part = rest.partition("/")
    if kind != "run" or run not in places:
        return False
    return not part or part.removeprefix("item/") in ids


def _run(
    services: Services,
    run: RunTable,
    items: list[int],
    index: _Index,
    exported: bool,
) -> dict[str, Any]:
    obj = f"run/{run.id}"
    audit = str(run.spec["audit"])
    approvals = approvals_of(services, audit_object(audit))
    return {
        "run": run.id,
        "audit": audit,
        "state": run.state,
        "created_at": run.created_at,
        "ledger_index": index.of(obj, Action.RUN_PLANNED),
        "result_digest": run.result_digest,
        "result_ledger_index": index.of(obj, Action.RUN_FINALISED),
        "model": {"source": run.spec["model"]["source"], "sha256": run.model_digest},
        "method": {
            "name": run.plan["method"],
            "parameters": run.plan["method_arguments"],
            "layer": run.plan["layer"],
        },
        "threshold": {
            "policy": run.plan["policy"],
            "parameters": run.plan["policy_arguments"],
            "approvals": [
                {
                    "request": row.id,
                    "requested_by": row.requested_by,
                    "approved_by": row.decided_by,
                    "ledger_index": index.of(
                        f"request/{row.id}", Action.REQUEST_APPROVED
                    ),
                }
                for row in approvals
            ],
        },
        "items": [
            _item(services, run, item, index, exported=exported) for item in items
        ],
        "sign_offs": [
            {
                "verdict": row.verdict,
                "signed_by": row.signed_by,
                "signed_at": row.signed_at,
                "ledger_index": index.of(obj, Action.REPORT_SIGNED),
            }
            for row in sign_offs_of(services.engine, run.id)
        ],
    }


def _item(
    services: Services, run: RunTable, item: int, index: _Index, *, exported: bool
) -> dict[str, Any]:
    names = ClassNames(run.plan["classes"], count=run.plan["class_count"])
    rows = find_items(services.engine, run.id, item)
    location = find_location(services.engine, run.id, str(item))
    shard = next(
        shard
        for shard in list_shards(services.engine, run.id)
        if shard.first_item <= item < shard.first_item + shard.item_count
    )
    document: dict[str, Any] = {
        "item_index": item,
        "item_id": None if location is None else location.item_id,
        "explanations": [_explanation(row, names) for row in rows],
        "ledger_index": index.of(
            f"run/{run.id}/shard/{shard.shard_index}",
            Action.SHARD_FINISHED,
            Action.SHARD_REWRITTEN,
        ),
    }
    if exported and location is not None:
        document["input"] = location.uri
    return document


def _explanation(row: ItemTable, names: ClassNames) -> dict[str, Any]:
    def named(which: int | None) -> str | None:
        return None if which is None else names.name_of(which)

    return {
        "status": row.status,
        "reason": row.reason,
        "predicted": named(row.predicted),
        "explained": named(row.target),
        "score": row.score,
        "kept_requested": row.keep_requested,
        "kept": row.keep_achieved,
        "cut": row.cut,
        "metrics": row.metrics,
        # What taking away or keeping the marked part does to the score, as measured.
        "what_would_change_it": {
            name: value
            for name, value in row.metrics.items()
            if name.startswith(("deletion", "insertion", "confidence"))
        },
        "record_digest": row.record_digest.hex(),
        "reviewer": None,
        "override": None,
    }


def _holds(services: Services, token: str, runs: list[str]) -> list[dict[str, Any]]:
    objects = [f"subject/{token}", *(f"run/{run}" for run in runs)]
    with reading(services.engine) as session:
        return [
            {"hold": row.id, "object": row.object, "reason": row.reason}
            for row in holds_on(session, objects)
        ]
