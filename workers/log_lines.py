# SPDX-License-Identifier: Apache-2.0
"""Outside a terminal a worker's output is log lines and nothing else.

Whatever gathers the logs reads one JSON object a line; Celery's banner, Python's
warnings and what Celery says past its own logging would each break that.
"""

import os
import sys
import warnings
from typing import Any, TextIO

import celery.apps.worker
import structlog
from celery import signals
from celery.platforms import SecurityWarning

from pipeline.settings import Settings

log = structlog.get_logger()

#: Variable by which Celery has its children log in its own form before ours is set up.
_CHILD_LOG_VARIABLE = "_MP_FORK_LOGLEVEL_"


def wants_lines(settings: Settings) -> bool:
    """Whether the logs of this process are JSON lines."""
    if settings.log_format == "auto":
        return not sys.stderr.isatty()
    return settings.log_format == "json"


def say_in_lines_only() -> None:
    """Warnings and what Celery says beside its logs are events of ours from now on."""
    warnings.showwarning = _as_event
    celery.apps.worker.safe_say = _say_as_event
    signals.celeryd_after_setup.connect(_let_children_wait_for_our_form, weak=False)


def _as_event(
    message: Warning | str,  # noqa: ARG001 - its text may quote what was worked on
    category: type[Warning],
    filename: str,  # noqa: ARG001
    lineno: int,  # noqa: ARG001
    file: TextIO | None = None,  # noqa: ARG001
    line: str | None = None,  # noqa: ARG001
) -> None:
    """Log a warning by its class."""
    if issubclass(category, SecurityWarning):
        # Celery's only use of it; ours never unpickle a message, but may write files.
        log.warning("runs_as_superuser")
    else:
        log.warning("library_warning", error=category.__name__)


def _say_as_event(_text: str, _stream: TextIO | None = None) -> None:
    """Log that the worker was told to stop, which is what Celery says this way."""
    log.info("worker_stopping")


def _let_children_wait_for_our_form(**_kwargs: Any) -> None:
    os.environ.pop(_CHILD_LOG_VARIABLE, None)
