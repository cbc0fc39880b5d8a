# SPDX-License-Identifier: Apache-2.0
"""How far this machine's clock is from the database's.

Leases, back-off and schedules go by the database's clock alone, so a wrong clock breaks
no run. It does make log lines and ledger entries tell a wrong time, and signatures of
S3 requests are refused by then.
"""

import time

import sqlalchemy as sa

from storage.engine import epoch_now, reading

#: A machine whose clock differs by more should be mended.
CLOCK_TOLERANCE_S = 5.0


def clock_ahead_s(engine: sa.Engine) -> float:
    """Return by how many seconds this machine's clock is ahead of the database's.

    Raises:
        StorageError: the database does not answer.
    """
    with reading(engine) as session:
        # Connecting may take a while and would be taken for a difference.
        session.scalar(sa.select(sa.literal(1)))
        before = time.time()
        there = session.execute(sa.select(epoch_now())).scalar_one()
        after = time.time()
    return (before + after) / 2 - there
