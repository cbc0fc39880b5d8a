# SPDX-License-Identifier: Apache-2.0
"""Messages from a broker are untrusted: only JSON is ever decoded."""

import os
import pickle
from pathlib import Path
from typing import Any

from kombu import Connection, Exchange, Producer
from kombu.exceptions import ContentDisallowed
from pydantic import SecretStr

from pipeline.settings import Settings
from workers.app import create_app
from workers.hints import publisher


class Trap:
    """An object that leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_is_refused_and_not_opened(broker_url: str, tmp_path: Path) -> None:
    """A message that would execute code is refused; the JSON after it arrives."""
    trap = tmp_path / "sprung"
    app = create_app(Settings(home=tmp_path, broker_url=SecretStr(broker_url)))
    options = app.conf.broker_transport_options
    with Connection(broker_url, transport_options=options) as connection:
        Producer(connection.channel(), exchange=Exchange("")).publish(
            pickle.dumps(((1,), {"x": Trap(trap)}, {})),
            routing_key="cpu",
            content_type="application/x-python-serialize",
            content_encoding="binary",
            headers={"task": "affidavit.shard", "id": "1"},
        )
    publisher(app)(7, "cpu")
    refused: list[Exception] = []
    arrived: list[Any] = []

    def refuse(message: Any, error: Exception) -> None:
        refused.append(error)
        message.reject()

    def accept(body: Any, message: Any) -> None:
        arrived.append(body)
        message.ack()

    app.amqp.queues.select(["cpu"])
    with app.connection_for_read() as connection:
        consumer = app.amqp.TaskConsumer(
            connection.default_channel, on_decode_error=refuse, callbacks=[accept]
        )
        with consumer:
            while not (refused and arrived):
                connection.drain_events(timeout=10)
    app.close()
    assert [type(error) for error in refused] == [ContentDisallowed]
    assert [body[0] for body in arrived] == [[7]]
    assert not trap.exists()
