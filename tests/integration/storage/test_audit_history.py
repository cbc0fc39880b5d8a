# SPDX-License-Identifier: Apache-2.0
"""What the records say of an audit: the same on both databases."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from pipeline.access.threshold_change import audit_object
from pipeline.audit_history import audit_history
from pipeline.digests import document_digest
from pipeline.services import Services
from pipeline.settings import load_settings
from storage.engine import transaction
from storage.privacy_states import RequestState
from storage.reviews import reverifications_of, sign_offs_of
from storage.runs import add_audit, add_run, complete_plan, get_run
from storage.tables import (
    ChangeRequestTable,
    ReverificationTable,
    RunTable,
    SignOffTable,
)


@pytest.fixture
def services(
    engine: sa.Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Services]:
    """An installation whose database is that of the test."""
    url = engine.url.render_as_string(hide_password=False)
    monkeypatch.setenv("AFFIDAVIT_DATABASE_URL", url)
    found = Services(settings=load_settings(home=tmp_path), actor="user/tester")
    yield found
    found.close()


def _plant(
    engine: sa.Engine,
    at: float,
    *,
    keep: float,
    weights: str,
    version: str | None = None,
    audit: str = "two words",
) -> str:
    """Return the id of a run of the audit, planned at that moment."""
    spec: dict[str, Any] = {
        "audit": audit,
        "model": {
            "source": "torchvision:resnet18",
            "record": None if version is None else {"version": version},
        },
        "threshold": {"policy": "fixed", "keep": keep},
    }
    with transaction(engine) as session:
        audit_id = add_audit(
            session, name=audit, spec=spec, spec_digest=document_digest(spec)
        )
        run_id = add_run(
            session,
            {
                "audit_id": audit_id,
                "spec": spec,
                "plan": {"policy": "fixed", "policy_arguments": {"keep": keep}},
                "spec_digest": "0" * 64,
                "model_digest": weights * 64,
                "queue": "cpu",
            },
        )
        complete_plan(
            session,
            run_id,
            items_total=0,
            shard_size=1,
            max_attempts=1,
            manifest_digest="2" * 64,
            actor="user/tester",
            details={},
        )
        session.execute(
            sa.update(RunTable).where(RunTable.id == run_id).values(created_at=at)
        )
    return run_id


def test_versions_and_periods_follow_the_runs(
    engine: sa.Engine, services: Services
) -> None:
    """Weights by their first run, thresholds by when they changed, up to this run."""
    first = _plant(engine, 1.0, keep=0.1, weights="a")
    _plant(engine, 2.0, keep=0.1, weights="b", version="2")
    back = _plant(engine, 3.0, keep=0.2, weights="a", version="1")
    last = _plant(engine, 4.0, keep=0.1, weights="a")
    _plant(engine, 5.0, keep=0.5, weights="c")
    _plant(engine, 2.5, keep=0.9, weights="d", audit="another")
    history = audit_history(services, get_run(engine, last))
    assert history.runs == 4
    assert [(m.sha256[0], m.version, m.runs, m.first_run) for m in history.models] == [
        ("a", "1", 3, first),
        ("b", "2", 1, history.models[1].first_run),
    ]
    assert [(p.parameters["keep"], p.runs) for p in history.thresholds] == [
        (0.1, 2),
        (0.2, 1),
        (0.1, 1),
    ]
    assert history.thresholds[1].first_run == back
    assert all(period.approval is None for period in history.thresholds)


@pytest.mark.parametrize("form", ["planned", "written"])
def test_an_approval_is_of_exactly_that_threshold(
    engine: sa.Engine, services: Services, form: str
) -> None:
    """The word of a second principal is found as resolved and as written."""
    _plant(engine, 1.0, keep=0.1, weights="a")
    last = _plant(engine, 9.0, keep=0.2, weights="a")
    threshold = {
        "planned": {"policy": "fixed", "arguments": {"keep": 0.2}},
        "written": {"policy": "fixed", "keep": 0.2},
    }[form]
    obj = audit_object("two words")
    with transaction(engine) as session:
        for name, change, decided_at in (
            ("right", threshold, 8.0),
            ("other", {"policy": "fixed", "arguments": {"keep": 0.3}}, 8.0),
            ("later", threshold, 10.0),
        ):
            session.add(
                ChangeRequestTable(
                    id=name,
                    kind="threshold",
                    object=obj,
                    digest=document_digest(
                        {"object": obj, "change": {"threshold": change}}
                    ),
                    state=RequestState.USED,
                    requested_by="principal/sue",
                    created_at=7.0,
                    decided_by="principal/rex",
                    decided_at=decided_at,
                )
            )
    history = audit_history(services, get_run(engine, last))
    approval = history.thresholds[1].approval
    assert approval is not None
    assert (approval.request, approval.approved_by) == ("right", "principal/rex")


def test_reviews_of_the_audit_come_newest_first(
    engine: sa.Engine, services: Services
) -> None:
    """Those of other audits stay out; each run has its own, the oldest first."""
    run = _plant(engine, 1.0, keep=0.1, weights="a")
    other = _plant(engine, 2.0, keep=0.1, weights="a", audit="another")
    with transaction(engine) as session:
        for number, of in enumerate((run, run, other)):
            session.add(
                SignOffTable(
                    id=f"s{number}",
                    run_id=of,
                    verdict="accept",
                    report_verdict="pass",
                    report_sha256="e" * 64,
                    signed_by="principal/rex",
                    signed_at=10.0 + number,
                    comment="Fine.",
                    comment_salt=b"salt",
                )
            )
            session.add(
                ReverificationTable(
                    id=f"r{number}",
                    run_id=of,
                    verdict="agrees",
                    facts={"items": number},
                    made_by="principal/ann",
                    made_at=10.0 + number,
                )
            )
    history = audit_history(services, get_run(engine, run))
    assert [fact.signed_at for fact in history.sign_offs] == [11.0, 10.0]
    assert [fact.facts["items"] for fact in history.reverifications] == [1, 0]
    assert [row.id for row in sign_offs_of(engine, run)] == ["s0", "s1"]
    assert [row.id for row in reverifications_of(engine, run)] == ["r0", "r1"]
    assert sign_offs_of(engine, run)[0].comment_salt == b"salt"
