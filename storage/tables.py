# SPDX-License-Identifier: Apache-2.0
"""The SQL tables, one class a table.

Moments are seconds since 1970-01-01 UTC as double precision, read from the database's
own clock (`storage.engine.epoch_now`), so that leases do not depend on how well the
workers' clocks agree and both databases store the same thing.

Personal data is in one table only, `locations` (the original URIs); every other table
holds tokens. Who is behind a token is in another database: see `storage.identities`.
"""

from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    CheckConstraint,
    Double,
    ForeignKey,
    ForeignKeyConstraint,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Text,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

#: SQLite gives a rowid (and so autoincrement) to INTEGER primary keys alone.
BigKey = BigInteger().with_variant(Integer, "sqlite")


class Table(DeclarativeBase):
    """The base of every row class; its metadata names each constraint."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(column_0_label)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        # Without a value a JSON column is NULL, as every other column is.
        dict[str, Any]: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
        bytes: LargeBinary,
        float: Double,
    }


class AuditTable(Table):
    """What was asked: one row a distinct spec."""

    __tablename__ = "audits"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    name: Mapped[str] = mapped_column(String(200), index=True)
    #: SHA-256 of the spec's canonical form, see `pipeline.spec_digest`.
    spec_digest: Mapped[str] = mapped_column(String(64))
    spec: Mapped[dict[str, Any]]
    created_at: Mapped[float]


class RunTable(Table):
    """One execution of an audit, with everything fixed before work starts."""

    __tablename__ = "runs"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    audit_id: Mapped[str] = mapped_column(ForeignKey("audits.id"), index=True)
    state: Mapped[str] = mapped_column(String(16), index=True)
    error: Mapped[str | None] = mapped_column(Text)
    #: The spec as resolved, paths absolute: what a worker needs to do the work.
    spec: Mapped[dict[str, Any]]
    #: Fixed execution facts: layer, batch size, threads, dtype, device kind, classes.
    plan: Mapped[dict[str, Any]]
    spec_digest: Mapped[str] = mapped_column(String(64))
    model_digest: Mapped[str] = mapped_column(String(64))
    manifest_digest: Mapped[str] = mapped_column(String(64))
    queue: Mapped[str] = mapped_column(String(16))
    #: Higher goes first among the runs of a queue.
    priority: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    items_total: Mapped[int] = mapped_column(BigInteger)
    shards_total: Mapped[int]
    #: Set when a batch had to be halved: the digest cannot be compared with others.
    not_comparable: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[float]
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    #: A finaliser holds the run until this moment.
    finaliser_lease_until: Mapped[float | None]
    #: The finaliser's fence, counted like a shard's attempt.
    finaliser_attempt: Mapped[int] = mapped_column(default=0)
    result_digest: Mapped[str | None] = mapped_column(String(64))
    #: Items by status and reason, criteria and their verdicts, report keys.
    summary: Mapped[dict[str, Any] | None]
    #: Where the run comes from: schedule and slot, and what an incremental run left
    #: out; None for a whole run that somebody asked for.
    origin: Mapped[dict[str, Any] | None]
    #: The run whose failed items this one tries again.
    parent_run_id: Mapped[str | None] = mapped_column(String(32))
    #: Equal for runs whose items take equally long on one kind of device.
    speed_key: Mapped[str | None] = mapped_column(String(64), index=True)


class ShardTable(Table):
    """A contiguous slice of the manifest: the unit of lease, work and retry."""

    __tablename__ = "shards"
    __table_args__ = (
        UniqueConstraint("run_id", "shard_index"),
        Index("ix_shards_run_id_state", "run_id", "state"),
        Index("ix_shards_state_lease_until", "state", "lease_until"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"))
    shard_index: Mapped[int]
    first_item: Mapped[int] = mapped_column(BigInteger)
    item_count: Mapped[int]
    state: Mapped[str] = mapped_column(String(16))
    #: Counted at claim; the fence that a finish must match.
    attempt: Mapped[int] = mapped_column(default=0)
    max_attempts: Mapped[int]
    lease_until: Mapped[float | None]
    #: When a hint was last published, so that a lost hint is noticed.
    dispatched_at: Mapped[float | None]
    #: Hints since the last claim; each waits twice as long as the one before.
    hints: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    #: Not to be claimed before this moment (back-off after a failure).
    not_before: Mapped[float | None]
    worker: Mapped[str | None] = mapped_column(String(200))
    batches_done: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None] = mapped_column(String(64))
    #: Attempts that ended by silence, and those that ended by an error.
    deaths: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    failures: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    #: In single steps: the item in work, which gets a strike if the attempt ends badly.
    current_item: Mapped[int | None] = mapped_column(BigInteger)
    object_key: Mapped[str | None] = mapped_column(String(300))
    sha256: Mapped[str | None] = mapped_column(String(64))
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    started_at: Mapped[float | None]
    finished_at: Mapped[float | None]
    #: Hashes of the items' salted leaves, 32 bytes each in the artifact's order. They
    #: outlive an erased item, or the proofs of its neighbours would break.
    item_leaves: Mapped[bytes | None]
    #: Seconds of the work at its steady pace, as its worker measured them.
    work_s: Mapped[float | None]


class SuspectTable(Table):
    """Items that were alone in work when an attempt at their shard ended badly."""

    __tablename__ = "suspects"

    shard_id: Mapped[int] = mapped_column(
        BigInteger, ForeignKey("shards.id"), primary_key=True, autoincrement=False
    )
    item_index: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False
    )
    strikes: Mapped[int]
    #: What it did, as the item's reason says it once it is condemned.
    reason: Mapped[str] = mapped_column(String(64))


class LocationTable(Table):
    """The manifest: where each item is. Holds personal data (URIs, group values)."""

    __tablename__ = "locations"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    item_index: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    #: Random; the only name of the item outside this table.
    item_id: Mapped[str] = mapped_column(String(32), index=True)
    uri: Mapped[str] = mapped_column(Text)
    size_bytes: Mapped[int | None] = mapped_column(BigInteger)
    #: Version id, ETag or modification time: what tells this content from another.
    version: Mapped[str | None] = mapped_column(String(200))
    label: Mapped[str | None] = mapped_column(Text)
    mask_uri: Mapped[str | None] = mapped_column(Text)
    subject_token: Mapped[str | None] = mapped_column(String(32), index=True)
    groups: Mapped[dict[str, Any] | None]
    #: Hides the input's digest in artifacts of runs that name a subject column.
    salt: Mapped[bytes | None]
    #: Index of the earlier item with the same URI.
    duplicate_of: Mapped[int | None] = mapped_column(BigInteger)
    #: Of an erased item: the salted digest of what its row said, for the manifest's.
    erased_place: Mapped[str | None] = mapped_column(String(64))


class SubjectTable(Table):
    """Identities as versions before 0010 kept them; `db upgrade` moves them away.

    They are in a database of their own since, encrypted: see `storage.identities`.
    """

    __tablename__ = "subjects"
    __table_args__ = (
        UniqueConstraint("kind", "value_sha256", name="uq_subjects_kind_value_sha256"),
    )

    token: Mapped[str] = mapped_column(String(32), primary_key=True)
    #: `subject`, or `group:<column>` for a value of a group column.
    kind: Mapped[str] = mapped_column(String(200))
    value: Mapped[str] = mapped_column(Text)
    created_at: Mapped[float]
    #: Stands for the value in the index, which cannot hold long ones.
    value_sha256: Mapped[str] = mapped_column(String(64))


class ItemTable(Table):
    """One explanation of one item: status, prediction, threshold and metrics."""

    __tablename__ = "items"
    __table_args__ = (
        ForeignKeyConstraint(
            ["run_id", "item_index"], ["locations.run_id", "locations.item_index"]
        ),
        Index("ix_items_run_id_status", "run_id", "status"),
    )

    run_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    item_index: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    method: Mapped[str] = mapped_column(String(40), primary_key=True)
    #: What was asked to be explained: `predicted`, `label` or a class index.
    target_rule: Mapped[str] = mapped_column(String(80), primary_key=True)
    policy: Mapped[str] = mapped_column(String(80), primary_key=True)
    shard_index: Mapped[int]
    item_id: Mapped[str] = mapped_column(String(32))
    subject_token: Mapped[str | None] = mapped_column(String(32))
    status: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(64))
    #: SHA-256 of the input's bytes, unsalted; None when it could not be read.
    input_sha256: Mapped[str | None] = mapped_column(String(64))
    predicted: Mapped[int | None]
    target: Mapped[int | None]
    label: Mapped[int | None]
    score: Mapped[float | None]
    keep_requested: Mapped[float | None]
    keep_achieved: Mapped[float | None]
    cut: Mapped[float | None]
    metrics: Mapped[dict[str, Any]]
    #: Why a metric is missing, by its name.
    absences: Mapped[dict[str, Any]]
    #: SHA-256 of the canonical record; the run's result digest is made of these.
    record_digest: Mapped[bytes]
    #: SHA-256 of the ground-truth mask's bytes, unsalted; None where there is none.
    truth_sha256: Mapped[str | None] = mapped_column(String(64))
    #: Place among the leaves of its shard, and the salt that hides what its leaf
    #: holds; without the salt nobody can guess the row from the leaf.
    leaf_index: Mapped[int | None]
    leaf_salt: Mapped[bytes | None]


class ScheduleTable(Table):
    """An audit that is run again and again, as it was when it was added."""

    __tablename__ = "schedules"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    #: Name of the audit.
    name: Mapped[str] = mapped_column(String(200), index=True)
    #: The file that it was read from; relative paths count from its folder.
    spec_path: Mapped[str] = mapped_column(Text)
    #: The spec as written, which is what runs.
    spec: Mapped[dict[str, Any]]
    spec_digest: Mapped[str] = mapped_column(String(64))
    #: SHA-256 of the weights that ran last, at first those of the file when added;
    #: None where no file is named and nothing has run.
    weights_sha256: Mapped[str | None] = mapped_column(String(64))
    cron: Mapped[str] = mapped_column(String(200))
    timezone: Mapped[str] = mapped_column(String(64))
    catch_up: Mapped[str] = mapped_column(String(16))
    incremental: Mapped[bool]
    state: Mapped[str] = mapped_column(String(16), index=True)
    #: The next moment at which a run is due.
    next_slot: Mapped[float]
    #: Slots of which no run was made because nobody was there in time.
    missed: Mapped[int] = mapped_column(BigInteger, default=0)
    created_at: Mapped[float]


class ScheduleSlotTable(Table):
    """One moment at which a schedule's run is due: the unit of lease and retry."""

    __tablename__ = "schedule_slots"
    __table_args__ = (
        UniqueConstraint("schedule_id", "slot"),
        Index("ix_schedule_slots_state_lease_until", "state", "lease_until"),
    )

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    schedule_id: Mapped[str] = mapped_column(ForeignKey("schedules.id"))
    slot: Mapped[float]
    #: Whether a person asked for it, so that a paused schedule runs it all the same.
    manual: Mapped[bool]
    state: Mapped[str] = mapped_column(String(16))
    #: Counted at claim; the fence of whoever plans.
    attempt: Mapped[int] = mapped_column(default=0)
    lease_until: Mapped[float | None]
    not_before: Mapped[float | None]
    dispatched_at: Mapped[float | None]
    worker: Mapped[str | None] = mapped_column(String(200))
    #: A member of `storage.states.SlotError`.
    error: Mapped[str | None] = mapped_column(String(64))
    run_id: Mapped[str | None] = mapped_column(ForeignKey("runs.id"), index=True)
    created_at: Mapped[float]
    finished_at: Mapped[float | None]


class BatchSizeTable(Table):
    """The batch size that a search found for one kind of work on one device."""

    __tablename__ = "batch_sizes"

    work_key: Mapped[str] = mapped_column(String(64), primary_key=True)
    device_name: Mapped[str] = mapped_column(String(200), primary_key=True)
    device: Mapped[str] = mapped_column(String(16))
    batch_size: Mapped[int]
    #: Items a second by batch size.
    trials: Mapped[dict[str, Any]]
    found_at: Mapped[float]


class WorkerTable(Table):
    """A live worker process, as it last announced itself."""

    __tablename__ = "workers"

    name: Mapped[str] = mapped_column(String(200), primary_key=True)
    queue: Mapped[str] = mapped_column(String(16))
    device: Mapped[str] = mapped_column(String(40))
    version: Mapped[str] = mapped_column(String(40))
    #: Folders that the worker may read, so that `submit` can refuse others.
    roots: Mapped[list[Any]]
    started_at: Mapped[float]
    seen_at: Mapped[float]
    #: Its name in the ledger and in the shards that it has claimed.
    actor: Mapped[str | None] = mapped_column(String(200))
    #: Versions of what decides numbers, as in the plan of a run.
    software: Mapped[dict[str, Any] | None]
    #: Where its metrics are served, if they are.
    metrics_url: Mapped[str | None] = mapped_column(String(200))
    #: How far its clock is ahead of the database's.
    clock_ahead_s: Mapped[float | None]


class InstallationTable(Table):
    """The random id of this installation, by which others are told from it."""

    __tablename__ = "installation"
    __table_args__ = (CheckConstraint("id = 1", name="single_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    token: Mapped[str] = mapped_column(String(32))
    created_at: Mapped[float]


class PrincipalTable(Table):
    """Somebody, or some machine, that may do things here."""

    __tablename__ = "principals"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    #: How the ledger names it; an account's name and no person's.
    name: Mapped[str] = mapped_column(String(64), unique=True)
    #: Members of `pipeline.access.policy.Role`.
    roles: Mapped[list[Any]]
    created_at: Mapped[float]
    revoked_at: Mapped[float | None]


class AccessTokenTable(Table):
    """A principal's token, of which only the digest is known here."""

    __tablename__ = "access_tokens"

    #: SHA-256 of the token, which has 256 random bits and so needs no salt.
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    principal_id: Mapped[str] = mapped_column(ForeignKey("principals.id"), index=True)
    #: The rights it is limited to; None for all of its principal's.
    scopes: Mapped[list[Any] | None] = mapped_column(JSON(none_as_null=True))
    created_at: Mapped[float]
    expires_at: Mapped[float]


class ChangeRequestTable(Table):
    """What waits, or waited, for the word of a second principal."""

    __tablename__ = "change_requests"
    __table_args__ = (Index("ix_change_requests_kind_digest", "kind", "digest"),)

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    #: A member of `pipeline.access.policy.RequestKind`.
    kind: Mapped[str] = mapped_column(String(16))
    #: What is to be changed, as the ledger names it.
    object: Mapped[str] = mapped_column(String(300))
    #: SHA-256 of what exactly is asked for: another change needs another word.
    digest: Mapped[str] = mapped_column(String(64))
    #: `waiting`, `approved`, `refused` or `used`.
    state: Mapped[str] = mapped_column(String(16))
    requested_by: Mapped[str] = mapped_column(String(300))
    created_at: Mapped[float]
    decided_by: Mapped[str | None] = mapped_column(String(300))
    decided_at: Mapped[float | None]


class LegalHoldTable(Table):
    """A subject, or a run, of which nothing may be deleted."""

    __tablename__ = "legal_holds"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    #: `subject/<token>` or `run/<id>`.
    object: Mapped[str] = mapped_column(String(300), index=True)
    #: A member of `storage.privacy_states.HoldReason`.
    reason: Mapped[str] = mapped_column(String(40))
    placed_by: Mapped[str] = mapped_column(String(300))
    placed_at: Mapped[float]
    released_at: Mapped[float | None]


class ErasureTable(Table):
    """One request to forget a subject, and how far it is."""

    __tablename__ = "erasures"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    subject_token: Mapped[str] = mapped_column(String(32), index=True)
    #: A member of `storage.privacy_states.ErasureState`.
    state: Mapped[str] = mapped_column(String(16))
    requested_by: Mapped[str] = mapped_column(String(300))
    created_at: Mapped[float]
    #: What is to be rewritten and deleted; random names and counts alone.
    plan: Mapped[dict[str, Any] | None]
    #: What was done, as counts.
    counts: Mapped[dict[str, Any] | None]
    #: The signed certificate.
    certificate: Mapped[str | None] = mapped_column(Text)
    finished_at: Mapped[float | None]


class RunRetentionTable(Table):
    """How long a run is kept where that is not what its spec says; and its end."""

    __tablename__ = "run_retentions"

    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), primary_key=True)
    #: A member of `pipeline.retention.RETENTION_DAYS`; None: as the spec says.
    retention: Mapped[str | None] = mapped_column(String(32))
    purged_at: Mapped[float | None]


class SignOffTable(Table):
    """What a reviewer said of a run's report, once it was read."""

    __tablename__ = "sign_offs"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    #: A member of `storage.review_states.SignOffVerdict`.
    verdict: Mapped[str] = mapped_column(String(16))
    #: The report's own verdict at that moment.
    report_verdict: Mapped[str] = mapped_column(String(16))
    #: SHA-256 of the canonical JSON report that was signed.
    report_sha256: Mapped[str] = mapped_column(String(64))
    signed_by: Mapped[str] = mapped_column(String(300))
    signed_at: Mapped[float]
    #: The ledger holds its salted digest alone, so that it can be deleted.
    comment: Mapped[str | None] = mapped_column(Text)
    comment_salt: Mapped[bytes | None]


class ReverificationTable(Table):
    """A part of a run that was computed again, and how it came out."""

    __tablename__ = "reverifications"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    run_id: Mapped[str] = mapped_column(ForeignKey("runs.id"), index=True)
    #: A member of `pipeline.reverification.outcome.Verdict`.
    verdict: Mapped[str] = mapped_column(String(16))
    #: What was asked for, which batches that drew, and how their items came out.
    facts: Mapped[dict[str, Any]]
    made_by: Mapped[str] = mapped_column(String(300))
    made_at: Mapped[float]


class IncidentTable(Table):
    """Something that may have shown personal data, and the clock that it started."""

    __tablename__ = "incidents"

    id: Mapped[str] = mapped_column(String(32), primary_key=True)
    #: A member of `storage.privacy_states.IncidentKind`.
    kind: Mapped[str] = mapped_column(String(40))
    #: When somebody became aware of it, from which the deadline counts.
    aware_at: Mapped[float]
    deadline_at: Mapped[float]
    opened_by: Mapped[str] = mapped_column(String(300))
    notified_at: Mapped[float | None]
    closed_at: Mapped[float | None]


class OutboxTable(Table):
    """Ledger entries written by the caller's transaction, not yet ordered.

    UPDATE is refused by a trigger. DELETE cannot be: ordering an entry is just that.
    """

    __tablename__ = "ledger_outbox"

    id: Mapped[int] = mapped_column(BigKey, primary_key=True)
    at: Mapped[float]
    body: Mapped[bytes]


class EntryTable(Table):
    """The ledger: UPDATE, DELETE and TRUNCATE are refused by triggers."""

    __tablename__ = "ledger_entries"

    idx: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    leaf_hash: Mapped[bytes]
    body: Mapped[bytes]


class CheckpointTable(Table):
    """Signed heads of the ledger; append-only like the entries."""

    __tablename__ = "checkpoints"

    tree_size: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False
    )
    root: Mapped[bytes]
    note: Mapped[str] = mapped_column(Text)
    at: Mapped[float]


class LedgerHeadTable(Table):
    """The sequencer's place: how many entries there are and their compact range."""

    __tablename__ = "ledger_head"
    __table_args__ = (CheckConstraint("id = 1", name="single_row"),)

    id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    tree_size: Mapped[int] = mapped_column(BigInteger)
    frontier: Mapped[list[Any]]


class LedgerNodeTable(Table):
    """Roots of complete subtrees of 256, 256^2, ... entries, from which proofs are cut.

    They follow from the entries; a wrong one gives a proof that fails its check.
    """

    __tablename__ = "ledger_nodes"

    level: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    idx: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    hash: Mapped[bytes]


class LedgerPlaceTable(Table):
    """Which entries tell of which run; follows from the entries."""

    __tablename__ = "ledger_places"

    #: Empty where a signing key hands over to the next, which every run's evidence has.
    run_id: Mapped[str] = mapped_column(String(32), primary_key=True)
    #: As `shard/7`; empty for the run as a whole.
    part: Mapped[str] = mapped_column(String(200), primary_key=True)
    idx: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)


class AnchorTable(Table):
    """Which checkpoints were copied to which place out of our reach."""

    __tablename__ = "anchors"

    #: The place's URL without credentials.
    place: Mapped[str] = mapped_column(String(300), primary_key=True)
    tree_size: Mapped[int] = mapped_column(
        BigInteger, primary_key=True, autoincrement=False
    )
    at: Mapped[float]
