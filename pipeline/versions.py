# SPDX-License-Identifier: Apache-2.0
"""The versions of the software that a run was done with, as its plan notes them."""

import platform
from importlib import metadata
from typing import Any


def software_versions() -> dict[str, str]:
    """Return the versions of what decides numbers."""
    names = ("affidavit", "torch", "torchvision", "numpy", "pillow")
    found: dict[str, Any] = {name: metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found}
