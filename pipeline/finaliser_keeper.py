# SPDX-License-Identifier: Apache-2.0
"""A thread that keeps a run's finaliser in place while the report is made.

A report over a million items takes longer than any lease should be: without renewal
two control workers would take the run from each other for ever.
"""

import threading
import time
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from storage.errors import FencedOutError, StorageError
from storage.finalisers import renew_finaliser

#: One step of a report (a picture, an upload, the intervals) may take this long; a
#: finaliser that hangs for longer loses the run to another one.
STALL_S = 3600.0


class FinaliserKeeper:
    """Renews a finaliser's lease three times in its length, under its fence."""

    def __init__(
        self,
        engine: sa.Engine,
        run_id: str,
        *,
        fence: int,
        lease_s: float,
        stall_s: float = STALL_S,
    ) -> None:
        self._engine = engine
        self._run_id = run_id
        self._fence = fence
        self._lease_s = lease_s
        self._stall_s = stall_s
        self._done = threading.Event()
        self._progress_at = time.monotonic()
        self._thread = threading.Thread(
            target=self._keep, name=f"finaliser-{run_id}", daemon=True
        )

    def alive(self) -> None:
        """Another step of the report is done."""
        self._progress_at = time.monotonic()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _keep(self) -> None:
        while not self._done.wait(self._lease_s / 3):
            if time.monotonic() - self._progress_at > self._stall_s:
                return
            try:
                renew_finaliser(
                    self._engine,
                    self._run_id,
                    fence=self._fence,
                    lease_s=self._lease_s,
                )
            except FencedOutError:
                # The finish will be refused; what is written till then has its own
                # keys in the store.
                return
            except StorageError:
                # The lease may outlive the outage; the finish decides.
                continue
