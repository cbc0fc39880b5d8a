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
    "collect": Action.OBJECT_COLLECTED,
    "cancel": Action.RUN_CANCELLED,
    "compare": Action.RESULTS_READ,
    "db grants": Action.GRANTS_APPLIED,
    "db upgrade": Action.DATABASE_UPGRADED,
    "evidence": Action.EVIDENCE_EXPORTED,
    "init": Action.KEY_CREATED,
    "items": Action.RESULTS_READ,
    "keys rotate": Action.KEY_ROTATED,
    "learn": Action.RESULTS_READ,
    "log": Action.LEDGER_READ,
    "pause": Action.RUN_PAUSED,
    "power": Action.RESULTS_READ,
    "report": Action.REPORT_READ,
    "resume": Action.RUN_RESUMED,
    "retry": Action.RUN_RETRIED,
    "run": Action.RUN_PLANNED,
    "schedule add": Action.SCHEDULE_ADDED,
    "schedule pause": Action.SCHEDULE_PAUSED,
    "schedule remove": Action.SCHEDULE_REMOVED,
    "schedule resume": Action.SCHEDULE_RESUMED,
    "schedule run-due": Action.RUN_PLANNED,
    "schedule run-now": Action.SLOT_REQUESTED,
    "show": Action.ITEM_READ,
    "submit": Action.RUN_PLANNED,
    "verify": Action.LEDGER_VERIFIED,
}

#: Commands that leave no entry, and why.
SILENT: Final[dict[str, str]] = {
    "beat": "sends ticks and touches no data",
    "doctor": "looks at servers and settings, at no data",
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
