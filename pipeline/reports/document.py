# SPDX-License-Identifier: Apache-2.0
"""The canonical JSON report: the one source of every number that a person reads.

The same inputs give the same document, and `document_bytes` the same bytes: no clock
is read here. Keys may be added later; those of `affidavit.report/1` stay.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from explain.kinds import IMAGE
from explain.methods.card import MethodCard
from ledger.canonical import canonical_bytes
from pipeline.gallery_choice import GalleryPick
from pipeline.item_row import ItemRow
from pipeline.reports.abridging import abridged
from pipeline.reports.change import change_part
from pipeline.reports.columns import column_parts, metric_parts
from pipeline.reports.disparities import disparities_part
from pipeline.reports.failed import failed_part
from pipeline.reports.formats import count, number_of
from pipeline.reports.inputs import ReportInputs
from pipeline.reports.limits import limits_of
from pipeline.reports.outcomes import outcomes_part
from pipeline.reports.privacy import privacy_part
from pipeline.reports.records import model_record_part, use_part
from pipeline.reports.reviews import reverified_part, review_part, signatures_part
from pipeline.reports.sections import sections_of
from pipeline.reports.wording import reason_sentence, title_of

SCHEMA = "affidavit.report/1"

#: Longest lists in the document; what is left out is counted.
LISTED_CLASSES = 50
LISTED_SHARDS = 100

#: What every stored explanation of this version means, in words.
CONVENTIONS = (
    "Maps are enlarged bilinearly, pixel centres at half-integers.",
    "In the terms of common libraries that is bilinear with align_corners=False.",
    "A fraction means an exact count: its ceiling when multiplied by the positions.",
    "Equal values are taken in order of position, row by row.",
    "Positions whose value is zero or below are never kept.",
    "Metrics are computed from the map as stored, so that they can be recomputed.",
)

#: The same of items that are no images.
UNIT_CONVENTIONS = (
    "A map has a place for each unit of its item; nothing is enlarged.",
    "A unit that is removed shows its own baseline.",
    *CONVENTIONS[2:],
)

#: Facts of the plan that are no reader's business (folders of the machine that planned
#: the run), or that the report already has under another name.
_NOT_REPORTED = frozenset({"roots", "versions", "cards"})

JsonObject = dict[str, Any]


def build_document(inputs: ReportInputs) -> JsonObject:
    """Return the report as a JSON object.

    Raises:
        ValueError: the counts contradict each other.
    """
    missing = inputs.items_total - inputs.counts.done - inputs.counts.failed
    if missing < 0:
        raise ValueError(
            f"expected at most {inputs.items_total} items, got "
            f"{inputs.counts.done} done and {inputs.counts.failed} failed"
        )
    metrics, columns = metric_parts(inputs), column_parts(inputs)
    document = {
        "schema": SCHEMA,
        "audit": inputs.audit,
        "run": _run(inputs),
        "verdict": _verdict(inputs, missing),
        "scope": _scope(inputs, missing),
        "provenance": _provenance(inputs),
        "method": _method(inputs),
        "threshold": _threshold(inputs),
        "metrics": metrics,
        "columns": columns,
        "change": change_part(inputs),
        "sanity": None if inputs.sanity is None else dict(inputs.sanity),
        "gallery": _gallery(inputs),
        "limits": limits_of(inputs, metrics),
        "evidence": _evidence(inputs),
        "spec": abridged(inputs.spec),
        "use": use_part(inputs),
        "model_record": model_record_part(inputs),
        "groups": disparities_part((*metrics, *columns), _group_columns(inputs))
        | {
            "outcomes": outcomes_part(
                inputs.counts.groups, independent=not _has_subjects(inputs)
            )
        },
        "review": review_part(inputs),
        "reverified": reverified_part(inputs),
        "privacy": privacy_part(inputs),
        "signatures": signatures_part(inputs),
    }
    return document | {"sections": sections_of(document)}


def _group_columns(inputs: ReportInputs) -> Sequence[str]:
    columns = _section(inputs.spec, "data").get("columns")
    groups = columns.get("groups") if isinstance(columns, Mapping) else None
    return groups or ()


def _has_subjects(inputs: ReportInputs) -> bool:
    columns = _section(inputs.spec, "data").get("columns")
    return isinstance(columns, Mapping) and columns.get("subject") is not None


def document_bytes(document: Mapping[str, Any]) -> bytes:
    """Return the RFC 8785 bytes of the report, which are stored and logged."""
    return canonical_bytes(document)


def _run(inputs: ReportInputs) -> JsonObject:
    times = inputs.timings
    seconds = None
    if times.started is not None and times.finished is not None:
        seconds = max(0.0, times.finished - times.started)
    return {
        "id": inputs.run_id,
        "state": inputs.state,
        "created_at": times.created,
        "started_at": times.started,
        "finished_at": times.finished,
        "seconds": seconds,
        "items_per_second": _rate(inputs, seconds),
    }


def _rate(inputs: ReportInputs, seconds: float | None) -> float | None:
    read = inputs.counts.done + inputs.counts.failed
    return read / seconds if seconds else None


def _verdict(inputs: ReportInputs, missing: int) -> JsonObject:
    verdicts = [criterion.verdict for criterion in inputs.criteria]
    done = f"{count(inputs.counts.done)} of {number_of(inputs.items_total, 'item')}"
    if "fail" in verdicts:
        overall = "fail"
        failed = verdicts.count("fail")
        sentence = (
            f"{count(failed)} of {number_of(len(verdicts), 'criterion', 'criteria')} "
            f"{'does' if failed == 1 else 'do'} not hold over {done}."
        )
    elif missing or "incomplete" in verdicts or inputs.state != "done":
        overall = "incomplete"
        sentence = f"No verdict: {_why_incomplete(verdicts, missing, inputs.state)}."
    elif "inconclusive" in verdicts:
        overall = "inconclusive"
        open_ = number_of(verdicts.count("inconclusive"), "criterion", "criteria")
        sentence = f"No verdict: {open_} cannot be decided from {done}."
    elif not verdicts:
        overall = "none"
        sentence = f"The audit sets no criteria; {done} are explained."
    else:
        overall = "pass"
        which = "The criterion holds" if len(verdicts) == 1 else None
        which = which or f"All {count(len(verdicts))} criteria hold"
        sentence = f"{which} over {done}."
    return {
        "overall": overall,
        "sentence": sentence,
        "criteria": [
            {**asdict(criterion), "parts": [dict(part) for part in criterion.parts]}
            for criterion in inputs.criteria
        ],
    }


def _why_incomplete(verdicts: Sequence[str], missing: int, state: str) -> str:
    reasons = []
    if missing:
        reasons.append(
            f"{number_of(missing, 'item')} {'is' if missing == 1 else 'are'} missing"
        )
    if open_ := verdicts.count("incomplete"):
        reasons.append(f"{number_of(open_, 'criterion', 'criteria')} cannot be judged")
    return " and ".join(reasons) or f"the run is {state}"


def _scope(inputs: ReportInputs, missing: int) -> JsonObject:
    counts = inputs.counts
    total = inputs.items_total
    return {
        "source": _section(inputs.spec, "data").get("source"),
        "items": {
            "total": total,
            "done": counts.done,
            "failed": counts.failed,
            "missing": missing,
        },
        "coverage": counts.done / total if total else None,
        "incremental": None if inputs.incremental is None else dict(inputs.incremental),
        "parent": inputs.parent,
        "failures": _reasons(counts.failures),
        "failed_items": failed_part(inputs),
        "reservations": _reasons(counts.reservations),
        "shards": {"total": inputs.shards_total, "dead": len(inputs.dead_shards)},
        "dead_shards": [
            {
                "shard_index": shard.shard_index,
                "first_item": shard.first_item,
                "item_count": shard.item_count,
                "error": shard.error,
            }
            for shard in inputs.dead_shards[:LISTED_SHARDS]
        ],
        "labels": {
            "labelled": counts.labelled,
            "correct": counts.correct,
            "accuracy": counts.accuracy,
        },
        "classes": _classes(inputs),
    }


def _reasons(reasons: Mapping[str, int]) -> list[JsonObject]:
    """Return the reasons, the most frequent first."""
    ordered = sorted(reasons.items(), key=lambda pair: (-pair[1], pair[0]))
    return [
        {"reason": code, "sentence": reason_sentence(code), "count": many}
        for code, many in ordered
    ]


def _classes(inputs: ReportInputs) -> JsonObject:
    """Return the classes that occur, the most often predicted first."""
    counts = inputs.counts
    seen = counts.predicted_classes.keys() | counts.labelled_classes.keys()
    ordered = sorted(
        seen, key=lambda index: (-counts.predicted_classes.get(index, 0), index)
    )
    return {
        "known": len(inputs.class_names) if inputs.class_names is not None else None,
        "seen": len(ordered),
        "listed": [
            {
                **_class(index, inputs),
                "predicted": counts.predicted_classes.get(index, 0),
                "labelled": counts.labelled_classes.get(index, 0),
                "correct": counts.correct_classes.get(index, 0),
            }
            for index in ordered[:LISTED_CLASSES]
        ],
    }


def _class(index: int, inputs: ReportInputs) -> JsonObject:
    names = inputs.class_names
    known = names is not None and 0 <= index < len(names)
    return {
        "index": index,
        "name": names[index] if names is not None and known else f"class {index}",
    }


def _provenance(inputs: ReportInputs) -> JsonObject:
    model = _section(inputs.spec, "model")
    return {
        "model": {
            "source": model.get("source"),
            "weights": model.get("weights"),
            "layer": inputs.plan.get("layer", model.get("layer")),
            "preprocess": abridged(model.get("preprocess"))
            if _kind(inputs) == IMAGE
            else None,
        },
        "digests": {
            "spec": inputs.digests.spec,
            "model": inputs.digests.model,
            "manifest": inputs.digests.manifest,
            "result": inputs.digests.result,
        },
        "execution": {
            key: abridged(value)
            for key, value in inputs.plan.items()
            if key not in _NOT_REPORTED
        },
        "software": dict(sorted(inputs.software.items())),
    }


def _method(inputs: ReportInputs) -> JsonObject:
    explain = _section(inputs.spec, "explain")
    name = str(explain.get("method", "unknown"))
    card = inputs.method_cards.get(name)
    return {
        "name": name,
        "target": explain.get("target"),
        "parameters": abridged(inputs.plan.get("method_arguments", {})),
        "remedies": abridged(inputs.plan.get("remedies", {})),
        "title": card.title if card else name,
        "formula": card.formula if card else None,
        "source": card.source if card else None,
        "kind": _kind(inputs),
        "map_kind": _map_kind(inputs, card),
        "signed": card.signed if card else None,
        "cost": card.cost if card else None,
        "does_not_show": card.does_not_show if card else None,
    }


def _kind(inputs: ReportInputs) -> str:
    return str(inputs.plan.get("kind", IMAGE))


def _map_kind(inputs: ReportInputs, card: MethodCard | None) -> str | None:
    if _kind(inputs) != IMAGE:
        return str(inputs.plan["map_kind"])
    return card.map_kind if card else None


def _threshold(inputs: ReportInputs) -> JsonObject:
    threshold = _section(inputs.spec, "threshold")
    name = str(threshold.get("policy", "unknown"))
    card = inputs.policy_cards.get(name)
    return {
        "policy": name,
        "parameters": abridged(inputs.plan.get("policy_arguments", {})),
        "source": card.source if card else None,
        "cost": card.cost if card else None,
        "rule": card.rule if card else None,
        "conventions": list(
            CONVENTIONS if _kind(inputs) == IMAGE else UNIT_CONVENTIONS
        ),
        "levels": list(inputs.levels),
    }


def _gallery(inputs: ReportInputs) -> JsonObject:
    ranking = inputs.gallery.ranking
    return {
        "mode": inputs.gallery_mode,
        "ranking": None
        if ranking is None
        else {
            "name": ranking.name,
            "title": title_of(ranking.name),
            "higher_is_better": ranking.higher_is_better,
        },
        "entries": [_entry(pick, inputs) for pick in inputs.gallery.picks],
    }


def _entry(pick: GalleryPick, inputs: ReportInputs) -> JsonObject:
    row: ItemRow = pick.row
    return {
        "group": pick.group,
        "item_index": row.item_index,
        "item_id": row.item_id,
        "name": inputs.item_names.get(row.item_index),
        "rank_value": pick.value,
        "predicted": _class_or_none(row.predicted, inputs),
        "target": _class_or_none(row.target, inputs),
        "label": _class_or_none(row.label, inputs),
        "score": row.score,
        "keep_requested": row.keep_requested,
        "keep_achieved": row.keep_achieved,
        "reason": row.reason,
        "metrics": dict(sorted(row.metrics.items())),
        "absences": dict(sorted(row.absences.items())),
    }


def _class_or_none(index: int | None, inputs: ReportInputs) -> JsonObject | None:
    return None if index is None else _class(index, inputs)


def _evidence(inputs: ReportInputs) -> JsonObject:
    ledger = inputs.ledger
    return {
        "origin": ledger.origin,
        "vkey": ledger.vkey,
        "checkpoint": ledger.checkpoint,
        "artifacts": ledger.artifacts,
        "verify_command": ledger.verify_command,
        "anchors": list(ledger.anchors),
        "exposure_window_s": ledger.exposure_window_s if ledger.anchors else None,
        "ledger_size": inputs.history.ledger_size,
        "signed_size": inputs.history.signed_size,
    }


def _section(spec: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = spec.get(name)
    return section if isinstance(section, Mapping) else {}
