# SPDX-License-Identifier: Apache-2.0
"""A thread that keeps a shard's lease alive while work goes on, and only then."""

import threading
import time
from types import TracebackType
from typing import Self

import sqlalchemy as sa

from storage.errors import FencedOutError, StorageError
from storage.leases import Claim, heartbeat


class LeaseKeeper:
    """Renews a lease three times in its length and tells when to stop.

    Without progress for `stall_s` seconds it stops renewing, so that a hung attempt
    loses the shard to another worker.
    """

    def __init__(
        self, engine: sa.Engine, claim: Claim, *, lease_s: float, stall_s: float
    ) -> None:
        self._engine = engine
        self._claim = claim
        self._lease_s = lease_s
        self._stall_s = stall_s
        self._done = threading.Event()
        self._batches = 0
        self._progress_at = time.monotonic()
        #: The lease is lost: whatever is written now would be refused.
        self.lost = False
        #: The run was stopped or cancelled: give the shard back.
        self.unwanted = False
        self._thread = threading.Thread(
            target=self._keep, name=f"lease-{claim.shard_id}", daemon=True
        )

    def progress(self, batches_done: int) -> None:
        """Another batch is done."""
        self._batches = batches_done
        self.alive()

    def alive(self) -> None:
        """Work goes on inside a batch."""
        self._progress_at = time.monotonic()

    @property
    def must_stop(self) -> bool:
        """Whether going on is useless."""
        return self.lost or self.unwanted

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
                self.lost = True
                return
            try:
                wanted = heartbeat(
                    self._engine,
                    self._claim,
                    lease_s=self._lease_s,
                    batches_done=self._batches,
                )
            except FencedOutError:
                self.lost = True
                return
            except StorageError:
                # The lease may outlive the outage; the finish decides.
                continue
            if not wanted:
                self.unwanted = True
                return
