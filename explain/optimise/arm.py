# SPDX-License-Identifier: Apache-2.0
"""A threshold policy with all of its parameters: one thing that can be chosen."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from explain.errors import InvalidInputError, InvalidParameterError, UnknownNameError
from explain.parameters import Value, resolved
from explain.thresholds.cards import POLICIES


@dataclass(frozen=True, slots=True)
class Arm:
    """A policy by name, with every parameter's value in the order of their names.

    Make one with ``Arm.of``: it writes the defaults out, so that a digest over the
    arm still means the same policy when a default changes.
    """

    policy: str
    parameters: tuple[tuple[str, Value], ...]

    def __post_init__(self) -> None:
        if self.parameters != _complete(self.policy, dict(self.parameters)):
            raise InvalidParameterError(
                f"Expected all parameters of policy {self.policy!r} in the order of"
                f" their names; make the arm with Arm.of."
            )

    @classmethod
    def of(cls, policy: str, **parameters: Any) -> "Arm":
        """Return the arm of a policy with the given parameters and else its defaults.

        Raises:
            UnknownNameError: no such policy; says which there are.
            InvalidParameterError: a parameter is missing, unknown or out of range, or
                the policy takes a fitted object.
        """
        return cls(policy, _complete(policy, parameters))

    @property
    def label(self) -> str:
        """The policy and what differs from its defaults, for people."""
        declared = POLICIES[self.policy].parameters
        words = [
            f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
            for name, value in self.parameters
            if value != declared[name].default or name == "keep"
        ]
        return " ".join([self.policy, *words])

    def document(self) -> dict[str, Any]:
        """Return the arm as plain values."""
        plain = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.parameters
        }
        return {"policy": self.policy, "parameters": plain}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> "Arm":
        """Return the arm that a document holds.

        Raises:
            InvalidInputError: a parameter is not written out.
        """
        arm = cls.of(document["policy"], **document["parameters"])
        if arm.document() != dict(document):
            raise InvalidInputError(
                f"Expected every parameter of policy {arm.policy!r} to be written out,"
                f" got {', '.join(document['parameters'])}."
            )
        return arm


def _complete(
    policy: str, parameters: Mapping[str, Any]
) -> tuple[tuple[str, Value], ...]:
    """Return all parameters of a policy, checked."""
    if policy not in POLICIES:
        raise UnknownNameError("threshold policy", policy, POLICIES)
    declared = POLICIES[policy].parameters
    if any(parameter.kind is object for parameter in declared.values()):
        raise InvalidParameterError(
            f"Policy {policy!r} takes a fitted object and cannot be chosen by a"
            f" search or a table; choose among policies of plain parameters."
        )
    values = resolved(f"policy {policy!r}", declared, parameters)
    return tuple(sorted(values.items()))
