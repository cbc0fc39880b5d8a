# SPDX-License-Identifier: Apache-2.0
"""The Celery application is set up for delivery only, with names that Celery knows."""

from pathlib import Path
from typing import Any

import pytest
from celery import Celery
from celery.app.defaults import NAMESPACES, flatten
from kombu.transport.redis import Channel
from pydantic import SecretStr

from pipeline.errors import InfrastructureError, SpecError
from pipeline.settings import Settings
from workers.app import create_app
from workers.processes import run_worker


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """Settings with a broker that is never called."""
    return Settings(home=tmp_path, broker_url=SecretStr("redis://:pw@h:1/2"), tick_s=7)


@pytest.fixture
def app(settings: Settings) -> Celery:
    """The application."""
    return create_app(settings)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("broker_url", "redis://:pw@h:1/2"),
        # A message is JSON, whoever wrote it.
        ("accept_content", ["json"]),
        ("task_serializer", "json"),
        # The shard table knows how a task ended; Redis holds hints alone.
        ("result_backend", None),
        ("task_ignore_result", True),
        # A hint is taken from Redis when its work is over, however it ended; a worker
        # that dies is found by its lease and not by the broker.
        ("task_acks_late", True),
        ("task_acks_on_failure", True),
        ("task_reject_on_worker_lost", False),
        # No worker sits on hints that another one could follow.
        ("worker_prefetch_multiplier", 1),
        # CUDA and database connections do not survive a fork.
        ("worker_pool_start_method", "spawn"),
        # Importing torch takes longer than Celery's own patience.
        ("worker_proc_alive_timeout", 120.0),
        # Time to reach a batch boundary and give the shard back.
        ("worker_soft_shutdown_timeout", 60),
        # A mistyped queue is an error and no queue that nobody reads.
        ("task_create_missing_queues", False),
        ("task_default_queue", "control"),
        # An outage of the broker is waited out, at the start as well.
        ("broker_connection_retry_on_startup", True),
        ("broker_connection_max_retries", None),
        # Our own logging keeps personal data out.
        ("worker_hijack_root_logger", False),
        ("worker_send_task_events", False),
        ("timezone", "UTC"),
    ],
)
def test_each_setting_that_matters(app: Celery, name: str, value: Any) -> None:
    """Each setting has the value that the delivery counts on."""
    assert app.conf[name] == value


def test_every_setting_has_a_name_that_celery_knows(app: Celery) -> None:
    """A mistyped name would be accepted and do nothing."""
    known = {name for name, _option in flatten(NAMESPACES)}
    assert set(app.conf.changes) - known <= {"deprecated_settings"}
    options = set(app.conf.broker_transport_options)
    assert options <= {*Channel.from_transport_options, "visibility_timeout"}


def test_the_queues_and_the_beat(app: Celery, settings: Settings) -> None:
    """Three queues; one tick to the control queue that does not pile up."""
    assert [queue.name for queue in app.conf.task_queues] == ["gpu", "cpu", "control"]
    (entry,) = app.conf.beat_schedule.values()
    assert entry["task"] == "affidavit.tick"
    assert entry["schedule"] == settings.tick_s
    assert entry["options"] == {"queue": "control", "expires": 14}
    assert Path(app.conf.beat_schedule_filename).parent == settings.home


def test_redis_is_told_what_to_do_with_silent_workers(app: Celery) -> None:
    """An unacknowledged hint comes back after an hour, dead sockets are noticed."""
    options = app.conf.broker_transport_options
    assert options["visibility_timeout"] == 3600
    assert options["global_keyprefix"] == "affidavit:"
    assert options["socket_timeout"] > options["socket_connect_timeout"] > 0
    assert options["health_check_interval"] < options["socket_timeout"]


def test_the_tasks_are_those_of_this_package(app: Celery) -> None:
    """Importing what the settings name registers shards, slots and the tick."""
    app.loader.import_default_modules()
    ours = {name for name in app.tasks if not name.startswith("celery.")}
    assert ours == {"affidavit.shard", "affidavit.slot", "affidavit.tick"}


def test_without_a_broker_there_is_no_app(tmp_path: Path) -> None:
    """The sentence names the variable and the way without a broker."""
    with pytest.raises(InfrastructureError, match=r"AFFIDAVIT_BROKER_URL.*run"):
        create_app(Settings(home=tmp_path, broker_url=None))


@pytest.mark.parametrize("queue", ["", "GPU", "celery"])
def test_an_unknown_queue_is_refused(settings: Settings, queue: str) -> None:
    """Before anything is started, with the queues that there are."""
    with pytest.raises(SpecError, match="gpu, cpu, control"):
        run_worker(settings, queue=queue, name=None)
