# SPDX-License-Identifier: Apache-2.0
"""A process that ends what the tests leave behind, however the tests ended.

It reads `+PID` and `-PID` lines. When the pipe closes, because pytest finished or was
killed, it ends every process still on the list. Fixtures end their own servers; this
is for the day on which pytest itself gets SIGKILL.
"""

import contextlib
import os
import signal
import sys
import time


def main() -> None:
    """Keep the list until the pipe closes, then end what is left on it."""
    left: set[int] = set()
    for line in sys.stdin:
        pid = int(line)
        if pid > 0:
            left.add(pid)
        else:
            left.discard(-pid)
    for sign in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, sign)
        if left:
            time.sleep(1)


if __name__ == "__main__":
    main()
