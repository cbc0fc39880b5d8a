# SPDX-License-Identifier: Apache-2.0
"""What parameters mean where items are units behind gates. No torch here.

A gate of 0 is the unit's baseline, so `zero` is the only thing that can stand for a
unit that is gone; and the parts of an item are its units, without segmentation.
"""

from collections.abc import Mapping
from typing import Any

from explain.errors import InvalidParameterError
from explain.parameters import Parameter

_FIXED = {"baseline": "zero", "segmentation": "units"}
#: Occlusion closes one gate after the other unless the audit says otherwise.
_USUAL = {"window": 1, "stride": 1}


def for_gates(
    owner: str, declared: Mapping[str, Parameter], given: Mapping[str, Any]
) -> dict[str, Any]:
    """Return the parameters with what gates fix, and their own defaults.

    Raises:
        InvalidParameterError: one is given that makes no sense for units.
    """
    found = dict(given)
    for name, value in _FIXED.items():
        if name not in declared:
            continue
        if found.get(name, value) != value:
            raise InvalidParameterError(
                f"{owner}: expected {name} to be {value} for items that are no images,"
                f" whose units have baselines of their own, got {found[name]!r}."
            )
        found[name] = value
    if "window" in declared and "window" not in found:
        found |= {name: found.get(name, value) for name, value in _USUAL.items()}
    return found
