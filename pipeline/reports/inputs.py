# SPDX-License-Identifier: Apache-2.0
"""What a report is made of, gathered by whoever finalises the run."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from explain.methods.cards import METHODS, MethodCard
from explain.metrics.cards import METRICS, MetricCard
from explain.thresholds.cards import POLICIES, PolicyCard
from pipeline.aggregation import ItemCounts, MetricSummary
from pipeline.gallery_choice import Gallery
from pipeline.reports.audit_facts import AuditHistory
from pipeline.run_change import RunChange

Verdict = Literal["pass", "fail", "incomplete", "inconclusive"]
GalleryMode = Literal["images", "maps", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class CriterionVerdict:
    """How one criterion came out.

    Attributes:
        criterion: As written in the spec.
        verdict: `incomplete` when there was nothing to compare, `inconclusive` when
            the interval straddles the bound.
        observed: The aggregate that was compared, or None.
        bound: The number that it was compared with.
        reason: Why there is no verdict, or how the parts came out, for people.
        n: Values behind it; None where it is not about values.
        interval: That of the mean, where a confidence was asked for.
        by: `class` or `group:<column>` where each part must hold; then `observed` is
            the worst part's figure.
        parts: The worst parts with their verdicts; `parts_total` says of how many.
        parts_total: All parts.
    """

    criterion: str
    verdict: Verdict
    observed: float | None
    bound: float | None = None
    reason: str | None = None
    n: int | None = None
    interval: Mapping[str, Any] | None = None
    by: str | None = None
    parts: Sequence[Mapping[str, Any]] = ()
    parts_total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Digests:
    """SHA-256 digests in hexadecimal; `result` is None while shards are missing."""

    spec: str
    model: str
    manifest: str
    result: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadShard:
    """A shard whose attempts are exhausted: its items are missing."""

    shard_index: int
    first_item: int
    item_count: int
    error: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedItem:
    """An item that could not be explained.

    Attributes:
        item_index: Its place in the manifest.
        item_id: Its random name.
        name: What the report may call it: a file name, or a token.
        reason: The enumerated code.
    """

    item_index: int
    item_id: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Timings:
    """Moments in seconds since 1970-01-01 UTC."""

    created: float
    started: float | None
    finished: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerFacts:
    """Where the evidence is; the checkpoint itself is written after the report.

    Attributes:
        origin: Name of the ledger.
        vkey: Public key of its checkpoints, in the form of C2SP signed notes.
        checkpoint: Where the checkpoint of this run will be.
        verify_command: What a reader types to check the run.
        artifacts: Where the artifacts are.
        anchors: Kinds of the places out of reach that get copies of checkpoints.
        exposure_window_s: Seconds between two copies.
    """

    origin: str
    vkey: str | None
    checkpoint: str
    verify_command: str
    artifacts: str
    anchors: Sequence[str] = ()
    exposure_window_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture that the page embeds, from `pipeline.reports.pictures` or a kind.

    Attributes:
        title: Beneath the picture.
        description: For those who cannot see it.
        data_uri: An encoded picture; empty where there is a fragment.
        fragment: HTML or SVG, every text of the item in it escaped; without scripts,
            styles of its own beside attributes, or links.
    """

    title: str
    description: str
    data_uri: str = ""
    fragment: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportInputs:
    """Everything that the report says, and nothing that it does not."""

    run_id: str
    audit: str
    #: The run's state as it will be once the report is written: done | incomplete.
    state: str
    #: The spec as written.
    spec: Mapping[str, Any]
    #: The facts fixed before work started: layer, batch size, threads, dtype, device.
    plan: Mapping[str, Any]
    digests: Digests
    items_total: int
    counts: ItemCounts
    summaries: Mapping[str, MetricSummary]
    gallery: Gallery
    gallery_mode: GalleryMode
    #: Item index to what the gallery may call it: a file name, or a token.
    item_names: Mapping[int, str] = field(default_factory=dict)
    class_names: Sequence[str] | None = None
    criteria: Sequence[CriterionVerdict] = ()
    shards_total: int = 0
    dead_shards: Sequence[DeadShard] = ()
    #: Failed items in manifest order, as many as the report lists.
    failed_items: Sequence[FailedItem] = ()
    timings: Timings
    #: Program to version: affidavit, python, torch, and so on.
    software: Mapping[str, str] = field(default_factory=dict)
    ledger: LedgerFacts
    #: A batch had to be halved, so that last bits may differ from other runs.
    not_comparable: bool = False
    #: How the run differs from the one before it; None for the first.
    change: RunChange | None = None
    #: What an incremental run left out, None for a whole one.
    incremental: Mapping[str, Any] | None = None
    #: The run whose failed items this one tried again, None for any other.
    parent: str | None = None
    #: What the sanity gate found; None where the audit has none.
    sanity: Mapping[str, Any] | None = None
    #: Value name to what it is by class and by group; see `reports.breakdowns`.
    breakdowns: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)
    #: One row a level of a policy that makes several masks; empty for the others.
    levels: Sequence[Mapping[str, Any]] = ()
    #: What the audit's records say beside the run's own.
    history: AuditHistory = field(default_factory=AuditHistory)
    #: Further limits that this run has, one sentence each.
    notes: Sequence[str] = ()
    metric_cards: Mapping[str, MetricCard] = field(default_factory=lambda: METRICS)
    method_cards: Mapping[str, MethodCard] = field(default_factory=lambda: METHODS)
    policy_cards: Mapping[str, PolicyCard] = field(default_factory=lambda: POLICIES)
