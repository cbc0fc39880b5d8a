# SPDX-License-Identifier: Apache-2.0
"""Run a verifier file in a process that can reach no network.

    python -I offline.py verify.pyz BUNDLE ...

Python tells an audit hook of whatever is about to be done; this one refuses sockets.
"""

import runpy
import sys


def refuse(event: str, _arguments: tuple[object, ...]) -> None:
    """Nothing that opens or uses a socket goes on."""
    if event.startswith("socket."):
        raise PermissionError(f"{event} was tried, but this process is offline")


sys.addaudithook(refuse)
del sys.argv[0]
runpy.run_path(sys.argv[0], run_name="__main__")
