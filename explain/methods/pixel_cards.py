# SPDX-License-Identifier: Apache-2.0
"""Cards of the methods that differentiate down to the input."""

from explain.methods.card import MethodCard

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

#: In the order in which they are listed.
PIXEL_CARDS: tuple[MethodCard, ...] = (_INPUT_GRADIENT, _GUIDED_BACKPROP)
