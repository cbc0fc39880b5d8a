# SPDX-License-Identifier: Apache-2.0
"""The Celery application: used for delivery only, and set up for that.

Left out on purpose, because each has been seen to lose or double work on Redis: chords,
ETAs and countdowns, a result backend, Redis priorities, requeueing on worker loss. What
they would do, the shard table does.
"""

from celery import Celery
from kombu import Queue

from pipeline.errors import InfrastructureError
from pipeline.settings import Settings
from workers.broker_tls import broker_tls

#: Queues of workers that explain, and of the one that looks after the rest.
COMPUTE_QUEUES = ("gpu", "cpu")
CONTROL_QUEUE = "control"

#: Redis hands a message out again after this long; a hint twice is harmless.
VISIBILITY_TIMEOUT_S = 3600

#: Seconds that a stopping worker gets to reach its next batch boundary.
SOFT_SHUTDOWN_S = 60


def create_app(settings: Settings) -> Celery:
    """Return the application for this installation's broker.

    Raises:
        InfrastructureError: no broker is set.
    """
    if settings.broker_url is None:
        raise InfrastructureError(
            "No broker is set; set AFFIDAVIT_BROKER_URL=redis://... or use "
            "'affidavit run', which needs none."
        )
    app = Celery("affidavit", broker=settings.broker_url.get_secret_value())
    app.conf.update(
        _delivery(),
        broker_transport_options={
            "visibility_timeout": VISIBILITY_TIMEOUT_S,
            "unacked_restore_interval": 10,
            "unacked_restore_throttle": 1,
            "global_keyprefix": settings.broker_prefix,
            "socket_timeout": 30,
            "socket_connect_timeout": 5,
            "socket_keepalive": True,
            "health_check_interval": 25,
            "client_name": "affidavit",
        },
        broker_use_ssl=broker_tls(settings) or None,
        task_queues=[Queue(name) for name in (*COMPUTE_QUEUES, CONTROL_QUEUE)],
        beat_schedule={
            "tick": {
                "task": "affidavit.tick",
                "schedule": settings.tick_s,
                # A control worker that was away must not find a heap of ticks.
                "options": {"queue": CONTROL_QUEUE, "expires": 2 * settings.tick_s},
            }
        },
        beat_schedule_filename=str(settings.home.absolute() / "beat-schedule"),
        beat_max_loop_interval=max(1.0, settings.tick_s),
    )
    return app


def _delivery() -> dict[str, object]:
    return {
        "imports": ("workers.tasks", "workers.lifecycle"),
        "task_serializer": "json",
        "accept_content": ["json"],
        "result_accept_content": ["json"],
        "result_backend": None,
        "task_ignore_result": True,
        "task_default_queue": CONTROL_QUEUE,
        "task_create_missing_queues": False,
        "task_acks_late": True,
        "task_acks_on_failure": True,
        "task_reject_on_worker_lost": False,
        "worker_prefetch_multiplier": 1,
        # A CUDA context does not survive a fork; nor does a database connection.
        "worker_pool_start_method": "spawn",
        # A child imports torch before it is up.
        "worker_proc_alive_timeout": 120.0,
        "worker_soft_shutdown_timeout": SOFT_SHUTDOWN_S,
        "worker_enable_soft_shutdown_on_idle": False,
        "worker_send_task_events": False,
        "worker_hijack_root_logger": False,
        "worker_enable_remote_control": True,
        "broker_connection_retry_on_startup": True,
        "broker_connection_max_retries": None,
        "broker_pool_acquire_timeout": 10,
        "timezone": "UTC",
    }
