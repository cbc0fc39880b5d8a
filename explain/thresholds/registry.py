# SPDX-License-Identifier: Apache-2.0
"""Threshold policies by name."""

from collections.abc import Callable

from explain.errors import InvalidParameterError, UnknownNameError
from explain.thresholds.cards import POLICIES
from explain.thresholds.fixed import FixedKeep
from explain.thresholds.policy import ThresholdPolicy

_BUILDERS: dict[str, Callable[..., ThresholdPolicy]] = {"fixed": FixedKeep}


def create_policy(name: str, **parameters: float) -> ThresholdPolicy:
    """Return the policy of that name with its parameters.

    Raises:
        UnknownNameError: no such policy; says which there are.
        InvalidParameterError: a parameter is missing, unknown or out of range.
    """
    if name not in _BUILDERS:
        raise UnknownNameError("threshold policy", name, _BUILDERS)
    expected = set(POLICIES[name].parameters)
    if set(parameters) != expected:
        raise InvalidParameterError(
            f"Policy {name!r} takes {', '.join(sorted(expected))}; got"
            f" {', '.join(sorted(parameters)) or 'nothing'}."
        )
    return _BUILDERS[name](**parameters)
