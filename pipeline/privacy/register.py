# SPDX-License-Identifier: Apache-2.0
"""The processing register (GDPR 30) and the inputs of a DPIA (GDPR 35).

Both are drawn from what is configured and stored, so that changing that changes them.
They name audits, columns and settings; what only people know is listed as open.
"""

from typing import Any

import sqlalchemy as sa

from ledger.entries import Action
from pipeline.access.authentication import has_principals
from pipeline.deeds import record_deed
from pipeline.retention_classes import RETENTION_DAYS, Retention
from pipeline.services import Services
from storage.engine import reading
from storage.tables import AuditTable, LocationTable, RunTable

SCHEMA = "affidavit.processing-register/1"

#: What no configuration says.
_OPEN_QUESTIONS = (
    "name and contact of the controller, and of the data protection officer",
    "legal basis of each audit whose spec declares none",
    "categories of persons behind the subject column",
    "recipients outside the organisation, and transfers to third countries",
)


def processing_register(services: Services) -> dict[str, Any]:
    """Return the register as JSON values; that it was read is recorded."""
    record_deed(services, Action.REGISTER_READ, "register")
    with reading(services.engine) as session:
        rows = session.execute(
            sa.select(AuditTable.id, AuditTable.spec, sa.func.count(RunTable.id))
            .outerjoin(RunTable, RunTable.audit_id == AuditTable.id)
            .group_by(AuditTable.id)
            .order_by(AuditTable.created_at, AuditTable.id)
        ).all()
        subjects = {
            row[0]: row[1]
            for row in session.execute(
                sa.select(
                    RunTable.audit_id,
                    sa.func.count(sa.distinct(LocationTable.subject_token)),
                )
                .join(LocationTable, LocationTable.run_id == RunTable.id)
                .group_by(RunTable.audit_id)
            )
        }
    specs = [(row[0], _plain(row[1]), int(row[2])) for row in rows]
    return {
        "schema": SCHEMA,
        "activities": [
            _activity(spec, runs, int(subjects.get(audit_id, 0)))
            for audit_id, spec, runs in specs
        ],
        "measures": measures(services),
        "to_be_filled_in": list(_OPEN_QUESTIONS),
    }


def _plain(spec: Any) -> dict[str, Any]:
    import json  # noqa: PLC0415

    found: dict[str, Any] = json.loads(spec) if isinstance(spec, str) else spec
    return found


def _activity(spec: dict[str, Any], runs: int, subjects: int) -> dict[str, Any]:
    columns = spec["data"]["columns"]
    retention = Retention(spec.get("privacy", {}).get("retention") or "six_years")
    return {
        "name": spec["audit"],
        "purpose": "explaining a model's predictions and measuring the explanations",
        "personal": columns.get("subject") is not None,
        "categories_of_data": _categories(columns),
        "subjects": subjects,
        "runs": runs,
        "model": spec["model"]["source"],
        "legal_basis": spec.get("privacy", {}).get("legal_basis"),
        "retention": retention.value,
        "retention_days": RETENTION_DAYS[retention],
        "gallery": spec.get("privacy", {}).get("gallery"),
        "recurring": spec.get("schedule") is not None,
    }


def _categories(columns: dict[str, Any]) -> list[str]:
    found = ["input files", "predictions, attributions and scores"]
    if columns.get("subject"):
        found.append("identity of the subject (encrypted)")
    if columns.get("label"):
        found.append("labels")
    if columns.get("mask"):
        found.append("ground-truth masks")
    found += [f"group: {name}" for name in columns.get("groups") or ()]
    return found


def measures(services: Services) -> list[dict[str, Any]]:
    """Return technical measures, each with whether it is on in this installation."""
    settings = services.settings
    keys, database = (
        settings.resolved_keys_database_url,
        settings.resolved_database_url,
    )
    broker = settings.broker_url
    return [
        _measure("pseudonyms: random tokens for subjects and items", on=True),
        _measure("identities encrypted under keys of their own", on=True),
        _measure("identities in a database of their own", on=keys != database),
        _measure("ledger of every deed, signed", on=True),
        _measure("access by principals and roles", on=has_principals(services)),
        _measure(
            "encrypted transport to the broker",
            on=broker is None or broker.get_secret_value().startswith("rediss:"),
        ),
        _measure("code of other packages refused", on=not settings.plugins),
    ]


def _measure(name: str, *, on: bool) -> dict[str, Any]:
    return {"measure": name, "on": on}


def dpia_inputs(services: Services) -> dict[str, Any]:
    """Return what a DPIA starts from: the personal activities, measures and gaps."""
    register = processing_register(services)
    personal = [one for one in register["activities"] if one["personal"]]
    return {
        "schema": "affidavit.dpia-inputs/1",
        "activities": personal,
        "large_scale": sum(one["subjects"] for one in personal) >= 10_000,
        "systematic": any(one["recurring"] for one in personal),
        "measures": register["measures"],
        "gaps": [one["measure"] for one in register["measures"] if not one["on"]],
        "residual_risks": [
            "file names in the manifest stay readable to workers until erased",
            "whoever holds an input and the model can confirm its record digest",
            "exported copies are beyond reach; the ledger names who took them",
        ],
        "to_be_filled_in": [
            *register["to_be_filled_in"],
            "necessity and proportionality",
            "views of the persons concerned",
        ],
    }
