# SPDX-License-Identifier: Apache-2.0
"""What the rules keep that look at neighbours, parts and regions."""

from explain.kinds import GRAPH
from explain.parameters import Parameter
from explain.thresholds.card import PolicyCard


def _peaks(beta: float, gamma: float, distance: float) -> dict[str, Parameter]:
    """Return the parameters of the rules by peaks."""
    return {
        "beta": Parameter(
            meaning="the least peak, as a fraction of the maximum",
            default=beta,
            above=0,
            high=1,
        ),
        "gamma": Parameter(
            meaning="what belongs to a peak, as a fraction of it",
            default=gamma,
            above=0,
            high=1,
        ),
        "distance": Parameter(
            meaning="how far around a peak is the highest, as a fraction of the longer"
            " side",
            default=distance,
            above=0,
            high=1,
        ),
    }


def _relative(default: float) -> Parameter:
    return Parameter(
        meaning="the least attribution, as a fraction of the maximum",
        default=default,
        above=0,
        high=1,
    )


def _area(default: float) -> Parameter:
    return Parameter(
        meaning="the least part kept, as a fraction of all positions",
        default=default,
        low=0,
        high=1,
    )


_MULTI_PEAK = PolicyCard(
    name="multi_peak",
    rule=(
        "Around each separate peak, the connected part of at least gamma of that peak;"
        " zeros are never kept."
    ),
    source="Li 2025, A Lightweight Explainability Framework, section 9 (multi-peak)",
    parameters=_peaks(beta=0.5, gamma=0.6, distance=0.1),
)

_DRIVING = PolicyCard(
    name="driving",
    rule=(
        "As multi_peak, with low and close peaks, so that small distant objects stay."
        " A convention, not a measured truth."
    ),
    source="Li 2025, A Lightweight Explainability Framework, section 9 (domain rules)",
    parameters=_peaks(beta=0.2, gamma=0.6, distance=0.04),
)

_MEDICAL = PolicyCard(
    name="medical",
    rule=(
        "Every connected part from a low fraction of the maximum that has a least"
        " area, its holes closed whatever their attribution. A convention, not a"
        " clinical truth."
    ),
    source="Li 2025, A Lightweight Explainability Framework, section 9 (domain rules)",
    parameters={"relative": _relative(0.3), "area": _area(0.0005)},
)

_DOCUMENTS = PolicyCard(
    name="documents",
    rule=(
        "The upright blocks around what reaches a fraction of the maximum, gaps within"
        " rows bridged; blocks are kept whole, whatever their attribution. A"
        " convention, not a measured truth."
    ),
    source="Li 2025, A Lightweight Explainability Framework, section 9 (domain rules)",
    parameters={
        "relative": _relative(0.4),
        "gap": Parameter(
            meaning="the widest gap bridged in a row, as a fraction of the width",
            default=0.04,
            low=0,
            high=1,
        ),
    },
)

_SATELLITE = PolicyCard(
    name="satellite",
    rule=(
        "Every connected part from half the maximum but single specks; holes stay"
        " open. A convention, not a measured truth."
    ),
    source="Li 2025, A Lightweight Explainability Framework, section 9 (domain rules)",
    parameters={"relative": _relative(0.5), "area": _area(0.0001)},
)

_SEMANTIC = PolicyCard(
    name="semantic",
    rule=(
        "Whole regions of the picture (superpixels or given ones) by mean positive"
        " attribution, until they cover keep or hold tau, and every other region of at"
        " least gamma of the best one's mean."
    ),
    source=(
        "Achanta et al. 2012, SLIC superpixels; Felzenszwalb and Huttenlocher 2004,"
        " Efficient graph-based image segmentation"
    ),
    parameters={
        "segments": Parameter(
            meaning="where the regions come from; given: the parts of the"
            " ground-truth mask (in Python, regions), so that localisation then"
            " judges a mask by what it was made from",
            default="slic",
            choices=("slic", "felzenszwalb", "given"),
        ),
        "by": Parameter(
            meaning="what counts as enough", default="area", choices=("area", "mass")
        ),
        "keep": Parameter(
            meaning="the fraction of positions to cover, by area",
            default=0.10,
            above=0,
            high=1,
        ),
        "tau": Parameter(
            meaning="the share of positive mass to hold, by mass",
            default=0.5,
            above=0,
            high=1,
        ),
        "gamma": Parameter(
            meaning="the mean that keeps a region anyway, as a fraction of the best",
            default=0.5,
            above=0,
            high=1,
        ),
        "regions": Parameter(
            meaning="about how many superpixels a picture has", default=100, low=2
        ),
    },
)

_CHUNKED = PolicyCard(
    name="chunked",
    rule=(
        "Cuts the map into chunks along its last axis, chooses those with the highest"
        " mean positive attribution, and keeps the ceil(keep * n) highest positive"
        " positions of each chosen chunk of n. All chunks chosen is thresholding by"
        " chunk, some of them is hierarchical."
    ),
    source=(
        "Li 2025, A Lightweight Explainability Framework for Neural Networks,"
        " limitations (long sequences)"
    ),
    parameters={
        "keep": Parameter(
            meaning="the fraction of each chosen chunk to keep",
            default=0.10,
            above=0,
            high=1,
        ),
        "size": Parameter(
            meaning="columns, or steps, of a chunk; 0 stands for the square root of how"
            " many there are",
            default=0,
            low=0,
        ),
        "chunks": Parameter(
            meaning="the fraction of chunks that are chosen, at least one",
            default=1.0,
            above=0,
            high=1,
        ),
    },
)

_CONNECTED = PolicyCard(
    name="connected",
    rule=(
        "One connected piece: the highest unit, and then the highest positive unit that"
        " touches what is kept, until ceil(keep * n) units are kept or none touches;"
        " equal values by lowest index. For graphs, whose edges touch at nodes and"
        " nodes at edges."
    ),
    source=(
        "Prim 1957, Shortest connection networks and some generalizations, principle 2,"
        " with values of units"
    ),
    parameters={
        "keep": Parameter(
            meaning="the fraction of units to keep", default=0.10, above=0, high=1
        )
    },
    kinds=(GRAPH,),
)

CARDS = (
    _MULTI_PEAK,
    _SEMANTIC,
    _MEDICAL,
    _DOCUMENTS,
    _DRIVING,
    _SATELLITE,
    _CHUNKED,
    _CONNECTED,
)
