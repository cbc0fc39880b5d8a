# SPDX-License-Identifier: Apache-2.0
"""A deployment for a test: one environment, the command line, workers as processes."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from storage.engine import create_engine
from storage.runs import get_run
from storage.schema import upgrade
from storage.worker_registry import live_workers
from tests.support.command_line import Answer, called, standing_in
from tests.support.places import StorePlace
from tests.support.processes import ManagedProcess

#: Longest wait for anything in a test, in seconds, on a slow and busy machine.
PATIENCE_S = 240.0


@dataclass(kw_only=True)
class Deployment:
    """Settings of an installation, and the processes that a test started with them."""

    folder: Path
    variables: dict[str, str] = field(default_factory=dict)
    _started: list[ManagedProcess] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        """The whole environment of a subprocess."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("AFFIDAVIT_")
        }
        return inherited | {
            "AFFIDAVIT_HOME": str(self.folder / "home"),
            "OMP_NUM_THREADS": "1",
            **self.variables,
        }

    def command(self, *arguments: str) -> list[str]:
        """Return the argument vector of an affidavit command."""
        return [sys.executable, "-m", "affidavit", *arguments]

    def call(self, *arguments: str) -> Answer:
        """Return what an affidavit command answers, called in this process."""
        home = self.folder / "home"
        with standing_in(self.folder, home=home, variables=self.variables):
            return called(*arguments)

    def call_apart(self, *arguments: str) -> Answer:
        """Return what an affidavit command answers, as a process of its own."""
        done = subprocess.run(
            self.command(*arguments),
            env=self.environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return Answer(code=done.returncode, out=done.stdout, err=done.stderr)

    def start(self, name: str, *arguments: str) -> ManagedProcess:
        """Return a long-running command, started and not waited for."""
        process = ManagedProcess(
            argv=self.command(*arguments),
            log=self.folder / f"{name}.log",
            is_ready=lambda: None,
            environment=self.environment,
            folder=self.folder,
        )
        process.start()
        self._started.append(process)
        return process

    def start_worker(self, name: str, queue: str) -> ManagedProcess:
        """Return a worker, not waited for."""
        return self.start(name, "worker", "--queue", queue, "--name", name)

    def wait_for_workers(self, *names: str) -> None:
        """The workers have announced themselves."""
        engine = self.engine()

        def announced() -> bool:
            return set(names) <= {worker.name for worker in live_workers(engine)}

        self.wait_until(announced, f"workers {names} do not announce themselves")
        engine.dispose()

    def engine(self) -> sa.Engine:
        """Return an engine on this deployment's database."""
        return create_engine(self.variables["AFFIDAVIT_DATABASE_URL"])

    def status(self, run: str) -> Any:
        """Return the run as `status --json` tells it."""
        answer = self.call("status", run, "--json")
        assert answer.code == 0, answer.err
        return answer.document

    def wait_for_state(self, run: str, *states: str) -> Any:
        """Return the run's document once it is in one of the states."""
        engine = self.engine()
        self.wait_until(
            lambda: get_run(engine, run).state in states,
            f"run {run} does not become {states}",
        )
        engine.dispose()
        return self.status(run)

    def wait_until(
        self, holds: Callable[[], bool], complaint: str, *, every_s: float = 0.2
    ) -> None:
        """Return once the condition holds."""
        deadline = time.monotonic() + PATIENCE_S
        while not holds():
            if time.monotonic() > deadline:
                raise AssertionError(f"{complaint}\n{self.logs()}")
            time.sleep(every_s)

    def logs(self) -> str:
        """Return the end of every process's log."""
        ends = []
        for process in self._started:
            tail = process.log.read_text(errors="replace")[-3000:]
            ends.append(f"--- {process.log.name}\n{tail}")
        return "\n".join(ends)

    def stop(self) -> None:
        """Every process that was started has ended."""
        for process in self._started:
            process.kill()


@contextmanager
def deployed(
    folder: Path, *, database_url: str, place: StorePlace, broker_url: str, **more: str
) -> Iterator[Deployment]:
    """A deployment with its tables; its processes end with the block."""
    folder.mkdir(parents=True, exist_ok=True)
    deployment = Deployment(
        folder=folder,
        variables={
            "AFFIDAVIT_DATABASE_URL": database_url,
            "AFFIDAVIT_BROKER_URL": broker_url,
            "AFFIDAVIT_ALLOWED_ROOTS": str(folder),
            "AFFIDAVIT_DEVICE": "cpu",
            "AFFIDAVIT_TICK_S": "1",
            "AFFIDAVIT_LEASE_S": "6",
            "AFFIDAVIT_HINT_TIMEOUT_S": "10",
            **place.environment(),
            **more,
        },
    )
    try:
        upgrade(database_url, actor="cli/test")
        yield deployment
    finally:
        deployment.stop()
