# SPDX-License-Identifier: Apache-2.0
"""Logs: one event a line, ids bound, nothing personal; JSON outside a terminal.

Only keys on the list below pass. A file name, a label or an exception's text may hold
personal data, so they have no key here.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

from pipeline.settings import Settings

#: Everything that a log line may hold.
ALLOWED_KEYS = frozenset(
    {
        "event",
        "level",
        "timestamp",
        "run",
        "shard",
        "shard_id",
        "attempt",
        "worker",
        "queue",
        "device",
        "task_id",
        "task_name",
        "outcome",
        "state",
        "items",
        "count",
        "seconds",
        "error",
        "version",
        "threads",
        "pid",
        "logger",
    }
)


def only_allowed_keys(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Return the event without any key that is not on the list."""
    return {key: value for key, value in event.items() if key in ALLOWED_KEYS}


def configure_logging(settings: Settings) -> None:
    """Every log line of this process goes to standard error in the set format."""
    chosen = settings.log_format
    if chosen == "auto":
        chosen = "console" if sys.stderr.isatty() else "json"
    renderer: Any = (
        structlog.dev.ConsoleRenderer()
        if chosen == "console"
        else structlog.processors.JSONRenderer(sort_keys=True)
    )
    level = getattr(logging, settings.log_level.upper())
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            only_allowed_keys,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
