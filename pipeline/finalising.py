# SPDX-License-Identifier: Apache-2.0
"""The end of a run: aggregate, judge the criteria, write the report, sign.

Safe to run twice: the second finaliser is fenced out, and objects carry the fence in
their keys.
"""

import hashlib
import io
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import sqlalchemy as sa

from ledger.checkpoint import SigningKey
from pipeline.aggregation import Aggregate, ItemRow, MetricSummary
from pipeline.anchoring import anchor_names
from pipeline.audit_history import audit_history
from pipeline.change_measuring import change_since
from pipeline.criteria import AGGREGATES, DRIFT, evaluate, parse_criterion
from pipeline.criteria import Verdict as CriterionOutcome
from pipeline.digests import result_digest
from pipeline.finaliser_end import ended_in_order
from pipeline.finaliser_keeper import FinaliserKeeper
from pipeline.gathering import item_rows, new_aggregate
from pipeline.item_names import failed_items, item_names
from pipeline.item_pictures import ItemPictures
from pipeline.judging import judge_closely
from pipeline.level_curves import MULTI_LEVEL, level_curve
from pipeline.reports.breakdowns import breakdowns_of
from pipeline.reports.document import build_document, document_bytes
from pipeline.reports.failed import LISTED_FAILED
from pipeline.reports.html import render_html
from pipeline.reports.inputs import (
    CriterionVerdict,
    DeadShard,
    Digests,
    LedgerFacts,
    Picture,
    ReportInputs,
    Timings,
    Verdict,
)
from pipeline.run_change import RunChange
from pipeline.services import Services
from pipeline.signing import write_signed_checkpoint
from pipeline.spec import AuditSpec
from pipeline.stored_items import ItemLookup
from storage.engine import epoch_now, reading
from storage.errors import FencedOutError
from storage.finalisers import claim_finaliser, finish_run
from storage.runs import get_run, list_shards
from storage.states import ItemStatus, RunState, ShardState
from storage.tables import AuditTable, RunTable, ShardTable

#: Parts of the plan that the report has in other places, or that are only about the
#: machine that planned the run.
_NOT_REPORTED = frozenset({"cards", "classes", "roots", "sanity", "versions"})

_WORDS: dict[bool | None, Verdict] = {True: "pass", False: "fail", None: "incomplete"}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Gathered:
    """A run's items, counted and digested in one pass."""

    aggregate: Aggregate
    digest: str | None
    #: The first failed items, as many as the report lists.
    failed: list[ItemRow]


def finalise(
    services: Services, run_id: str, *, key: SigningKey | None
) -> RunState | None:
    """Return the run's final state, or None if there is nothing to finalise (yet).

    None also where another finaliser has taken over meanwhile: its word counts.

    Args:
        services: Database and stores.
        run_id: The run.
        key: Signs the checkpoint; None leaves that to the sequencer.

    Raises:
        StorageError: the database or the store failed; the run can be finalised again.
        OSError: this machine failed, e.g. its disk is full; likewise.
        ledger.errors.BrokenLedgerError: the run is final, but nothing was signed.
        Exception: anything else is the run's own fault, and the run is failed.
    """
    lease_s = services.settings.lease_s
    fence = claim_finaliser(services.engine, run_id, lease_s=lease_s)
    if fence is None:
        return None
    with ended_in_order(services, run_id, fence):
        try:
            with FinaliserKeeper(
                services.engine, run_id, fence=fence, lease_s=lease_s
            ) as keeper:
                state = _finalise(services, run_id, fence, key, keeper)
        except FencedOutError:
            return None
    if key is not None:
        write_signed_checkpoint(services, key, anchor_now=True)
    return state


def _finalise(
    services: Services,
    run_id: str,
    fence: int,
    key: SigningKey | None,
    keeper: FinaliserKeeper,
) -> RunState:
    run = get_run(services.engine, run_id)
    shards = list_shards(services.engine, run_id)
    dead = [shard for shard in shards if shard.state == ShardState.DEAD]
    state = RunState.INCOMPLETE if dead else RunState.DONE
    gathered = _gather(services, run, keeper, complete=not dead)
    keeper.alive()
    change = change_since(services.engine, run, alive=keeper.alive)
    inputs = _report_inputs(services, run, shards, gathered, change, state, key)
    keeper.alive()
    document = build_document(inputs)
    pictures = _pictures(services, run, shards, inputs, keeper)
    report = _store_report(
        services,
        run_id,
        fence,
        document_bytes(document),
        render_html(document, pictures).encode(),
    )
    summary = {
        "items": {
            "total": run.items_total,
            "done": inputs.counts.done,
            "failed": inputs.counts.failed,
        },
        "reasons": dict(inputs.counts.failures),
        "criteria": [asdict(verdict) for verdict in inputs.criteria],
        "verdict": document["verdict"],
        "change": _change_summary(change),
        "report": {"json": report["json_key"], "html": report["html_key"]},
    }
    finish_run(
        services.engine,
        run_id,
        fence=fence,
        state=state,
        result_digest=gathered.digest,
        summary=summary,
        report=report,
        actor=services.actor,
    )
    return state


def _change_summary(change: RunChange | None) -> dict[str, Any] | None:
    """Return what `status` says of the change since the run before."""
    if change is None:
        return None
    return {"previous": change.previous, **change.figures()}


def _gather(
    services: Services, run: RunTable, keeper: FinaliserKeeper, *, complete: bool
) -> _Gathered:
    aggregate = new_aggregate(run)
    failed: list[ItemRow] = []

    def records() -> Iterator[bytes]:
        for row, item in item_rows(services, run):
            aggregate.add(item)
            if item.status == ItemStatus.FAILED and len(failed) < LISTED_FAILED:
                failed.append(item)
            keeper.alive()
            yield row.record_digest

    digest = result_digest(run.spec_digest, run.model_digest, records())
    return _Gathered(
        aggregate=aggregate, digest=digest if complete else None, failed=failed
    )


def _report_inputs(
    services: Services,
    run: RunTable,
    shards: Sequence[ShardTable],
    gathered: _Gathered,
    change: RunChange | None,
    state: RunState,
    key: SigningKey | None,
) -> ReportInputs:
    spec = AuditSpec.model_validate(run.spec)
    aggregate = gathered.aggregate
    summaries, counts = aggregate.summaries(), aggregate.counts()
    with reading(services.engine) as session:
        audit = session.get(AuditTable, run.audit_id)
        now = session.scalar(sa.select(epoch_now()))
    written = audit.spec if audit is not None else run.spec
    gallery = aggregate.gallery()
    return ReportInputs(
        run_id=run.id,
        audit=spec.audit,
        state=state.value,
        spec=written,
        plan={
            name: value for name, value in run.plan.items() if name not in _NOT_REPORTED
        },
        digests=Digests(
            spec=run.spec_digest,
            model=run.model_digest,
            manifest=run.manifest_digest,
            result=gathered.digest,
        ),
        items_total=run.items_total,
        counts=counts,
        summaries=summaries,
        gallery=gallery,
        gallery_mode=spec.gallery,
        item_names=item_names(
            services, run.id, spec, [pick.row.item_index for pick in gallery.picks]
        ),
        class_names=run.plan["classes"],
        criteria=_judge(
            spec,
            summaries,
            aggregate,
            change,
            total=run.items_total,
            done=counts.done,
        ),
        shards_total=run.shards_total,
        dead_shards=[
            DeadShard(
                shard_index=shard.shard_index,
                first_item=shard.first_item,
                item_count=shard.item_count,
                error=shard.error,
            )
            for shard in shards
            if shard.state == ShardState.DEAD
        ],
        failed_items=failed_items(services, run.id, spec, gathered.failed),
        timings=Timings(created=run.created_at, started=run.started_at, finished=now),
        software=run.plan["versions"],
        ledger=LedgerFacts(
            origin=services.settings.ledger_origin,
            vkey=str(key.verifier) if key is not None else None,
            checkpoint="the table checkpoints of the database",
            verify_command=_verify_command(run.id, key),
            artifacts=f"runs/{run.id}/shards/",
            anchors=anchor_names(services),
            exposure_window_s=services.settings.anchor_interval_s,
        ),
        not_comparable=run.not_comparable,
        history=audit_history(services, run),
        change=change,
        incremental=(run.origin or {}).get("incremental"),
        parent=run.parent_run_id,
        sanity=run.plan.get("sanity"),
        breakdowns=breakdowns_of(aggregate, list(summaries), run.plan["classes"]),
        levels=level_curve(services, shards)
        if run.plan["policy"] in MULTI_LEVEL
        else (),
    )


def _verify_command(run_id: str, key: SigningKey | None) -> str:
    """Return what a reader types; the key is a hint until it comes from outside."""
    command = f"affidavit verify {run_id}"
    return (
        command if key is None else f"{command} --key {shlex.quote(str(key.verifier))}"
    )


def _judge(
    spec: AuditSpec,
    summaries: Mapping[str, MetricSummary],
    aggregate: Aggregate,
    change: RunChange | None,
    *,
    total: int,
    done: int,
) -> list[CriterionVerdict]:
    """Return how each criterion came out; items of dead shards count as failed."""
    figures: dict[str, Mapping[str, float | None]] = {
        name: {figure: getattr(summary, figure) for figure in AGGREGATES}
        for name, summary in summaries.items()
    }
    missing = total - done
    figures["items_failed"] = {"count": float(missing), "fraction": missing / total}
    if change is not None:
        figures |= change.figures()
    verdicts = []
    for text in spec.criteria:
        criterion = parse_criterion(text)
        if not criterion.is_plain:
            verdicts.append(judge_closely(criterion, aggregate))
            continue
        verdict = evaluate(criterion, figures)
        verdicts.append(
            CriterionVerdict(
                criterion=verdict.criterion.text,
                verdict=_WORDS[verdict.passed],
                observed=verdict.value,
                bound=verdict.criterion.number,
                reason=_why_open(verdict, change),
                n=summaries[criterion.metric].n
                if criterion.metric in summaries
                else None,
            )
        )
    return verdicts


def _why_open(verdict: CriterionOutcome, change: RunChange | None) -> str | None:
    """Return why a criterion has no verdict, None where it has one."""
    if verdict.passed is not None:
        return None
    if change is None and f"{verdict.criterion.metric}.".startswith(DRIFT):
        return (
            "There is no earlier run of this audit to compare with, so "
            f"{verdict.criterion.text!r} is not met."
        )
    return verdict.message


def _pictures(
    services: Services,
    run: RunTable,
    shards: Sequence[ShardTable],
    inputs: ReportInputs,
    keeper: FinaliserKeeper,
) -> dict[int, list[Picture]]:
    if inputs.gallery_mode == "none":
        return {}
    drawn = ItemPictures(services, run, inputs.gallery_mode)
    lookup = ItemLookup(services, shards)
    pictures: dict[int, list[Picture]] = {}
    for index in sorted({pick.row.item_index for pick in inputs.gallery.picks}):
        keeper.alive()
        result = lookup.find(index)
        if result is None or not result.map_bytes:
            continue
        pictures[index] = drawn.of(result)
    return pictures


def _store_report(
    services: Services, run_id: str, fence: int, document: bytes, page: bytes
) -> dict[str, Any]:
    """Return the ledger's details of the report, whose objects are now stored."""
    details: dict[str, Any] = {}
    for kind, content in (("json", document), ("html", page)):
        key = f"runs/{run_id}/report.f{fence}.{kind}"
        digest = hashlib.sha256(content).hexdigest()
        services.store.put(key, io.BytesIO(content), sha256=digest)
        details[f"{kind}_key"] = key
        details[f"{kind}_sha256"] = digest
    return details
