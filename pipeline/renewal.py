# SPDX-License-Identifier: Apache-2.0
"""A thread that renews a lease while work goes on, and only then."""

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Self

from storage.errors import FencedOutError, StorageError


class Renewal:
    """Renews a lease three times in its length and tells when to stop.

    Without progress for `stall_s` seconds it stops renewing, so that a hung attempt
    loses the work to another one. A database that does not answer for a moment stops
    nothing: the lease may outlive the outage, and the finish decides.
    """

    def __init__(
        self, renew: Callable[[], bool], *, name: str, lease_s: float, stall_s: float
    ) -> None:
        """Take what renews the lease and says whether the work is still wanted.

        Args:
            renew: Raises FencedOutError where another one has the lease.
            name: Of the thread.
            lease_s: How long a renewed lease holds.
            stall_s: Silence that counts as a hang.
        """
        self._renew = renew
        self._lease_s = lease_s
        self._stall_s = stall_s
        self._done = threading.Event()
        self._progress_at = time.monotonic()
        #: The lease is lost: whatever is written now would be refused.
        self.lost = False
        #: The work was stopped or cancelled: give it back.
        self.unwanted = False
        self._thread = threading.Thread(target=self._keep, name=name, daemon=True)

    def alive(self) -> None:
        """Work goes on."""
        self._progress_at = time.monotonic()

    @property
    def must_stop(self) -> bool:
        """Whether going on is useless."""
        return self.lost or self.unwanted

    def start(self) -> None:
        """The lease is renewed from now on."""
        self._thread.start()

    def stop(self) -> None:
        """The lease is renewed no more."""
        self._done.set()
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _keep(self) -> None:
        while not self._done.wait(self._lease_s / 3):
            if time.monotonic() - self._progress_at > self._stall_s:
                self.lost = True
                return
            try:
                wanted = self._renew()
            except FencedOutError:
                self.lost = True
                return
            except StorageError:
                continue
            if not wanted:
                self.unwanted = True
                return
