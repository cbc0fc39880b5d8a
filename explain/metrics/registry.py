# SPDX-License-Identifier: Apache-2.0
"""Metrics by name."""

from collections.abc import Callable

from explain.errors import UnknownNameError
from explain.metrics.completeness import Completeness
from explain.metrics.confidence import ConfidenceRetained
from explain.metrics.curves import Deletion, Insertion
from explain.metrics.localisation import Localisation
from explain.metrics.metric import Metric
from explain.metrics.sensitivity import MaxSensitivity

_BUILDERS: dict[str, Callable[[], Metric]] = {
    "completeness": Completeness,
    "confidence_retained": ConfidenceRetained,
    "deletion": Deletion,
    "insertion": Insertion,
    "localisation": Localisation,
    "max_sensitivity": MaxSensitivity,
}


def create_metric(name: str) -> Metric:
    """Return the metric of that name with the defaults that its card states.

    Raises:
        UnknownNameError: no such metric; says which there are.
    """
    if name not in _BUILDERS:
        raise UnknownNameError("metric", name, _BUILDERS)
    return _BUILDERS[name]()
