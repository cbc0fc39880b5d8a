# SPDX-License-Identifier: Apache-2.0
"""The renewal of a run's finaliser while the report is made.

A report over a million items takes longer than any lease should be: without renewal
two control workers would take the run from each other for ever.
"""

import sqlalchemy as sa

from pipeline.renewal import Renewal
from storage.finalisers import renew_finaliser

#: One step of a report (a picture, an upload, the intervals) may take this long; a
#: finaliser that hangs for longer loses the run to another one.
STALL_S = 3600.0


class FinaliserKeeper(Renewal):
    """Keeps a finaliser in place under its fence.

    Where it is lost, the finish will be refused; what is written till then has its
    own keys in the store.
    """

    def __init__(
        self,
        engine: sa.Engine,
        run_id: str,
        *,
        fence: int,
        lease_s: float,
        stall_s: float = STALL_S,
    ) -> None:
        def renew() -> bool:
            renew_finaliser(engine, run_id, fence=fence, lease_s=lease_s)
            return True

        super().__init__(
            renew, name=f"finaliser-{run_id}", lease_s=lease_s, stall_s=stall_s
        )
