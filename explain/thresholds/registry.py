# SPDX-License-Identifier: Apache-2.0
"""Threshold policies by name."""

from importlib import import_module
from typing import Any

from explain.errors import UnknownNameError
from explain.parameters import resolved
from explain.thresholds.cards import POLICIES
from explain.thresholds.policy import ThresholdPolicy

#: Module and class of each policy; imported when it is first asked for.
_CLASSES: dict[str, tuple[str, str]] = {
    "fixed": ("explain.thresholds.fixed", "FixedKeep"),
}


def create_policy(name: str, **parameters: Any) -> ThresholdPolicy:
    """Return the policy of that name with its parameters.

    Args:
        name: As in ``POLICIES``.
        parameters: Those of the policy's card; None counts as not given.

    Raises:
        UnknownNameError: no such policy; says which there are.
        InvalidParameterError: a parameter is missing, unknown or out of range.
    """
    if name not in POLICIES:
        raise UnknownNameError("threshold policy", name, POLICIES)
    values = resolved(f"policy {name!r}", POLICIES[name].parameters, parameters)
    module, class_name = _CLASSES[name]
    policy: ThresholdPolicy = getattr(import_module(module), class_name)(**values)
    return policy
