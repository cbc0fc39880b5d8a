# SPDX-License-Identifier: Apache-2.0
"""Cards of the methods that only ask the network, never differentiate it."""

from explain.kinds import KINDS
from explain.methods.card import MethodCard
from explain.parameters import Parameter

#: Each place of the input is a part of its own.
UNITS = "units"

_SEGMENTS = Parameter(
    meaning="about how many superpixels an image is cut into (SLIC)",
    default=50,
    low=1,
    high=10000,
)
_SEGMENTATION = Parameter(
    meaning="the algorithm that finds the superpixels; with units each place is one,"
    " which is what items that are no images have",
    default="slic",
    choices=("slic", "quickshift", UNITS),
)
_PART_BASELINES = ("segment_mean", "zero", "mean", "blur")

_OCCLUSION = MethodCard(
    name="occlusion",
    title="Occlusion",
    formula=(
        "map[i,j] = mean over the windows R that cover (i,j) of p(x) - p(x with R"
        " covered), with p the softmax probability of the target class"
    ),
    source=(
        "Zeiler and Fergus 2014, Visualizing and Understanding Convolutional Networks,"
        " section 4.2"
    ),
    signed=True,
    cost="a forward pass a window, and one: 170 by default at 224 x 224",
    does_not_show=(
        "Evidence that is there twice: covering one copy changes little. Nor what"
        " several windows do together; and a covered image is unlike the training data."
    ),
    parameters={
        "window": Parameter(
            meaning="the side of the covering square in pixels; 0 stands for a seventh"
            " of the input's shorter side",
            default=0,
            low=0,
        ),
        "stride": Parameter(
            meaning="pixels from one window to the next, at most the window; 0 stands"
            " for half a window",
            default=0,
            low=0,
        ),
        "baseline": Parameter(
            meaning="what covers: zero in normalised space, the item's mean colour, or"
            " the item blurred",
            default="zero",
            choices=("zero", "mean", "blur"),
        ),
    },
    needs_layer=False,
    pixel_resolution=True,
    kinds=KINDS,
)

_RISE = MethodCard(
    name="rise",
    title="RISE",
    formula=(
        "map[l] = 1/(p n) sum over i of f(x * M_i) M_i[l], with f the softmax"
        " probability of the target class and M_i random masks of mean p"
    ),
    source=(
        "Petsiuk et al. 2018, RISE: Randomized Input Sampling for Explanation of"
        " Black-box Models, eq. 6 and section 3.2"
    ),
    signed=False,
    cost="a forward pass a mask, and one",
    does_not_show=(
        "Where a small difference is real: the map is an estimate with noise, and every"
        " pixel is lifted by the mean score. Detail below a grid cell is not resolved."
    ),
    parameters={
        "masks": Parameter(
            meaning="how many random masks the score is asked for",
            default=1000,
            low=1,
            high=1000000,
        ),
        "grid": Parameter(
            meaning="cells along each side of a mask before it is upsampled",
            default=8,
            low=1,
            high=256,
        ),
        "keep_probability": Parameter(
            meaning="how likely a cell is to be kept",
            default=0.5,
            above=0.0,
            high=0.99,
        ),
    },
    needs_layer=False,
    pixel_resolution=True,
)

_LIME = MethodCard(
    name="lime",
    title="LIME on superpixels",
    formula=(
        "map = b of the pixel's superpixel, where b minimises sum over z of pi(z)"
        " (f(x_z) - c - b.z)^2 + |b|^2, f the softmax probability of the target class,"
        " z which superpixels are on, pi(z) = sqrt(exp(-cosine distance^2 / width^2))"
    ),
    source=(
        "Ribeiro et al. 2016, Why Should I Trust You? Explaining the Predictions of Any"
        " Classifier, eq. 1 and 2, algorithm 1"
    ),
    signed=True,
    cost="a forward pass a sample, and one",
    does_not_show=(
        "Detail within a superpixel, and what superpixels do only together. The ridge"
        " penalty shrinks all coefficients, so that their sum means nothing."
    ),
    parameters={
        "samples": Parameter(
            meaning="how many on-off patterns are asked, the whole input among them",
            default=1000,
            low=2,
            high=1000000,
        ),
        "segments": _SEGMENTS,
        "segmentation": _SEGMENTATION,
        "baseline": Parameter(
            meaning="what a superpixel shows when it is off: its own mean colour, zero"
            " in normalised space, the item's mean colour, or the item blurred",
            default="segment_mean",
            choices=_PART_BASELINES,
        ),
        "kernel_width": Parameter(
            meaning="how fast the weight of a sample falls with its distance",
            default=0.25,
            low=0.01,
            high=100.0,
        ),
    },
    needs_layer=False,
    pixel_resolution=True,
    needs_images=True,
    kinds=KINDS,
)

_KERNELSHAP = MethodCard(
    name="kernelshap",
    title="KernelSHAP on superpixels",
    formula=(
        "map = phi of the pixel's superpixel / its pixels, where phi minimises sum over"
        " z of pi(z) (y(x_z) - y(b) - phi.z)^2 with sum phi = y(x) - y(b), y the logit"
        " of the target class, b the baseline and pi the Shapley kernel"
    ),
    source=(
        "Lundberg and Lee 2017, A Unified Approach to Interpreting Model Predictions,"
        " theorem 2; sampling in pairs: Covert and Lee 2021, Improving KernelSHAP,"
        " section 3.3"
    ),
    signed=True,
    cost="a forward pass a sample, and one; fewer where all coalitions are asked",
    does_not_show=(
        "Detail within a superpixel; and large superpixels look paler than small ones"
        " of equal value, because the value is shared out among the pixels."
    ),
    parameters={
        "samples": Parameter(
            meaning="most coalitions that are asked, the empty one among them; Shapley"
            " values are exact where it is at least 2 to the number of superpixels",
            default=1000,
            low=2,
            high=1000000,
        ),
        "segments": _SEGMENTS,
        "segmentation": _SEGMENTATION,
        "baseline": Parameter(
            meaning="what a superpixel shows when it is off: zero in normalised space,"
            " its own mean colour, the item's mean colour, or the item blurred",
            default="zero",
            choices=_PART_BASELINES,
        ),
    },
    needs_layer=False,
    pixel_resolution=True,
    needs_images=True,
    complete=True,
    kinds=KINDS,
)

#: In the order in which they are listed.
PERTURBATION_CARDS: tuple[MethodCard, ...] = (_OCCLUSION, _RISE, _LIME, _KERNELSHAP)
