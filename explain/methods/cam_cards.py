# SPDX-License-Identifier: Apache-2.0
"""Cards of the class activation mapping family."""

from explain.methods.card import MethodCard

_GRADCAM = MethodCard(
    name="gradcam",
    title="Grad-CAM",
    formula=(
        "w_k = mean over places of d y_c / d A_k;  map = ReLU(sum over k of w_k A_k),"
        " with y_c the logit of the target class and A the tapped feature map"
    ),
    source=(
        "Selvaraju et al. 2017, Grad-CAM: Visual Explanations from Deep Networks via"
        " Gradient-based Localization, eq. 1 and 2"
    ),
    signed=False,
    cost="about one forward pass",
    does_not_show=(
        "Evidence against the class, and detail finer than the tapped layer's grid."
    ),
)

#: In the order in which they are listed.
CAM_CARDS: tuple[MethodCard, ...] = (_GRADCAM,)
