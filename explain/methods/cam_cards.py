# SPDX-License-Identifier: Apache-2.0
"""Cards of the class activation mapping family."""

from explain.methods.card import MethodCard
from explain.parameters import Parameter

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

_GRADCAM_PLUS_PLUS = MethodCard(
    name="gradcam_plus_plus",
    title="Grad-CAM++",
    formula=(
        "alpha = g^2 / (2 g^2 + (sum over places of A_k) g^3 + epsilon), g = d y_c /"
        " d A_k at each place;  w_k = sum over places of alpha ReLU(g);  map ="
        " ReLU(sum over k of w_k A_k), the paper's score being exp(y_c)"
    ),
    source=(
        "Chattopadhay et al. 2018, Grad-CAM++: Generalized Gradient-based Visual"
        " Explanations for Deep Convolutional Networks, eq. 10, 11 and 19"
    ),
    signed=False,
    cost="about one forward pass",
    does_not_show=(
        "Evidence against the class, and detail finer than the tapped layer's grid."
    ),
    parameters={
        "epsilon": Parameter(
            meaning=(
                "what is added to alpha's denominator; 1e-6 as the field's reference"
                " implementation, 0 for the paper's equation"
            ),
            default=1e-6,
            low=0.0,
        )
    },
)

_HIRESCAM = MethodCard(
    name="hirescam",
    title="HiResCAM",
    formula="map = ReLU(sum over k of g_k A_k), g_k = d y_c / d A_k at each place",
    source=(
        "Draelos and Carin 2020, Use HiResCAM instead of Grad-CAM for faithful"
        " explanations of convolutional neural networks, section 3.2"
    ),
    signed=False,
    cost="about one forward pass",
    does_not_show=(
        "Evidence against the class, which the signed sum holds and the map does not."
    ),
)

_XGRADCAM = MethodCard(
    name="xgradcam",
    title="XGrad-CAM",
    formula=(
        "w_k = sum over places of (A_k / sum of A_k) d y_c / d A_k;  map = ReLU(sum"
        " over k of w_k A_k)"
    ),
    source=(
        "Fu et al. 2020, Axiom-based Grad-CAM: Towards Accurate Visualization and"
        " Explanation of CNNs, eq. 8"
    ),
    signed=False,
    cost="about one forward pass",
    does_not_show=(
        "Evidence against the class; before a ReLU, channels whose activation nearly"
        " cancels get weights that mean little."
    ),
)

_LAYERCAM = MethodCard(
    name="layercam",
    title="LayerCAM",
    formula=(
        "map = ReLU(sum over k of ReLU(g_k) A_k), g_k = d y_c / d A_k at each place"
    ),
    source=(
        "Jiang et al. 2021, LayerCAM: Exploring Hierarchical Class Activation Maps for"
        " Localization, eq. 6 to 8"
    ),
    signed=False,
    cost="about one forward pass",
    does_not_show=(
        "Evidence against the class: negative gradients are left out before the sum."
    ),
)

_EIGENCAM = MethodCard(
    name="eigencam",
    title="Eigen-CAM",
    formula=(
        "map = ReLU(X v), X the activation as places x channels less each channel's"
        " mean, v its first right singular vector, signed to agree with the"
        " activation's energy"
    ),
    source=(
        "Muhammad and Yeasin 2020, Eigen-CAM: Class Activation Map using Principal"
        " Components, section III"
    ),
    signed=False,
    cost="one forward pass",
    does_not_show=(
        "Why one class and not another: the class plays no part, every class has the"
        " same map."
    ),
    class_specific=False,
)

_SCORECAM = MethodCard(
    name="scorecam",
    title="Score-CAM",
    formula=(
        "w = softmax over k of y_c(H_k x + (1 - H_k) baseline), H_k = A_k upsampled"
        " and scaled to [0, 1];  map = ReLU(sum over k of w_k A_k)"
    ),
    source=(
        "Wang et al. 2020, Score-CAM: Score-Weighted Visual Explanations for"
        " Convolutional Neural Networks, eq. 5 to 8 and algorithm 1"
    ),
    signed=False,
    cost="one forward pass a channel, and one more",
    does_not_show=(
        "What channels do together: each is asked alone, on an image that the network"
        " was not trained on."
    ),
    parameters={
        "channels": Parameter(
            meaning="how many channels of most energy are asked about; 0 for all",
            default=0,
            low=0,
        ),
        "baseline": Parameter(
            meaning=(
                "what a mask hides the input with: zero as in the paper, or each"
                " image's own mean colour"
            ),
            default="zero",
            choices=("zero", "mean"),
        ),
    },
)

_ABLATIONCAM = MethodCard(
    name="ablationcam",
    title="Ablation-CAM",
    formula=(
        "w_k = (y_c - y_c with channel k set to zero) / |y_c|;  map = ReLU(sum over k"
        " of w_k A_k)"
    ),
    source=(
        "Desai and Ramaswamy 2020, Ablation-CAM: Visual Explanations for Deep"
        " Convolutional Network via Gradient-free Localization, eq. 3 and 5"
    ),
    signed=False,
    cost=(
        "two forward passes, and one of the part after the layer a channel; a whole"
        " pass a channel in networks that concatenate around the layer"
    ),
    does_not_show=(
        "Evidence that several channels carry alike: taking one away costs nothing."
    ),
)

_CAM = MethodCard(
    name="cam",
    title="CAM",
    formula=(
        "map = ReLU(sum over k of w_ck A_k), w the linear layer that follows the mean"
        " over places"
    ),
    source=(
        "Zhou et al. 2016, Learning Deep Features for Discriminative Localization,"
        " eq. 1 and 2"
    ),
    signed=False,
    cost="one forward pass",
    does_not_show=(
        "Anything of networks that do not end in pooling and one linear layer: they"
        " are refused."
    ),
)

_GUIDED_GRADCAM = MethodCard(
    name="guided_gradcam",
    title="Guided Grad-CAM",
    formula=(
        "map = upsampled Grad-CAM x largest magnitude over channels of the guided"
        " gradient"
    ),
    source=(
        "Selvaraju et al. 2017, Grad-CAM: Visual Explanations from Deep Networks via"
        " Gradient-based Localization, section 3.2"
    ),
    signed=False,
    cost="Grad-CAM, and one forward and backward pass through the whole network",
    does_not_show=(
        "The class, in its fine detail: guided gradients look alike for every class,"
        " and only the coarse factor tells them apart."
    ),
    pixel_resolution=True,
)

#: In the order in which they are listed.
CAM_CARDS: tuple[MethodCard, ...] = (
    _GRADCAM,
    _GRADCAM_PLUS_PLUS,
    _HIRESCAM,
    _XGRADCAM,
    _LAYERCAM,
    _EIGENCAM,
    _SCORECAM,
    _ABLATIONCAM,
    _CAM,
    _GUIDED_GRADCAM,
)
