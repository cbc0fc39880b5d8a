# SPDX-License-Identifier: Apache-2.0
"""Cards of metrics that compare map or mask with what a person marked."""

from typing import Any

from explain.kinds import IMAGE
from explain.metrics.card import (
    KEPT_PERCENTAGES,
    NO_BASELINE,
    Direction,
    Family,
    MetricCard,
)
from explain.parameters import Parameter

_ELSEWHERE = "Whether the model should look there: evidence may lie outside the object."
_EMPTY: dict[str, float | int | str] = {"empty_ground_truth": "absent"}
_RANKING = "upsampled stored map, descending, ties by lowest index"


def _card(name: str, *, shows: str = "", **facts: Any) -> MetricCard:
    """Return a card of this family, which have much in common."""
    common: dict[str, Any] = {
        "values": (name,),
        "baseline": NO_BASELINE,
        "direction": Direction.HIGHER,
        "range": (0.0, 1.0),
        "conventions": _EMPTY,
    }
    return MetricCard(
        name=name,
        family=Family.LOCALISATION,
        needs_truth=True,
        does_not_show=f"{_ELSEWHERE} {shows}".strip(),
        **common | facts,
    )


LOCALISATION = _card(
    "localisation",
    values=(
        "localisation_iou",
        "localisation_dice",
        "localisation_precision",
        "localisation_recall",
    ),
    formula=(
        "with M the mask and G the ground truth: |M and G| / |M or G|;"
        " 2 |M and G| / (|M| + |G|); |M and G| / |M|; |M and G| / |G|"
    ),
    source="Jaccard 1912; Dice 1945; per image, then aggregated over images",
    units="fraction of pixels",
    conventions={**_EMPTY, "empty_mask": "0, precision absent"},
    shows="A mask of fixed size cannot match objects of another size.",
)

BOUNDARY_F1 = _card(
    "boundary_f1",
    kinds=(IMAGE,),
    formula=(
        "2 P R / (P + R), P: share of the mask's boundary within the tolerance of the"
        " truth's boundary, R: the reverse"
    ),
    source="Csurka et al. 2013, What is a good evaluation measure, section 2.2",
    units="F1 of boundary pixels",
    conventions={
        **_EMPTY,
        "empty_mask": "0",
        "boundary": "pixels of a region with one of four neighbours outside it",
        "distance": "Euclidean, between pixel centres",
    },
    parameters={
        "tolerance": Parameter(
            meaning="distance that still counts, as a share of the image's diagonal",
            default=0.0075,
            low=0.0,
            high=0.05,
        )
    },
    shows="An upsampled 7 x 7 map has no boundary as fine as an object's.",
)

POINTING_GAME = _card(
    "pointing_game",
    formula="1 if the highest position lies on the truth, else 0",
    source="Zhang et al. 2018, Top-down Neural Attention, section 4.1",
    units="hits",
    conventions={**_EMPTY, "ties": "lowest index alone"},
    parameters={
        "tolerance": Parameter(
            meaning="pixels around the truth that still count (the paper takes 15)",
            default=0,
            low=0,
            high=100,
        )
    },
    shows="Large objects are hit by chance: compare with their share of the picture.",
)

RELEVANCE_MASS = _card(
    "relevance_mass",
    formula="sum of the positive map on the truth / sum of the positive map",
    source="Arras, Osman and Samek 2021, CLEVR-XAI, equation 1",
    units="fraction of the map's positive sum",
    shows="Large objects hold much mass whatever the map.",
)

RELEVANCE_RANK = _card(
    "relevance_rank",
    formula="|top |G| positions and G| / |G|",
    source="Arras, Osman and Samek 2021, CLEVR-XAI, equation 2",
    units="fraction of positions",
    conventions={**_EMPTY, "order": _RANKING},
    shows="Large objects hold many of the top positions whatever the map.",
)

TOP_K_INTERSECTION = _card(
    "top_k_intersection",
    formula="|top k positions and G| / k",
    source="Theiner, Mueller-Budack and Ewerth 2022, section 4.3",
    units="fraction of positions",
    conventions={**_EMPTY, "order": _RANKING, "k": "at most all positions"},
    parameters={
        "k": Parameter(meaning="positions that count", default=1000, low=1),
    },
    shows="Objects of fewer than k pixels cannot reach 1.",
)

THRESHOLD_CURVES = _card(
    "threshold_curves",
    values=tuple(
        f"threshold_{what}_{percent}"
        for what in ("precision", "recall", "iou")
        for percent in KEPT_PERCENTAGES
    ),
    formula=(
        "with M the p % highest positive positions, p = 1, 5, 10, 20, 50, and G the"
        " ground truth: |M and G| / |M|; |M and G| / |G|; |M and G| / |M or G|"
    ),
    source=(
        "Everingham et al. 2010, The PASCAL VOC Challenge, section 4.2 (precision and"
        " recall over a ranking); Jaccard 1912"
    ),
    units="fraction of pixels",
    conventions={
        **_EMPTY,
        "empty_mask": "0, precision absent",
        "masks": "of the policy fixed, whatever policy the run has",
        "order": _RANKING,
    },
    shows="A fraction fits objects of its own size, so the best one is no finding.",
)

AVERAGE_PRECISION = _card(
    "average_precision",
    formula=(
        "sum over distinct values as cuts of precision times the step in recall, map"
        " against truth"
    ),
    source="as scikit-learn's average_precision_score, without interpolation",
    units="precision",
    conventions={**_EMPTY, "ties": "one cut"},
    shows="A random map has the object's share of the picture, not 0.",
)

PXAP = _card(
    "pxap",
    formula=(
        "sum over thresholds t of precision(t) (recall(t) - recall(t before)), map"
        " scaled to 0 .. 1"
    ),
    source="Choe et al. 2020, Evaluating Weakly Supervised Object Localization, eq. 4",
    units="precision",
    conventions={**_EMPTY, "pooling": "an image at a time; the paper pools all pixels"},
    parameters={
        "thresholds": Parameter(
            meaning="thresholds between 0 and 1", default=1000, low=2, high=100_000
        )
    },
    shows="Scaling each map on its own hides how sure the map was.",
)

MAX_BOX_ACC = _card(
    "max_box_acc",
    kinds=(IMAGE,),
    values=("max_box_acc", "max_box_iou"),
    formula=(
        "iou: max over thresholds t of IoU(box around the largest part of the map above"
        " t, box around the truth); acc: 1 if that reaches the wanted IoU, else 0"
    ),
    source="Choe et al. 2020, Evaluating Weakly Supervised Object Localization, eq. 3",
    units="hits; IoU of boxes",
    conventions={
        **_EMPTY,
        "threshold": "the best of each image; the paper's is one for all images, which"
        " is at most this",
        "parts": "touching along sides and corners; the largest, the first of equals",
    },
    parameters={
        "iou": Parameter(
            meaning="IoU that counts as a hit", default=0.5, above=0.0, high=1.0
        ),
        "thresholds": Parameter(
            meaning="thresholds between 0 and 1", default=50, low=2, high=1000
        ),
    },
    shows="A box around everything hits any large object.",
)

CARDS = (
    LOCALISATION,
    BOUNDARY_F1,
    POINTING_GAME,
    RELEVANCE_MASS,
    RELEVANCE_RANK,
    TOP_K_INTERSECTION,
    THRESHOLD_CURVES,
    AVERAGE_PRECISION,
    PXAP,
    MAX_BOX_ACC,
)
