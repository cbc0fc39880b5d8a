# SPDX-License-Identifier: Apache-2.0
"""What can be done to what: the closed list of `subject:verb` tags of an entry.

A tag is never renamed or reused: old ledgers must stay readable. A verifier that
meets a tag it does not know says so and asks for a newer version of itself.
"""

from enum import StrEnum


class Action(StrEnum):
    """What happened. The entry's object says to which run, shard or item."""

    # The life of a run.
    RUN_PLANNED = "run:planned"  # the manifest is fixed
    RUN_QUEUED = "run:queued"
    RUN_STARTED = "run:started"
    RUN_INTERRUPTED = "run:interrupted"
    RUN_RESUMED = "run:resumed"
    RUN_RETRIED = "run:retried"
    RUN_CANCELLED = "run:cancelled"
    RUN_PAUSED = "run:paused"
    RUN_FINALISED = "run:finalised"  # digest: the result digest
    RUN_FAILED = "run:failed"
    RUN_READ = "run:read"

    # The life of a shard.
    SHARD_CLAIMED = "shard:claimed"
    SHARD_FINISHED = "shard:finished"  # digest: the artifact's SHA-256
    SHARD_RELEASED = "shard:released"
    SHARD_EXPIRED = "shard:expired"
    SHARD_FAILED = "shard:failed"  # one attempt; others may follow
    SHARD_RETRIED = "shard:retried"
    SHARD_DEAD = "shard:dead"
    ITEM_CONDEMNED = "item:condemned"  # it ended its worker twice and is left out

    # Schedules; a slot is a moment at which a run is due.
    SCHEDULE_ADDED = "schedule:added"  # digest: the spec's
    SCHEDULE_PAUSED = "schedule:paused"
    SCHEDULE_RESUMED = "schedule:resumed"
    SCHEDULE_REMOVED = "schedule:removed"
    WEIGHTS_CHANGED = "weights:changed"  # digest: the new weights'
    SLOT_REQUESTED = "slot:requested"  # a person asked for a run now
    SLOT_SKIPPED = "slot:skipped"
    SLOT_FAILED = "slot:failed"  # one attempt to plan; others may follow
    SLOT_CLOSED = "slot:closed"  # without a run: nothing was new or changed

    OBJECT_COLLECTED = "object:collected"  # nobody's: its attempt was not the last

    # What people see and take away.
    REPORT_WRITTEN = "report:written"
    REPORT_READ = "report:read"
    ITEM_READ = "item:read"
    RESULTS_READ = "results:read"
    RESULTS_EXPORTED = "results:exported"  # items and aggregates as tables
    EVIDENCE_EXPORTED = "evidence:exported"

    # What people vouch for.
    REPORT_SIGNED = "report:signed"  # digest: the canonical JSON report's
    RUN_REVERIFIED = "run:reverified"  # digest: the result digest that was held against

    # The ledger itself.
    LEDGER_CREATED = "ledger:created"
    LEDGER_VERIFIED = "ledger:verified"
    LEDGER_READ = "ledger:read"
    LEDGER_EXPORTED = "ledger:exported"

    # The installation.
    KEY_CREATED = "key:created"
    KEY_ROTATED = "key:rotated"  # the old key has signed the new one
    DATABASE_UPGRADED = "database:upgraded"
    GRANTS_APPLIED = "grants:applied"
    SETTINGS_CHANGED = "settings:changed"
    WORKER_STARTED = "worker:started"
    WORKER_STOPPED = "worker:stopped"

    # Decisions about trust.
    CODE_ALLOWED = "code:allowed"  # an administrator let weights execute code
    MODEL_REFUSED = "model:refused"
    SOURCE_REFUSED = "source:refused"
    GATE_REFUSED = "gate:refused"
    ACCESS_REFUSED = "access:refused"

    # Who may do what, and what needed the word of a second principal.
    PRINCIPAL_ADDED = "principal:added"
    PRINCIPAL_REVOKED = "principal:revoked"
    PRINCIPALS_READ = "principals:read"
    REQUEST_MADE = "request:made"  # digest: of what exactly is asked for
    REQUEST_APPROVED = "request:approved"
    REQUEST_REFUSED = "request:refused"
    REQUEST_USED = "request:used"
    REQUESTS_READ = "requests:read"

    # Persons, by their random tokens, and what is kept of them.
    IDENTITIES_MOVED = "identities:moved"  # from the plain table to the encrypted one
    KEYS_ROTATED = "keys:rotated"  # the living keys of subjects, and old ones deleted
    SUBJECT_FOUND = "subject:found"
    SUBJECT_HELD = "subject:held"
    HOLD_RELEASED = "hold:released"
    SUBJECT_READ = "subject:read"
    SUBJECT_EXPORTED = "subject:exported"
    ERASURE_REQUESTED = "erasure:requested"
    ERASURE_VERIFIED = "erasure:verified"
    ERASURE_HELD = "erasure:held"
    ERASURE_PLANNED = "erasure:planned"
    SHARD_REWRITTEN = "shard:rewritten"  # digest: the new artifact's SHA-256
    REPORT_REWRITTEN = "report:rewritten"
    ERASURE_EXECUTED = "erasure:executed"
    ERASURE_CHECKED = "erasure:checked"
    ERASURE_CERTIFIED = "erasure:certified"  # digest: the certificate's
    ERASURES_REPLAYED = "erasures:replayed"  # after a restore
    RETENTION_CHANGED = "retention:changed"
    RUN_PURGED = "run:purged"
    REGISTER_READ = "register:read"
    INCIDENT_OPENED = "incident:opened"
    INCIDENT_READ = "incident:read"
    INCIDENT_CLOSED = "incident:closed"
