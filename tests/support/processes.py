# SPDX-License-Identifier: Apache-2.0
"""Real programs as subprocesses: started, watched, stopped and killed by their pid."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import psutil

READY_WITHIN_S = 60.0
STOP_WITHIN_S = 15.0
_given_ports: set[int] = set()


def free_port() -> int:
    """Return a port that nobody listens on and that no one else was given.

    It lies below the range from which the system picks ports for outgoing calls, so
    that none of those can take it while a test keeps its server down. Test processes
    that run at once have ranges of their own.
    """
    picker = random.SystemRandom()  # pytest-randomly fixes the seed of the other one
    place = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    width = 12_000 // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    while True:
        port = 20_000 + place * width + picker.randrange(width)
        if port in _given_ports:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        _given_ports.add(port)
        return port


@dataclass(kw_only=True)
class ManagedProcess:
    """One program that a test may stop, kill and start again under the same address.

    Attributes:
        argv: the command; it must stay in the foreground.
        log: the file that takes its output, appended to by each start.
        is_ready: returns when it answers, raises while it does not yet.
        environment: its whole environment; None inherits ours.
        folder: its working directory.
        user, group: whom to run as; None stays who we are.
        stop_signal: what asks it politely to end.
    """

    argv: list[str]
    log: Path
    is_ready: Callable[[], object]
    environment: Mapping[str, str] | None = None
    folder: Path | None = None
    user: str | None = None
    group: str | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)

    @property
    def pid(self) -> int:
        """The process id of the current, or else the last, start."""
        if self._process is None:
            raise RuntimeError(f"{self.argv[0]} was never started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process exists and has not ended."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """The program runs and answers."""
        if self.is_running:
            return
        deadline = time.monotonic() + READY_WITHIN_S
        self._launch()
        while True:
            try:
                self.is_ready()
            except Exception as exc:
                if time.monotonic() > deadline:
                    self.kill()
                    raise RuntimeError(self._complaint("does not answer")) from exc
                if not self.is_running:
                    # After a kill -9 the children of the old server may hold its
                    # memory or port a moment longer.
                    self._forget()
                    if time.monotonic() > deadline - READY_WITHIN_S + 10:
                        raise RuntimeError(self._complaint("ended at once")) from exc
                    time.sleep(0.3)
                    self._launch()
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """The program has ended: politely, or by force if it takes too long."""
        if self._process is not None and self.is_running:
            self._process.send_signal(self.stop_signal)
            try:
                self._process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
        self._forget()

    def kill(self) -> None:
        """The program was ended by SIGKILL: it could not tidy up."""
        if self._process is not None and self.is_running:
            self._process.kill()
        self._forget()

    def restart(self) -> None:
        """The program runs and answers again, under the same address and data."""
        self.stop()
        self.start()

    def _launch(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.environment,
                cwd=self.folder,
                user=self.user,
                group=self.group,
                extra_groups=None if self.user is None else [],
                start_new_session=True,  # a Ctrl-C is for pytest, which then stops us
            )
        tell_reaper(self._process.pid)

    def _forget(self) -> None:
        if self._process is not None:
            self._process.wait()
            tell_reaper(-self._process.pid)

    def _complaint(self, what: str) -> str:
        tail = self.log.read_text(errors="replace")[-2000:]
        return f"{self.argv[0]} {what}; its log ends:\n{tail}"


@contextmanager
def running(process: ManagedProcess) -> Iterator[ManagedProcess]:
    """Lend the started program; it has ended when the block has, whatever happened."""
    try:
        process.start()
        yield process
    finally:
        process.stop()


def signal_tree(pid: int, number: signal.Signals) -> None:
    """A process and what it started, as far as they are there, get the signal."""
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, number)


def tell_reaper(change: int) -> None:
    """The reaper's list has gained the pid, or lost it if it is negative."""
    pipe = _reaper().stdin
    if pipe is None:
        raise RuntimeError("the reaper was started without a pipe")
    pipe.write(b"%d\n" % change)
    pipe.flush()


def dismiss_reaper() -> None:
    """The reaper has ended, and with it whatever was left on its list."""
    if _reaper.cache_info().currsize:
        _reaper().communicate()
        _reaper.cache_clear()


@cache
def _reaper() -> subprocess.Popen[bytes]:
    script = Path(__file__).with_name("reaper.py")
    return subprocess.Popen(
        [sys.executable, "-I", "-S", str(script)],
        stdin=subprocess.PIPE,
        start_new_session=True,
    )
