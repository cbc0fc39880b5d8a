# SPDX-License-Identifier: Apache-2.0
"""The renewal of a shard's lease, with the batches that are done."""

import sqlalchemy as sa

from pipeline.renewal import Renewal
from storage.leases import Claim, heartbeat


class LeaseKeeper(Renewal):
    """Keeps a claim while its batches get done."""

    def __init__(
        self, engine: sa.Engine, claim: Claim, *, lease_s: float, stall_s: float
    ) -> None:
        self._batches = 0

        def renew() -> bool:
            return heartbeat(engine, claim, lease_s=lease_s, batches_done=self._batches)

        super().__init__(
            renew, name=f"lease-{claim.shard_id}", lease_s=lease_s, stall_s=stall_s
        )

    def progress(self, batches_done: int) -> None:
        """Another batch is done."""
        self._batches = batches_done
        self.alive()
