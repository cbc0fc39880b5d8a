# SPDX-License-Identifier: Apache-2.0
"""Which software decides numbers, and whether a process may work on a run with its own.

A run's results are one piece of evidence, so they must come from one kind of software.
torch and torchvision must be those of the plan, whatever the build (`+cpu`, `+cu130`):
any release may move the last bits of a convolution. A worker's affidavit must not be
older than the plan's, because an older one may not know what the plan asks for, and not
of another minor version, because those may change records. A newer patch release may
go on with the runs that it finds.
"""

import platform
from collections.abc import Mapping
from functools import lru_cache
from importlib import metadata

from packaging.version import InvalidVersion, Version

from pipeline.errors import AuditError

#: Packages that must be of the very version in the plan.
_SAME = ("torch", "torchvision")


class OtherSoftwareError(AuditError):
    """This process has other software than the run was planned with."""


@lru_cache(maxsize=1)
def _installed() -> Mapping[str, str]:
    names = ("affidavit", "torch", "torchvision", "numpy", "pillow")
    found = {name: metadata.version(name) for name in names}
    return {"python": platform.python_version(), **found}


def software_versions() -> dict[str, str]:
    """Return the versions of what decides numbers."""
    return dict(_installed())


def other_software(
    planned: Mapping[str, str], here: Mapping[str, str]
) -> tuple[str, str] | None:
    """Return what a worker has and what the run needs, None where it will do.

    Versions that one side does not tell are not held against it.

    Args:
        planned: Versions in the plan of the run.
        here: Versions of the worker.
    """
    wanted, got = planned.get("affidavit"), here.get("affidavit")
    if wanted and got and not _may_follow(_version(got), _version(wanted)):
        return f"affidavit {got}", f"affidavit {wanted}"
    for name in _SAME:
        wanted, got = planned.get(name), here.get(name)
        if wanted and got and _version(got) != _version(wanted):
            return f"{name} {got}", f"{name} {wanted}"
    return None


def require_same_software(planned: Mapping[str, str], here: Mapping[str, str]) -> None:
    """Nothing happens if a process with that software may work on the run.

    Raises:
        OtherSoftwareError: it may not; both versions are in the sentence.
    """
    found = other_software(planned, here)
    if found is not None:
        raise OtherSoftwareError(
            f"This worker has {found[0]}, the run was planned with {found[1]}; start "
            "workers with that version, or cancel the run and submit it anew."
        )


def _may_follow(here: Version | str, planned: Version | str) -> bool:
    if isinstance(here, str) or isinstance(planned, str):
        return here == planned
    return here.release[:2] == planned.release[:2] and here >= planned


@lru_cache(maxsize=256)
def _version(text: str) -> Version | str:
    """Return a version without its build; what is none is taken as it stands."""
    try:
        return Version(Version(text).public)
    except InvalidVersion:
        return text
