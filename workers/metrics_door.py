# SPDX-License-Identifier: Apache-2.0
"""The HTTP door of a worker's metrics: opened when it can be, never in the way of work.

The process that works opens it, since it is the one that counts. A port that another
process holds, such as a former child not yet gone, is tried again at each announcement.
"""

import socket
from wsgiref.simple_server import WSGIServer

import sqlalchemy as sa
import structlog
from prometheus_client import start_http_server

from pipeline.settings import Settings
from workers.app import CONTROL_QUEUE
from workers.fleet_metrics import FleetCollector
from workers.metrics import process_metrics

log = structlog.get_logger()

#: Addresses that mean every address of this machine.
_ANY = frozenset({"", "0.0.0.0", "::"})  # noqa: S104 - to be told from others


class MetricsDoor:
    """Serves `/metrics` of this process."""

    def __init__(self, settings: Settings, *, queue: str) -> None:
        self._port = settings.metrics_port
        self._bind = settings.metrics_bind
        self._queue = queue
        self._server: WSGIServer | None = None
        self._said = False

    def open(self, engine: sa.Engine) -> str | None:
        """Return where the metrics are, None where they are not served (yet)."""
        if self._port is None:
            return None
        if self._server is None:
            self._try_to_open(engine)
        if self._server is None:
            return None
        host = socket.gethostname() if self._bind in _ANY else self._bind
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{self._server.server_port}/metrics"

    def _try_to_open(self, engine: sa.Engine) -> None:
        try:
            server, _thread = start_http_server(
                self._port or 0, self._bind, registry=process_metrics().registry
            )
        except (OSError, OverflowError) as exc:
            if not self._said:
                log.warning(
                    "metrics_not_served", error=type(exc).__name__, port=self._port
                )
            self._said = True
            return
        if self._queue == CONTROL_QUEUE:
            process_metrics().registry.register(FleetCollector(engine))
        self._server = server
        log.info("metrics_served", port=server.server_port)
