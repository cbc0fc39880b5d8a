# SPDX-License-Identifier: Apache-2.0
"""Which entry of the ledger tells of each command and task, or why none does.

A test holds this equal to the commands that there are, runs them and counts. Whoever
adds a command decides here what the ledger says of it.
"""

from typing import Final

from ledger.actions import Action

#: The entry that is written exactly once each time the command does its work. What
#: follows from it (a run's shards, its report) has entries of its own.
COMMANDS: Final[dict[str, Action]] = {
    "calibrate": Action.RESULTS_READ,
    "cancel": Action.RUN_CANCELLED,
    "collect": Action.OBJECT_COLLECTED,
    "compare": Action.RESULTS_READ,
    "db grants": Action.GRANTS_APPLIED,
    "db upgrade": Action.DATABASE_UPGRADED,
    "dpia": Action.REGISTER_READ,
    "evidence": Action.EVIDENCE_EXPORTED,
    "incident affected": Action.INCIDENT_READ,
    "incident close": Action.INCIDENT_CLOSED,
    "incident list": Action.INCIDENT_READ,
    "incident open": Action.INCIDENT_OPENED,
    "init": Action.KEY_CREATED,
    "items": Action.RESULTS_READ,
    "keys rotate": Action.KEY_ROTATED,
    "learn": Action.RESULTS_READ,
    "log": Action.LEDGER_READ,
    "pause": Action.RUN_PAUSED,
    "power": Action.RESULTS_READ,
    "principal add": Action.PRINCIPAL_ADDED,
    "principal list": Action.PRINCIPALS_READ,
    "principal renew": Action.PRINCIPAL_ADDED,
    "principal revoke": Action.PRINCIPAL_REVOKED,
    "purge": Action.RUN_PURGED,
    "register": Action.REGISTER_READ,
    "report": Action.REPORT_READ,
    "request approve": Action.REQUEST_APPROVED,
    "request list": Action.REQUESTS_READ,
    "request refuse": Action.REQUEST_REFUSED,
    "resume": Action.RUN_RESUMED,
    "retention list": Action.RESULTS_READ,
    "retention set": Action.RETENTION_CHANGED,
    "retry": Action.RUN_RETRIED,
    "reverify": Action.RUN_REVERIFIED,
    "run": Action.RUN_PLANNED,
    "schedule add": Action.SCHEDULE_ADDED,
    "schedule pause": Action.SCHEDULE_PAUSED,
    "schedule remove": Action.SCHEDULE_REMOVED,
    "schedule resume": Action.SCHEDULE_RESUMED,
    "schedule run-due": Action.RUN_PLANNED,
    "schedule run-now": Action.SLOT_REQUESTED,
    "show": Action.ITEM_READ,
    "sign-off": Action.REPORT_SIGNED,
    "subject erase": Action.ERASURE_REQUESTED,
    "subject erasures": Action.SUBJECT_READ,
    "subject export": Action.SUBJECT_EXPORTED,
    "subject find": Action.SUBJECT_FOUND,
    "subject hold": Action.SUBJECT_HELD,
    "subject release": Action.HOLD_RELEASED,
    "subject replay": Action.ERASURES_REPLAYED,
    "subject report": Action.SUBJECT_READ,
    "subject rotate-keys": Action.KEYS_ROTATED,
    "submit": Action.RUN_PLANNED,
    "verify": Action.LEDGER_VERIFIED,
}

#: Commands that leave no entry, and why.
SILENT: Final[dict[str, str]] = {
    "beat": "sends ticks and touches no data",
    "doctor": "looks at servers and settings, at no data",
    "inspect": "looks at a network, at no data",
    "kinds": "prints what the program can do",
    "keys show": "prints a public key",
    "methods": "prints what the program can do",
    "metrics": "prints what the program can do",
    "plan": "writes nothing; the audit's own source is read by who asks",
    "policies": "prints what the program can do",
    "schedule list": "shows names, times and states, no results",
    "status": "shows states and counts, no item",
    "worker": "each shard that it works on has entries of its own",
    "workers": "shows processes, no data",
}

#: The entry that each task of the queues leaves by doing its work; None where the work
#: is that of others, whose entries tell of it.
TASKS: Final[dict[str, Action | None]] = {
    "affidavit.shard": Action.SHARD_FINISHED,
    "affidavit.slot": Action.RUN_PLANNED,
    "affidavit.tick": None,
}
