# SPDX-License-Identifier: Apache-2.0
"""Threshold policies by name."""

from importlib import import_module
from typing import Any

from explain.errors import InvalidParameterError, UnknownNameError
from explain.parameters import resolved
from explain.thresholds.cards import POLICIES
from explain.thresholds.policy import ThresholdPolicy

#: Module and class of each policy; imported when it is first asked for.
_CLASSES: dict[str, tuple[str, str]] = {
    "fixed": ("explain.thresholds.fixed", "FixedKeep"),
    "absolute": ("explain.thresholds.absolute", "AbsoluteValue"),
    "relative": ("explain.thresholds.relative", "RelativeValue"),
    "otsu": ("explain.thresholds.otsu", "Otsu"),
    "mass": ("explain.thresholds.mass", "CumulativeMass"),
    "multi_level": ("explain.thresholds.multi_level", "MultiLevel"),
    "dynamic": ("explain.thresholds.dynamic", "Dynamic"),
    "hybrid": ("explain.thresholds.hybrid", "Hybrid"),
    "adaptive": ("explain.thresholds.adaptive", "Adaptive"),
    "confidence": ("explain.thresholds.confidence", "ByConfidence"),
    "calibrated": ("explain.thresholds.calibrated", "Calibrated"),
    "multi_peak": ("explain.thresholds.multi_peak", "MultiPeak"),
    "semantic": ("explain.thresholds.semantic", "Semantic"),
    "medical": ("explain.thresholds.medical", "Medical"),
    "documents": ("explain.thresholds.documents", "Documents"),
    "driving": ("explain.thresholds.driving", "Driving"),
    "satellite": ("explain.thresholds.satellite", "Satellite"),
    "chunked": ("explain.thresholds.chunked", "Chunked"),
    "connected": ("explain.thresholds.connected", "Connected"),
    "learned": ("explain.thresholds.learned", "Learned"),
}


def create_policy(name: str, **parameters: Any) -> ThresholdPolicy:
    """Return the policy of that name with its parameters.

    Args:
        name: As in ``POLICIES``.
        parameters: Those of the policy's card; None counts as not given. One of kind
            object is handed on as it is.

    Raises:
        UnknownNameError: no such policy; says which there are.
        InvalidParameterError: a parameter is missing, unknown or out of range.
    """
    if name not in POLICIES:
        raise UnknownNameError("threshold policy", name, POLICIES)
    declared = dict(POLICIES[name].parameters)
    objects: dict[str, Any] = {}
    for key in [key for key, one in declared.items() if one.kind is object]:
        objects[key] = parameters.pop(key, None)
        if objects[key] is None:
            raise InvalidParameterError(
                f"policy {name!r} needs {key}: {declared[key].meaning}."
            )
        del declared[key]
    values = resolved(f"policy {name!r}", declared, parameters)
    module, class_name = _CLASSES[name]
    build = getattr(import_module(module), class_name)
    policy: ThresholdPolicy = build(**values, **objects)
    return policy
