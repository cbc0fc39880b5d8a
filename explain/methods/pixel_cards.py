# SPDX-License-Identifier: Apache-2.0
"""Cards of the methods that differentiate down to the input."""

from explain.kinds import KINDS
from explain.methods.card import MethodCard
from explain.parameters import Parameter

_INPUT_GRADIENT = MethodCard(
    name="input_gradient",
    title="Input gradient (saliency)",
    formula=(
        "map[i,j] = max over channels c of |d y / d x[c,i,j]|, with y the logit of the"
        " target class"
    ),
    source=(
        "Simonyan et al. 2013, Deep Inside Convolutional Networks: Visualising Image"
        " Classification Models and Saliency Maps, section 3.1"
    ),
    signed=False,
    cost="one forward and one whole backward pass",
    does_not_show=(
        "Whether a pixel speaks for the class or against it, nor what its presence"
        " contributed: only where the score reacts to a very small change."
    ),
    needs_layer=False,
    pixel_resolution=True,
)

_GRADIENT_X_INPUT = MethodCard(
    name="gradient_x_input",
    title="Gradient x input",
    formula=(
        "map[i,j] = sum over channels c of x[c,i,j] * d y / d x[c,i,j], with y the"
        " logit of the target class; of units behind gates: d y / d gate, which is the"
        " sum over the unit's numbers of (x - b) * d y / d x, b its baseline"
    ),
    source=(
        "Shrikumar et al. 2016, Not Just a Black Box: Learning Important Features"
        " Through Propagating Activation Differences, section 1; as a first-order"
        " Taylor term: Ancona et al. 2018, Towards Better Understanding of"
        " Gradient-Based Attribution Methods, section 2"
    ),
    signed=True,
    cost="one forward and one whole backward pass",
    does_not_show=(
        "What a saturated score hides: a unit that decides the class can have a"
        " gradient of zero. The map sums to the change of the output for linear"
        " networks only."
    ),
    needs_layer=False,
    pixel_resolution=True,
    kinds=KINDS,
    batched=True,
)

_GUIDED_BACKPROP = MethodCard(
    name="guided_backprop",
    title="Guided backpropagation",
    formula=(
        "map[i,j] = max over channels c of |R[c,i,j]|, R the gradient of the target's"
        " logit at the input with negative gradients set to zero at each ReLU"
    ),
    source=(
        "Springenberg et al. 2015, Striving for Simplicity: The All Convolutional Net,"
        " section 3.4"
    ),
    signed=False,
    cost="one forward and one whole backward pass",
    does_not_show=(
        "Much of the class: the map resembles the image's edges and changes little"
        " when the target or the upper weights do. Only ReLU and ReLU6 are guided;"
        " other activations of the same model pass plain gradients."
    ),
    needs_layer=False,
    pixel_resolution=True,
)

_SMOOTHGRAD = MethodCard(
    name="smoothgrad",
    title="SmoothGrad",
    formula=(
        "map[i,j] = max over channels c of |1/n sum over s of d y / d x[c,i,j] at"
        " x + e_s|, e_s normal noise of sigma times the range of the item's values"
    ),
    source=(
        "Smilkov et al. 2017, SmoothGrad: removing noise by adding noise, section 3"
    ),
    signed=False,
    cost="one forward pass, and a forward and a whole backward pass a sample",
    does_not_show=(
        "Whether a pixel speaks for the class or against it; and it describes the"
        " network around the input, on noisy images that it was not trained on."
    ),
    parameters={
        "samples": Parameter(
            meaning="how many noisy copies are averaged", default=25, low=1, high=10000
        ),
        "sigma": Parameter(
            meaning="the noise's standard deviation, as a share of the item's range",
            default=0.15,
            above=0.0,
            high=1.0,
        ),
    },
    needs_layer=False,
    pixel_resolution=True,
)

_INTEGRATED_GRADIENTS = MethodCard(
    name="integrated_gradients",
    title="Integrated gradients",
    formula=(
        "map = sum over channels of (x - b) times the integral over a in [0,1] of"
        " d y / d x at b + a (x - b), with y the logit of the target class and b the"
        " baseline; the map sums to y(x) - y(b) up to the quadrature's error"
    ),
    source=(
        "Sundararajan et al. 2017, Axiomatic Attribution for Deep Networks, section 3,"
        " eq. 1, and Proposition 1"
    ),
    signed=True,
    cost="a forward and a whole backward pass a step, and two forward passes",
    does_not_show=(
        "What is as the baseline is: a dark object gets nothing under a dark baseline."
        " Another baseline gives another map."
    ),
    parameters={
        "steps": Parameter(
            meaning="how many points of the line are evaluated",
            default=50,
            low=2,
            high=10000,
        ),
        "rule": Parameter(
            meaning="the quadrature rule",
            default="gausslegendre",
            choices=("gausslegendre", "riemann_trapezoid"),
        ),
        "baseline": Parameter(
            meaning="what counts as nothing: zero in normalised space, the item's mean"
            " colour, or the item blurred",
            default="zero",
            choices=("zero", "mean", "blur"),
        ),
    },
    needs_layer=False,
    pixel_resolution=True,
    complete=True,
    kinds=KINDS,
    batched=True,
)

#: In the order in which they are listed.
PIXEL_CARDS: tuple[MethodCard, ...] = (
    _INPUT_GRADIENT,
    _GRADIENT_X_INPUT,
    _SMOOTHGRAD,
    _INTEGRATED_GRADIENTS,
    _GUIDED_BACKPROP,
)
