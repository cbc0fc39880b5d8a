# SPDX-License-Identifier: Apache-2.0
"""What the rules keep that find a fraction for each item, and cut there."""

from explain.parameters import Parameter
from explain.thresholds.card import PolicyCard
from explain.thresholds.cut_cards import FLOOR

_SIGMA = Parameter(
    meaning="the blur of what is not kept, a standard deviation in pixels",
    default=10.0,
    above=0,
)
_KEEP_MIN = Parameter(meaning="the least fraction", default=0.05, above=0, high=1)
_KEEP_MAX = Parameter(meaning="the greatest fraction", default=0.30, above=0, high=1)

_DYNAMIC = PolicyCard(
    name="dynamic",
    rule=(
        "By energy, the smallest mask that holds a share tau of the map's positive"
        " mass; by confidence, the smallest mask found whose input, blurred outside"
        " it, keeps a share q of the target's probability: the first of ten fractions"
        " that does, refined by three bisections."
    ),
    source="Li 2025, A Lightweight Explainability Framework, dynamic threshold search",
    parameters={
        "by": Parameter(
            meaning="what the mask must keep",
            default="energy",
            choices=("energy", "confidence"),
        ),
        "tau": Parameter(
            meaning="the share of positive mass, by energy (the default is the paper's"
            " own)",
            default=0.2,
            above=0,
            high=1,
        ),
        "q": Parameter(
            meaning="the share of the target's probability, by confidence",
            default=0.9,
            above=0,
            high=1,
        ),
        "sigma": _SIGMA,
        "floor": FLOOR,
    },
    cost="none by energy, 13 by confidence",
)

_HYBRID = PolicyCard(
    name="hybrid",
    rule=(
        "Of several fractions the one with the highest weighted sum of energy"
        " retained, area spared, compactness (16 area / outline^2) and, where it has a"
        " weight, probability kept. The weights are a convention."
    ),
    source="Li 2025, A Lightweight Explainability Framework, section 9 (hybrid)",
    parameters={
        "candidates": Parameter(
            meaning="the fractions to choose from",
            default=(0.01, 0.02, 0.05, 0.10, 0.15, 0.20, 0.30, 0.40, 0.50),
            above=0,
            high=1,
        ),
        "energy": Parameter(
            meaning="the weight of the energy retained", default=1.0, low=0
        ),
        "sparsity": Parameter(
            meaning="the weight of the area spared", default=1.0, low=0
        ),
        "compact": Parameter(
            meaning="the weight of the compactness", default=0.5, low=0
        ),
        "confidence": Parameter(
            meaning="the weight of the probability kept", default=0.0, low=0
        ),
        "sigma": _SIGMA,
        "floor": FLOOR,
    },
    cost="none, or one a candidate where confidence has a weight",
)

_ADAPTIVE = PolicyCard(
    name="adaptive",
    rule=(
        "A fraction between keep_min and keep_max that rises with how busy the"
        " picture is: the mean of its grey-level entropy and its share of edge pixels."
        " A convention."
    ),
    source="Li 2025, A Lightweight Explainability Framework, section 9 (content-aware)",
    parameters={
        "keep_min": _KEEP_MIN,
        "keep_max": _KEEP_MAX,
        "edge": Parameter(
            meaning="the Sobel gradient of an edge, 1 for a step from black to white",
            default=0.1,
            above=0,
        ),
    },
)

_CONFIDENCE = PolicyCard(
    name="confidence",
    rule=(
        "A fraction between keep_min and keep_max that falls with the target's"
        " probability: keep_min + (keep_max - keep_min) (1 - p)."
    ),
    source="Li 2025, A Lightweight Explainability Framework, section 9 (by confidence)",
    parameters={"keep_min": _KEEP_MIN, "keep_max": _KEEP_MAX},
)

_CALIBRATED = PolicyCard(
    name="calibrated",
    rule=(
        "The fraction that gave the explained class the highest mean IoU on items"
        " with masks; the pooled one for classes with too few."
    ),
    source="Saporta et al. 2022, Benchmarking saliency methods for chest X-ray"
    " interpretation (a threshold a class)",
    parameters={
        "calibration": Parameter(
            meaning="the path of a file that `affidavit calibrate RUN` wrote; in"
            " Python also its content or a Calibration",
            kind=object,
        )
    },
)

CARDS = (_DYNAMIC, _HYBRID, _ADAPTIVE, _CONFIDENCE, _CALIBRATED)
