# SPDX-License-Identifier: Apache-2.0
"""Logs: one event a line, ids bound, nothing personal; JSON outside a terminal.

Only keys on the list below pass. A file name, a label or an exception's text may hold
personal data, so they have no key here. Libraries log what passes through them: tags of
pictures, addresses of objects. So they are heard from WARNING on only, whatever our own
level is, and what they say is left out: the logger's name tells where to look.
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
        "schedule",
        "slot_id",
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
        "needed",
        "threads",
        "pid",
        "port",
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


#: Libraries that see messages alone, which hold ids: what they say may be read.
_QUEUE_LIBRARIES = frozenset({"celery", "kombu", "billiard", "amqp"})


def configure_library_logging(settings: Settings) -> None:
    """Warnings of libraries take the same form, without tracebacks and most texts.

    A traceback holds values of variables' text forms and file names, which may be
    personal; the exception's class name stays.
    """
    json_wanted = settings.log_format == "json" or (
        settings.log_format == "auto" and not sys.stderr.isatty()
    )
    renderer: Any = (
        structlog.processors.JSONRenderer(sort_keys=True)
        if json_wanted
        else structlog.dev.ConsoleRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    # On the handler: a library may have set a level of its own on its loggers.
    handler.setLevel(logging.WARNING)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[
                structlog.contextvars.merge_contextvars,
                structlog.stdlib.add_log_level,
                structlog.stdlib.add_logger_name,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
            ],
            processors=[
                _without_traceback,
                _without_free_text,
                only_allowed_keys,
                renderer,
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(max(logging.WARNING, getattr(logging, settings.log_level.upper())))


def _without_traceback(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    info = event.pop("exc_info", None)
    if isinstance(info, tuple) and info[0] is not None:
        event["error"] = info[0].__name__
        # Celery writes the exception's text into the message itself.
        event["event"] = "task_failed"
    return event


def _without_free_text(
    _logger: Any, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    library = str(event.get("logger", "")).partition(".")[0]
    if library not in _QUEUE_LIBRARIES:
        event["event"] = "library_warning"
    return event
