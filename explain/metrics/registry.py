# SPDX-License-Identifier: Apache-2.0
"""Metrics by name."""

from importlib import import_module
from typing import Any

from explain.errors import UnknownNameError
from explain.metrics.cards import METRICS
from explain.metrics.metric import Metric

#: Module and class of each metric; imported when it is first asked for.
_CLASSES: dict[str, tuple[str, str]] = {
    "deletion": ("curves", "Deletion"),
    "insertion": ("curves", "Insertion"),
    "pixel_flipping": ("curves", "PixelFlipping"),
    "faithfulness_correlation": ("attribution_sums", "FaithfulnessCorrelation"),
    "faithfulness_estimate": ("attribution_sums", "FaithfulnessEstimate"),
    "infidelity": ("attribution_sums", "Infidelity"),
    "road": ("road", "Road"),
    "confidence_retained": ("masked", "ConfidenceRetained"),
    "sufficiency": ("masked", "Sufficiency"),
    "comprehensiveness": ("masked", "Comprehensiveness"),
    "fidelity_plus": ("fidelity", "FidelityPlus"),
    "fidelity_minus": ("fidelity", "FidelityMinus"),
    "completeness": ("completeness", "Completeness"),
    "retention": ("retention", "Retention"),
    "max_sensitivity": ("sensitivity", "MaxSensitivity"),
    "avg_sensitivity": ("sensitivity", "AvgSensitivity"),
    "relative_stability": ("stability", "RelativeStability"),
    "mask_stability": ("mask_stability", "MaskStability"),
    "threshold_stability": ("stability", "ThresholdStability"),
    "localisation": ("localisation", "Localisation"),
    "boundary_f1": ("boundaries", "BoundaryF1"),
    "pointing_game": ("relevance", "PointingGame"),
    "relevance_mass": ("relevance", "RelevanceMass"),
    "relevance_rank": ("relevance", "RelevanceRank"),
    "top_k_intersection": ("relevance", "TopKIntersection"),
    "threshold_curves": ("threshold_curves", "ThresholdCurves"),
    "average_precision": ("pixel_precision", "AveragePrecision"),
    "pxap": ("pixel_precision", "PxAp"),
    "max_box_acc": ("boxes", "MaxBoxAcc"),
    "sparseness": ("complexity", "Sparseness"),
    "entropy": ("complexity", "Entropy"),
    "effective_complexity": ("complexity", "EffectiveComplexity"),
    "mprt": ("randomisation", "Mprt"),
    "smprt": ("randomisation", "SmoothMprt"),
    "emprt": ("randomisation", "EfficientMprt"),
    "random_logit": ("randomisation", "RandomLogit"),
    "failure_cases": ("failure_cases", "FailureCases"),
}


def create_metric(name: str, **parameters: Any) -> Metric:
    """Return the metric of that name.

    Args:
        name: As in ``METRICS``.
        parameters: Those of the metric's card; None counts as not given.

    Raises:
        UnknownNameError: no such metric; says which there are.
        InvalidParameterError: a parameter is unknown or out of range.
    """
    if name not in METRICS:
        raise UnknownNameError("metric", name, METRICS)
    values = METRICS[name].arguments(parameters)
    module, class_name = _CLASSES[name]
    build = getattr(import_module(f"explain.metrics.{module}"), class_name)
    metric: Metric = build(**values)
    return metric
